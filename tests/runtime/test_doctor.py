import dataclasses
import importlib.metadata
import platform

import pytest

import onnxpipe
from onnxpipe import doctor
from onnxpipe.doctor import diagnose, render
from onnxpipe.machine import Machine
from onnxpipe.session import available_providers

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
    """A diagnosis of a machine with the fields given, and of the packages given."""

    def diagnosis(packages=None, **fields):
        monkeypatch.setattr(doctor, "inspect_machine", lambda: dataclasses.replace(MACHINE, **fields))
        monkeypatch.setattr(doctor, "installed_versions", lambda _: packages or {"onnxruntime": "1.31.1"})
        return diagnose()

    return diagnosis


def line(diagnosis, name):
    return next(text[14:] for text in render(diagnosis) if text.split()[0] == name)


def test_the_versions_are_those_that_are_installed():
    versions = diagnose().versions
    assert versions["onnxpipe"] == onnxpipe.__version__
    assert versions["python"] == platform.python_version()
    for name in ("numpy", "pillow", "tokenizers"):
        assert versions[name] == importlib.metadata.version(name)
    assert "onnxruntime-gpu" not in versions or "onnxruntime" not in versions


def test_the_providers_are_those_of_this_onnxruntime():
    assert diagnose().providers == available_providers()


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package-as-this"))
    assert list(diagnose().versions) == ["onnxpipe", "python", "numpy"]


def test_threads_come_with_their_reason(on):
    diagnosis = on()
    assert diagnosis.threads == 2
    expected = "2 (the smallest of no CPU quota, a CPU set of 4 and 2 physical cores)"
    assert line(diagnosis, "threads") == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "8.0 GiB in all, no limit on this process"),
        ({"memory_limit_bytes": 3 * GIB // 2}, "8.0 GiB in all, 1.5 GiB limit on this process"),
        ({"memory_total_bytes": None}, "unknown in all, no limit on this process"),
    ],
)
def test_memory_is_told_with_its_limit(on, fields, expected):
    assert line(on(**fields), "memory") == expected


@pytest.mark.parametrize(
    ("isa", "instructions", "int8"),
    [
        (("avx2", "avx_vnni"), "avx2, avx_vnni", "fast here"),
        (("asimd", "asimddp"), "asimd, asimddp", "fast here"),
        (("avx2",), "avx2", "no int8 dot products: measure before choosing int8"),
        ((), "none that matter were found", "no int8 dot products: measure before choosing int8"),
    ],
)
def test_int8_is_fast_only_where_the_processor_has_dot_products(on, isa, instructions, int8):
    diagnosis = on(isa=isa)
    assert line(diagnosis, "instructions") == instructions
    assert line(diagnosis, "int8") == int8


def test_a_machine_where_all_is_well_gets_no_advice(on):
    diagnosis = on()
    assert diagnosis.advice == []
    assert len(render(diagnosis)) == 7


def test_both_wheels_of_onnxruntime_are_advised_against(on):
    diagnosis = on({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})
    assert diagnosis.advice == [
        (
            "onnxruntime and onnxruntime-gpu overwrite each other: pip uninstall -y onnxruntime onnxruntime-gpu, then "
            "pip install 'onnxpipe[gpu]' or 'onnxpipe[cpu]'"
        )
    ]
    assert line(diagnosis, "advice") == diagnosis.advice[0]


@pytest.mark.parametrize("wheel", ["onnxruntime", "onnxruntime-gpu"])
def test_one_wheel_of_onnxruntime_is_right(on, wheel):
    assert on({wheel: "1.31.1"}).advice == []


def test_a_quota_below_one_cpu_is_advised_against(on):
    expected = "the CPU quota of 0.5 throttles even one thread: raise it to 1 for steady latency"
    assert on(quota_cpus=0.5).advice == [expected]


@pytest.mark.parametrize("quota", [None, 1.0, 1.5, 4.0])
def test_a_quota_of_one_cpu_or_more_is_fine(on, quota):
    assert on(quota_cpus=quota).advice == []
