"""A gate from nothing: pictures are drawn, a gate is trained, measured, exported, and judges."""

# %% [markdown]
# # A gate from nothing, in one or two minutes of processor time
#
# Draws pictures, trains a gate on them, measures it on others, exports it and has it judge. It downloads nothing and
# needs no GPU. Open it in an editor that knows `# %%` cells, or in Jupyter with jupytext; or run it whole, from the
# repository's root:
#
#     pip install "safevlm-sdk[cpu,train]"
#     python examples/train_a_gate/run.py
#
# Everything is written to `out/train-a-gate/`. **What comes out is an example and no gate to rely on**:
# it saw some hundred drawings. Put your own pictures in their place, and `recipe.toml` says the rest.

# %%
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path("examples/train_a_gate")
WORK = Path("out/train-a-gate")
PLACES = {"train": 300, "development": 160, "held-out": 160}  # in the generator's sequence; most are of other kinds
KINDS = ("id_card", "bank_card", "passport", "scene", "receipt", "text_page")


def run(module: str, *arguments: str) -> str:
    """Runs a command in the work folder; shows it and what it prints."""
    print("$", {"safevlm_sdk.command": "safevlm"}.get(module, f"python -m {module}"), *arguments)
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=WORK, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    print(done.stderr + done.stdout)
    if done.returncode not in (0, 10):  # 10: `safevlm check` found something to act upon
        raise SystemExit(f"the command ended with exit code {done.returncode}; what it printed says why")
    return done.stdout


# %% [markdown]
# ## Pictures
#
# Three sets in layouts, colours and faces of their own, so that no set knows another by heart: one to learn from, one
# to set the thresholds, one to measure on. `manifest.jsonl` has a line per picture: category, level, and the group of
# those that look alike.

# %%
WORK.mkdir(parents=True, exist_ok=True)
for split, places in PLACES.items():
    where = f"pictures/{split}"
    run("safevlm_training.documents", where, "--split", split, "--count", str(places), "--only", *KINDS)
print((WORK / "pictures/train/manifest.jsonl").read_text(encoding="utf-8").splitlines()[0])

# %% [markdown]
# ## Training
#
# The recipe says all that the result depends on. The vision tower (EfficientNet-Lite0) stays as it is and looks at
# each picture once; what learns are the safety projector, the tokens and the head. The paths in a recipe are seen
# from where it lies, so a copy of it goes beside the pictures.

# %%
shutil.copy(HERE / "recipe.toml", WORK / "recipe.toml")
run("safevlm_sdk.command", "train", "recipe.toml")

# %% [markdown]
# ## How good is it?
#
# Measured on pictures that neither taught it nor set its thresholds, with 95 % intervals. They are wide: the set is
# small. The rows by source say what it takes for what.

# %%
run(
    "safevlm_sdk.command", "eval", "checkpoint", "--data", "pictures/held-out/manifest.jsonl",
    "--resamples", "200", "--out", "report",
)  # fmt: skip

# %% [markdown]
# ## Export
#
# PyTorch stays behind. The graph must decide as the checkpoint does on these pictures, or no bundle is written. The
# digest is what whoever deploys the bundle pins.

# %%
run("safevlm_sdk.command", "export", "checkpoint", "bundle", "--calibration-data", "pictures/held-out")

# %% [markdown]
# ## Judging
#
# From here on it is what an application does, without torch. "looked for" is what this gate covers: ALLOW says
# nothing about anything else.

# %%
rows = (WORK / "pictures/held-out/manifest.jsonl").read_text(encoding="utf-8").splitlines()
shown: dict[str, str] = {}
for row in map(json.loads, rows):
    shown.setdefault(row["source"], f"pictures/held-out/{row['image']}")
run("safevlm_sdk.command", "check", *sorted(shown.values()), "--bundle", "bundle", "--report", "verdicts.html")
print(f"{WORK}/report/eval.html has the figures, {WORK}/verdicts.html the pictures and where the gate looked")
