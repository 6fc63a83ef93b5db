"""Random streams that depend on names and numbers alone, and the line between the splits."""

from __future__ import annotations

import zlib

import numpy as np

from .values import Split

LAYOUTS = 120
"""Layout templates per kind: three quarters for training, the rest held out."""

SCHEMES = 96
"""Colour schemes, divided the same way."""

HELD_OUT_EVERY = 4


def stream(*keys: int | str) -> np.random.Generator:
    """Open the random stream that belongs to these keys (integers from 0, or names)."""
    return np.random.default_rng([zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys])


def numbers_of(split: Split, total: int) -> tuple[int, ...]:
    """List the template numbers below `total` that a split may use."""
    held_out = split == "held-out"
    return tuple(n for n in range(total) if (n % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out)


def choose(rng: np.random.Generator, options: tuple[int, ...]) -> int:
    """Pick one number of several."""
    return options[int(rng.integers(len(options)))]


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """Pick one string of several."""
    return options[int(rng.integers(len(options)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Toss a coin that falls on True this often."""
    return bool(rng.random() < probability)
