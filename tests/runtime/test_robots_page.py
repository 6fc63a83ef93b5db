"""The example of docs/robots.md: what a robot does on a verdict, and without one."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from safevlm_runtime import Runtime
from safevlm_training.documents import examples

PAGE = (Path(__file__).parents[2] / "docs" / "robots.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pictures():
    found = {name: np.asarray(sample.image.convert("RGB")) for name, sample in examples()}
    return found["scene_hills"], found["id_card"]


@pytest.fixture
def policy(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "robot.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def example():
    """What the page defines."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(block, "robots.md", "exec"), names)
    return names


@pytest.fixture
def eyes(example):
    """Makes an eye, and ends its thread."""
    made = []

    def make(runtime, robot, deadline):
        example["DEADLINE"] = deadline
        made.append(example["Eye"](runtime, robot))
        return made[-1]

    yield make
    for eye in made:
        eye.thread.shutdown()


class Robot:
    def __init__(self):
        self.did = []

    def hold(self, why):
        self.did.append(f"hold: {why}")

    def withdraw(self, verdict):
        self.did.append("withdraw")

    def skip(self, verdict):
        self.did.append("skip")

    def ask(self, pixels):
        self.did.append("ask")


def test_risky_frames_go_to_no_model_and_k_of_n_of_them_are_acted_upon(eyes, policy, pictures):
    harmless, card = pictures
    robot = Robot()
    with Runtime.starter(policy=policy) as runtime:
        eye = eyes(runtime, robot, 60)
        for pixels in (harmless, card, card, card, harmless, harmless, harmless):
            eye.see(pixels)
    assert robot.did == ["ask", "skip", "skip", "withdraw", "withdraw", "withdraw", "ask"]


def test_a_gate_that_failed_holds_and_claims_no_risk(eyes, policy, pictures):
    robot = Robot()
    runtime = Runtime.starter(policy=policy)
    eye = eyes(runtime, robot, 60)
    eye.see(np.zeros((4, 4, 3), np.float32))
    runtime.close()
    eye.see(pictures[0])
    assert robot.did == ["hold: image_input", "hold: engine_failed"]


def test_a_late_verdict_holds_and_frames_are_dropped_meanwhile(eyes, pictures):
    class Slow:
        """Judges when it is let."""

        def __init__(self):
            self.seen, self.let = 0, threading.Event()

        def watch(self, source):
            return self

        def check_frame(self, pixels):
            self.seen += 1
            self.let.wait(30)

    robot, slow = Robot(), Slow()
    eye = eyes(slow, robot, 0.01)
    eye.see(pictures[0])
    eye.see(pictures[0])
    slow.let.set()
    assert robot.did == ["hold: late", "hold: late"]
    assert slow.seen == 1
