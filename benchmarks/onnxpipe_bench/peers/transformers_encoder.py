"""transformers on torch, pooled as the model's card says. See encoder_loop; FORM is fp32."""

from pathlib import Path
from typing import Any

from encoder_loop import Embed, answer, in_batches  # type: ignore[import-not-found]  # beside this script


def make(model: Path, _work: Path, threads: int, _form: str) -> Embed:
    """An encoder of texts."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModel.from_pretrained(model).eval()

    def embed(texts: list[str]) -> Any:  # a tensor
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()

    return in_batches(embed)


if __name__ == "__main__":
    answer(make, ["transformers", "torch"])
