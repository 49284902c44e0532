"""A model that writes beside a reference, torch or its own fp32, through the runtime's decoder, batch and loop.

Two questions: is the distribution of the next token torch's, for the same tokens before it, and does the same text come
out of it. The first is asked behind a prompt, read whole or in pieces, and after each token that torch has written
there, once with every text for itself and once with all of them in one batch.
"""

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.audio.features import FeatureReader
from onnxpipe.audio.waveform import Audio
from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.batch import Batch, Text
from onnxpipe.generation.decoder import Decoder, Ids
from onnxpipe.generation.loop import Job
from onnxpipe.generation.options import GenerationOptions, read_defaults, resolve
from onnxpipe.generation.search import make_search
from onnxpipe.generation.writer import Writer
from onnxpipe.pipeline import Model
from onnxpipe.sections import Generation
from onnxpipe.session import Array, Session
from onnxpipe.verification.figures import Figures, relative_error
from onnxpipe.verification.verifier import INVARIANCE, Advance
from onnxpipe_export.quiet import quiet
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.verify import torch_model

# Tokens: of a prompt, of one more prompt that is read in pieces, of such a piece, those written behind a prompt, and
# those at its end that are compared: for each, the logits of a large vocabulary take a megabyte.
_PROMPT, _LONG_PROMPT, _PIECE = 48, 160, 32
_WRITTEN = 12
_COMPARED = 8

_GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "max_new_tokens": _WRITTEN}
# What transformers has to be told as well, over a model's own defaults. Its cache has too few layers for T5 models with
# more of them in the decoder than in the encoder (4.57.6).
_GREEDY_REFERENCE = {
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "length_penalty": 1.0,
    "use_cache": False,
}


@dataclasses.dataclass(frozen=True)
class _Sample:
    """What the encoder reads, where there is one: tokens (S,), or the energies of a `sound` (bins, frames); and the
    decoder's first tokens, which come `piece` by piece.
    """

    source: Ids | None
    prompt: Ids
    piece: int
    sound: Floats | None = None

    @property
    def read(self) -> Ids | Floats | None:
        """What the encoder reads."""
        return self.source if self.sound is None else self.sound


@dataclasses.dataclass(frozen=True)
class _Expected:
    """What torch makes of a sample: the tokens it writes, and the compared logits (K, V) along them."""

    written: Ids
    logits: Floats


class TokenVerifier:
    """The reference's texts for the samples, made once, and each variant's figures beside them."""

    def __init__(self, reference: Model, recipe: Recipe) -> None:
        self._reference = reference
        graphs = [engine for engine in reference.sessions.values() if isinstance(engine, Session)]
        self._model: Any = None if graphs else torch_model(reference)
        self._section = _require_generation(reference)
        if reference.bundle.manifest.audio is not None:
            self._samples = _sound_samples(reference, recipe.samples)
        else:
            encodings = [reference.tokenizer.encode(str(sample)).ids for sample in recipe.samples]
            self._samples = list(self._make_samples([ids for ids in encodings if ids.size]))
        self._expected: list[_Expected] = []

    def _make_samples(self, encodings: Sequence[Ids]) -> list[_Sample]:
        if "encoder" in self._reference.sessions:
            prompt = np.array(self._section.decoder_prompt, np.int64)
            return [_Sample(ids, prompt, len(prompt)) for ids in encodings]
        room = (self._section.max_length or _LONG_PROMPT + _WRITTEN) - _WRITTEN
        samples = [_Sample(None, ids[: min(_PROMPT, room)], _PROMPT) for ids in encodings]
        longest = max(encodings, key=len)[: min(_LONG_PROMPT, room)]
        return [*samples, _Sample(None, longest, min(_PIECE, len(longest) // 2))]

    @property
    def rows(self) -> int:
        """How often `ask_reference` advances."""
        return len(self._samples)

    @property
    def steps(self) -> int:
        """How often `measure` advances."""
        return len(self._samples) + 2

    def ask_reference(self, advance: Advance) -> None:
        """Let the reference write, and keep its logits along what it wrote."""
        if self._model is None:
            for index, written in enumerate(self._write(self._reference)):
                self._expected.append(_Expected(written, np.empty((0, 0), np.float32)))
                self._expected[index] = _Expected(written, *self._logits(self._reference, [index]))
                advance()
            return
        for sample in self._samples:
            with quiet():
                written = self._write_reference(sample)
                self._expected.append(_Expected(written, self._reference_logits(sample, written)))
            advance()

    def measure(self, candidate: Model, advance: Advance) -> tuple[Figures, bool]:
        """The figures of a variant, and whether a text's logits are the same whatever its neighbours are."""
        expected = [item.logits for item in self._expected]
        alone: list[Floats] = []
        for index in range(len(self._samples)):
            alone += self._logits(candidate, [index])
            advance()
        together = self._logits(candidate, list(range(len(self._samples))))
        advance()
        batch_error = max(map(relative_error, alone, together))
        figures = {
            "error": max(map(relative_error, expected, alone)),
            "batch_error": batch_error,
            "divergence": _divergence(expected, alone),
            "agreement": _agreement(expected, alone),
            "same_text": self._same_text(candidate),
        }
        advance()
        return figures, batch_error <= INVARIANCE

    def _write_reference(self, sample: _Sample) -> Ids:
        """The tokens that `generate` adds to a sample, the likeliest ones."""
        import torch
        import transformers

        settings = copy.deepcopy(self._model.generation_config)
        settings.update(**_GREEDY, **_GREEDY_REFERENCE, forced_decoder_ids=None)
        ids = torch.from_numpy((sample.prompt if sample.read is None else sample.read)[None])
        options = {} if sample.read is None else {"decoder_input_ids": torch.from_numpy(sample.prompt[None])}
        if self._model.main_input_name == "input_ids":
            options["attention_mask"] = torch.ones_like(ids)
        with torch.inference_mode():
            # not Whisper's own, which tells the model more than the sample says
            written = transformers.GenerationMixin.generate(
                self._model,
                ids,
                generation_config=settings,
                use_model_defaults=False,  # they are in the settings; asked again, they would win over one beam
                **options,
            )
        tokens: Ids = written[0, len(sample.prompt) :].numpy()
        return tokens

    def _reference_logits(self, sample: _Sample, written: Ids) -> Floats:
        import torch

        row = torch.from_numpy(np.concatenate([sample.prompt, written[:-1]])[None])
        feeds = {"input_ids": row}
        if sample.read is not None:
            feeds = {self._model.main_input_name: torch.from_numpy(sample.read[None]), "decoder_input_ids": row}
        with torch.inference_mode():
            logits: Floats = self._model(**feeds).logits[0].numpy()
        return logits[max(0, len(sample.prompt) - _COMPARED) :].copy()

    def _logits(self, candidate: Model, members: Sequence[int]) -> list[Floats]:
        """The compared logits (K, V) of some samples, which are in one batch all along."""
        batch = Batch(Decoder(_session(candidate, "decoder"), candidate.graph("decoder")))
        texts = [Text(self._samples[index].prompt) for index in members]
        found: list[list[Floats]] = []
        for index, text in zip(members, texts, strict=True):
            sample, expected = self._samples[index], self._expected[index]
            source = None if sample.read is None else _encode(candidate, sample.read)
            batch.enter(text, len(sample.prompt) + len(expected.written), source)
            pieces = [
                batch.read_prompt(text, sample.piece, every=True).copy()
                for _ in range(0, len(sample.prompt), sample.piece)
            ]
            found.append([np.concatenate(pieces)[-_COMPARED:]])
        for step in range(_WRITTEN - 1):
            for index, text in zip(members, texts, strict=True):
                written = self._expected[index].written
                if step < len(written) - 1:
                    batch.go_on(text, written[step : step + 1], np.zeros(1, np.intp))
                elif text.blocks:
                    batch.leave(text)
            if not batch.texts:
                break
            logits = batch.step()
            for text, kept in zip(texts, found, strict=True):
                if text.blocks:
                    kept.append(logits[text.slots].copy())
        return [np.concatenate(kept) for kept in found]

    def _same_text(self, candidate: Model) -> float:
        """How much of the reference's texts the runtime writes, too: up to the first token that is another."""
        shares = []
        for given, expected in zip(self._write(candidate), self._expected, strict=True):
            length = min(len(given), len(expected.written))
            different = np.flatnonzero(given[:length] != expected.written[:length])
            same = different[0] if different.size else length
            shares.append(same / max(len(given), len(expected.written)))
        return float(np.mean(shares))

    def _write(self, candidate: Model) -> list[Ids]:
        """The likeliest tokens behind each sample, by the runtime's own loop."""
        writer = Writer(candidate)
        options = resolve(_GREEDY, read_defaults(self._section.defaults))
        jobs = [self._job(candidate, sample, options) for sample in self._samples]
        writer.loop.run(jobs)
        return [job.search.results()[0].ids for job in jobs]

    def _job(self, candidate: Model, sample: _Sample, options: GenerationOptions) -> Job:
        """A request for the runtime's own loop."""
        total = options.total_length(len(sample.prompt), self._section.max_length)
        search = make_search(options, sample.prompt, max_length=total, source=sample.source)
        encode = None if sample.read is None else functools.partial(_encode, candidate, sample.read)
        length = 0 if sample.read is None else sample.read.shape[-1]
        reread_at = self._section.reread_at
        return Job(search, sample.prompt, options.rows, total, encode, length, reread_at=reread_at)


def _require_generation(reference: Model) -> Generation:
    manifest = reference.bundle.manifest
    if manifest.generation is None:
        raise UnsupportedModel(f"{manifest.id}: its recipe says nothing of how it writes")
    return manifest.generation


def _session(candidate: Model, graph: str) -> Session:
    session = candidate.sessions[graph]
    assert isinstance(session, Session)  # noqa: S101  # a candidate is made of graph files
    return session


def _sound_samples(reference: Model, sounds: Sequence[object]) -> list[_Sample]:
    """What a model is told that writes down speech: the first of its languages, and to transcribe without times."""
    section, audio = reference.bundle.manifest.transcription, reference.bundle.manifest.audio
    assert section is not None and audio is not None  # noqa: S101, PT018 - those that hear and write have both
    language = list(section.languages.values())[:1]
    told = [section.start, *language, *([section.tasks["transcribe"]] if language else []), section.no_timestamps]
    reader = FeatureReader(audio, reference.graph("encoder"))
    heard = [Audio.read(sound).samples(audio.sampling_rate) for sound in sounds]
    sources = [next(iter(reader.row(samples).values())) for samples in heard]
    return [_Sample(None, np.array(told, np.int64), len(told), sound) for sound in sources]


def _encode(candidate: Model, source: Ids | Floats) -> Mapping[str, Array]:
    """Keys and values (heads, S, D) that the encoder makes of a text or of sound."""
    feeds = {
        "input_ids": source[None],
        "attention_mask": np.ones((1, len(source)), np.int64),
        "input_features": source[None],
    }
    names = [tensor.name for tensor in candidate.graph("encoder").inputs]
    outputs = _session(candidate, "encoder").run({name: feeds[name] for name in names})
    return {name: array[0] for name, array in outputs.items()}


def _log_softmax(logits: Floats) -> np.ndarray[Any, np.dtype[np.float64]]:
    # in double: the difference of two nearly equal distributions is the figure
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    normal: np.ndarray[Any, np.dtype[np.float64]] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return normal


def _divergence(expected: Sequence[Floats], given: Sequence[Floats]) -> float:
    """The mean Kullback-Leibler divergence of the given distributions from those expected, in nats."""
    found = []
    for left, right in zip(expected, given, strict=True):
        reference, other = _log_softmax(left), _log_softmax(right)
        found.append((np.exp(reference) * (reference - other)).sum(axis=-1))
    return float(np.concatenate(found).mean())


def _agreement(expected: Sequence[Floats], given: Sequence[Floats]) -> float:
    """How often both have the same likeliest token."""
    same = [left.argmax(axis=-1) == right.argmax(axis=-1) for left, right in zip(expected, given, strict=True)]
    return float(np.concatenate(same).mean())
