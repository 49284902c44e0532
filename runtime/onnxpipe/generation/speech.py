"""What a model writes down of a recording: window by window, each from where the one before was cut.

Reference: transformers 4.57.6 `WhisperGenerationMixin.generate` and AutomaticSpeechRecognitionPipeline, after Radford
et al. 2022, "Robust Speech Recognition", section 3.8. Where they differ, windows end with the recording and not with
the silence behind it, and speech moves on: what begins anew again and again within one window is left.
"""

import collections
import itertools
import time
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from onnxpipe.audio.chunks import Window, cut_windows, plan_windows
from onnxpipe.audio.features import FeatureReader, require_audio
from onnxpipe.audio.recording import Microphone, Recording
from onnxpipe.audio.transcript import Transcript
from onnxpipe.audio.waveform import Audio
from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.assembly import Assembly, Heard
from onnxpipe.generation.dictation import Dictation, Passage
from onnxpipe.generation.loop import Job
from onnxpipe.generation.speech_options import Plan, SpeechOptions, make_plan
from onnxpipe.generation.timestamps import settle
from onnxpipe.generation.writer import writer_of
from onnxpipe.pipeline import Model
from onnxpipe.records import FieldError

# Windows that may begin within the length of one.
_BEGINNINGS = 30
# Windows that are written at a time where they do not wait for each other.
_SIDE_BY_SIDE = 4

# What is heard in the windows of a recording. Jobs come out, and it goes on when each is done.
Hearing = Generator[Job, None, list[Heard]]


class SpeechWriter:
    """A model that writes down what it hears. Safe to call from several threads; their texts share its steps.

    Raises UnsupportedModel when the bundle has no such model.
    """

    def __init__(self, model: Model) -> None:
        manifest = model.bundle.manifest
        if manifest.transcription is None or "encoder" not in manifest.graphs:
            raise UnsupportedModel(f"{manifest.id} does not write down speech; it serves: {', '.join(manifest.tasks)}")
        self._section = manifest.transcription
        self._writer = writer_of(model)
        self._check = model.check
        self._dictation = Dictation(model, self._writer, self._section)
        audio = require_audio(manifest)
        self._microphone = Microphone(audio, FeatureReader(audio, model.graph("encoder")), manifest.id)
        frames_per_second = audio.sampling_rate / self._microphone.mel.hop_length
        self._frames_per_step = round(self._section.time_precision * frames_per_second)
        self._seconds_per_frame = 1 / frames_per_second

    def transcribe(self, audio: Audio, options: SpeechOptions) -> Transcript:
        """What is said in a recording of any length.

        Raises FieldError for parameters that this model cannot follow, UnprocessableInput for times of words where it
        has none, and what `Audio.blocks` and the model's `check` do.
        """
        # before anything is decoded: parameters may be wrong
        plan = make_plan(self._writer, self._section, options, long=False)
        limit = plan.attempts[0].max_time
        deadline = None if limit is None else time.monotonic() + limit
        assembly = Assembly(self._writer.tokenizer, self._section, plan.times, languages=options.return_language)
        if options.chunk_length_s:
            for heard in self._hear_chunks(audio, options, plan, deadline):
                assembly.add(heard)
            return assembly.transcript()
        recording = self._microphone.record(audio)
        if recording.frames > self._microphone.frames:
            plan = make_plan(self._writer, self._section, options, long=True)
        (windows,) = self._run([self._hear(recording, plan, deadline)])
        for number, heard in enumerate(windows, 1):
            assembly.add(heard)
            if number < len(windows):
                assembly.close(heard.following)
        return assembly.transcript()

    def _hear(self, recording: Recording, plan: Plan, deadline: float | None) -> Hearing:
        """What is heard in one window after the other, times counted from the recording's beginning."""
        size = self._microphone.frames
        # where the sound fits into one window, the silence behind it is heard with it
        end = max(recording.frames, size)
        windows: list[Heard] = []
        before: list[int] = []
        language, conditioned = plan.language, plan.condition_on_prev_tokens
        begins: collections.deque[int] = collections.deque(maxlen=_BEGINNINGS)
        begin = 0
        while begin < recording.frames and (deadline is None or time.monotonic() < deadline):
            length = min(size, end - begin)
            passage = yield from self._dictation.write(
                recording.window(begin),
                plan,
                language=language,
                before=before if conditioned else (),
                positions=(recording.frames - begin) // self._frames_per_step,
                deadline=deadline,
            )
            language = passage.language
            conditioned = plan.condition_on_prev_tokens and passage.reliable
            settled = settle(passage.ids, self._section.first_timestamp)
            begins.append(begin)
            stuck = len(begins) == _BEGINNINGS and begin - begins[0] < size
            if settled.advance is None or not passage.said or stuck:
                following = begin + length
            else:
                following = begin + settled.advance * self._frames_per_step
            if passage.said:
                before += passage.ids[: settled.count].tolist()
                windows.append(self._heard(passage, settled.count, begin, following))
            if passage.final:
                break
            begin = following
        return windows

    def _heard(self, passage: Passage, count: int, begin: int, following: int) -> Heard:
        """The first tokens of what was written of the window from frame `begin` on."""
        ids = passage.ids[:count]
        steps = begin // self._frames_per_step
        offset = begin * self._seconds_per_frame
        return Heard(
            ids=np.where(ids >= self._section.first_timestamp, ids + steps, ids).tolist(),
            ends=(passage.ends[:count].astype(np.float64) + offset).tolist(),
            language=passage.language,
            following=following * self._seconds_per_frame,
        )

    def _hear_chunks(self, audio: Audio, options: SpeechOptions, plan: Plan, deadline: float | None) -> Iterator[Heard]:
        """What is heard in windows of one length that overlap, each for itself."""
        rate = self._microphone.rate
        seconds = options.chunk_length_s or 0.0
        if seconds * rate > self._microphone.samples:
            # the reference hears the beginning of each and leaves the rest out
            raise FieldError(
                "chunk_length_s",
                f"expected at most {self._section.window_seconds:g} seconds, which this model hears at a time, "
                f"given {seconds:g}; leave it out for recordings of any length",
            )
        size = plan_windows(seconds, options.stride_length_s, rate, 1)
        chunks = cut_windows(audio.blocks(rate, size.size), size)
        begin = 0
        for group in _grouped(chunks):
            hearings = [self._hear(self._microphone.hear(chunk.samples), plan, deadline) for chunk in group]
            for chunk, windows in zip(group, self._run(hearings), strict=True):
                yield Heard(
                    ids=[token for heard in windows for token in heard.ids],
                    ends=[end for heard in windows for end in heard.ends],
                    language=windows[0].language if windows else plan.language,
                    begin=begin / rate,
                    seconds=len(chunk.samples) / rate,
                    left=chunk.left / rate,
                    right=chunk.right / rate,
                )
                begin += size.size - size.left - size.right

    def _run(self, hearings: Iterable[Hearing]) -> list[list[Heard]]:
        """What is heard in each, their jobs done together."""
        results: dict[int, list[Heard]] = {}
        going = dict(enumerate(hearings))
        while going:
            jobs = []
            for number, hearing in list(going.items()):
                try:
                    jobs.append(next(hearing))
                except StopIteration as stop:
                    results[number] = stop.value
                    del going[number]
            self._writer.loop.run(jobs, self._check)
        return [windows for _, windows in sorted(results.items())]


def _grouped(chunks: Iterator[Window]) -> Iterator[list[Window]]:
    """The chunks in lists of those that are heard side by side."""
    while group := [*itertools.islice(chunks, _SIDE_BY_SIDE)]:
        yield group
