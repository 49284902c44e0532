"""How good precisions are: on labelled rows, or beside fp32."""

from pathlib import Path
from typing import Any

from onnxpipe.errors import InvalidInput, OnnxpipeError
from onnxpipe.pipeline import AnyPipeline
from onnxpipe_bench.desk.agreement import agreement_inputs, answers, score_agreement
from onnxpipe_bench.desk.candidates import BASELINE, Candidate
from onnxpipe_bench.desk.labelled import read_examples, score_labelled
from onnxpipe_bench.desk.scores import Score

Row = dict[str, Any]  # JSON


class Judgement:
    """How good each precision of a bundle is, on a file's labelled rows or beside fp32, each asked once."""

    def __init__(self, task: str, data: Path | None, rows: int | None = None) -> None:
        self._task, self._data, self._most = task, data, rows
        self._scores: dict[tuple[str, str], Score] = {}
        self.told: dict[str, Any] = {"data": data.name if data else None}

    def figures(self, candidate: Candidate, pipeline: AnyPipeline | None = None) -> Row | None:
        """The score and how far it is below that of fp32; None where the bundle has no fp32 to be held against.

        Raises InvalidInput for labels that are of no use.
        """
        score = self._score(candidate, pipeline)
        if score is None:
            return None
        self.told |= {"metric": score.metric, "lower": score.lower, "rows": len(score.rows)}
        figures: Row = {"metric": score.metric, **score.interval.plain(6)}
        reference = self._score(candidate.baseline, None)
        if reference is not None and reference.rows.shape == score.rows.shape:
            figures["drop"] = score.drop_from(reference).plain(6)
        return figures

    def _score(self, candidate: Candidate, pipeline: AnyPipeline | None) -> Score | None:
        key = (candidate.path, candidate.precision)
        if key not in self._scores:
            try:
                pipeline = pipeline or candidate.load(self._task)
            except InvalidInput:  # a bundle without fp32
                return None
            found = self._labelled(pipeline) if self._data else self._agreement(candidate, pipeline)
            if found is None:
                return None
            self._scores[key] = found
        return self._scores[key]

    def _labelled(self, pipeline: AnyPipeline) -> Score:
        assert self._data is not None  # noqa: S101 - as the caller has seen
        media = pipeline.media_kind() is not None
        examples = read_examples(self._data, self._task, media=media, most=self._most)
        return score_labelled(pipeline.model, self._task, examples)

    def _agreement(self, candidate: Candidate, pipeline: AnyPipeline) -> Score | None:
        if candidate.precision == BASELINE:
            reference = pipeline
        else:
            try:
                reference = candidate.baseline.load(self._task)
            except OnnxpipeError:
                return None
        examples = agreement_inputs(reference, self._task)
        return score_agreement(answers(reference, examples), answers(pipeline, examples))
