"""One environment per library that `peers.py` times: made once, used again until what it is made of changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKERS = Path(__file__).resolve().parent / "workers"
CONSTRAINTS = ROOT / "constraints.txt"
STAMP = "made.json"
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "UV_THREADPOOL_SIZE",
)
LEAKS = ("PYTHONPATH", "PYTHONHOME", "NODE_PATH")


class NotMade(Exception):
    """An environment could not be made, for the reason that the message tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What is installed together.

    Attributes:
        name: Its folder.
        packages: What pip or npm is asked for, with versions.
        kind: "python" (a virtual environment), "ours" (one with this checkout in it; `packages` are its extras), or
            "node" (a folder of npm).
    """

    name: str
    packages: tuple[str, ...]
    kind: str = "python"


def make(environment: Environment, folder: Path) -> dict[str, str]:
    """Makes the environment in `folder` unless it lies there already; names of packages to their versions.

    Raises:
        NotMade: pip or npm failed, or is not there.
    """
    place = folder / environment.name
    made_of = {"packages": list(environment.packages), "python": sys.version.split()[0], "kind": environment.kind}
    stamp = place / STAMP
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == made_of:
        return _versions(environment, place)
    print(f"making {place} …", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if environment.kind == "node":
        _make_node(environment, place)
    else:
        _make_python(environment, place)
    stamp.write_text(json.dumps(made_of), encoding="utf-8")
    return _versions(environment, place)


def command(environment: Environment, folder: Path, worker: str) -> list[str]:
    """What starts a worker there, but for its arguments."""
    place = folder / environment.name
    if environment.kind == "node":
        shutil.copy(WORKERS / worker, place)  # Node looks for packages beside the script
        return ["node", str(place / worker)]
    return [str(_python(place)), str(WORKERS / worker)]


def variables(threads: int) -> dict[str, str]:
    """A worker's environment variables: the same number of threads for all; 0 leaves it to each."""
    found = {name: value for name, value in os.environ.items() if name not in (*THREADS, *LEAKS)}
    found |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return found | (dict.fromkeys(THREADS, str(threads)) if threads else {})


def run(words: list[str], *, place: Path, what: str) -> str:
    """What a command prints.

    Raises:
        NotMade: It failed; the message has its last lines.
    """
    try:
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise NotMade(f"{what}: {words[0]} cannot be run ({problem.strerror}); install it") from problem
    if done.returncode:
        raise NotMade(f"{what}: {last_words(done.stderr or done.stdout)}")
    return done.stdout


def last_words(text: str) -> str:
    """What a program said of its failure, in one line: the last lines that name an error, or else the last ones."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"(Error|ERROR): ", line)]
    return " | ".join((telling or lines)[-2:])[:300] or "it said nothing"


def _make_python(environment: Environment, place: Path) -> None:
    run([sys.executable, "-m", "venv", str(place)], place=place, what="venv")
    install = [str(_python(place)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if environment.kind == "ours":
        install += ["-c", str(CONSTRAINTS), "-e", f"{ROOT}[{','.join(environment.packages)}]"]
    else:
        install += environment.packages
    run(install, place=place, what="pip")


def _make_node(environment: Environment, place: Path) -> None:
    (place / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
    run(
        ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *environment.packages],
        place=place,
        what="npm",
    )


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _versions(environment: Environment, place: Path) -> dict[str, str]:
    """Every package of a Python environment, and the ones asked for of a Node one."""
    if environment.kind == "node":
        listed: Any = json.loads(run(["npm", "ls", "--json", "--depth=0"], place=place, what="npm"))
        found = {name: entry["version"] for name, entry in listed["dependencies"].items()}
        return {"node": run(["node", "--version"], place=place, what="node").strip().lstrip("v"), **found}
    words = [str(_python(place)), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    return {entry["name"].lower(): entry["version"] for entry in json.loads(run(words, place=place, what="pip"))}
