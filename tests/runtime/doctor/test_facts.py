import importlib.metadata
import platform

import pytest

import onnxpipe
from onnxpipe.doctor import facts
from onnxpipe.doctor.facts import gather, is_musl, memory_available
from onnxpipe.session import available_providers


def test_the_versions_are_those_that_are_installed():
    versions = gather().versions
    assert versions["onnxpipe"] == onnxpipe.__version__
    assert versions["python"] == platform.python_version()
    for name in ("numpy", "pillow", "tokenizers"):
        assert versions[name] == importlib.metadata.version(name)
    assert "onnxruntime-gpu" not in versions or "onnxruntime" not in versions


def test_the_providers_are_those_of_this_onnxruntime():
    assert gather().providers == tuple(available_providers())
    assert gather().problem is None


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(facts, "_PACKAGES", ("numpy", "no-such-package-as-this"))
    assert list(gather().versions) == ["onnxpipe", "python", "numpy"]


@pytest.mark.parametrize(
    ("libc", "file", "expected"),
    [
        (("", ""), "lib/ld-musl-x86_64.so.1", True),
        (("glibc", "2.36"), "lib/ld-musl-x86_64.so.1", False),  # Debian's package `musl`
        (("", ""), "lib/other", False),
    ],
)
def test_musl_is_told_by_its_loader(libc, file, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    (tmp_path / "lib").mkdir()
    (tmp_path / file).touch()
    assert is_musl(tmp_path) is expected


def test_free_memory_is_read_where_the_system_tells(tmp_path):
    assert memory_available(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16 kB\nMemAvailable: 12 kB\n")
    assert memory_available(tmp_path) == 12 * 1024


def test_the_hub_is_asked_only_when_it_is_allowed(monkeypatch):
    asked = []
    monkeypatch.setattr(facts, "reach", lambda: asked.append(1) or "no route")
    assert (gather().asked_hub, gather().hub_problem, asked) == (False, None, [])
    seen = gather(network=True)
    assert (seen.asked_hub, seen.hub_problem, asked) == (True, "no route", [1])


def test_the_hub_is_not_asked_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    monkeypatch.setattr(facts, "reach", lambda: pytest.fail("asked"))
    seen = gather(network=True)
    assert (seen.offline, seen.asked_hub) == (True, False)
