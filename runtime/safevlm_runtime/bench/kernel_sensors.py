"""Heat, clocks, power and throttling from the files of Linux: a Jetson, a Raspberry Pi, a PC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from safevlm_runtime.bench.readings import Rail, Reading, Sensors

SYS = Path("/sys")
PI_HELD_BACK = 0xF  # of get_throttled: under-voltage, capped, throttled, at the soft limit, each at this moment


def kernel_sensors(sys: Path = SYS) -> Sensors:
    """What is found below /sys; nothing on other systems.

    Args:
        sys: Another root, for a copy of such files.
    """
    celsius: dict[str, Reading] = {}
    held_back = dict(_pi(sys))
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        celsius[_new_name(text_of(zone / "type") or zone.name, celsius)] = scaled(zone / "temp", 1e-3)
    for device in sorted(sys.glob("class/thermal/cooling_device*")):
        kind = text_of(device / "type") or device.name
        if "fan" not in kind.lower():  # a fan that turns costs no speed
            held_back[_new_name(kind, held_back)] = scaled(device / "cur_state", 1)
    rails = [*_rapl(sys), *_ina(sys)]
    readable = tuple(rail for rail in rails if rail.read() is not None)
    return Sensors(
        celsius=celsius,
        mhz=dict(_clocks(sys)),
        held_back=held_back,
        events=dict(_events(sys)),
        rails=readable,
        silent=tuple(rail.name for rail in rails if rail not in readable),
    )


def text_of(path: Path) -> str | None:
    """A file's text; None where there is none, or its sensor is switched off."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def scaled(path: Path, factor: float) -> Reading:
    """Reads a file that holds a number."""

    def read() -> float | None:
        try:
            return float(text_of(path) or "") * factor
        except ValueError:
            return None

    return read


def _clocks(sys: Path) -> Iterator[tuple[str, Reading]]:
    for policy in sorted(sys.glob("devices/system/cpu/cpufreq/policy*")):
        yield f"cpu {policy.name}", scaled(policy / "scaling_cur_freq", 1e-3)
    for device in sorted(sys.glob("class/devfreq/*")):
        yield device.name, scaled(device / "cur_freq", 1e-6)


def _events(sys: Path) -> Iterator[tuple[str, Reading]]:
    for path in sorted(sys.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")):
        yield f"{path.parents[1].name} thermal_throttle", scaled(path, 1)
    for path in sorted(sys.glob("class/hwmon/hwmon*/oc*_event_cnt")):  # too much current, on a Jetson
        yield f"{path.parent.name} {path.name}", scaled(path, 1)


def _pi(sys: Path) -> Iterator[tuple[str, Reading]]:
    for path in sorted(sys.glob("devices/platform/soc*/*firmware/get_throttled")):
        yield path.name, _flags(path)


def _flags(path: Path) -> Reading:
    def read() -> float | None:
        try:
            return float(int(text_of(path) or "", 16) & PI_HELD_BACK)
        except ValueError:
            return None

    return read


def _rapl(sys: Path) -> Iterator[Rail]:
    """The processor's packages, which contain their cores; memory and board are not in them."""
    for domain in sorted(sys.glob("class/powercap/intel-rapl:*")):
        name = text_of(domain / "name") or ""
        if name.startswith("package"):
            wraps_at = scaled(domain / "max_energy_range_uj", 1e-6)()
            yield Rail(name=f"RAPL {name}", read=scaled(domain / "energy_uj", 1e-6), counts=True, wraps_at=wraps_at)


def _ina(sys: Path) -> Iterator[Rail]:
    """A board's power monitors: volts times amperes per channel, or the power itself."""
    for chip in sorted(sys.glob("class/hwmon/hwmon*")):
        if not (text_of(chip / "name") or "").startswith("ina"):
            continue
        for path in sorted(chip.glob("power*_input")):
            yield Rail(name=f"{chip.name} {path.name}", read=scaled(path, 1e-6), counts=False)
        for path in sorted(chip.glob("curr[123]_input")):
            number = path.name[4]
            label = text_of(chip / f"in{number}_label") or f"{chip.name} channel {number}"
            volts = scaled(chip / f"in{number}_input", 1e-3)
            yield Rail(name=label, read=_product(volts, scaled(path, 1e-3)), counts=False)


def _product(volts: Reading, amperes: Reading) -> Reading:
    def read() -> float | None:
        u, i = volts(), amperes()
        return None if u is None or i is None else u * i

    return read


def _new_name(name: str, taken: Mapping[str, object]) -> str:
    number = sum(one == name or one.startswith(f"{name} #") for one in taken)
    return f"{name} #{number + 1}" if number else name
