"""A model that may be in memory or not, and what a request holds of those it uses."""

import dataclasses
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

from onnxpipe.bundle import Bundle
from onnxpipe.errors import OnnxpipeError
from onnxpipe.generation.chat import ChatPrompts
from onnxpipe.pipeline import AnyPipeline, Model
from onnxpipe.tasks.text_generation import TextGeneration
from onnxpipe_server.described import Description, Plan
from onnxpipe_server.models import Served, State


class NotLoaded(Exception):
    """A model that a request needs is not in memory."""

    def __init__(self, model: "OnDemand") -> None:
        super().__init__(model.id)
        self.model = model


@dataclasses.dataclass(eq=False)
class Version:
    """A model in memory, and how many requests use it."""

    served: Served
    size_bytes: int
    uses: int = 0


class Hold:
    """What one request uses, until `Lifecycle.release`."""

    def __init__(self) -> None:
        self.versions: dict[OnDemand, Version] = {}
        self.wanted: OnDemand | None = None  # what it waits for


class Keeper(Protocol):
    """What has models in memory, or not."""

    def use(self, model: "OnDemand") -> Served:
        """A model in memory, for the current request. Raises NotLoaded."""

    def is_too_big(self, model: "OnDemand") -> bool:
        """Whether it could not be loaded even alone."""


class OnDemand(Served):
    """A model of the server, in memory or not: what its bundle tells is known in any case.

    Its `model`, `pipelines` and what comes of them raise NotLoaded when it is not.
    """

    def __init__(self, described: Description, plan: Plan, lifecycle: Keeper) -> None:
        # not the fields of `Served`, whose places the properties below take
        self.lifecycle = lifecycle
        self.plan = plan
        # the rest is read and changed under the lifecycle's lock
        self.described = described
        self.version: Version | None = None
        self.loading: Future[OnnxpipeError | None] | None = None
        self.passed = False  # whether it was ever loaded
        self.wanted = 0  # requests that wait for it
        self.used_at = self.begun_at = 0.0
        self.load_s: float | None = None
        self.looked_at = time.monotonic()
        self.error: OnnxpipeError | None = None
        self.failures = 0
        self.retry_at = 0.0
        self.failed_stamp: tuple[int, ...] = ()

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def bundle(self) -> Bundle:
        """What it is made of."""
        return self.described.bundle

    @property
    def precision(self) -> str:
        """The precision that is served."""
        return self.described.precision

    @property
    def kinds(self) -> Mapping[str, type[AnyPipeline]]:
        """The class of each task's pipeline."""
        return self.described.kinds

    @property
    def model(self) -> Model:
        """The loaded model. Raises NotLoaded."""
        return self.lifecycle.use(self).model

    @property
    def pipelines(self) -> Mapping[str, AnyPipeline]:
        """Its pipelines. Raises NotLoaded."""
        return self.lifecycle.use(self).pipelines

    @property
    def chat(self) -> ChatPrompts:
        """What makes prompts of messages. Raises NotLoaded."""
        return self.lifecycle.use(self).chat

    @property
    def generator(self) -> TextGeneration:
        """What goes on from a text. Raises NotLoaded, or UnprocessableInput."""
        return self.lifecycle.use(self).generator

    @property
    def rewrites(self) -> bool:
        """Whether its tasks write about a text that an encoder has read."""
        return self.writes and self.media_kind is None and "encoder" in self.bundle.manifest.graphs

    @property
    def device(self) -> str:
        """Where it runs, or would."""
        return self.plan.device

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return self.plan.threads

    @property
    def state(self) -> State:
        """Whether it is there, or could be."""
        if self.version is not None:
            return "Loaded"
        if self.error is not None:
            return "error"
        return "TooBig" if self.lifecycle.is_too_big(self) else "Loadable"

    @property
    def problem(self) -> str | None:
        """Why it is not there, or not what its folder holds now."""
        if self.error is None:
            return None
        return str(self.error) if self.version is None else f"serving what was loaded before: {self.error}"
