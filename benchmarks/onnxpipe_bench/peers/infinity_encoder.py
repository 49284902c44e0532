"""infinity's engine in this process, without its server. See encoder_loop; FORM is torch or optimum.

The second takes the graph of WORK with integers, as it does on CPUs, and lays its own form of it beside.
"""

import asyncio
from pathlib import Path
from typing import Any

from encoder_loop import Embed, answer  # type: ignore[import-not-found]  # beside this script


def make(model: Path, work: Path, threads: int, form: str) -> Embed:
    """An encoder of texts."""
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found]  # not in this project's

    torch.set_num_threads(threads)
    folder = {"torch": model, "optimum": work.resolve()}[form]
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=str(folder),
            engine=form,
            device="cpu",
            pooling_method="mean",
            compile=False,
            bettertransformer=False,
        )
    )
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    def embed(texts: list[str]) -> Any:  # arrays
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return vectors

    return embed


if __name__ == "__main__":
    answer(make, ["infinity-emb", "torch", "transformers"])
