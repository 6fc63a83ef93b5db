"""The process is killed, interrupted, or finds the disk full; the audit is none the worse for it."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from safevlm_runtime.audit import StopSignals

COUNT = 400


@pytest.fixture
def many(tmp_path, encoded):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(COUNT):
        data = encoded(250 if number % 3 else 0, 250, 0, mark=number % 350)
        (folder / f"{number:04}.png").write_bytes(data[: len(data) // 2] if number % 97 == 5 else data)
    return folder


@pytest.fixture
def start(many, bundle):
    """Starts the command."""

    def start(out, **options):
        command = [sys.executable, "-m", "safevlm_sdk.command", "audit", many, "--out", out, "-b", bundle]
        return subprocess.Popen(
            [*map(str, command), "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    return start


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def wait_for(process, path, size):
    """Waits until a file has grown so far, or the process has ended."""
    while process.poll() is None and size_of(path) < size:
        time.sleep(0.0005)


@pytest.fixture
def undisturbed(many, audited, tmp_path):
    return (audited(many, tmp_path / "undisturbed") / "verdicts.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_at_ten_random_moments(start, undisturbed, tmp_path):
    out, rng, seen = tmp_path / "out", random.Random(), []
    moments = sorted(rng.randrange(1, len(undisturbed)) for _ in range(10))
    for size in moments:
        process = start(out)
        wait_for(process, out / "verdicts.jsonl", size)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, (moments, size)
        seen.append((out / "verdicts.jsonl").read_bytes())
        assert undisturbed.startswith(seen[-1]), (moments, size)
    assert len(set(seen)) > 3, moments
    process = start(out)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "goes on after" in said
    assert (out / "verdicts.jsonl").read_bytes() == undisturbed
    assert sorted(os.listdir(out)) == ["audit.json", "report.html", "verdicts.jsonl", "verdicts.parquet"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_says_how_to_go_on(start, number, tmp_path):
    out = tmp_path / "out"
    process = start(out)
    wait_for(process, out / "verdicts.jsonl", 1)
    process.send_signal(number)
    printed, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith("error: audit_stopped: stopped after ")
    assert "run the same command again" in said
    assert said.count("\n") == 1
    assert printed == ""
    lines = (out / "verdicts.jsonl").read_bytes()
    assert 0 < lines.count(b"\n") < COUNT
    assert lines.endswith(b"\n")
    assert json.loads((out / "audit.json").read_bytes())["finished"] is None


def test_only_the_second_signal_cannot_wait():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert not stop.asked
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_said_and_nothing_is_lost(start, undisturbed, tmp_path):
    out, limit = tmp_path / "out", 20_000
    process = start(out, preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)))
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith("error: audit_failed: ")
    assert "free some space, and run the same command again" in said
    kept = (out / "verdicts.jsonl").read_bytes()
    assert 0 < len(kept) <= limit
    assert kept.endswith(b"\n")
    process = start(out)
    process.communicate()
    assert (out / "verdicts.jsonl").read_bytes() == undisturbed
