"""Kills, or fails, a publication at every numbered step and looks at what is left. Run as a script.

    python atomic_faults.py KIND FAULT WORKDIR

KIND is folder-new, folder-replaced, file-new or file-replaced; FAULT is kill, ENOSPC or EIO. Prints the number of
steps, or a traceback.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safevlm_sdk import atomic
from safevlm_sdk.errors import SafeVLMError

STEPS = ("mkdir", "open", "write", "fsync", "chmod", "rename", "replace", "unlink", "rmdir", "listdir", "scandir")
KILLED = 77
real = {name: getattr(os, name) for name in STEPS}
real_exchange = atomic._exchange


class Faults:
    """Counts the steps and strikes before one of them; a struck write leaves half of its bytes."""

    def __init__(self, fault: str, at: int) -> None:
        self.fault, self.at, self.count = fault, at, 0

    def strike(self, half: Callable[[], Any]) -> None:
        self.count += 1
        if self.count != self.at:
            return
        half()
        if self.fault == "kill":
            os._exit(KILLED)
        raise OSError(getattr(errno, self.fault), self.fault)

    def wrap(self, step: Callable[..., Any], *, writes: bool = False) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.strike(lambda: step(args[0], args[1][: len(args[1]) // 2]) if writes else None)
            return step(*args, **options)

        return wrapped

    def install(self) -> None:
        for name, step in real.items():
            setattr(os, name, self.wrap(step, writes=name == "write"))
        atomic._exchange = self.wrap(real_exchange)


def content(word: str) -> dict[str, bytes]:
    return {f"{folder}{name}": f"{word} {name}".encode() * 50 for folder in ("", "deep/") for name in ("a", "b")}


def fill(word: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        os.mkdir(folder / "deep")
        for name, data in content(word).items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, data)
            os.close(descriptor)

    return write


def read(out: Path) -> dict[str, bytes] | None:
    if out.is_file():
        return {"": out.read_bytes()}
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} if out.is_dir() else None


def publish(kind: str, out: Path, word: str) -> None:
    if kind.startswith("folder"):
        atomic.publish_folder(out, fill(word), replaceable=lambda _: True)
    else:
        atomic.publish_file(out, content(word)["a"])


def faulty(kind: str, out: Path, faults: Faults) -> int:
    """In a child: publishes with faults; 0 done, 1 refused, 2 done with an error, or KILLED."""
    faults.install()
    try:
        publish(kind, out, "new")
    except SafeVLMError as problem:
        os._exit(2 if "the new content is in place" in str(problem) else 1)
    except BaseException:
        os._exit(4)
    os._exit(0 if faults.count < faults.at else 5)


def check_step(kind: str, fault: str, work: Path, at: int) -> bool:
    """Publishes with a fault before step `at`; False when there is no such step any more."""
    out = work / "out"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    expected = {"folder": content, "file": lambda word: {"": content(word)["a"]}}[kind.split("-")[0]]
    if kind.endswith("replaced"):
        publish(kind, out, "old")
    before = read(out)
    child = os.fork()
    if child == 0:
        faulty(kind, out, Faults(fault, at))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = read(out)
    if code == 0:
        if left != expected("new") or os.listdir(work) != ["out"]:
            raise AssertionError(f"{kind}: without a fault, found {os.listdir(work)}")
        return False
    if code not in ((KILLED,) if fault == "kill" else (1, 2)):
        raise AssertionError(f"{kind}: {fault} at step {at}: code {code}")
    allowed = {1: (before,), 2: (expected("new"),), KILLED: (before, expected("new"))}[code]
    if left not in allowed:
        raise AssertionError(f"{kind}: {fault} at step {at}: a mix was left")
    publish(kind, out, "next")
    if read(out) != expected("next") or os.listdir(work) != ["out"]:
        raise AssertionError(f"{kind}: {fault} at step {at}: leftovers {os.listdir(work)}")
    return True


def main(kind: str, fault: str, work: str) -> None:
    at = 1
    while check_step(kind, fault, Path(work, "work"), at):
        at += 1
    print(at - 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
