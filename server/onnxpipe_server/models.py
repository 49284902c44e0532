"""The models of a server: loaded, warm and checked, and found by the name a request gives."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from onnxpipe.bundle import Bundle, Golden
from onnxpipe.errors import BundleError, InvalidInput, UnprocessableInput
from onnxpipe.generation.chat import ChatPrompts
from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.golden import distance
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import AnyPipeline, Model
from onnxpipe.prepacked import Cache
from onnxpipe.records import FieldError, plain, show
from onnxpipe.session import Engine, Session
from onnxpipe.tasks.text_generation import TextGeneration
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.status import UnknownModel
from onnxpipe_server.tickets import check_current

_log = logging.getLogger(__name__)

State = Literal["Loaded", "Loadable", "TooBig", "error"]  # the contract's words; a model that loads is Loadable

# what clients of one model send as its name, when they must send one
_ANY_MODEL = ("", "tgi", "dummy")


@dataclasses.dataclass(frozen=True)
class Served:
    """A loaded model with a ready pipeline for each of its tasks, its own task first."""

    model: Model
    pipelines: Mapping[str, AnyPipeline]

    @property
    def bundle(self) -> Bundle:
        """What it is made of."""
        return self.model.bundle

    @property
    def precision(self) -> str:
        """The precision that is served."""
        return self.model.precision

    @property
    def kinds(self) -> Mapping[str, type[AnyPipeline]]:
        """The class of each task's pipeline; what can be read off it does not need the model."""
        return {task: type(pipeline) for task, pipeline in self.pipelines.items()}

    @property
    def state(self) -> State:
        """Whether it is there, or could be."""
        return "Loaded"

    @property
    def problem(self) -> str | None:
        """Why it is not there, or not what its folder holds now; None when all is well."""
        return None

    @property
    def id(self) -> str:
        """The id it is served as."""
        return self.bundle.manifest.id

    @property
    def sha(self) -> str:
        """What tells this state of the model from others: the hub commit, else the bundle's digest."""
        return self.bundle.manifest.source.revision or self.bundle.digest

    @property
    def device(self) -> str:
        """Where it runs: "gpu" if any of its graphs does, else "cpu"."""
        return self.model.device

    @functools.cached_property
    def media_kind(self) -> str | None:
        """What kind of file its tasks take, such as "image"; None for text."""
        return next(iter(self.kinds.values())).media_kind()

    @functools.cached_property
    def writes(self) -> bool:
        """Whether any of its tasks writes text token by token."""
        return any(issubclass(kind, WritingPipeline) for kind in self.kinds.values())

    @property
    def continues(self) -> bool:
        """Whether one of its tasks goes on from a text."""
        return any(issubclass(kind, TextGeneration) for kind in self.kinds.values())

    @property
    def rewrites(self) -> bool:
        """Whether its tasks write about a text that an encoder has read."""
        return self.media_kind is None and any(
            isinstance(pipeline, WritingPipeline) and pipeline.has_encoder for pipeline in self.pipelines.values()
        )

    @property
    def chats(self) -> bool:
        """Whether it goes on from messages too, by a chat template of its own."""
        return self.continues and self.bundle.manifest.chat is not None

    @property
    def tells_of_tools(self) -> bool:
        """Whether one of its chat templates reads `tools`."""
        chat = self.bundle.manifest.chat
        return chat is not None and any("tools" in source for source in chat.templates.values())

    @functools.cached_property
    def chat(self) -> ChatPrompts:
        """What makes prompts of messages."""
        return ChatPrompts(self.model)

    @property
    def reads_text(self) -> bool:
        """Whether it has a tokenizer."""
        return self.bundle.manifest.text is not None

    @functools.cached_property
    def generator(self) -> TextGeneration:
        """What goes on from a text, or writes about it. Raises UnprocessableInput when it does neither."""
        for pipeline in self.pipelines.values():
            if isinstance(pipeline, TextGeneration):
                return pipeline
        if self.rewrites:
            return TextGeneration(self.model)
        raise UnprocessableInput(f"{self.id} does not continue texts; it serves: {', '.join(self.kinds)}")

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return max(session.threads for session in self.model.sessions.values())

    @property
    def golden(self) -> list[Golden]:
        """The bundle's golden requests for this precision."""
        return [golden for golden in self.bundle.manifest.golden if self.precision in golden.tolerance]

    @property
    def size_bytes(self) -> int:
        """The files of the loaded precision."""
        files, variant = self.bundle.manifest.files, self.bundle.manifest.variants[self.precision]
        return sum(files[name].size_bytes for name in (*variant.files.values(), *variant.external_data))

    def candidates(self, task: str | None) -> list[AnyPipeline]:
        """The pipelines a request may mean: that of `task`, or all when it names none. Raises InvalidInput."""
        if task is None:
            return list(self.pipelines.values())
        if task not in self.kinds:
            raise InvalidInput(f"{self.id} does not serve the task {task!r}; it serves: {', '.join(self.kinds)}")
        return [self.pipelines[task]]


class Models:
    """Every model of the server. Raises InvalidInput when two have the same id.

    `discover` is asked for more of them when a name is not known.
    """

    def __init__(self, served: Sequence[Served], discover: Callable[[str], Sequence[Served]] | None = None) -> None:
        self._by_id = {one.id: one for one in served}
        self._discover = discover
        if len(self._by_id) < len(served):
            raise InvalidInput(f"two bundles have the same id; given: {', '.join(sorted(one.id for one in served))}")

    def all(self) -> list[Served]:
        """The models in the order they were given."""
        return list(self._by_id.values())

    def find(self, name: str) -> Served:
        """The model of that id, or the one whose id ends in "/name".

        Raises UnknownModel, InvalidInput naming the choices when several end so, or BundleError for one that cannot be
        read.
        """
        named = self._named(name)
        if not named and self._discover is not None:
            self._by_id |= {one.id: one for one in self._discover(name)}
            named = self._named(name)
        if len(named) > 1:
            raise InvalidInput(f"{name!r} is the name of several models: {', '.join(one.id for one in named)}")
        if not named:
            raise UnknownModel(f"Model {name} does not exist")
        return named[0]

    def _named(self, name: str) -> list[Served]:
        if name in self._by_id:
            return [self._by_id[name]]
        return [one for one in self.all() if one.id.endswith(f"/{name}")]

    def only(self) -> Served:
        """The model of a server that has one. Raises InvalidInput naming the choices."""
        if len(self._by_id) != 1:
            raise InvalidInput(
                f"this server has several models, choose one: /models/{{id}} of {', '.join(self._by_id)}"
            )
        return self.all()[0]

    def named(self, name: object) -> Served | None:
        """The model that the body of a request names; None for nothing, "tgi", "dummy" or an address.

        Raises FieldError for what is no name, and as `find` does.
        """
        if name is not None and not isinstance(name, str):
            raise FieldError("model", f"expected a model's id, given {show(name)}")
        return self.find(name) if name and name not in _ANY_MODEL and "://" not in name else None

    def choose(self, name: object, fits: Callable[[Served], bool], kind: str) -> Served:
        """The model that the body of a request names, on a route that names none, else the only one that `fits`.

        Raises as `named` does, or InvalidInput naming the choices; `kind` is what they are called.
        """
        if (named := self.named(name)) is not None:
            return named
        fitting = [one for one in self.all() if fits(one)]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise UnprocessableInput(f"this server has no model that {kind}; it has: {', '.join(self._by_id)}")
        names = ", ".join(one.id for one in fitting)
        raise FieldError("model", f"several models of this server {kind}, name one of them: {names}")

    def choose_writer(self, name: object) -> Served:
        """`choose` among the models that continue texts, or else among those that write about them."""
        if any(one.continues for one in self.all()):
            return self.choose(name, lambda one: one.continues, "continues texts")
        return self.choose(name, lambda one: one.rewrites, "writes texts")


def load_served(
    path: str | Path,
    *,
    precision: str | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    scheduler: Scheduler | None = None,
    cache: Cache | None = None,
) -> Served:
    """A bundle, loaded and warm: it has answered its golden requests as it should. Arguments as for `load_model`.

    With a scheduler the rows of its requests share runs. Raises what `onnxpipe.load` does, and BundleError for a wrong
    answer to a golden request.
    """
    cache = cache or Cache()
    served = _load(path, precision, providers, threads, scheduler, cache)
    if problems := _problems(served):
        # what was kept for this machine may be damaged
        if not cache.forget(served.bundle, served.model.variant.files.values()):
            raise BundleError(f"{path}: the model does not answer as it should: {'; '.join(problems)}")
        _log.warning("%s: loaded again without its cache: %s", path, "; ".join(problems))
        return load_served(path, precision=precision, providers=providers, threads=threads, scheduler=scheduler)
    return served


def _load(
    path: str | Path,
    precision: str | None,
    providers: Sequence[str] | None,
    threads: int | None,
    scheduler: Scheduler | None,
    cache: Cache,
) -> Served:
    model = load_model(path, precision=precision, providers=providers, threads=threads, cache=cache)
    _log_placement(model)
    model = dataclasses.replace(model, check=check_current)
    if scheduler is not None:
        model = dataclasses.replace(model, runner=scheduler.runner(_narrow_engines(model, providers, cache)))
    return Served(model, {task: make_pipeline(model, task) for task in model.bundle.manifest.tasks})


def _log_placement(model: Model) -> None:
    for name, session in model.sessions.items():
        if isinstance(session, Session) and session.placement:
            told = ", ".join(f"{count} on {provider}" for provider, count in session.placement.items())
            _log.info("%s: operators of the graph %s: %s", model.bundle.path, name, told)


def _problems(served: Served) -> list[str]:
    """How answers to golden requests differ from those expected by more than the manifest allows."""
    problems = []
    for golden in served.golden:
        if golden.task in served.pipelines:
            answer = plain(served.pipelines[golden.task](golden.inputs, **golden.parameters))
            apart, allowed = distance(golden.expected, answer), golden.tolerance[served.precision]
            if apart > allowed:
                problems.append(f"{golden.task}: an answer is off by {apart:.3g}, allowed is {allowed:.3g}")
    return problems


def _narrow_engines(model: Model, providers: Sequence[str] | None, cache: Cache) -> dict[str, Engine]:
    """Sessions with one thread, of which several run at once, where rows cannot share a run."""
    files, session = model.variant.files, model.sessions.get("model")
    if session is None or model.variant.batch_invariant or session.device != "cpu" or session.threads == 1:
        return {}
    return {"model": cache.session(model.bundle, files["model"], providers, threads=1)}
