"""llama.cpp decoding greedily, run by an interpreter that has it: `python llama_cpp_decoder.py FILE THREADS NEW`.

FILE is a GGUF; lines in and out are those of `genai_decoder`. Through llama.cpp's own functions, for the class of its
Python package copies and sorts in Python. Needs nothing of this project.
"""

import ctypes
import json
import sys
import time

import llama_cpp  # type: ignore[import-not-found]  # not in this project's environment
import numpy as np


def main() -> None:
    """Answer until stdin ends."""
    file, threads, new_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
    vocabulary_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 512, threads, threads
    context = llama_cpp.llama_init_from_model(model, settings)
    print("ready", flush=True)
    for line in sys.stdin:
        tokens = [int(token) for token in line.split()]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)  # noqa: FBT003  # a C function
        times = []
        for _ in range(new_tokens):
            begin = time.perf_counter()
            memory = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch only points to it
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(memory, len(tokens))):
                raise RuntimeError("llama.cpp could not decode")
            logits = llama_cpp.llama_get_logits_ith(context, -1)
            tokens = [int(np.ctypeslib.as_array(logits, (vocabulary_size,)).argmax())]
            times.append(1e3 * (time.perf_counter() - begin))
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
