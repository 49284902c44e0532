"""The requests that a written bundle is to answer alike wherever it goes, and the first time that they are asked."""

from collections.abc import Mapping
from pathlib import Path

from onnxpipe.bundle import Golden, Manifest, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import plain
from onnxpipe.verification.samples import with_mask
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.variants import candidate_model, graph_sessions


def golden_requests(reference: Model, recipe: Recipe, variants: Mapping[str, Variant]) -> tuple[Golden, ...]:
    """A request to the model's own task per precision: with torch's answer for fp32, else with the variant's own.

    A quantised answer may rightly differ from torch's in more than numbers, by an entity for instance; how much it does
    was judged before.
    """
    inputs = with_mask([recipe.golden or recipe.samples[0]], reference)[0]
    given = recipe.parameters if recipe.golden_parameters is None else recipe.golden_parameters
    golden = []
    for precision, variant in variants.items():
        model = reference
        # torch in the place of a decoder cannot go step by step: its texts were compared before, ours stand for them
        if precision != "fp32" or recipe.exporter == "generation":
            folder = reference.bundle.path
            sessions = graph_sessions(folder, variant.files)
            model = candidate_model(folder, reference.bundle.manifest, precision, sessions)
        pipeline = make_pipeline(model)
        parameters = given(pipeline, inputs) if callable(given) else given
        golden.append(
            Golden(
                task=recipe.task,
                inputs=inputs,
                parameters=parameters,
                expected=plain(pipeline(inputs, **parameters)),
                tolerance={precision: recipe.golden_bound(precision)},
            )
        )
    return tuple(golden)


def reopen(folder: Path, manifest: Manifest) -> None:
    """Open the written bundle as a user will. Raises UnsupportedModel when a golden answer is not reproduced."""
    for precision in manifest.variants:
        if found := check_golden(load_model(folder, precision=precision)):
            raise UnsupportedModel(f"{manifest.id} in {precision}: {found[0]}")
