"""Translations with 4 beams through the token loop, beside the `generate` of transformers and of optimum.

    python -m onnxpipe_bench.translation_speed [--cache .cache/translation-speed] [--repeats 5]

The model has the shape of Marian (opus-mt) and random weights: speed does not care. Each source has 32 tokens, each
beam gets 64, on two threads; the first token comes behind the encoder. Candidates take turns.
"""

import argparse
from pathlib import Path

from onnxpipe_bench import decoder_speed as decoder
from onnxpipe_bench.generation_speed import Loop, clocked, generate, precisions, setting, torch_generate, with_python
from onnxpipe_bench.measure import write_result

_BEAMS = 4
SIZES = {
    "vocab_size": 58101,
    "pad_token_id": 58100,
    "decoder_start_token_id": 58100,
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "max_position_embeddings": 512,
}


def main() -> None:
    """Make what is missing, measure every candidate and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/translation-speed"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = make_model(args.cache / "model")
    files = {name: precisions(base) for name, base in make_graphs(model, args.cache).items()}
    with clocked() as clock:
        loops = {
            f"onnxpipe {precision}": Loop(
                file, clock, encoder=files["encoder"][precision], parameters={"num_beams": _BEAMS}
            )
            for precision, file in files["decoder"].items()
        }
        candidates: dict[str, decoder.Run] = {name: loop.run for name, loop in loops.items()}
        candidates["transformers fp32"] = torch_generate(model, "AutoModelForSeq2SeqLM", _BEAMS)
        candidates["optimum fp32"] = optimum_generate(model, args.cache / "optimum")
        rows = with_python(decoder.measure(candidates, args.repeats), loops)
    result = {"model": "Marian's shape, random weights", **setting(), "beams": _BEAMS, "rows": rows}
    print(f"-> {write_result('translation_speed', result)}")


def make_model(folder: Path) -> Path:
    """A random Marian in hub layout."""
    if not folder.exists():
        import torch
        import transformers

        torch.manual_seed(0)
        transformers.MarianMTModel(transformers.MarianConfig(**SIZES)).save_pretrained(folder)
    return folder


def make_graphs(model: Path, cache: Path) -> dict[str, Path]:
    """Our graphs in fp32: name -> file."""
    files = {name: cache / f"{name}.onnx" for name in ("encoder", "decoder")}
    if not all(file.exists() for file in files.values()):
        import transformers

        from onnxpipe_export.generation.decoder import trace_decoder
        from onnxpipe_export.generation.encoder import trace_encoder
        from onnxpipe_export.generation.rewrite import rewrite
        from onnxpipe_export.generation.shapes import decoder_shape
        from onnxpipe_export.quiet import quiet

        traced = cache / "traced.onnx"
        with quiet():
            network = transformers.AutoModelForSeq2SeqLM.from_pretrained(model).eval()
            for name, trace in {"encoder": trace_encoder, "decoder": trace_decoder}.items():
                trace(network, decoder_shape(network.config), traced)
                rewrite(traced, files[name])
        traced.unlink()
    return files


def optimum_generate(model: Path, folder: Path) -> decoder.Run:
    """optimum's graphs and its class for them, a session's options as ours."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    from onnxpipe_export.quiet import quiet

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = decoder.THREADS, 1
    with quiet():
        if not folder.exists():
            ORTModelForSeq2SeqLM.from_pretrained(model, export=True).save_pretrained(folder)
        loaded = ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options)
    return generate(loaded, _BEAMS)


if __name__ == "__main__":
    main()
