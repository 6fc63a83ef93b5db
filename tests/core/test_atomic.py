"""Publishing is all or nothing, at every step, and never throws away what is not ours."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from safevlm_sdk import atomic
from safevlm_sdk.errors import ExportError, SafeVLMError

HERE = Path(__file__).parent
MANY_STEPS = {"folder-new": 25, "folder-replaced": 35, "file-new": 8, "file-replaced": 8}


def write(word: str):
    def fill(folder: Path) -> None:
        (folder / "graphs").mkdir()
        (folder / "manifest.json").write_text(word)
        (folder / "graphs" / "g").write_text(word)

    return fill


def yes(_: Path) -> bool:
    return True


@pytest.mark.parametrize("fault", ["kill", "ENOSPC", "EIO"])
@pytest.mark.parametrize("kind", sorted(MANY_STEPS))
def test_a_fault_at_any_step_leaves_the_old_or_the_new_content(kind: str, fault: str, tmp_path: Path):
    command = [sys.executable, str(HERE / "atomic_faults.py"), kind, fault, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= MANY_STEPS[kind]


def test_a_folder_is_published_with_its_parents(tmp_path: Path):
    out = tmp_path / "a" / "b" / "bundle"
    atomic.publish_folder(out, write("one"))
    assert (out / "graphs" / "g").read_text() == "one"
    assert os.listdir(out.parent) == ["bundle"]


@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o002, 0o755, 0o644)]
)
def test_permissions_honour_the_umask(umask: int, folder: int, file: int, tmp_path: Path):
    def fill(place: Path) -> None:
        write("x")(place)
        (place / "manifest.json").chmod(0o600)
        (place / "graphs").chmod(0o777)

    before = os.umask(umask)
    try:
        atomic.publish_folder(tmp_path / "out", fill)
        atomic.publish_file(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    found = {
        p: stat.S_IMODE((tmp_path / p).stat().st_mode) for p in ("out", "out/graphs", "out/manifest.json", "file")
    }
    assert found == {"out": folder, "out/graphs": folder, "out/manifest.json": file, "file": file}


def test_a_folder_with_other_files_is_never_thrown_away(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"mine")
    filled = []
    with pytest.raises(ExportError, match="holds other files"):
        atomic.publish_folder(out, filled.append, error=ExportError)
    with pytest.raises(SafeVLMError, match="holds other files"):
        atomic.publish_folder(out, filled.append, replaceable=lambda folder: (folder / "manifest.json").exists())
    assert not filled
    assert (out / "holiday.jpg").read_bytes() == b"mine"


def test_a_folder_that_gains_files_while_the_new_one_is_written_is_kept(tmp_path: Path):
    out = tmp_path / "out"

    def fill(folder: Path) -> None:
        write("new")(folder)
        out.mkdir()
        (out / "holiday.jpg").write_bytes(b"mine")

    with pytest.raises(SafeVLMError, match="holds other files"):
        atomic.publish_folder(out, fill)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["holiday.jpg"]


def test_an_empty_folder_is_replaced(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    atomic.publish_folder(out, write("x"))
    assert (out / "manifest.json").read_text() == "x"


@pytest.mark.parametrize("obstacle", ["file", "link"])
def test_a_file_or_a_link_in_the_way_is_refused(obstacle: str, tmp_path: Path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.write_text("mine") if obstacle == "file" else out.symlink_to(elsewhere)
    with pytest.raises(SafeVLMError, match="is not a folder" if obstacle == "file" else "is a link"):
        atomic.publish_folder(out, write("x"), replaceable=yes)
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("target", ["manifest.json", "graphs"])
def test_links_are_not_published(target: str, tmp_path: Path):
    def fill(folder: Path) -> None:
        write("x")(folder)
        (folder / "link").symlink_to(folder / target)

    with pytest.raises(SafeVLMError, match="link: is a link"):
        atomic.publish_folder(tmp_path / "out", fill)
    assert os.listdir(tmp_path) == []


def test_what_fill_raises_passes_through_and_nothing_stays(tmp_path: Path):
    def fill(folder: Path) -> None:
        write("x")(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic.publish_folder(tmp_path / "out", fill)
    assert os.listdir(tmp_path) == []


def test_without_exchange_an_existing_folder_is_refused_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    atomic.publish_folder(out, write("old"))
    monkeypatch.setattr(atomic.sys, "platform", "darwin")
    with pytest.raises(SafeVLMError, match="remove it first"):
        atomic.publish_folder(out, write("new"), replaceable=yes)
    assert (out / "graphs" / "g").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_leftovers_of_the_same_name_go_and_everything_else_stays(tmp_path: Path):
    digits = "0123456789abcdef"
    stay = [f".other.safevlm-{digits}", ".out.safevlm-short", f".out.safevlm-{digits}.bak", f"out.safevlm-{digits}"]
    for name in [*stay, f".out.safevlm-{digits}"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    atomic.publish_folder(tmp_path / "out", write("x"))
    assert sorted(os.listdir(tmp_path)) == sorted([*stay, "out"])


def test_a_publication_in_progress_is_not_taken_for_a_leftover(tmp_path: Path):
    out = tmp_path / "out"

    def fill(folder: Path) -> None:
        write("outer")(folder)
        atomic.publish_folder(out, write("inner"), replaceable=yes)

    atomic.publish_folder(out, fill, replaceable=yes)
    assert (out / "graphs" / "g").read_text() == "outer"
    assert os.listdir(tmp_path) == ["out"]


def test_two_writers_and_a_reader_never_meet_a_mix(tmp_path: Path):
    out, problems = tmp_path / "out", []
    atomic.publish_folder(out, write("0"))

    def writer(word: str) -> None:
        try:
            for _ in range(20):
                atomic.publish_folder(out, write(word), replaceable=yes)
        except BaseException as problem:
            problems.append(problem)

    writers = [threading.Thread(target=writer, args=(word,)) for word in "12"]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        folder = os.open(out, os.O_RDONLY)
        try:
            words = {read_at(folder, "manifest.json"), read_at(folder, "graphs/g")} - {None}
        finally:
            os.close(folder)
        assert len(words) <= 1
    for thread in writers:
        thread.join()
    assert problems == []
    assert os.listdir(tmp_path) == ["out"]


def read_at(folder: int, name: str) -> bytes | None:
    """The file's bytes; None once the folder has been replaced and removed."""
    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_a_file_is_replaced(tmp_path: Path):
    for data in (b"one" * 1000, b"two"):
        atomic.publish_file(tmp_path / "report.json", data)
        assert (tmp_path / "report.json").read_bytes() == data
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_in_a_missing_folder_is_an_error_with_the_path(tmp_path: Path):
    with pytest.raises(ExportError, match=r"no/report.json: could not be written \(No such file"):
        atomic.publish_file(tmp_path / "no" / "report.json", b"x", error=ExportError)
