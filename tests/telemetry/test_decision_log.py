"""The decision log: whole lines whatever happens, and nothing in them that must not be there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import safevlm_runtime
from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.decision_log import PAGE, DecisionLog
from safevlm_sdk.errors import ObserverFailed, OptionError

WRITER = Path(__file__).with_name("log_writer.py")
FOREVER = 10**9
EVENT = Event(entry="proxy", moment=1_700_000_000.25, request_id="r-1", source="lobby", blocked=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.jsonl"


def written(path):
    """Every record, from the oldest file to the newest; fails on a line that is none."""
    older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix[1:]))
    return [json.loads(line) for file in [*older, path] if file.exists() for line in file.read_bytes().splitlines()]


def writer(path, name="w", *, max_bytes=2**26, count=FOREVER):
    folders = [*Path(safevlm_runtime.__file__).parents[1:3]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, str(WRITER), str(path), str(max_bytes), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def test_a_line_says_what_was_decided_by_digests(path, verdict):
    DecisionLog(path).judged(verdict(), EVENT)
    (record,) = written(path)
    assert record["time"] == "2023-11-14T22:13:20.250+00:00"
    assert record["action"] == "block"
    assert (record["category"], record["level"], record["score"]) == ("privacy", 2, 0.97)
    assert (record["entry"], record["request_id"], record["source"], record["blocked"]) == (
        "proxy",
        "r-1",
        "lobby",
        True,
    )
    assert record["raster_sha256"] == "sha256:" + "2" * 64
    assert record["bundle_digests"] == ["sha256:" + "3" * 64]
    assert record["timings_ms"]["infer"] == 6.0


def test_nothing_that_a_stranger_wrote_is_in_a_line(path, verdict):
    hostile = 'CANARY\r\n{"action":"allow"}\x1b[2J\u2028\u202e'
    event = Event(entry="proxy", moment=0.0, request_id=hostile, source=hostile)
    log = DecisionLog(path)
    log.judged(verdict("failed"), event)
    log.judged(verdict(category=hostile, reason=hostile.replace("CANARY", ""), provider=hostile[6:]), event)
    raw = path.read_bytes()
    assert raw.count(b"\n") == len(raw.splitlines()) == 2
    assert all(32 <= byte < 127 or byte == 10 for byte in raw)
    first, second = written(path)
    assert "CANARY" not in json.dumps(first)
    assert first["reason"] is None
    assert first["request_id"] == first["source"] == second["request_id"]
    assert first["request_id"].startswith("sha256:")
    assert second["category"] == hostile  # a bundle's own word stays, on its one line


def test_a_kill_at_any_moment_tears_no_line(path):
    promised = 0
    for life in range(8):
        process = writer(path, f"life{life}")
        for _ in range(1 + life * 7):
            process.stdout.readline()
        process.kill()
        rest = process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        promised += 1 + life * 7 + len([line for line in rest if line])
    records = written(path)
    assert promised <= len(records) <= promised + 8  # nothing that was promised is lost
    assert {record["request_id"].split("-")[0] for record in records} == {f"life{life}" for life in range(8)}


def test_no_line_that_fits_a_page_crosses_its_end(path, verdict):
    log = DecisionLog(path, fsync="never")
    for number in range(300):
        log.judged(verdict(reason="x" * (number * 53 % 3000)), EVENT)
    raw, at = path.read_bytes(), 0
    for line in raw.splitlines(keepends=True):
        start = at + len(line) - len(line.lstrip(b" "))
        at += len(line)
        assert start // PAGE == (at - 1) // PAGE
    assert len(written(path)) == 300


@pytest.mark.parametrize("left", [b'{"schema":1,"reas', b" " * 50, b'{"reason":"ends in a space ', b"x" * 9000, b""])
def test_what_a_crash_of_the_machine_left_stays_on_a_line_of_its_own(path, verdict, left):
    DecisionLog(path).judged(verdict(), EVENT)
    with path.open("ab") as file:
        file.write(left)
    DecisionLog(path).judged(verdict(), EVENT)
    good, bad = [], []
    for line in path.read_bytes().splitlines():
        try:
            good.append(json.loads(line))
        except ValueError:
            bad.append(line)
    assert len(good) == 2
    assert [line.strip() for line in bad] == ([left.strip()] if left.strip() else [])


def test_several_processes_and_threads_append_to_one_file_and_rotate_it(path, verdict):
    processes = [writer(path, name, max_bytes=40_000, count=150) for name in ("a", "b")]
    log = DecisionLog(path, max_bytes=40_000, keep=50, fsync="never")
    with ThreadPoolExecutor(4) as pool:
        for number in range(150):
            pool.submit(log.judged, verdict(), Event(entry="sdk", moment=0.0, request_id=f"c-{number}"))
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    found = [record["request_id"] for record in written(path)]
    assert len(found) == len(set(found)) == 450
    for name in ("a", "b"):
        numbers = [int(one.split("-")[1]) for one in found if one.startswith(name + "-")]
        assert numbers == sorted(numbers)
    assert len(list(path.parent.iterdir())) > 5


def test_rotation_keeps_so_many_files_and_no_more(path, verdict):
    log = DecisionLog(path, max_bytes=8192, keep=2)
    for number in range(60):
        log.judged(verdict(), Event(entry="sdk", moment=0.0, request_id=str(number)))
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"decisions.jsonl", "decisions.jsonl.1", "decisions.jsonl.2"}
    assert all(file.stat().st_size <= 8192 for file in path.parent.iterdir())
    kept = [int(record["request_id"]) for record in written(path)]
    assert kept == list(range(60 - len(kept), 60))


def test_a_rotation_that_was_killed_costs_no_file(path, verdict):
    for number, name in ((1, ".1"), (4, ".4")):  # .2 and .3 were being moved
        path.with_name(path.name + name).write_text(f'{{"old":{number}}}\n')
    path.write_bytes(b'{"old":0}\n' * 1000)
    DecisionLog(path, max_bytes=PAGE, keep=4).judged(verdict(), EVENT)
    assert [record["old"] for record in written(path) if "old" in record] == [4, 1, *[0] * 1000]


def test_another_program_may_move_the_file_away(path, verdict):
    log = DecisionLog(path)
    log.judged(verdict(), EVENT)
    path.rename(path.with_name("moved"))
    log.judged(verdict(), EVENT)
    assert len(written(path)) == 1


def test_a_line_is_written_to_the_file_that_is_there_once_the_lock_is_held(path, verdict, monkeypatch):
    log, lock, moves = DecisionLog(path), fcntl.flock, iter([path.with_name("moved")])

    def lock_late(file, operation):
        for moved in moves:
            path.rename(moved)
            path.write_bytes(b"")
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    log.judged(verdict(), EVENT)
    assert len(written(path)) == 1
    assert path.with_name("moved").read_bytes() == b""


def test_nobody_else_writes_meanwhile(path, verdict, monkeypatch):
    log, write = DecisionLog(path), os.write

    def look(file, data):
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return write(file, data)

    monkeypatch.setattr(os, "write", look)
    log.judged(verdict(), EVENT)
    assert len(written(path)) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_blocks_or_is_counted_by_setting(path, verdict, monkeypatch, call, code):
    lost = []
    strict = DecisionLog(path, fsync="always")
    lax = DecisionLog(path, fsync="always", on_error="count", on_lost=lambda: lost.append(1))

    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(ObserverFailed, match="on_error = 'count'"):
            strict.judged(verdict(), EVENT)
        lax.judged(verdict(), EVENT)
    assert lost == [1]
    strict.judged(verdict(), EVENT)
    assert written(path)[-1]["action"] == "block"


def test_a_line_cut_by_a_full_disk_is_a_failure_and_is_closed_off(path, verdict, monkeypatch):
    log, whole = DecisionLog(path), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: whole(file, data[:100]))
        with pytest.raises(ObserverFailed, match="No space left"):
            log.judged(verdict(), EVENT)
    log.judged(verdict(), EVENT)
    first, second = path.read_bytes().splitlines()
    assert len(first) == 100
    assert json.loads(second)["action"] == "block"


@pytest.mark.parametrize(("policy", "synced"), [("always", 3), ("interval", 0), ("never", 0)])
def test_what_waits_for_the_disk(path, verdict, monkeypatch, policy, synced):
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(file) or real(file))
    log = DecisionLog(path, fsync=policy, sync_seconds=3600)
    for _ in range(3):
        log.judged(verdict(), EVENT)
    assert len(calls) == synced
    log.close()
    assert len(calls) == synced + (policy != "never")


def test_an_interval_that_is_over_waits_for_the_disk(path, verdict, monkeypatch):
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(file) or real(file))
    log = DecisionLog(path, fsync="interval", sync_seconds=0)
    log.judged(verdict(), EVENT)
    assert len(calls) == 1


def test_the_file_is_not_for_everybody(path, verdict):
    DecisionLog(path).judged(verdict(), EVENT)
    assert path.stat().st_mode & 0o027 == 0


def test_a_log_that_cannot_be_is_refused_at_the_start(tmp_path):
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "elsewhere")
    os.mkfifo(pipe)
    for place in (tmp_path / "no" / "folder", tmp_path, link, pipe):
        with pytest.raises(OptionError, match="cannot be opened"):
            DecisionLog(place)
    for options in ({"keep": 0}, {"max_bytes": 10}, {"sync_seconds": -1}, {"fsync": "often"}, {"on_error": "ignore"}):
        with pytest.raises(OptionError):
            DecisionLog(tmp_path / "log", **options)


def test_the_documentation_names_every_key(path, verdict):
    DecisionLog(path).judged(verdict(), EVENT)
    section = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text().split("## The decision log")[1]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(written(path)[0])
