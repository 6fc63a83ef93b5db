"""The benchmark that is copied to a device: what it reads of a machine, and that a run keeps what it has."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from safevlm_runtime.bench.gpu_sensors import gpu_sensors
from safevlm_runtime.bench.kernel_sensors import kernel_sensors
from safevlm_runtime.bench.readings import (
    EnergyMeter,
    Rail,
    Sensors,
    energy_per_image,
    idle_watts,
    joined,
    told,
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "on_device.py"
JETSON = {
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "51250\n",
    "class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "class/thermal/thermal_zone1/temp": "49000\n",
    "class/thermal/thermal_zone2/type": "cv0-thermal\n",
    "class/thermal/thermal_zone2/temp": "\n",
    "class/thermal/cooling_device0/type": "pwm-fan\n",
    "class/thermal/cooling_device0/cur_state": "3\n",
    "class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
    "class/thermal/cooling_device1/cur_state": "2\n",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1510400\n",
    "devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "class/devfreq/17000000.gpu/cur_freq": "624750000\n",
    "class/hwmon/hwmon1/name": "ina3221\n",
    "class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "class/hwmon/hwmon1/in1_input": "5000\n",
    "class/hwmon/hwmon1/curr1_input": "2400\n",
    "class/hwmon/hwmon1/curr4_input": "9999\n",
    "class/hwmon/hwmon2/name": "soctherm_oc\n",
    "class/hwmon/hwmon2/oc1_event_cnt": "7\n",
}
PC = {
    "class/powercap/intel-rapl:0/name": "package-0\n",
    "class/powercap/intel-rapl:0/energy_uj": "900000\n",
    "class/powercap/intel-rapl:0/max_energy_range_uj": "1000000\n",
    "class/powercap/intel-rapl:0:0/name": "core\n",
    "class/powercap/intel-rapl:0:0/energy_uj": "1\n",
    "class/powercap/intel-rapl:1/name": "package-1\n",
    "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
}
PI = {"devices/platform/soc/soc:firmware/get_throttled": "50005\n"}


@pytest.fixture
def tree(tmp_path):
    """Writes a /sys."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return tmp_path / "sys"

    return write


@pytest.fixture
def on_device(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("on_device")


def test_a_jetson_tells_heat_clocks_power_and_what_holds_it_back(tree):
    found = kernel_sensors(tree(JETSON))
    assert told(found.celsius) == {"cpu-thermal": 51.25, "cpu-thermal #2": 49.0}  # one sensor is switched off
    assert told(found.mhz) == {"cpu policy0": 1510.4, "17000000.gpu": 624.75}
    assert told(found.held_back) == {"cpufreq-cpu0": 2.0}  # and no fan
    assert told(found.events) == {"hwmon2 oc1_event_cnt": 7.0}
    assert [(rail.name, rail.read(), rail.counts) for rail in found.rails] == [("VDD_IN", 12.0, False)]


def test_a_pc_tells_packages_once_and_what_cannot_be_read(tree):
    found = kernel_sensors(tree(PC))
    assert [rail.name for rail in found.rails] == ["RAPL package-0"]
    assert found.silent == ("RAPL package-1",)
    assert told(found.events) == {"cpu0 thermal_throttle": 4.0}


def test_a_raspberry_pi_tells_what_is_now_and_not_what_was(tree):
    assert told(kernel_sensors(tree(PI)).held_back) == {"get_throttled": 5.0}


def test_a_machine_that_tells_nothing(tmp_path):
    assert kernel_sensors(tmp_path) == Sensors()
    assert gpu_sensors(None) == Sensors()


class FakeNvml:
    """NVIDIA's library with one GPU: an energy counter or none."""

    def __init__(self, *, counts: bool):
        self.counts = counts

    def nvmlDeviceGetCount_v2(self, found):  # noqa: N802 - the library's names
        found._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, found):  # noqa: N802
        found._obj.value = 77
        return 0

    def __getattr__(self, name):
        values = {"Temperature": 60, "ClockInfo": 1410, "CurrentClocksThrottleReasons": 0x41, "PowerUsage": 72500}
        values |= {"TotalEnergyConsumption": 5000} if self.counts else {}

        def function(handle, *arguments):
            value = values.get(name.removeprefix("nvmlDeviceGet"))
            if value is None:
                return 3  # not supported
            assert handle.value == 77
            arguments[-1]._obj.value = value
            return 0

        return function


@pytest.mark.parametrize(("counts", "read"), [(True, 5.0), (False, 72.5)])
def test_a_gpu_counts_joules_or_tells_watts(counts, read):
    found = gpu_sensors(FakeNvml(counts=counts))
    assert told(found.celsius) == {"GPU 0": 60.0}
    assert told(found.mhz) == {"GPU 0": 1410.0}
    assert told(found.held_back) == {"GPU 0": 64.0}  # too hot; an idle GPU's reason is none
    assert [(rail.read(), rail.counts) for rail in found.rails] == [(read, counts)]


def test_energy_counts_over_a_wrap_and_integrates_watts():
    joules, watts = iter([0.9, 0.1, 0.3]), iter([10.0, 20.0, None])
    meter = EnergyMeter(
        [
            Rail(name="counter", read=lambda: next(joules), counts=True, wraps_at=1.0),
            Rail(name="gauge", read=lambda: next(watts), counts=False),
        ]
    )
    assert meter.sample(5.0) == {"counter": 0.0, "gauge": 0.0}
    assert meter.sample(7.0) == pytest.approx({"counter": 0.2, "gauge": 30.0})
    assert meter.sample(9.0) == pytest.approx({"counter": 0.4, "gauge": 30.0})


def test_an_image_costs_what_is_spent_above_an_idle_machine():
    found = energy_per_image({"a": 100.0, "b": 50.0}, 10.0, 20, {"a": 4.0})
    assert found["a"] == {
        "watts": 10.0,
        "watts_idle": 4.0,
        "joules_per_image": 5.0,
        "joules_per_image_above_idle": 3.0,
    }
    assert (found["b"]["joules_per_image"], found["b"]["joules_per_image_above_idle"]) == (2.5, None)
    assert energy_per_image({}, 10.0, 20, {}) is None
    assert idle_watts([Rail(name="a", read=lambda: 3.0, counts=False)], 0.02) == {"a": pytest.approx(3.0)}
    assert idle_watts([], 60.0) == {}


class Clock:
    """Goes on by what a check takes."""

    def __init__(self):
        self.now, self.checks = 0.0, 0

    def __call__(self):
        return self.now

    def check(self):
        """Behind the first half of a minute it takes twice as long; both are sums of powers of two."""
        self.checks += 1
        taken = 1 / 128 if self.now < 30 else 1 / 64
        self.now += taken
        return taken * 1e3


def test_a_device_that_slows_down_is_seen(on_device):
    clock, heat, events = Clock(), count(40), iter([5, 5, 5, 5, 6, 6, 6, 6])
    sensors = joined(
        Sensors(celsius={"cpu": lambda: float(next(heat))}, rails=(Rail(name="r", read=lambda: 8.0, counts=False),)),
        Sensors(events={"e": lambda: float(next(events))}, held_back={"h": lambda: float(clock.now > 30)}),
    )
    told_of = []
    run = on_device.ThermalRun(clock.check, sensors, window=20, period=10, say=told_of.append, clock=clock)
    assert run.go(60) == "time"
    assert run.windows == told_of
    assert [row["checks"] for row in run.windows] == [2560, 1920, 1280]
    assert [row["ms_p50_p95_p99"][0] for row in run.windows] == [7.812, 7.812, 15.625]
    assert [row["held_back_by"] for row in run.windows] == [[], ["e", "h"], ["h"]]
    assert [row["watts"] for row in run.windows] == [{"r": pytest.approx(8.0, abs=0.01)}] * 3
    assert run.windows[0]["celsius_max"] == {"cpu": 42.0}
    assert on_device.throttling(run.windows) == {
        "p50_last_over_first": 2.0,
        "slowed_down": True,
        "held_back_by": ["e", "h"],
    }
    assert "held back by e, held back by h" in on_device.line_of(run.windows[1])


def test_an_interrupt_keeps_what_there_is(on_device):
    clock = Clock()

    def check():
        if clock.checks == 600:
            raise KeyboardInterrupt
        return clock.check()

    run = on_device.ThermalRun(check, Sensors(), window=2, clock=clock)
    assert run.go(60) == "interrupted"
    assert [row["checks"] for row in run.windows] == [256, 256, 88]
    assert len(run.ms) == 600
    assert on_device.throttling(run.windows[:1]) == {
        "p50_last_over_first": None,
        "slowed_down": None,
        "held_back_by": [],
    }


def command(*arguments: object) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")])}
    return [sys.executable, str(SCRIPT), *map(str, arguments)], environment | {"OMP_NUM_THREADS": "1"}


def test_the_file_alone_runs_on_a_jetson(tree, tmp_path):
    Image.new("RGB", (64, 48), (120, 130, 140)).save(tmp_path / "photo.png")
    alone = tmp_path / "on_device.py"
    alone.write_bytes(SCRIPT.read_bytes())
    words, environment = command("--minutes", 0.02, "--window", 0.4, "--idle", 0.05, "--sys", tree(JETSON))
    words[1] = str(alone)
    words += ["--image", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out.json"), "--threads", "1"]
    printed = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == found
    assert (found["benchmark"], found["card"]["governor"], found["image"]) == ("on_device", "schedutil", "photo.png")
    assert found["subject"]["provider"] == "CPUExecutionProvider"
    result = found["result"]
    assert result["ended"] == "time"
    assert result["checks"] == sum(row["checks"] for row in result["windows"]) > 0
    assert result["throttling"]["held_back_by"] == ["cpufreq-cpu0"]
    assert result["energy"]["VDD_IN"]["watts"] == pytest.approx(12.0, rel=0.01)
    assert result["energy"]["VDD_IN"]["watts_idle"] == pytest.approx(12.0, rel=0.01)
    assert result["peak_mib"] > 10


def test_ctrl_c_ends_with_the_result(tmp_path):
    words, environment = command("--minutes", 10, "--window", 0.1, "--sys", tmp_path, "--threads", 1)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("from ") and process.poll() is None and sum(one.startswith("from ") for one in lines) == 2:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    result = json.loads(lines[-1])["result"]
    assert result["ended"] == "interrupted"
    assert len(result["windows"]) >= 2
    assert result["energy"] is None
    assert "energy: not told by this machine\n" in lines
