import dataclasses

import pytest

from onnxpipe.bundle import open_bundle
from onnxpipe.doctor import facts, report
from onnxpipe.doctor.nodes import NodeShare
from onnxpipe.doctor.report import diagnose, render, try_bundle
from onnxpipe.errors import ProviderUnavailable
from onnxpipe.machine import Machine

GIB = 2**30
MACHINE = Machine(
    architecture="x86_64",
    isa=("avx2", "avx_vnni"),
    cpu_set=4,
    physical_cores=2,
    quota_cpus=None,
    memory_total_bytes=8 * GIB,
    memory_limit_bytes=None,
)


@pytest.fixture
def on(monkeypatch):
    """A diagnosis of a machine with the fields given."""

    def diagnosis(**fields):
        monkeypatch.setattr(facts, "inspect_machine", lambda: dataclasses.replace(MACHINE, **fields))
        monkeypatch.setattr(facts, "memory_available", lambda: 6 * GIB)
        return diagnose()

    return diagnosis


def line(diagnosis, name):
    return next(text[14:] for text in render(diagnosis) if text.split()[:1] == [name])


def test_threads_come_with_their_reason(on):
    assert line(on(), "threads") == "2 (the smallest of no CPU quota, a CPU set of 4 and 2 physical cores)"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "8.0 GiB in all, 6.0 GiB free, no limit on this process"),
        ({"memory_limit_bytes": 3 * GIB // 2}, "8.0 GiB in all, 6.0 GiB free, 1.5 GiB limit on this process"),
        ({"memory_total_bytes": None}, "unknown in all, 6.0 GiB free, no limit on this process"),
    ],
)
def test_memory_is_told_with_its_limit(on, fields, expected):
    assert line(on(**fields), "memory") == expected


@pytest.mark.parametrize(
    ("isa", "instructions", "int8"),
    [
        (("avx2", "avx_vnni"), "avx2, avx_vnni", "fast here: dot products of bytes (avx_vnni)"),
        (("asimd", "asimddp"), "asimd, asimddp", "fast here: dot products of bytes (asimddp)"),
        (("avx2", "amx_int8"), "avx2, amx_int8", "very fast here: products of bytes in tiles (AMX)"),
        (
            ("avx2", "avx512f"),
            "avx2, avx512f",
            "AVX-512 without VNNI: gains little over fp32, measure before choosing int8",
        ),
        (("avx2",), "avx2", "no int8 dot products: measure before choosing int8"),
        ((), "none that matter were found", "no int8 dot products: measure before choosing int8"),
    ],
)
def test_what_instructions_mean_for_int8_is_told(on, isa, instructions, int8):
    diagnosis = on(isa=isa)
    assert line(diagnosis, "instructions") == instructions
    assert line(diagnosis, "int8") == int8


def test_findings_come_behind_an_empty_line_with_a_command(on):
    lines = render(on(quota_cpus=0.5))
    place = next(index for index, text in enumerate(lines) if text.startswith("warning"))
    assert lines[place - 1] == ""
    assert lines[place + 1] == f"{'':<13} $ docker update --cpus 1 CONTAINER"


def test_a_bundle_is_told_with_where_its_nodes_ran(asked_bundle):
    bundle = open_bundle(asked_bundle)
    seen = try_bundle(bundle, None, ["cpu"], None)
    assert (seen.problem, seen.providers) == (None, ("CPUExecutionProvider",))
    assert seen.sizes == {"fp32": bundle.file("onnx/model.onnx").stat().st_size}
    assert "on CPUExecutionProvider, 100% of the time" in line(diagnose(bundle=seen), "nodes")


def test_a_provider_that_is_not_there_is_a_problem_and_no_error(embedding_bundle):
    seen = try_bundle(open_bundle(embedding_bundle()), None, ["acme"], None)
    assert "'acme'" in seen.problem
    assert seen.unavailable
    assert diagnose(bundle=seen).broken


def test_a_bundle_without_a_golden_request_was_not_run(embedding_bundle):
    seen = try_bundle(open_bundle(embedding_bundle()), None, None, None)
    assert line(diagnose(bundle=seen), "nodes") == "not run: the bundle has no golden request"


def test_where_a_provider_is_refused_what_it_leaves_to_the_cpu_is_told(embedding_bundle, monkeypatch):
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    left = NodeShare(graph="model", provider=cpu, nodes=3, time_share=1.0, operators=("MatMul",))

    def run_nodes(bundle, precision, providers, threads):
        if "cpu" not in providers:
            raise ProviderUnavailable("cuda was requested but takes none of the graph's operators")
        return (left,)

    monkeypatch.setattr(report, "run_nodes", run_nodes)
    monkeypatch.setattr(report, "resolve_providers", lambda _: [cuda])
    seen = try_bundle(open_bundle(embedding_bundle()), None, ["cuda"], None)
    assert (seen.nodes, seen.unavailable) == ((left,), False)
    texts = [finding.text for finding in diagnose(bundle=seen).findings if finding.severity == "broken"]
    assert len(texts) == 2
    assert f"runs no node of graph 'model': all are on {cpu}" in texts[1]
