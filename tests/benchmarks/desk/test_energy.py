import pytest

from onnxpipe_bench.desk import energy
from onnxpipe_bench.desk.energy import Meter


@pytest.fixture
def package(tmp_path):
    """A processor's counter, which begins again at 1 J."""
    folder = tmp_path / "intel-rapl:0"
    (tmp_path / "intel-rapl:0:0").mkdir()
    folder.mkdir()
    (folder / "energy_uj").write_text("900000\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    return folder / "energy_uj"


def test_a_machine_without_counters_says_so(tmp_path):
    meter = Meter(tmp_path)
    assert not meter.counts
    assert meter.told == "not told by this machine (no RAPL counters and no NVML)"
    assert meter.joules_per_call(lambda: None, 1) is None


def test_a_counter_that_may_not_be_read_is_told(package, tmp_path):
    package.unlink()
    package.mkdir()
    assert "cannot be read: only root may" in Meter(tmp_path).told


def test_joules_are_counted_across_the_end_of_a_counter(package, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_LEAST_S", 0.0)
    meter = Meter(tmp_path)
    assert meter.told == "1 processor package(s), RAPL"
    figures = meter.joules_per_call(lambda: package.write_text("100000\n"), 0)
    assert figures["joules"] == pytest.approx(0.2)
    assert figures["calls"] == 1
    assert figures["watts"] > 0


def test_devices_count_too(tmp_path, monkeypatch):
    told = iter([5000, 7500])  # millijoules
    monkeypatch.setattr(energy, "_nvml_devices", lambda: [lambda: next(told)])
    monkeypatch.setattr(energy, "_LEAST_S", 0.0)
    meter = Meter(tmp_path)
    assert meter.told == "1 NVIDIA device(s), NVML"
    assert meter.joules_per_call(lambda: None, 0)["joules"] == pytest.approx(2.5)
