"""Kills a training run at writes, syncs and renames, and lets it go on. Run as a script.

    python train_faults.py RECIPE PREFIX

Works in folders of that prefix beside the recipe's own. Each attempt is a fork that kills itself at its n-th step,
after half of a write's bytes; forking after the imports makes an attempt cheap. Prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from safevlm_training.plan import plan_recipe
from safevlm_training.train import load_encoder, train

STEPS = ("write", "fsync", "rename", "replace", "unlink", "ftruncate", "truncate", "mkdir")


class Steps:
    """Counts the steps, kills this process at one of them, and notes those that save the state."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly
        self.calls = 0
        self.saved: list[int] = []

    def install(self) -> None:
        for name in STEPS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.deadly:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "replace" and str(args[1]).endswith("state.pt"):
                self.saved.append(self.calls)
            return real(*args, **options)

        return counted


def attempt(recipe: Path, deadly: int) -> tuple[int, int, list[int]]:
    """Trains in a fork that dies at a step, 0 for none; returns its exit code, its steps and those that saved."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        steps, code = Steps(deadly), 1
        try:
            steps.install()
            train(recipe, progress=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        with os.fdopen(writer, "w") as pipe:
            json.dump([steps.calls, steps.saved], pipe)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        calls, saved = json.loads(pipe.read() or "[0, []]")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), calls, saved


def digest(recipe: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((recipe.parent / "out").iterdir())}


def main(source: Path, prefix: str) -> None:
    def fresh(name: str) -> Path:
        folder = source.parent.parent / (prefix + name)
        folder.mkdir()
        return Path(shutil.copy(source, folder / "recipe.toml"))

    whole = fresh("whole")
    code, total, saved = attempt(whole, 0)
    if code != 0:
        raise SystemExit(f"the whole run failed with {code}")
    expected = digest(whole)
    chance, count = random.Random(0), 8
    points = [1 + (total * number + chance.randrange(total)) // count for number in range(count)]
    outcomes: list[tuple[int | str, int, int, bool]] = []
    for point in sorted({*points, *(call + 1 for call in saved)}):  # and once after each epoch
        recipe = fresh(str(point))
        killed, *_ = attempt(recipe, point)
        code, *_ = attempt(recipe, 0)
        outcomes.append((point, killed, code, code == 0 and digest(recipe) == expected))
    recipe, kills = fresh("often"), 0
    for step in range(12):
        code, *_ = attempt(recipe, 15 + 10 * step)
        if code == 0:
            break
        kills += 1
    outcomes.append(("often", -9 if kills else 0, code, code == 0 and digest(recipe) == expected))
    print(json.dumps({"total": total, "kills": kills, "saved": saved, "outcomes": outcomes}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    # What is imported lazily is imported once, here; autograd must not run before a fork.
    load_encoder(plan_recipe(Path(sys.argv[1])))
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.AdamW([parameter]).step()
    main(Path(sys.argv[1]), sys.argv[2])
