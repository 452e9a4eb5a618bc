"""Zeus's part, with Zeus's own types; the devices themselves are stand-ins: no machine here has one."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from compressrl.testing.powercap import FakePowercap
from compressrl_profilers import meters, zeus_devices
from compressrl_profilers.meters import MeterError
from compressrl_profilers.zeus_devices import GpuMeter, SocMeter, gpu_in_use, soc_joules


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs as Zeus shows them, at 1000 and 500 mJ."""
    found = [
        SimpleNamespace(get_name=lambda: "GPU A", get_total_energy_consumption=lambda: 1000),
        SimpleNamespace(get_name=lambda: "GPU B", get_total_energy_consumption=lambda: 500),
    ]
    monkeypatch.setattr("zeus.device.gpu._gpus", SimpleNamespace(gpus=found))
    return found


def test_gpu_joules_are_the_sum_of_all_visible(gpus):
    meter = GpuMeter()
    assert meter.source == "Zeus GPU A, GPU B"
    assert meter.read() == 1.5


def test_a_gpu_that_fails_is_a_meter_error(gpus):
    meter = GpuMeter()

    def lost():
        raise RuntimeError("GPU is lost")

    gpus[1].get_total_energy_consumption = lost
    with pytest.raises(MeterError, match="GPU B failed: GPU is lost"):
        meter.read()


def test_no_gpu_is_a_meter_error_in_zeus_words():
    with pytest.raises(MeterError, match="NVML and AMDSMI unavailable"):
        GpuMeter()


def test_no_chip_is_a_meter_error_with_the_remedy():
    with pytest.raises(MeterError, match="pip install zeus-apple-silicon"):
        SocMeter()


def test_soc_joules_are_the_total_or_the_sum_of_the_parts():
    from zeus.device.soc.apple import AppleSiliconMeasurement
    from zeus.device.soc.jetson import JetsonMeasurement

    assert (
        soc_joules(JetsonMeasurement(cpu_energy_mj=1000.0, gpu_energy_mj=500.0, total_energy_mj=4000.0))
        == 4.0
    )
    assert soc_joules(JetsonMeasurement(cpu_energy_mj=1000.0, gpu_energy_mj=500.0)) == 1.5
    apple = AppleSiliconMeasurement(
        cpu_total_mj=1000,
        efficiency_cores_mj=[300, 300],
        performance_cores_mj=[400],
        dram_mj=200,
        gpu_mj=30,
        ane_mj=4,
    )
    assert soc_joules(apple) == pytest.approx(1.234), "clusters and cores are inside the CPU's total"
    with pytest.raises(ValueError, match="no energy"):
        soc_joules(JetsonMeasurement())


def test_a_soc_is_read_in_joules(monkeypatch):
    from zeus.device.soc.jetson import JetsonMeasurement

    chip = SimpleNamespace(get_total_energy_consumption=lambda: JetsonMeasurement(total_energy_mj=2500.0))
    monkeypatch.setattr("zeus.device.soc._soc", chip)
    assert SocMeter().read() == 2.5


def test_computing_on_a_gpu_shows_in_the_open_files(tmp_path, monkeypatch):
    device = tmp_path / "nvidia-uvm"
    device.touch()
    monkeypatch.setattr(zeus_devices, "COMPUTE_DEVICES", {str(device)})
    assert not gpu_in_use()
    with device.open():
        assert gpu_in_use()
    assert not gpu_in_use()


def test_a_gpu_counts_only_while_this_process_computes_on_it(gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path))
    FakePowercap(tmp_path)
    monkeypatch.setattr(zeus_devices, "gpu_in_use", lambda: False)
    assert [type(meter).__name__ for meter in meters.find()[0]] == ["PowercapMeter"]
    monkeypatch.setattr(zeus_devices, "gpu_in_use", lambda: True)
    assert [type(meter).__name__ for meter in meters.find()[0]] == ["GpuMeter", "PowercapMeter"]


def test_a_gpu_without_a_cpu_counter_says_what_is_missing(gpus, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", "/nowhere")
    monkeypatch.setattr(zeus_devices, "gpu_in_use", lambda: True)
    found, reason = meters.find()
    assert [meter.source for meter in found] == ["Zeus GPU A, GPU B"]
    assert "No CPU energy counter" in reason


def test_a_system_on_a_chip_is_metered_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path))
    FakePowercap(tmp_path)
    monkeypatch.setattr(zeus_devices, "soc_expected", lambda: True)
    monkeypatch.setattr("zeus.device.soc._soc", SimpleNamespace(get_total_energy_consumption=None))
    found, reason = meters.find()
    assert ([type(meter).__name__ for meter in found], reason) == (["SocMeter"], "")


def test_where_zeus_cannot_read_the_chip_powercap_does(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path))
    FakePowercap(tmp_path)
    monkeypatch.setattr(zeus_devices, "soc_expected", lambda: True)
    found, reason = meters.find()
    assert [type(meter).__name__ for meter in found] == ["PowercapMeter"]
    assert "Zeus cannot read this chip" in reason


def test_zeus_is_not_imported_where_no_such_device_can_be():
    code = """
import sys
from compressrl_profilers.energy import EnergyProfiler
EnergyProfiler().available()
EnergyProfiler().read()
print(sorted({"zeus", "torch", "psutil", "gymnasium"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
