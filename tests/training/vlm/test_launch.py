"""A stage in two processes on a CPU, over gloo, ends with what one process ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from safevlm_training.train import train

Recipe = Callable[..., Path]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
STAGE = "stage = 2\ntrain_safety = true\ngradient_accumulation = 2"
# A small learning rate: AdamW makes whole steps along gradients that are little more than rounding errors.
CHANGES = (("epochs = 2", "epochs = 1"), ("lr = 0.01", "lr = 0.001"))


def judging(out: Path) -> dict[str, np.ndarray]:
    """The weights that a verdict depends on; a bias of the keys cancels in the softmax."""
    found = load_file(out / "safety.safetensors")
    return {
        name: value
        for name, value in found.items()
        if name.startswith(("head.", "projector.", "tokens.")) and name != "head.k_proj.bias"
    }


@pytest.mark.slow
def test_lora_and_safety_modules_end_alike(stage_recipe: Recipe) -> None:
    """In two parts a step, so that each of the four parts has other numbers of rows and answer tokens."""
    alone, shared = (stage_recipe(*CHANGES, lm=STAGE, lora="r = 4\nalpha = 8") for _ in range(2))
    train(alone, progress=False)
    paths = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    arguments = [*LAUNCH, "-m", "safevlm_sdk.command", "train", str(shared)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    outs = [recipe.parent / "out" for recipe in (alone, shared)]
    (expected,), (found,) = (json.loads((out / "training.json").read_text())["history"] for out in outs)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    for name in ("loss", "lm_loss", "auroc"):
        assert found["validation"][name] == pytest.approx(expected["validation"][name], rel=1e-4), name
    one, two = map(judging, outs)
    assert one.keys() == two.keys()
    assert len(one) > 10
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-4, err_msg=name)  # a tenth of one step
    lora = [load_file(out / "lora" / "adapter_model.safetensors") for out in outs]
    assert lora[0].keys() == lora[1].keys()
    assert all(any(value.any() for name, value in one.items() if "lora_B" in name) for one in lora)
    calibrations = [json.loads((out / "calibration.json").read_text())["thresholds"] for out in outs]
    assert calibrations[1]["categories"] == pytest.approx(calibrations[0]["categories"], abs=1e-3)
