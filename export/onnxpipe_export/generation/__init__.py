"""Decoders for generation: transformers' own modelling code traced into graphs that keep their text in shared buffers.

The modules follow the work: operators (ONNX Runtime's operators as torch functions) - step (what one traced step is
given) - rotary, layers, families (what is exchanged in a model while it is traced) - decoder, seq2seq (the graphs'
inputs and outputs) - trace (to ONNX) - rewrite (fewer nodes) - exporter (all of it) - weights (integer precisions).
"""
