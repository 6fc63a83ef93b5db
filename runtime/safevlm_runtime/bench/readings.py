"""What a machine tells of its heat, clocks and power, and what follows for an image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Reading = Callable[[], "float | None"]
"""Gives the present value; None where it cannot be read at the moment."""

_STEP = 1.0  # seconds between two looks at an idle machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One thing whose power is told.

    Attributes:
        name: As the machine calls it.
        read: Joules so far if it counts, else watts at this moment.
        counts: Which of the two.
        wraps_at: Joules at which a counter starts anew; None if it never does.
    """

    name: str
    read: Reading
    counts: bool
    wraps_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """Names to readings.

    Attributes:
        celsius: Temperatures.
        mhz: Clocks.
        held_back: Above 0 while something slows the machine down.
        events: They grow whenever something slowed it down.
        rails: Power. Rails may contain each other, so nothing adds them up.
        silent: What is there and cannot be read.
    """

    celsius: Mapping[str, Reading] = field(default_factory=dict)
    mhz: Mapping[str, Reading] = field(default_factory=dict)
    held_back: Mapping[str, Reading] = field(default_factory=dict)
    events: Mapping[str, Reading] = field(default_factory=dict)
    rails: tuple[Rail, ...] = ()
    silent: tuple[str, ...] = ()


def joined(one: Sensors, other: Sensors) -> Sensors:
    """The sensors of both, whose names differ."""
    return Sensors(
        celsius={**one.celsius, **other.celsius},
        mhz={**one.mhz, **other.mhz},
        held_back={**one.held_back, **other.held_back},
        events={**one.events, **other.events},
        rails=one.rails + other.rails,
        silent=one.silent + other.silent,
    )


def told(readings: Mapping[str, Reading]) -> dict[str, float]:
    """The present values of those that can be read."""
    values = ((name, read()) for name, read in readings.items())
    return {name: round(value, 3) for name, value in values if value is not None}


class EnergyMeter:
    """Joules per rail since its first sample: a counter's growth, or watts by the trapezoidal rule."""

    def __init__(self, rails: Sequence[Rail]) -> None:
        self._rails = rails
        self._last: dict[str, tuple[float, float]] = {}
        self._joules: dict[str, float] = {}

    def sample(self, now: float) -> dict[str, float]:
        """Reads every rail.

        Args:
            now: Seconds of any clock that only goes on.

        Returns:
            Name of a rail to its joules so far.
        """
        for rail in self._rails:
            value = rail.read()
            if value is None:
                continue
            then, before = self._last.get(rail.name, (now, value))
            grown = value - before if rail.counts else (value + before) / 2 * (now - then)
            if rail.counts and grown < 0:
                grown += rail.wraps_at or 0.0
            self._joules[rail.name] = self._joules.get(rail.name, 0.0) + grown
            self._last[rail.name] = now, value
        return dict(self._joules)


def idle_watts(rails: Sequence[Rail], seconds: float) -> dict[str, float]:
    """Mean power of each rail while this process waits for so long."""
    if not rails or seconds <= 0:
        return {}
    meter, begun = EnergyMeter(rails), time.monotonic()
    now, found = begun, meter.sample(begun)
    while now < begun + seconds:
        time.sleep(min(_STEP, begun + seconds - now))
        now = time.monotonic()
        found = meter.sample(now)
    return {name: joules / (now - begun) for name, joules in found.items()}


def energy_per_image(
    joules: Mapping[str, float], seconds: float, images: int, idle: Mapping[str, float]
) -> dict[str, dict[str, Any]] | None:
    """What each rail spent on an image, in all and above what an idle machine spends.

    Args:
        joules: Name of a rail to what it spent.
        seconds: In which it did.
        images: That were judged meanwhile.
        idle: Name of a rail to its watts when nothing is asked; those that are missing have no figure above idle.

    Returns:
        None where there is no rail.
    """
    found = {}
    for name, total in joules.items():
        waiting = idle.get(name)
        found[name] = {
            "watts": round(total / seconds, 3),
            "watts_idle": None if waiting is None else round(waiting, 3),
            "joules_per_image": round(total / images, 4),
            "joules_per_image_above_idle": None
            if waiting is None
            else round((total - waiting * seconds) / images, 4),
        }
    return found or None
