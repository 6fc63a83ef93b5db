"""A gate under load on a device: latency by the minute, heat, clocks, power, and whether the device slowed down.

    python on_device.py [--minutes 30] [--provider cpu] [--bundle DIR --digest sha256:…] [--image PHOTO] [--note TEXT]

One file to copy to a Jetson, a Raspberry Pi or a PC that has the installed wheel: `safevlm-sdk[cpu]`, or with another
extra and its `--provider`. Without `--bundle` it is the starter. One check follows the other, from a file in the
system's cache to the verdict, as fast as the device can. Once a second the files of Linux, and NVIDIA's management
library where there is one, are asked for temperatures, clocks, power and whatever holds the device back. Ctrl-C ends
the run and keeps what it has. What a device does not tell is null. Rails of power may contain each other, as VDD_IN
does all others of a Jetson, so nothing adds them up. On a Jetson give the power mode with `--note`: `nvpmodel -q`
prints it.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.cold_child import peak_mib
from safevlm_runtime.bench.figures import percentiles
from safevlm_runtime.bench.gpu_sensors import gpu_sensors, load_nvml
from safevlm_runtime.bench.kernel_sensors import SYS, kernel_sensors, text_of
from safevlm_runtime.bench.readings import EnergyMeter, Sensors, energy_per_image, idle_watts, joined, told
from safevlm_runtime.bench.subject import ENGINE_SECONDS, MAX_IMAGE_BYTES
from safevlm_runtime.bundle.loading import starter_folder
from safevlm_sdk import Runtime
from safevlm_sdk.machine import tegra_release
from safevlm_sdk.raster import Limits

NOT_TOLD = "not told by this machine"
SLOWER = 1.1  # the median of the last minutes over that of the first, above which the device has slowed down
PICTURE = (1632, 1224)
MODEL = Path("/proc/device-tree/model")
# In a process of its own: it takes memory that is not the gate's.
DRAW = f"""
import sys
from safevlm_runtime.bench.images import draw_picture
draw_picture{PICTURE}.save(sys.argv[1], quality=90)
"""

Row = dict[str, Any]


class ThermalRun:
    """One check after the other, and what the sensors said meanwhile, window by window.

    Args:
        check: Checks once; gives its milliseconds.
        sensors: Read every `period` seconds, between two checks.
        window: Seconds.
        period: Seconds.
        say: Is told each window at its end.
        clock: Seconds that only go on.
    """

    def __init__(
        self,
        check: Callable[[], float],
        sensors: Sensors,
        *,
        window: float = 60.0,
        period: float = 1.0,
        say: Callable[[Row], object] = lambda row: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check, self._sensors, self._say, self._clock = check, sensors, say, clock
        self._window, self._period = window, period
        self._meter, self._events = EnergyMeter(sensors.rails), told(sensors.events)
        self._before: dict[str, float] = {}
        self._ms: list[float] = []
        self._samples: list[dict[str, dict[str, float]]] = []
        self.windows: list[Row] = []
        self.ms: list[float] = []
        self.joules: dict[str, float] = {}
        self.seconds = 0.0

    def go(self, seconds: float) -> str:
        """Runs for so long; gives "time", or "interrupted" after Ctrl-C."""
        begun = opened = self._clock()
        sampled, ended = begun - self._period, "time"
        self.joules = self._meter.sample(begun)
        try:
            while (now := self._clock()) < begun + seconds:
                if now >= sampled + self._period:
                    self._sample(now)
                    sampled = now
                if now >= opened + self._window:
                    self._close(opened - begun, now - opened)
                    opened = now
                self._ms.append(self._check())
        except KeyboardInterrupt:
            ended = "interrupted"
        now = self._clock()
        self.seconds = now - begun
        self._sample(now)
        self._close(opened - begun, now - opened)
        return ended

    def _sample(self, now: float) -> None:
        self.joules = self._meter.sample(now)
        events = told(self._sensors.events)
        grown = {name: value - self._events.get(name, value) for name, value in events.items()}
        self._events = events
        held_back = told(self._sensors.held_back) | grown
        self._samples.append(
            {"celsius": told(self._sensors.celsius), "mhz": told(self._sensors.mhz), "held_back": held_back}
        )

    def _close(self, start: float, seconds: float) -> None:
        ms, samples, before = self._ms, self._samples, self._before
        self._ms, self._samples, self._before = [], [], self.joules
        if not ms:
            return
        self.ms += ms
        held_back = merged(samples, "held_back", max)
        self.windows.append(
            {
                "start_s": round(start, 2),
                "checks": len(ms),
                "ms_p50_p95_p99": [round(value, 3) for value in percentiles(ms)],
                "celsius_max": merged(samples, "celsius", max),
                "mhz_mean": merged(samples, "mhz", statistics.fmean),
                "watts": {
                    name: round((joules - before.get(name, 0.0)) / seconds, 3) for name, joules in self.joules.items()
                },
                "held_back_by": sorted(name for name, most in held_back.items() if most > 0),
            }
        )
        self._say(self.windows[-1])


def merged(
    samples: Sequence[Mapping[str, Mapping[str, float]]], kind: str, merge: Callable[[list[float]], float]
) -> dict[str, float]:
    """One value per name of one kind of reading."""
    names = dict.fromkeys(name for sample in samples for name in sample[kind])
    return {name: round(merge([one[kind][name] for one in samples if name in one[kind]]), 2) for name in names}


def throttling(windows: Sequence[Row]) -> Row:
    """The last fifth of the windows against the first fifth, and what said that it held the device back."""
    part = max(1, len(windows) // 5)
    held_back = sorted({name for window in windows for name in window["held_back_by"]})
    ratio = None
    if len(windows) > 1:
        first, last = (
            statistics.median(window["ms_p50_p95_p99"][0] for window in some)
            for some in (windows[:part], windows[-part:])
        )
        ratio = round(last / first, 3)
    slowed_down = None if ratio is None else ratio > SLOWER
    return {"p50_last_over_first": ratio, "slowed_down": slowed_down, "held_back_by": held_back}


def line_of(row: Row) -> str:
    """A window as text."""
    p50, p95, p99 = row["ms_p50_p95_p99"]
    hottest = max(row["celsius_max"].items(), key=lambda one: one[1], default=None)
    parts = [
        f"from {row['start_s'] / 60:.2f} min: {row['checks']} checks, p50 {p50:.2f} p95 {p95:.2f} p99 {p99:.2f} ms",
        f"temperature {NOT_TOLD}" if hottest is None else f"{hottest[1]:.1f} °C ({hottest[0]})",
    ]
    parts += [f"{name} {mhz:.0f} MHz" for name, mhz in row["mhz_mean"].items()]
    parts += [f"{name} {watts:.2f} W" for name, watts in row["watts"].items()]
    return ", ".join(parts + [f"held back by {name}" for name in row["held_back_by"]])


def closing_lines(result: Row, silent: Sequence[str]) -> list[str]:
    """The whole run as text."""
    p50, p95, p99 = result["ms_p50_p95_p99"]
    found = result["throttling"]
    lines = [
        f"whole: {result['checks']} checks in {result['seconds']:.1f} s",
        f"latency: p50 {p50:.2f} p95 {p95:.2f} p99 {p99:.2f} ms",
        f"slowed down: {found['slowed_down']} (last minutes over first: {found['p50_last_over_first']})",
        f"held back by: {', '.join(found['held_back_by']) or 'nothing that tells'}",
    ]
    for name, one in (result["energy"] or {}).items():
        above = one["joules_per_image_above_idle"]
        more = "" if above is None else f", {above} above an idle device"
        lines.append(f"energy, {name}: {one['joules_per_image']} J per image{more}")
    if result["energy"] is None:
        hidden = f"; {', '.join(silent)} cannot be read: try as root" if silent else ""
        lines.append(f"energy: {NOT_TOLD}{hidden}")
    return lines


def checker(runtime: Runtime, image: Path) -> Callable[[], float]:
    """Checks one image; gives milliseconds, and ends the program where the gate fails."""

    def check() -> float:
        begun = time.perf_counter()
        verdict = runtime.check(image)
        taken = (time.perf_counter() - begun) * 1e3
        if verdict.error is not None:
            raise SystemExit(
                f"the gate did not judge {image}: {verdict.error}: {verdict.reason}; give another --image"
            )
        return taken

    return check


def measure(options: argparse.Namespace, runtime: Runtime, image: Path, sensors: Sensors) -> Row:
    """The run and what follows from it."""
    check = checker(runtime, image)
    check()
    idle = idle_watts(sensors.rails, options.idle)
    run = ThermalRun(check, sensors, window=options.window, say=lambda row: print(line_of(row), flush=True))
    ended = run.go(options.minutes * 60)
    if not run.ms:
        raise SystemExit("ended before the first check; let it run longer")
    return {
        "ended": ended,
        "seconds": round(run.seconds, 3),
        "checks": len(run.ms),
        "ms_p50_p95_p99": [round(value, 3) for value in percentiles(run.ms)],
        "throttling": throttling(run.windows),
        "energy": energy_per_image(run.joules, run.seconds, len(run.ms), idle),
        "peak_mib": peak_mib(),
        "windows": run.windows,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--window", type=float, default=60.0, help="seconds that one line is about")
    parser.add_argument(
        "--idle", type=float, default=30.0, help="seconds to wait first, for the power of an idle device"
    )
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--digest", default=None)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--image", type=Path, default=None, help="without one, 2 megapixels are drawn")
    parser.add_argument(
        "--note", default=None, help="kept in the result: power mode, cooling, the room's temperature"
    )
    parser.add_argument("--out", type=Path, default=None, help="write the JSON line here, too")
    parser.add_argument("--sys", type=Path, default=SYS, help="another root of the kernel's files")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background has the first ignored
        signal.signal(number, signal.default_int_handler)
    sensors = joined(kernel_sensors(options.sys), gpu_sensors(load_nvml()))
    card = msgspec.to_builtins(machine_card()) | {
        "device": text_of(MODEL),
        "tegra_release": tegra_release(),
        "governor": text_of(options.sys / "devices/system/cpu/cpufreq/policy0/scaling_governor"),
        "note": options.note,
    }
    for name, value in card.items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as folder:
        image = options.image
        if image is None:
            image = Path(folder, "drawn.jpg")
            subprocess.run([sys.executable, "-c", DRAW, str(image)], check=True)
        with Runtime.load(
            starter_folder() if options.bundle is None else options.bundle,
            provider=options.provider,
            digest=options.digest,
            precision=options.precision,
            threads=options.threads,
            limits=Limits(max_bytes=MAX_IMAGE_BYTES),
            allow_uncalibrated=True,  # nothing is decided by what is judged here
            engine_seconds=ENGINE_SECONDS,
        ) as runtime:
            subject = {"bundle": runtime.bundles[0], "digest": runtime.digests[0], "provider": runtime.provider}
            print(f"bundle: {subject['bundle']}, {subject['digest']}, on {subject['provider']}", flush=True)
            result = measure(options, runtime, image, sensors)
    print(*closing_lines(result, sensors.silent), sep="\n")
    settings = {"minutes": options.minutes, "window_s": options.window, "threads": options.threads}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    found = {"benchmark": "on_device", "date": date, "card": card, "subject": subject, "settings": settings}
    line = json.dumps(found | {"image": "drawn" if options.image is None else image.name, "result": result})
    print(line)
    if options.out is not None:
        options.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
