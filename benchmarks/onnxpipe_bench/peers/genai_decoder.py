"""onnxruntime-genai decoding greedily, run by an interpreter that has it: `python genai_decoder.py MODEL THREADS NEW`.

Reads prompts from stdin, token ids of one in a line, and answers each with a line of JSON: milliseconds to the first
token, and of every further one. Needs nothing of this project.
"""

import json
import sys
import time
from pathlib import Path

import onnxruntime_genai  # type: ignore[import-not-found]  # not in this project's environment


def main() -> None:
    """Answer until stdin ends."""
    folder, threads, new_tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    settings_file = folder / "genai_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    settings["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    settings_file.write_text(json.dumps(settings), encoding="utf-8")
    model = onnxruntime_genai.Model(str(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        prompt = [int(token) for token in line.split()]
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=len(prompt) + new_tokens + 1, do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)
        times = []
        for step in range(new_tokens):
            begin = time.perf_counter()
            if not step:
                generator.append_tokens(prompt)
            generator.generate_next_token()
            times.append(1e3 * (time.perf_counter() - begin))
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
