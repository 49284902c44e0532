"""The models of a server: loaded, warm, and found by the name a request gives."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxpipe.errors import InvalidInput
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import AnyPipeline, Model
from onnxpipe_server.status import UnknownModel


@dataclasses.dataclass(frozen=True)
class Served:
    """A loaded model with a ready pipeline for each of its tasks, its own task first."""

    model: Model
    pipelines: Mapping[str, AnyPipeline]

    @property
    def id(self) -> str:
        """The id it is served as."""
        return self.model.bundle.manifest.id

    @property
    def sha(self) -> str:
        """What tells this state of the model from others: the hub commit, else the bundle's digest."""
        return self.model.bundle.manifest.source.revision or self.model.bundle.digest

    @property
    def device(self) -> str:
        """Where it runs: "gpu" if any of its graphs does, else "cpu"."""
        return "gpu" if any(session.device == "gpu" for session in self.model.sessions.values()) else "cpu"

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return max(session.threads for session in self.model.sessions.values())

    @property
    def size_bytes(self) -> int:
        """The files of the loaded precision."""
        files, variant = self.model.bundle.manifest.files, self.model.variant
        return sum(files[name].size_bytes for name in (*variant.files.values(), *variant.external_data))

    def candidates(self, task: str | None) -> list[AnyPipeline]:
        """The pipelines a request may mean: that of `task`, or all when it names none. Raises InvalidInput."""
        if task is None:
            return list(self.pipelines.values())
        if task not in self.pipelines:
            raise InvalidInput(f"{self.id} does not serve the task {task!r}; it serves: {', '.join(self.pipelines)}")
        return [self.pipelines[task]]


class Models:
    """Every model of the server. Raises InvalidInput when two have the same id."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._by_id = {one.id: one for one in served}
        if len(self._by_id) < len(served):
            raise InvalidInput(f"two bundles have the same id; given: {', '.join(sorted(one.id for one in served))}")

    def all(self) -> list[Served]:
        """The models in the order they were given."""
        return list(self._by_id.values())

    def find(self, name: str) -> Served:
        """The model of that id, or the one whose id ends in "/name".

        Raises UnknownModel, or InvalidInput naming the choices when several end so.
        """
        if name in self._by_id:
            return self._by_id[name]
        named = [one for one in self.all() if one.id.endswith(f"/{name}")]
        if len(named) > 1:
            raise InvalidInput(f"{name!r} is the name of several models: {', '.join(one.id for one in named)}")
        if not named:
            raise UnknownModel(f"Model {name} does not exist")
        return named[0]

    def only(self) -> Served:
        """The model of a server that has one. Raises InvalidInput naming the choices."""
        if len(self._by_id) != 1:
            raise InvalidInput(
                f"this server has several models, choose one: /models/{{id}} of {', '.join(self._by_id)}"
            )
        return self.all()[0]


def load_served(
    path: str | Path,
    *,
    precision: str | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Served:
    """A bundle, loaded and warm: its golden requests have run once. Arguments and errors as for `onnxpipe.load`."""
    model = load_model(path, precision=precision, providers=providers, threads=threads)
    manifest = model.bundle.manifest
    pipelines = {task: make_pipeline(model, task) for task in manifest.tasks}
    for golden in model.golden:
        if golden.task in pipelines:
            pipelines[golden.task](golden.inputs, **golden.parameters)
    return Served(model, pipelines)
