"""The models that a server is started with: bundles and ids on the command line, and a folder of more."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from onnxpipe.bundle import Bundle, open_bundle
from onnxpipe.errors import InvalidInput
from onnxpipe.machine import inspect_machine
from onnxpipe.prepacked import Cache
from onnxpipe.recipe import choose
from onnxpipe.session import CPU, check_providers, device_of, resolve_providers
from onnxpipe_server.described import Plan
from onnxpipe_server.folder import Folder
from onnxpipe_server.lifecycle import Lifecycle
from onnxpipe_server.models import Models, Served, load_served
from onnxpipe_server.on_demand import OnDemand
from onnxpipe_server.proof import begin_proof
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What to serve, and how: as the command line says."""

    named: Sequence[str]  # bundles, or ids of those in the folder: loaded at the start
    folder: Path | None = None
    precision: str | None = None
    providers: Sequence[str] | None = None
    threads: int | None = None
    cache: Cache = dataclasses.field(default_factory=Cache)


@dataclasses.dataclass(frozen=True)
class Stock:
    """The models of a server; `first` are those that are loaded when it starts."""

    models: Models
    lifecycle: Lifecycle
    first: list[OnDemand]
    scheduler: Scheduler | None = None
    providers: Sequence[str] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether those have answered their golden requests."""
        return all(model.passed for model in self.first)

    def check_device(self) -> None:
        """Raise ProviderUnavailable when models cannot run where they are to; in the process that is to run them."""
        check_providers(self.providers)


def open_stock(choice: Choice, settings: Settings) -> Stock:
    """The models, none of them loaded.

    Raises BundleError, InvalidInput (no such folder, id or precision, two models of one id, too little memory),
    ProviderUnavailable or UnsupportedModel.
    """
    scheduler = Scheduler(
        max_rows=settings.max_rows,
        max_bytes=settings.max_rows_bytes,
        max_batch_elements=settings.max_batch_tokens,
    )
    providers = resolve_providers(choice.providers)
    options = {"precision": choice.precision, "providers": choice.providers, "threads": choice.threads}

    def load(path: Path) -> Served:
        served = load_served(path, scheduler=scheduler, cache=choice.cache, **options)  # type: ignore[arg-type] # above
        if providers == [CPU]:
            begin_proof(served.bundle, served.precision, choice.cache)
        return served

    lifecycle = Lifecycle(load, memory_bytes=settings.memory or None, idle_s=settings.idle_unload or None)
    folder = Folder(choice.folder, lambda bundle: _add(lifecycle, bundle, choice, None)) if choice.folder else None
    listed = folder.scan() if folder else []
    named = [path for path in choice.named if folder is None or Path(path).is_dir()]
    opened = [_add(lifecycle, open_bundle(path), choice, choice.precision) for path in named]
    models = Models([*opened, *listed], folder.discover if folder else None)
    chosen = [models.find(name) for name in choice.named if name not in named]
    first = [*opened, *(one for one in listed if one in chosen)]
    lifecycle.check_memory(first)
    everything = [*opened, *listed]
    if everything and all(map(lifecycle.is_too_big, everything)):
        lifecycle.check_memory([min(everything, key=lambda one: one.described.planned_bytes)])
    if not first and folder is None:
        raise InvalidInput("nothing to serve: name bundles, or a folder of them with --models")
    return Stock(models, lifecycle, first, scheduler, choice.providers)


def _add(lifecycle: Lifecycle, bundle: Bundle, choice: Choice, precision: str | None) -> OnDemand:
    """A model of the server, described as it will be loaded: with the recipe for this machine where it has one."""
    found = choose(bundle, choice.precision, choice.providers, choice.threads)
    plan = Plan(device_of(found.providers), found.threads or inspect_machine().threads)
    return lifecycle.add(bundle, precision or (None if choice.precision else found.precision), plan)
