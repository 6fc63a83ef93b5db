"""Telling observers: all of them, and a failure lets nothing go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import safevlm_runtime
from safevlm_runtime.judging.observer import Event, notify
from safevlm_sdk.errors import ObserverFailed

EVENT = Event(entry="guard", moment=0.0)


class Remembers:
    def __init__(self, failure=None):
        self.told = []
        self.failure = failure

    def judged(self, verdict, event):
        self.told.append((verdict, event))
        if self.failure:
            raise self.failure


def test_every_observer_is_told(verdict):
    observers, one = [Remembers(), Remembers()], verdict()
    notify(observers, one, EVENT)
    assert [observer.told for observer in observers] == [[(one, EVENT)]] * 2


def test_an_observer_that_fails_keeps_no_other_from_being_told_and_quotes_nothing(verdict):
    last = Remembers()
    with pytest.raises(ObserverFailed, match="ValueError") as caught:
        notify([Remembers(ValueError("CANARY")), last], verdict(), EVENT)
    assert "CANARY" not in str(caught.value)
    assert len(last.told) == 1


def test_what_an_observer_says_on_purpose_is_passed_on(verdict):
    with pytest.raises(ObserverFailed, match="the disk is full"):
        notify([Remembers(ValueError()), Remembers(ObserverFailed("the disk is full"))], verdict(), EVENT)


def test_nothing_heavy_is_loaded_before_it_is_used():
    code = (
        "import sys, safevlm_runtime.telemetry.metrics, safevlm_runtime.telemetry.spans, "
        "safevlm_runtime.telemetry.decision_log\n"
        "print(*[name for name in ('prometheus_client', 'opentelemetry') if name in sys.modules])"
    )
    folders = [str(folder) for folder in Path(safevlm_runtime.__file__).parents[1:3]]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""
