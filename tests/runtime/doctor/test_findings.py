import dataclasses

import pytest

from onnxpipe.doctor.facts import BundleFacts, Facts
from onnxpipe.doctor.findings import judge
from onnxpipe.doctor.nodes import NodeShare
from onnxpipe.machine import Machine

GIB = 2**30
MIB = 2**20
MACHINE = Machine(
    architecture="x86_64",
    isa=("avx2", "avx_vnni"),
    cpu_set=4,
    physical_cores=2,
    quota_cpus=None,
    memory_total_bytes=8 * GIB,
    memory_limit_bytes=None,
)
FACTS = Facts(
    platform="Linux",
    musl=False,
    host_cpus=4,
    versions={"onnxpipe": "0.1.0", "onnxruntime": "1.31.1"},
    providers=("CPUExecutionProvider",),
    problem=None,
    machine=MACHINE,
    memory_available_bytes=6 * GIB,
    endpoint="https://huggingface.co",
    offline=False,
)
BUNDLE = BundleFacts(
    path="minilm", precision="fp32", sizes={"fp32": 90 * MIB, "int8": 23 * MIB}, providers=(), threads=None
)


def findings(*, machine=None, bundle=None, **facts):
    """What is found where some facts differ from a machine on which all is well."""
    given = dict(facts)
    if machine is not None:
        given["machine"] = dataclasses.replace(MACHINE, **machine)
    if bundle is not None:
        given["bundle"] = dataclasses.replace(BUNDLE, **bundle)
    return judge(dataclasses.replace(FACTS, **given))


def only(**facts):
    (finding,) = findings(**facts)
    return finding.severity, finding.text, finding.remedy


def test_where_all_is_well_nothing_is_found():
    assert findings() == ()
    assert findings(bundle={}) == ()


def test_onnxruntime_that_is_not_there_is_broken():
    severity, text, remedy = only(versions={}, providers=(), problem="onnxruntime is not installed")
    assert (severity, remedy) == ("broken", "pip install 'onnxpipe[cpu]'")
    assert "not installed" in text


def test_onnxruntime_that_cannot_be_imported_is_broken():
    severity, text, remedy = only(providers=(), problem="libcuda.so.1: cannot open shared object file")
    assert (severity, remedy) == ("broken", "pip install --force-reinstall onnxruntime")
    assert "libcuda.so.1" in text


def test_both_wheels_of_onnxruntime_are_broken():
    versions = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    severity, text, remedy = only(versions=versions)
    assert severity == "broken"
    assert "overwrite each other" in text
    assert remedy == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxpipe[gpu]'"


@pytest.mark.parametrize("version", ["1.20.0", "1.24.0", "1.24.3", "1.25.1", "1.26.0", "1.26.0+cu12"])
def test_versions_with_known_faults_are_broken(version):
    severity, text, remedy = only(versions={"onnxruntime": version})
    assert (severity, remedy) == ("broken", "pip install -U 'onnxruntime>=1.27'")
    assert version in text


@pytest.mark.parametrize("version", ["1.19.2", "1.20.1", "1.26.1"])
def test_versions_older_than_what_onnxpipe_is_made_for_are_warned_of(version):
    severity, _, remedy = only(versions={"onnxruntime": version})
    assert (severity, remedy) == ("warning", "pip install -U 'onnxruntime>=1.27'")


@pytest.mark.parametrize("version", ["1.27.0", "1.31.1", "2.0.0", "1.240.0"])
def test_newer_versions_are_fine(version):
    assert findings(versions={"onnxruntime": version}) == ()


def test_a_gpu_wheel_without_its_provider_is_warned_of():
    severity, text, remedy = only(versions={"onnxruntime-gpu": "1.31.1"})
    assert (severity, remedy) == ("warning", "pip install --force-reinstall 'onnxpipe[gpu]'")
    assert "CUDAExecutionProvider" in text
    with_cuda = ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert findings(versions={"onnxruntime-gpu": "1.31.1"}, providers=with_cuda) == ()


def test_musl_without_onnxruntime_is_told_with_an_image_that_has_glibc():
    first, second = findings(musl=True, versions={}, providers=(), problem="not installed")
    assert (first.severity, second.severity) == ("broken", "broken")
    assert "no onnxruntime wheel" in first.text
    assert first.remedy.startswith("docker run -it python:3.12-slim")


def test_musl_with_an_onnxruntime_that_works_is_fine():
    assert findings(musl=True) == ()


@pytest.mark.parametrize("architecture", ["armv7l", "armv6l"])
def test_32_bit_arm_is_told(architecture):
    machine = {"architecture": architecture, "isa": ()}
    first, _ = findings(machine=machine, versions={}, providers=(), problem="not installed")
    assert architecture in first.text
    assert first.remedy == "docker run -it --platform linux/arm64 python:3.12-slim"


def test_a_quota_below_one_cpu_is_warned_of():
    severity, text, remedy = only(machine={"quota_cpus": 0.5})
    assert (severity, remedy) == ("warning", "docker update --cpus 1 CONTAINER")
    assert "0.5" in text


def test_a_quota_that_is_rounded_up_is_noted():
    severity, text, remedy = only(machine={"quota_cpus": 1.5})
    assert (severity, remedy) == ("note", "docker update --cpus 2 CONTAINER")
    assert "1.5 is less than the 2 threads" in text


@pytest.mark.parametrize("quota", [None, 1.0, 2.0, 4.0, 2.5])
def test_other_quotas_are_fine(quota):
    assert findings(machine={"quota_cpus": quota}) == ()


def test_a_cpu_set_that_is_a_part_of_the_machine_is_noted():
    severity, text, remedy = only(host_cpus=16)
    assert (severity, remedy.partition("  #")[0]) == ("note", "taskset -cp 0-15 $$")
    assert "4 of 16 CPUs" in text


def test_more_threads_than_planned_are_warned_of():
    severity, text, remedy = only(bundle={"threads": 8})
    assert (severity, remedy) == ("warning", "onnxpipe run minilm --threads 2")
    assert text.startswith("8 threads were asked for, but 2 is the smallest of no CPU quota")
    assert findings(bundle={"threads": 2}) == ()


def test_an_x86_processor_without_avx2_is_warned_of():
    severity, text, remedy = only(machine={"isa": ("avx512f",)})
    assert (severity, remedy) == ("warning", "qemu-system-x86_64 -cpu host")
    assert "AVX2" in text


@pytest.mark.parametrize("isa", [("avx2",), ("avx2", "avx512f")])
@pytest.mark.parametrize("precision", ["int8", "q8"])
def test_int8_without_dot_products_is_warned_of(isa, precision):
    bundle = {"precision": precision, "sizes": {precision: MIB, "fp32": 4 * MIB}}
    severity, text, remedy = only(machine={"isa": isa}, bundle=bundle)
    assert (severity, remedy) == ("warning", "onnxpipe run minilm --precision fp32")
    assert "no int8 dot products" in text


@pytest.mark.parametrize(
    ("architecture", "isa"),
    [
        ("x86_64", ("avx2", "avx512f", "avx512_vnni")),
        ("x86_64", ("avx2", "amx_int8")),
        ("aarch64", ("asimd", "asimddp")),
        ("aarch64", ("asimd", "i8mm")),
    ],
)
def test_int8_with_dot_products_is_fine(architecture, isa):
    assert findings(machine={"architecture": architecture, "isa": isa}, bundle={"precision": "int8"}) == ()


def test_a_memory_limit_below_the_weights_is_broken():
    severity, text, remedy = only(machine={"memory_limit_bytes": 64 * MIB}, bundle={})
    assert (severity, remedy) == ("broken", "docker update --memory 150m --memory-swap 150m CONTAINER")
    assert "fp32 has 90 MiB of weights under a memory limit of 64 MiB" in text


def test_a_memory_limit_that_leaves_little_beside_the_weights_is_warned_of():
    assert only(machine={"memory_limit_bytes": 128 * MIB}, bundle={})[0] == "warning"
    assert findings(machine={"memory_limit_bytes": 160 * MIB}, bundle={}) == ()


def test_a_memory_limit_below_the_libraries_is_warned_of_without_a_bundle():
    severity, _, remedy = only(machine={"memory_limit_bytes": 128 * MIB})
    assert (severity, remedy) == ("warning", "docker update --memory 1g --memory-swap 1g CONTAINER")


def test_little_free_memory_is_warned_of_with_the_smallest_precision():
    severity, text, remedy = only(memory_available_bytes=100 * MIB, bundle={})
    assert (severity, remedy) == ("warning", "onnxpipe run minilm --precision int8")
    assert "100 MiB of memory are free" in text
    assert findings(memory_available_bytes=None, bundle={}) == ()


def test_an_extra_that_a_bundle_needs_is_broken_when_it_is_not_there():
    needs = {"soundfile": "audio"}
    severity, _, remedy = only(bundle={"needs": needs, "problem": "decoding needs soundfile"})
    assert (severity, remedy) == ("broken", "pip install 'onnxpipe[audio]'")
    assert findings(bundle={"needs": needs}, versions={**FACTS.versions, "soundfile": "0.13"}) == ()


def test_a_bundle_that_does_not_run_is_broken():
    severity, text, remedy = only(bundle={"problem": "an operator is not known"})
    assert (severity, remedy) == ("broken", "onnxpipe inspect minilm --verify")
    assert "an operator is not known" in text


def test_a_provider_that_is_not_there_is_broken_with_the_wheel_that_brings_it():
    bundle = {"problem": "provider 'cuda' is not available here", "unavailable": True}
    severity, _, remedy = only(bundle=bundle)
    assert (severity, remedy) == (
        "broken",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxpipe[gpu]'",
    )
    with_gpu = {"versions": {"onnxruntime-gpu": "1.31.1"}, "providers": ("CUDAExecutionProvider",)}
    assert only(bundle=bundle, **with_gpu)[2].startswith("nvidia-smi")


def share(provider, nodes=10, time_share=1.0, operators=("MatMul",)):
    name = f"{provider}ExecutionProvider"
    return NodeShare(graph="model", provider=name, nodes=nodes, time_share=time_share, operators=operators)


CUDA = {"providers": ("CUDAExecutionProvider",)}


def test_nodes_that_run_where_they_should_are_fine():
    assert findings(bundle={**CUDA, "nodes": (share("CUDA"),)}) == ()
    assert findings(bundle={"providers": ("CPUExecutionProvider",), "nodes": (share("CPU"),)}) == ()


def test_a_provider_that_runs_no_node_is_broken():
    severity, text, remedy = only(bundle={**CUDA, "nodes": (share("CPU"),)})
    assert (severity, remedy) == ("broken", "onnxpipe doctor minilm --provider cpu")
    assert "runs no node of graph 'model'" in text


@pytest.mark.parametrize(("part", "expected"), [(0.4, "warning"), (0.01, "note")])
def test_nodes_beside_the_provider_are_told_by_the_time_they_take(part, expected):
    nodes = (share("CUDA", 90, 1 - part), share("CPU", 10, part, ("Shape", "Gather")))
    severity, text, _ = only(bundle={**CUDA, "nodes": nodes})
    assert severity == expected
    assert f"10 of 100 nodes of graph 'model', {part:.0%} of its time" in text
    assert text.endswith("not on CUDAExecutionProvider: Gather, Shape")


def test_offline_mode_is_noted():
    severity, text, remedy = only(offline=True)
    assert (severity, remedy) == ("note", "unset HF_HUB_OFFLINE")
    assert "onnxpipe pull" in text


def test_a_hub_that_was_asked_and_does_not_answer_is_broken():
    severity, text, remedy = only(asked_hub=True, hub_problem="Connection refused")
    assert (severity, remedy) == ("broken", "export HTTPS_PROXY=http://PROXY:PORT")
    assert text.startswith("https://huggingface.co cannot be reached (Connection refused)")
    assert findings(asked_hub=True) == ()


def test_the_gravest_comes_first():
    found = findings(offline=True, machine={"quota_cpus": 0.5}, versions={"onnxruntime": "1.26.0"})
    assert [finding.severity for finding in found] == ["broken", "warning", "note"]
