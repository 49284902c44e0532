"""From a bundle to a ready pipeline: the front door of the library."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from onnxpipe import tasks
from onnxpipe.bundle import Bundle, open_bundle
from onnxpipe.errors import BundleError, InvalidInput, UnsupportedModel
from onnxpipe.pipeline import AnyPipeline, Model, Pipeline
from onnxpipe.prepacked import Cache
from onnxpipe.recipe import Choice, choose
from onnxpipe.session import Level, Session


def load(
    path: str | Path,
    *,
    task: str | None = None,
    precision: str | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> AnyPipeline:
    """A pipeline over a bundle folder: call it with one input or a list, and the task's parameters as keywords.

    `task` picks one of the tasks the bundle serves (its own when None), `precision` one of its variants (the first when
    None), `providers` the execution providers by name ("cpu", "cuda", "cuda:1", ...; CPU when None), `threads` the
    threads of a run (planned from the machine's limits when None). Models run where that says or not at all: see
    `Session`. Where neither precision nor providers are named, the recipe that `onnxpipe tune` has made on this kind of
    machine says them, and the threads.
    Raises BundleError, InvalidInput (no such task or precision), ProviderUnavailable or UnsupportedModel.
    """
    return make_pipeline(load_model(path, precision=precision, providers=providers, threads=threads), task)


def load_model(
    path: str | Path,
    *,
    precision: str | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    level: Level | None = None,
    cache: Cache | None = None,
) -> Model:
    """A bundle with one precision loaded, every file it reads checked against its digest. Arguments as for `load`.

    `level` is how much onnxruntime rewrites its graphs (what the recipe says, or all, when None). With a `cache` graphs
    come from there, and files are checked once and again when they have changed.
    """
    cache = cache or Cache()
    if threads is not None and threads < 1:
        raise InvalidInput(f"threads: expected an integer >= 1, given {threads}")
    bundle = open_bundle(path)
    choice = choose(bundle, precision, providers, threads)
    if level is not None:
        choice = dataclasses.replace(choice, level=level)
    chosen, variant = bundle.variant(choice.precision)
    text = bundle.manifest.text
    cache.verify(bundle, [*variant.files.values(), *variant.external_data, *([text.tokenizer] if text else [])])
    graphs = bundle.manifest.graphs
    sessions = {
        name: _open_session(cache, bundle, file, choice, steps=name in graphs and graphs[name].has_past)
        for name, file in variant.files.items()
    }
    for name, session in sessions.items():
        _check_ports(bundle, name, session)
    return Model(bundle, chosen, variant, sessions)


def _open_session(cache: Cache, bundle: Bundle, file: str, choice: Choice, *, steps: bool) -> Session:
    if choice.level != "all":  # what a cache keeps is rewritten in full
        return Session(bundle.file(file), choice.providers, choice.threads, steps=steps, level=choice.level)
    return cache.session(bundle, file, choice.providers, choice.threads, steps=steps)


def _check_ports(bundle: Bundle, name: str, session: Session) -> None:
    """Raise BundleError unless a graph file takes and gives what the manifest says."""
    graph = bundle.manifest.graphs.get(name)
    if graph is None:
        raise BundleError(f"{bundle.path}: the manifest has a file for graph {name!r}, but does not describe it")
    for kind, tensors, ports in (("input", graph.inputs, session.inputs), ("output", graph.outputs, session.outputs)):
        described, found = {tensor.name for tensor in tensors}, {port.name for port in ports}
        # outputs may be left out: nobody has to read all of them
        if not described <= found or (kind == "input" and described != found):
            raise BundleError(
                f"{bundle.path}: graph {name!r} has the {kind}s {', '.join(sorted(found))}, but the manifest says "
                f"{', '.join(sorted(described))}"
            )


def make_pipeline(model: Model, task: str | None = None) -> AnyPipeline:
    """A pipeline for one of the tasks the model serves, its own when None."""
    manifest = model.bundle.manifest
    task = task or manifest.task
    if task not in manifest.tasks:
        raise InvalidInput(f"{manifest.id} does not serve {task!r}; it serves: {', '.join(manifest.tasks)}")
    return pipeline_class(task)(model)


def task_names() -> list[str]:
    """Every task this onnxpipe has, as the contract spells them."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(tasks.__path__))


def pipeline_class(task: str) -> type[AnyPipeline]:
    """The class of a task. Raises UnsupportedModel when this onnxpipe does not have it."""
    if task not in task_names():  # before importing: the name comes from a file or a request
        raise UnsupportedModel(f"this onnxpipe has no task {task!r}; it has: {', '.join(task_names())}")
    module = importlib.import_module(f"{tasks.__name__}.{task.replace('-', '_')}")
    classes = inspect.getmembers(module, lambda member: inspect.isclass(member) and issubclass(member, Pipeline))
    found: type[AnyPipeline] = next(cls for _, cls in classes if cls.__module__ == module.__name__)
    return found
