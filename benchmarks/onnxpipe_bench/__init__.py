"""onnxpipe_bench: what each precision costs and gains, and what the demo shows.

measure (timers, percentiles, environment stamp) - overhead (a call beside the bare session) - sts (quality beside
torch) - tables (README tables from results/*.json) - demo (the whole way on a real model). Needs the `bench` extra.
"""
