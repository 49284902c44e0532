"""The pipeline of this project, and the bare work under it. See encoder_loop; MODEL is a bundle.

FORM is a precision for the pipeline; "bare PRECISION" for tokenise + `session.run` + mean, text by text; the same and
" x 32" for batches by length; the same and " spinning" for onnxruntime's own defaults, whose threads burn a core while
they wait, as the runtime's do not.
"""

from pathlib import Path
from typing import Any

import numpy as np
from encoder_loop import Embed, answer, in_batches  # type: ignore[import-not-found]  # beside this script


def make(bundle: Path, _work: Path, threads: int, form: str) -> Embed:
    """An encoder of texts."""
    if form.startswith("bare "):
        _, precision, *way = form.split()
        embed = bare(bundle, precision, threads, spinning="spinning" in way)
        return in_batches(embed) if "x" in way else lambda texts: [embed([text])[0] for text in texts]
    import onnxpipe

    pipeline = onnxpipe.load(bundle, task="feature-extraction", precision=form, threads=threads)
    return lambda texts: pipeline(texts) if len(texts) > 1 else [pipeline(texts[0])]


def bare(path: Path, precision: str, threads: int, *, spinning: bool) -> Embed:
    """The least that makes an embedding of texts of a bundle."""
    import onnxruntime
    import tokenizers

    from onnxpipe.bundle import open_bundle

    bundle = open_bundle(path)
    _, variant = bundle.variant(precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    session = onnxruntime.InferenceSession(str(bundle.file(variant.files["model"])), options)
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle.path / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)

    def embed(texts: list[str]) -> Any:  # an array
        encodings = tokenizer.encode_batch(texts) if len(texts) > 1 else [tokenizer.encode(texts[0])]
        mask = np.array([encoding.attention_mask for encoding in encodings])
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }
        (hidden,) = session.run(None, feeds)
        if len(texts) == 1:
            return hidden.mean(axis=1)
        return (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)

    return embed


if __name__ == "__main__":
    answer(make, ["onnxpipe", "onnxruntime", "tokenizers"])
