"""Tiny ONNX graphs with hand-worked answers, written by `graph_files`.

The words of the vocabulary and the vectors that the graphs look up for them are small whole numbers, so that every
answer can be worked out by hand. The padding token's vector is huge: padding that leaks into an answer shows at once.
"""

import dataclasses

import numpy as np

from graph_files import DTYPES, Node, Port, encode_model, graph_of
from onnxpipe.bundle import Convolved, Graph

# word -> its vector in the encoder, and its logits in the classifier; the position is the token id
VECTORS = {
    "[PAD]": (1000.0, 1000.0),
    "[UNK]": (-1.0, -1.0),
    "[CLS]": (5.0, 12.0),
    "[SEP]": (0.0, 0.0),
    "one": (1.0, 0.0),
    "two": (0.0, 2.0),
    "three": (3.0, 0.0),
    "four": (0.0, 4.0),
    "query": (8.0, 6.0),
}
LOGITS = {
    "[PAD]": (1000.0, -1000.0, 1000.0),
    "[UNK]": (0.0, 0.0, 0.0),
    "[CLS]": (0.0, 0.0, 0.0),
    "[SEP]": (0.0, 0.0, 0.0),
    "one": (1.0, 0.0, 0.0),
    "two": (0.0, 1.0, 0.0),
    "three": (0.0, 0.0, 1.0),
    "four": (-2.0, 0.0, 0.0),
    "query": (0.0, 0.0, 0.0),
}
# word -> how likely it stands in the place of a mask; the masked language model's vocabulary
WEIGHTS = {
    "[PAD]": 0,
    "[UNK]": 0,
    "[CLS]": 0,
    "[SEP]": 0,
    "[MASK]": 0,
    "one": 8,
    "two": 4,
    "three": 2,
    "four": 1,
    ".": 1,
}
# word -> the score of a cell's token, and its logits for NONE and SUM; the vocabulary of the model that reads tables
SCORES = {
    "[PAD]": (1000.0, 0.0, 1000.0),
    "[UNK]": (-1.0, 0.0, 0.0),
    "[CLS]": (0.0, 0.0, 0.0),
    "[SEP]": (0.0, 1.0, 0.0),
    "[EMPTY]": (-1.0, 0.0, 0.0),
    "yes": (2.0, 0.0, 0.0),
    "no": (-1.0, 0.0, 0.0),
    "which": (0.0, 0.0, 0.0),
    "all": (0.0, 0.0, 2.0),
}
LABEL_WEIGHT = -100.0  # a cell that was the answer before is none again
SECOND_TEXT_WEIGHT = 10.0  # the classifier counts a token of the second text this many times


def encoder(*, neighbours: bool = False) -> tuple[bytes, Graph]:
    """A graph from input_ids and attention_mask (B, T) to last_hidden_state (B, T, 2): each token's vector.

    With `neighbours` the largest number of the whole batch is added, so a row's answer depends on the rows beside it.
    """
    ports = [Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    output = Port("last_hidden_state", "float32", ("batch", "sequence", 2))
    constants = {"table": np.array(list(VECTORS.values()), np.float32)}
    nodes = [Node("Gather", ("table", "input_ids"), "vectors")]
    if neighbours:
        nodes += [
            Node("ReduceMax", ("vectors",), "largest", {"keepdims": 0}),
            Node("Add", ("vectors", "largest"), output.name),
        ]
    else:
        nodes += [Node("Identity", ("vectors",), output.name)]
    return encode_model(nodes, ports, [output], constants), graph_of(ports, [output])


def classifier(labels: int = 3, dtype: str = "float32") -> tuple[bytes, Graph]:
    """A graph from input_ids, attention_mask, token_type_ids (B, T) to logits (B, C): the sum of the tokens' logits.

    Tokens of the second text count SECOND_TEXT_WEIGHT times.
    """
    ports = [Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask", "token_type_ids")]
    output = Port("logits", dtype, ("batch", labels))
    constants = {
        "table": np.array(list(LOGITS.values()), np.float32)[:, :labels],
        "type_weights": np.array([1.0, SECOND_TEXT_WEIGHT], np.float32),
        "last": np.array([-1]),
        "tokens": np.array([1]),
    }
    nodes = [
        Node("Gather", ("table", "input_ids"), "words"),
        Node("Gather", ("type_weights", "token_type_ids"), "types"),
        Node("Cast", ("attention_mask",), "mask", {"to": 1}),
        Node("Mul", ("types", "mask"), "weights"),
        Node("Unsqueeze", ("weights", "last"), "columns"),
        Node("Mul", ("words", "columns"), "weighted"),
        Node("ReduceSum", ("weighted", "tokens"), "sums", {"keepdims": 0}),
        Node("Cast", ("sums",), output.name, {"to": DTYPES[np.dtype(dtype)]}),
    ]
    return encode_model(nodes, ports, [output], constants), graph_of(ports, [output])


def masked_lm() -> tuple[bytes, Graph]:
    """A graph from input_ids and attention_mask (B, T) to logits (B, T, V): WEIGHTS at a mask, nonsense elsewhere."""
    ports = [Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    output = Port("logits", "float32", ("batch", "sequence", len(WEIGHTS)))
    table = np.full((len(WEIGHTS), len(WEIGHTS)), 1000, np.float32)
    table[list(WEIGHTS).index("[MASK]")] = np.log(np.maximum(list(WEIGHTS.values()), 1e-30))
    nodes = [Node("Gather", ("table", "input_ids"), output.name)]
    return encode_model(nodes, ports, [output], {"table": table}), graph_of(ports, [output])


def tagger() -> tuple[bytes, Graph]:
    """A graph from input_ids and attention_mask (B, T) to logits (B, T, 3): each token's LOGITS."""
    ports = [Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    output = Port("logits", "float32", ("batch", "sequence", 3))
    nodes = [Node("Gather", ("table", "input_ids"), output.name)]
    constants = {"table": np.array(list(LOGITS.values()), np.float32)}
    return encode_model(nodes, ports, [output], constants), graph_of(ports, [output])


def table_model(*, aggregations: bool) -> tuple[bytes, Graph]:
    """A graph to logits (B, T): each token's score and its previous label; and to the tokens' sums (B, 2)."""
    texts = [Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    ports = [*texts, Port("token_type_ids", "int64", ("batch", "sequence", 7))]
    outputs = [Port("logits", "float32", ("batch", "sequence"))]
    table = np.array(list(SCORES.values()), np.float32)
    constants = {
        "scores": table[:, :1],
        "sums": table[:, 1:],
        "types": np.array([[0], [0], [0], [LABEL_WEIGHT], [0], [0], [0]], np.float32),
        "last": np.array([-1]),
        "tokens": np.array([1]),
    }
    nodes = [
        Node("Gather", ("scores", "input_ids"), "words"),
        Node("Cast", ("token_type_ids",), "floats", {"to": 1}),
        Node("MatMul", ("floats", "types"), "labels"),
        Node("Add", ("words", "labels"), "columns"),
        Node("Squeeze", ("columns", "last"), "logits"),
    ]
    if aggregations:
        outputs.append(Port("logits_aggregation", "float32", ("batch", 2)))
        nodes += [
            Node("Gather", ("sums", "input_ids"), "chosen"),
            Node("Cast", ("attention_mask",), "mask", {"to": 1}),
            Node("Unsqueeze", ("mask", "last"), "weights"),
            Node("Mul", ("chosen", "weights"), "weighted"),
            Node("ReduceSum", ("weighted", "tokens"), "logits_aggregation", {"keepdims": 0}),
        ]
    return encode_model(nodes, ports, outputs, constants), graph_of(ports, outputs)


def image_classifier(labels: int = 3, dtype: str = "float32") -> tuple[bytes, Graph]:
    """A graph from pixel_values (B, C, H, W) to logits (B, C): the mean of each channel over the picture."""
    pixels = Port("pixel_values", "float32", ("batch", labels, "height", "width"))
    output = Port("logits", dtype, ("batch", labels))
    nodes = [
        Node("GlobalAveragePool", (pixels.name,), "means"),
        Node("Flatten", ("means",), "rows"),
        Node("Cast", ("rows",), output.name, {"to": DTYPES[np.dtype(dtype)]}),
    ]
    content, graph = encode_model(nodes, [pixels], [output], {}), graph_of([pixels], [output])
    return content, dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], pad=None),))


def sound_classifier() -> tuple[bytes, Graph]:
    """A graph from input_values (B, N) to logits (B, 3): the mean of the samples times 1, -1 and 2."""
    samples, output = Port("input_values", "float32", ("batch", "samples")), Port("logits", "float32", ("batch", 3))
    constants = {"time": np.array([1]), "weights": np.array([[1, -1, 2]], np.float32)}
    nodes = [
        Node("Unsqueeze", (samples.name, "time"), "rows"),
        Node("GlobalAveragePool", ("rows",), "averages"),
        Node("Flatten", ("averages",), "means"),
        Node("MatMul", ("means", "weights"), output.name),
    ]
    content, graph = encode_model(nodes, [samples], [output], constants), graph_of([samples], [output])
    return content, dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], pad=None),))


def speller(tokens: int) -> tuple[bytes, Graph]:
    """A graph from input_values (B, N) to logits (B, T, V): a frame of 8 samples every 4, of the token its last one is.

    Of token v, the logit for a sample of s is 2 s v - v * v: the largest for the number nearest to s.
    """
    samples = Port("input_values", "float32", ("batch", "samples"))
    output = Port("logits", "float32", ("batch", "frames", tokens))
    numbers = np.arange(tokens, dtype=np.float32)
    constants = {
        "first": np.array([7]),
        "end": np.array([2**40]),
        "time": np.array([1]),
        "step": np.array([4]),
        "last": np.array([2]),
        "doubles": 2 * numbers,
        "squares": numbers * numbers,
    }
    nodes = [
        Node("Slice", (samples.name, "first", "end", "time", "step"), "heard"),
        Node("Unsqueeze", ("heard", "last"), "frames"),
        Node("Mul", ("frames", "doubles"), "scaled"),
        Node("Sub", ("scaled", "squares"), output.name),
    ]
    graph = graph_of([samples], [output])
    convolved = {"frames": Convolved(of="samples", kernels=(8,), strides=(4,))}
    return encode_model(nodes, [samples], [output], constants), dataclasses.replace(graph, convolved=convolved)


def detector(logits: np.ndarray, boxes: np.ndarray) -> tuple[bytes, Graph]:
    """A graph from pixel_values (B, 3, H, W) to logits (B, Q, C) and pred_boxes (B, Q, 4): the given ones.

    Logits are multiplied by the sum of the three channels' means, so that padding would change them.
    """
    pixels = Port("pixel_values", "float32", ("batch", 3, "height", "width"))
    outputs = [
        Port("logits", "float32", ("batch", *logits.shape)),
        Port("pred_boxes", "float32", ("batch", *boxes.shape)),
    ]
    constants = {
        "table": logits.astype(np.float32),
        "boxes": boxes.astype(np.float32),
        "zero": np.zeros(1, np.float32),
        "channels": np.array([1]),
    }
    nodes = [
        Node("GlobalAveragePool", (pixels.name,), "means"),
        Node("ReduceSum", ("means", "channels"), "brightness", {"keepdims": 0}),
        Node("Mul", ("table", "brightness"), "logits"),
        Node("Mul", ("brightness", "zero"), "nothing"),
        Node("Add", ("boxes", "nothing"), "pred_boxes"),
    ]
    content, graph = encode_model(nodes, [pixels], outputs, constants), graph_of([pixels], outputs)
    return content, dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], pad=None),))


def segmenter(logits: np.ndarray | None) -> tuple[bytes, Graph]:
    """A graph from pixel_values (B, 3, H, W) to what segments are made of, which has the picture's size.

    The scores of three labels, which are the channels; or with `logits` (3, C + 1) these, and the masks of three
    queries, which are the channels.
    """
    pixels = Port("pixel_values", "float32", ("batch", 3, "height", "width"))
    masks = Port("logits" if logits is None else "pred_masks", "float32", ("batch", 3, "mask_height", "mask_width"))
    outputs, constants = [masks], {}
    nodes = [Node("Identity", (pixels.name,), masks.name)]
    if logits is not None:
        outputs = [Port("logits", "float32", ("batch", *logits.shape)), masks]
        constants = {
            "table": logits.astype(np.float32)[None],
            "zero": np.zeros(1, np.float32),
            "last": np.array([-1]),
        }
        nodes += [
            Node("GlobalAveragePool", (pixels.name,), "means"),
            Node("Squeeze", ("means", "last"), "rows"),
            Node("Mul", ("rows", "zero"), "nothing"),
            Node("Add", ("table", "nothing"), "logits"),
        ]
    content, graph = encode_model(nodes, [pixels], outputs, constants), graph_of([pixels], outputs)
    return content, dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], pad=None),))


def answerer(logits: np.ndarray) -> tuple[bytes, Graph]:
    """A graph from input_ids (B, T) to start_logits and end_logits (B, T): each token's row of `logits` (V, 2)."""
    tokens = Port("input_ids", "int64", ("batch", "sequence"))
    outputs = [Port(name, str(logits.dtype), tokens.shape) for name in ("start_logits", "end_logits")]
    tables = {"starts": np.ascontiguousarray(logits[:, 0]), "ends": np.ascontiguousarray(logits[:, 1])}
    nodes = [Node("Gather", (table, tokens.name), port.name) for table, port in zip(tables, outputs, strict=True)]
    return encode_model(nodes, [tokens], outputs, tables), graph_of([tokens], outputs)


def writer(*, sources: bool = False) -> tuple[bytes, Graph]:
    """A decoder whose next token follows from the last one alone: "one", "two", "three", "four", the end, "two".

    With `sources` it takes those of an encoder, and does nothing with them.
    """
    cache = ("batch", 1, "buffer", 1)
    tokens, kept = (
        Port("input_ids", "int64", ("batch", "sequence")),
        Port("logit_positions", "int64", ("batch", "kept")),
    )
    lengths = [Port("seqlens_k", "int32", ("batch",)), Port("total_sequence_length", "int32", ())]
    past = [Port(f"past_key_values.0.{kind}", "float32", cache) for kind in ("key", "value")]
    logits = Port("logits", "float32", ("batch", "kept", len(VECTORS)))
    present = [Port(f"present.0.{kind}", "float32", cache) for kind in ("key", "value")]
    words = list(VECTORS)
    table = np.zeros((len(words), len(words)), np.float32)
    for word, follower in (("one", "two"), ("two", "three"), ("three", "four"), ("four", "[SEP]"), ("[SEP]", "two")):
        table[words.index(word), words.index(follower)] = 5.0
    nodes = [
        Node("GatherElements", (tokens.name, kept.name), "ids", {"axis": 1}),
        Node("Gather", ("table", "ids"), logits.name),
        *(Node("Identity", (old.name,), new.name) for old, new in zip(past, present, strict=True)),
    ]
    inputs, outputs = [tokens, kept, *lengths, *past], [logits, *present]
    if sources:
        cross = ("sources", 1, "source_length", 1)
        inputs += [Port("encoder_attention_mask", "int64", ("sources", "source_length"))]
        inputs += [Port(f"cross_key_values.0.{kind}", "float32", cross) for kind in ("key", "value")]
    return encode_model(nodes, inputs, outputs, {"table": table}), graph_of(inputs, outputs)


def writers_encoder() -> tuple[bytes, Graph]:
    """An encoder that gives the tokens themselves as keys and values."""
    ports = [Port(name, "int64", ("sources", "source_length")) for name in ("input_ids", "attention_mask")]
    outputs = [
        Port(f"cross_key_values.0.{kind}", "float32", ("sources", 1, "source_length", 1)) for kind in ("key", "value")
    ]
    nodes = [
        Node("Cast", ("input_ids",), "numbers", {"to": 1}),
        *(Node("Unsqueeze", ("numbers", "axes"), output.name) for output in outputs),
    ]
    return encode_model(nodes, ports, outputs, {"axes": np.array([1, 3])}), graph_of(ports, outputs)
