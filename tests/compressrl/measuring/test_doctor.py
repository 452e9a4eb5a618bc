"""What the doctor says of plugins and of the machine, also of those that are ill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compressrl import plugins
from compressrl.interfaces import Finding
from compressrl.measuring import doctor

STRANGERS = """
    from compressrl import Finding, PluginEntry, hookimpl

    @hookimpl
    def compressrl_profilers():
        names = ("Plain", "Several", "Raises", "Garbage", "Unmade", "Absent", "Homeless")
        return [PluginEntry(name.lower(), "", f"strangers:{name}") for name in names]

    @hookimpl
    def compressrl_runtimes():
        return [PluginEntry("exits", "", "strangers:Exits")]

    class Plain:
        quantity, unit = "carbon", "g"

        def available(self):
            return False, "no carbon meter; buy one"

        def read(self):
            return None

    class Several(Plain):
        def diagnose(self):
            return [Finding("one", True, "here"), Finding("two", False, "not here", "plug it in")]

    class Raises(Plain):
        def available(self):
            raise OSError("the bus\\nhangs")

    class Garbage(Plain):
        def diagnose(self):
            return ["one"]

    class Unmade(Plain):
        def __init__(self):
            raise RuntimeError("no licence")

    class Homeless(Plain):
        def available(self):
            return True, "here"

        def measure(self, workloads):
            return []

    class Exits:
        def load(self, policy):
            raise SystemExit(3)
"""


@pytest.fixture
def examination(install: Callable[..., Path]) -> doctor.Examination:
    """The built-in plugins and ill ones of a third party."""
    install("strangers", {"strangers": "strangers", "lost": "not_there"}, {"strangers": STRANGERS})
    return doctor.examine()


def test_every_plugin_shows_with_what_it_says_and_a_broken_one_ends_nothing(
    examination: doctor.Examination,
) -> None:
    found = {e.plugin.entry.name: e for e in (*examination.profilers, *examination.runtimes)}

    assert found["plain"].findings == (Finding("plain", False, "no carbon meter; buy one"),)
    assert found["plain"].quantity == "carbon"
    assert [f.name for f in found["several"].findings] == ["one", "two"]
    for name, why in {
        "raises": "broken: OSError: the bus hangs",
        "garbage": "broken: TypeError: diagnose() must return a list of Finding",
        "exits": "broken: SystemExit: 3",
    }.items():
        (finding,) = found[name].findings
        assert (finding.usable, finding.why) == (False, why)
        assert finding.remedy.endswith("or leave it out: COMPRESSRL_BLOCK_PLUGINS=strangers")
    reasons = {
        "unmade": "RuntimeError: no licence",
        "absent": "AttributeError",
        "homeless": "measure() is for",
    }
    for name, reason in reasons.items():
        assert reason in found[name].findings[0].why
    assert [broken.owner.entry_point for broken in examination.broken] == ["lost"]


def test_the_built_ins_show_each_of_their_sources(examination: doctor.Examination) -> None:
    found = {e.plugin.entry.name: e for e in (*examination.profilers, *examination.runtimes)}
    energy = {finding.name: finding for finding in found["energy"].findings}

    assert list(energy) == ["GPU (Zeus)", "chip (Zeus)", "powercap (RAPL)", "battery", "CPU time"]
    assert energy["CPU time"].usable
    assert all(f.usable for name in ("torch", "onnx") for f in found[name].findings)


def test_the_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "CPU", tmp_path)
    unseen = {condition.name: condition for condition in doctor._conditions()}
    assert list(unseen) == ["other processes", "cores", "CPU governor", "turbo", "torch threads"]
    assert unseen["CPU governor"].good is unseen["turbo"].good is None

    for file in ("cpu0/cpufreq/scaling_governor", "intel_pstate/no_turbo"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("0\n")
    assert doctor._turbo().good is False
    assert doctor._turbo().remedy == f"echo 1 | sudo tee {tmp_path}/intel_pstate/no_turbo"
    assert (doctor._governor().good, doctor._governor().value) == (False, "0")
    (tmp_path / "intel_pstate/no_turbo").write_text("1\n")
    (tmp_path / "cpu0/cpufreq/scaling_governor").write_text("performance\n")
    assert doctor._turbo().good is doctor._governor().good is True


def test_amds_boost_counts_the_other_way_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "CPU", tmp_path)
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq/boost").write_text("1\n")
    assert doctor._turbo().remedy == f"echo 0 | sudo tee {tmp_path}/cpufreq/boost"
    (tmp_path / "cpufreq/boost").write_text("0\n")
    assert doctor._turbo().good is True


def test_what_others_use_is_the_machines_busy_time_less_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.perf_counter()
    busy = {"own": 0.8, "others": 0.0}

    def seconds(*who: str) -> float:
        return sum(busy[name] for name in who) * (time.perf_counter() - started)

    monkeypatch.setattr("compressrl.measuring.host.busy_seconds", lambda: seconds("own", "others"))
    monkeypatch.setattr("time.process_time", lambda: seconds("own"))
    assert doctor._load().good is True
    busy["others"] = 1.5
    loaded = doctor._load()
    assert loaded.good is False
    assert loaded.value.startswith("busy: 1.")
    monkeypatch.setattr("compressrl.measuring.host.busy_seconds", lambda: None)
    assert doctor._load().good is None


def test_a_busy_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.1)
        found = doctor._load()
        other.kill()
    assert found.good is False


def test_asking_needs_no_pytest() -> None:
    code = (
        "import sys; "
        "sys.modules['pytest'] = None; "
        "from compressrl.measuring import doctor; "
        "doctor._run_tiny_policy('onnx')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_json_has_a_stable_form(examination: doctor.Examination) -> None:
    document = examination.to_json()
    assert list(document) == ["profilers", "runtimes", "machine", "broken"]
    for examined in document["profilers"] + document["runtimes"]:
        assert list(examined) == ["name", "distribution", "version", "quantity", "findings"]
        for finding in examined["findings"]:
            assert list(finding) == ["name", "usable", "why", "remedy"]
    for condition in document["machine"]:
        assert list(condition) == ["name", "good", "value", "remedy"]
    assert plugins.registry().broken[0].to_json() in document["broken"]
