"""Layers stay float32 for what they do, and no more of them than it takes."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from safevlm_export.precision.exclusion import Harm, choose_excluded

LAYERS = ["a", "b", "c", "d", "e", "f"]


class Model:
    """Errors of layers add up; an error above one flips a decision."""

    def __init__(self, **errors: float) -> None:
        self.errors = dict.fromkeys(LAYERS, 0.01) | errors
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, excluded: Collection[str]) -> Harm:
        self.calls.append(tuple(excluded))
        error = sum(error for layer, error in self.errors.items() if layer not in excluded)
        return Harm(flips=int(error > 1.0), error=error)


def test_nothing_is_excluded_where_nothing_is_wrong() -> None:
    model = Model()
    chosen = choose_excluded(LAYERS, model, max_flips=0, max_error=0.5)
    assert (chosen.layers, chosen.fits, len(model.calls)) == ((), True, 1)


def test_the_worst_go_first_and_no_more_than_needed() -> None:
    chosen = choose_excluded(LAYERS, Model(c=0.4, e=3.0), max_flips=0, max_error=0.45)
    assert chosen.layers == ("e",)
    assert (chosen.before.flips, chosen.after.flips, chosen.fits) == (1, 0, True)
    chosen = choose_excluded(LAYERS, Model(c=0.4, e=3.0), max_flips=0, max_error=0.3)
    assert chosen.layers == ("e", "c")
    assert chosen.after.error == pytest.approx(0.04)


def test_half_of_the_layers_at_most() -> None:
    chosen = choose_excluded(LAYERS, Model(**dict.fromkeys(LAYERS, 2.0)), max_flips=0, max_error=0.5)
    assert not chosen.fits
    assert len(chosen.layers) == 3
    assert chosen.after.error == pytest.approx(6.0)


def test_what_is_not_finite_never_fits() -> None:
    chosen = choose_excluded(LAYERS, lambda _: Harm(flips=0, error=float("nan")), max_flips=9, max_error=9.0)
    assert not chosen.fits
