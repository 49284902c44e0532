"""onnxpipe_export: a hub model becomes a verified, quantised bundle.

    from onnxpipe_export.export import export

    export("sentence-transformers/all-MiniLM-L6-v2", "bundles/minilm", precisions=["fp32", "int8"])

The modules follow the work: source (files) - recipes (what each task needs) - convert - tokenizer - quantize -
reference and verify (torch beside the runtime) - write - export (all of it) - cli. Needs the `export` extra.
"""
