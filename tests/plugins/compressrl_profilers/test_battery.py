"""The battery's gauge, in a folder that looks like /sys/class/power_supply."""

from pathlib import Path

import pytest

from compressrl_profilers import battery
from compressrl_profilers.battery import BatteryMeter
from compressrl_profilers.meters import MeterError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWER_SUPPLY_ROOT", str(tmp_path))
    return tmp_path


def _add(root: Path, name: str, energy_uwh: int, status: str = "Discharging") -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_now").write_text(f"{energy_uwh:010d}\n")
    (folder / "status").write_text(f"{status}\n")
    return folder


def test_joules_taken_from_all_batteries(root):
    first, second = _add(root, "BAT0", 50_000_000), _add(root, "BAT1", 20_000_000, "Not charging")
    _add(root, "AC", 99)
    meter = BatteryMeter()
    assert meter.read() == 0.0

    (first / "energy_now").write_text("0049990000\n")
    (second / "energy_now").write_text("0019999000\n")

    assert meter.read() == pytest.approx(36.0 + 3.6), "10 mWh and 1 mWh"
    assert meter.source == "battery BAT0, BAT1 (whole machine)"
    assert meter.zones == ("BAT0", "BAT1")
    assert meter.simulated
    assert meter.min_window_seconds == 600


def test_a_gauge_that_corrects_itself_upwards_gives_nothing_back(root):
    folder = _add(root, "BAT0", 1000)
    meter = BatteryMeter()
    (folder / "energy_now").write_text("0000000900\n")
    taken = meter.read()
    (folder / "energy_now").write_text("0000000950\n")
    assert meter.read() == taken
    (folder / "energy_now").write_text("0000000800\n")
    assert meter.read() == pytest.approx(2 * taken)


@pytest.mark.parametrize("states", [("Charging",), ("Full",), ("Discharging", "Charging")])
def test_it_must_discharge(root, states):
    for number, state in enumerate(states):
        _add(root, f"BAT{number}", 1000, state)
    with pytest.raises(MeterError, match="not discharging") as caught:
        BatteryMeter()
    assert caught.value.remedy == "Unplug the mains."


def test_plugging_in_meanwhile_is_noticed(root):
    folder = _add(root, "BAT0", 1000)
    meter = BatteryMeter()
    meter.check()
    (folder / "status").write_text("Charging\n")
    with pytest.raises(MeterError, match="not discharging"):
        meter.check()


def test_a_battery_that_is_taken_out_is_noticed(root):
    folder = _add(root, "BAT0", 1000)
    meter = BatteryMeter()
    (folder / "energy_now").unlink()
    with pytest.raises(MeterError, match="vanished"):
        meter.check()


def test_no_battery_and_one_that_shows_no_energy(root):
    with pytest.raises(MeterError, match="No battery under"):
        BatteryMeter()
    folder = _add(root, "BAT0", 1000)
    (folder / "energy_now").write_text("many\n")
    with pytest.raises(MeterError, match="does not hold a number"):
        BatteryMeter()
    (folder / "energy_now").unlink()  # some drivers show charge_now instead
    with pytest.raises(MeterError, match="energy_now is not readable"):
        BatteryMeter()


def test_the_default_root_is_that_of_linux(monkeypatch):
    monkeypatch.delenv("COMPRESSRL_POWER_SUPPLY_ROOT", raising=False)
    monkeypatch.setattr(battery, "ROOT", "/nowhere")
    with pytest.raises(MeterError, match="No battery under /nowhere"):
        BatteryMeter()
