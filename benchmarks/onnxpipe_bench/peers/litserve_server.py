"""LitServe around tokenise + session.run + mean: `python litserve_server.py GRAPH TOKENIZER THREADS PORT`.

It answers POST /predict with the embedding of `inputs`, and puts what comes within half a millisecond into one batch of
up to 32, as its guide to batching has it. Needs nothing of this project.
"""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]

BATCH = 32
# of 0, 0.5, 2 and 10 ms the most answers at 32 connections on 2 cores, at one 15 % fewer than 0, with which its worker
# never sleeps
WAIT_S = 0.0005


class EmbeddingAPI(litserve.LitAPI):  # type: ignore[misc]  # untyped here: the library is in another environment
    """Texts to embeddings."""

    def __init__(self, graph: str, tokenizer: str, threads: int) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=WAIT_S)
        self._graph, self._tokenizer_file, self._threads = graph, tokenizer, threads

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe gives it by name
        """Load the model, in the process that runs it."""
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(self._graph, options)
        self._tokenizer = tokenizers.Tokenizer.from_file(self._tokenizer_file)
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(256)

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["inputs"]

    def predict(self, texts: list[str]) -> Any:  # an array
        """Embeddings (B, D)."""
        import numpy as np

        encodings = self._tokenizer.encode_batch(texts)
        mask = np.array([encoding.attention_mask for encoding in encodings])
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }
        (hidden,) = self._session.run(None, feeds)
        weights = mask[..., None].astype(np.float32)
        return (hidden * weights).sum(axis=1) / weights.sum(axis=1)

    def encode_response(self, output: Any) -> list[float]:  # a row of the array
        """The body of an answer."""
        return output.tolist()  # type: ignore[no-any-return]  # as above


if __name__ == "__main__":
    api = EmbeddingAPI(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[4]), log_level="warning", generate_client_file=False)
