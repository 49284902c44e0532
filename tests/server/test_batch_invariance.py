"""What a request gets never depends on who shares its batch: every variant, rows of many sizes, in many threads."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.bundle import open_bundle
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.vision.image import Picture
from onnxpipe_server.models import load_served
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.tickets import Ticket, working_for

# task -> family and head of a tiny model whose variants are tried
KINDS = {
    "feature-extraction": ("roberta", ""),
    "token-classification": ("bert-cased", "ForTokenClassification"),
    "image-classification": ("vit", "ForImageClassification"),
}


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, tiny_model, tmp_path_factory) -> Path:
    from onnxpipe_export.export import export

    path = tmp_path_factory.mktemp("invariance") / "bundle"
    export(tiny_model(*KINDS[request.param]), path, precisions=["fp32", "int8"], bundle_id=f"tiny/{request.param}")
    return path


def test_a_request_gets_the_same_answer_beside_others_as_alone(bundle):
    for precision in open_bundle(bundle).manifest.variants:
        check(bundle, precision)


def test_so_it_is_with_a_real_model(minilm_bundle):
    for precision in ("fp32", "int8"):
        check(minilm_bundle, precision, requests=60)


def check(path, precision, requests=200):
    alone = make_pipeline(load_model(path, precision=precision))
    served = load_served(path, precision=precision, scheduler=Scheduler(max_batch_elements=512))
    shared = next(iter(served.pipelines.values()))
    draw = random.Random(1)
    inputs = [make_input(alone, draw) for _ in range(40)]
    expected = [rows_outputs(alone, given) for given in inputs]
    exact = not served.model.variant.batch_invariant
    # one thread for each of several runs, where rows cannot share one
    assert bool(served.model.runner._narrow) == (exact and served.threads > 1)
    most, lock = 0, threading.Lock()

    def client(seed):
        nonlocal most
        draw = random.Random(seed)
        for _ in range(requests // 16 + 1):
            index, ticket = draw.randrange(len(inputs)), Ticket()
            with working_for(ticket):
                given = rows_outputs(shared, inputs[index])
            with lock:
                most = max(most, ticket.batch_rows)
            for outputs, wanted in zip(given, expected[index], strict=True):
                assert outputs.keys() == wanted.keys()
                for name, array in outputs.items():
                    scale = max(float(np.abs(wanted[name]).max()), 1e-6)
                    np.testing.assert_allclose(array, wanted[name], rtol=0, atol=0 if exact else 2e-6 * scale)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(client, seed) for seed in range(16)]:
            future.result(120)
    # rows did share runs, where they may
    assert (most == 1) if exact else (most > 1)


def rows_outputs(pipeline, given):
    """The raw outputs of an input's rows, in order, before anything is rounded or cut."""
    rows = pipeline.preprocess(given, pipeline.types()[1]()).rows
    outputs = dict(pipeline.infer(rows))
    return [outputs[index] for index in range(len(rows))]


def make_input(pipeline, draw):
    kind = pipeline.types()[0]
    if kind is Picture:
        from PIL import Image

        noise = np.random.default_rng(draw.randrange(1000)).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        return pipeline.check_inputs([Image.fromarray(noise)])[0]
    words = " ".join(draw.choice(["one", "zwei", "three", "kvar", "fem"]) for _ in range(draw.randint(1, 60)))
    return words if kind is str else pipeline.check_inputs([{"source_sentence": words, "sentences": [words, "two"]}])[0]
