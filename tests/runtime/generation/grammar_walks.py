"""What tests of grammars share: a schema, and models that are nothing but scores."""

import numpy as np

from onnxpipe.generation.detokenize import continuation, token_text

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
EOS = "</s>"


def walk(compiled, tokenizer, scores, *, steps):
    """The text of the tokens with the highest allowed score, and whether it came to its end."""
    matcher, eos, ids = compiled.begin(), {tokenizer.id(EOS), tokenizer.id("<|im_end|>")}, []
    for step in range(steps):
        masked = matcher.mask(scores(step))
        assert masked.dtype == np.float32
        token = int(masked.argmax())
        assert masked[token] > -np.inf
        assert not np.isfinite(masked[tokenizer.size :]).any()
        if token in eos:
            assert matcher.is_complete
            matcher.accept(token)
            assert matcher.is_finished
            return continuation(tokenizer, ids, prompt=[tokenizer.id("a")]), True
        matcher.accept(token)
        ids.append(token)
    return continuation(tokenizer, ids, prompt=[tokenizer.id("a")]), False


def uniform(seed, tokenizer, *, closing):
    """Random scores; `closing` favours what brings a text to its end, as no random model does by itself."""
    draw = np.random.default_rng(seed)
    bias = np.zeros(tokenizer.size + 37, np.float32)
    liked = [number for number in range(tokenizer.size) if token_text(tokenizer, number) in {'"', "}", "]", "1"}]
    bias[[*liked, tokenizer.id(EOS)]] = closing
    return lambda _: draw.gumbel(size=len(bias)).astype(np.float32) + bias
