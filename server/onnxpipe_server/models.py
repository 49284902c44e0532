"""The models of a server: loaded, warm, and found by the name a request gives."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxpipe.errors import InvalidInput, UnprocessableInput
from onnxpipe.generation.chat import ChatPrompts
from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import AnyPipeline, Model
from onnxpipe.records import FieldError, show
from onnxpipe.tasks.text_generation import TextGeneration
from onnxpipe_server.status import UnknownModel

# what clients of one model send as its name, when they must send one
_ANY_MODEL = ("", "tgi", "dummy")


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
    def media_kind(self) -> str | None:
        """What kind of file its tasks take, such as "image"; None for text."""
        return next(iter(self.pipelines.values())).media_kind()

    @property
    def writes(self) -> bool:
        """Whether any of its tasks writes text token by token."""
        return any(isinstance(pipeline, WritingPipeline) for pipeline in self.pipelines.values())

    @property
    def continues(self) -> bool:
        """Whether one of its tasks goes on from a text."""
        return any(isinstance(pipeline, TextGeneration) for pipeline in self.pipelines.values())

    @property
    def chats(self) -> bool:
        """Whether it goes on from messages too, by a chat template of its own."""
        return self.continues and self.model.bundle.manifest.chat is not None

    @property
    def tells_of_tools(self) -> bool:
        """Whether one of its chat templates reads `tools`."""
        chat = self.model.bundle.manifest.chat
        return chat is not None and any("tools" in source for source in chat.templates.values())

    @functools.cached_property
    def chat(self) -> ChatPrompts:
        """What makes prompts of messages."""
        return ChatPrompts(self.model)

    @property
    def reads_text(self) -> bool:
        """Whether it has a tokenizer."""
        return self.model.bundle.manifest.text is not None

    @property
    def generator(self) -> TextGeneration:
        """Its pipeline that goes on from a text. Raises UnprocessableInput when it has none."""
        for pipeline in self.pipelines.values():
            if isinstance(pipeline, TextGeneration):
                return pipeline
        raise UnprocessableInput(f"{self.id} does not continue texts; it serves: {', '.join(self.pipelines)}")

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

    def choose(self, name: object, fits: Callable[[Served], bool], kind: str) -> Served:
        """The model that the body of a request names, on a route that names none: the only one that `fits` when the
        body says nothing, "tgi", "dummy" or an address.

        Raises UnknownModel, or InvalidInput naming the choices; `kind` is what they are called.
        """
        if name is not None and not isinstance(name, str):
            raise FieldError("model", f"expected a model's id, given {show(name)}")
        if name and name not in _ANY_MODEL and "://" not in name:
            return self.find(name)
        fitting = [one for one in self.all() if fits(one)]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise UnprocessableInput(f"this server has no model that {kind}; it has: {', '.join(self._by_id)}")
        names = ", ".join(one.id for one in fitting)
        raise FieldError("model", f"several models of this server {kind}, name one of them: {names}")


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
