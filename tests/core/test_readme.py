"""Every example in the README runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safevlm_runtime.bundle.reader import starter_path
from safevlm_training.documents import Assets, examples, generate

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """What the examples name: pictures, labelled images, a bundle, a checkpoint, a policy and a recipe."""
    pictures = {name: sample.image for name, sample in examples()}
    pictures["scene_hills"].save(tmp_path / "photo.jpg")
    pictures["bank_card"].save(tmp_path / "card.png")
    (tmp_path / "photos").mkdir()
    for name, picture in pictures.items():
        picture.save(tmp_path / "photos" / f"{name}.jpg")
    shutil.copytree(starter_path(), tmp_path / "bundle")
    shutil.copytree(ROOT / "starter" / "checkpoint", tmp_path / "starter" / "checkpoint")
    for index in range(60):
        sample = generate(5, index, assets=Assets(fonts=(), backgrounds=(), split="train"))
        if sample.category == "safe":
            (tmp_path / "harmless").mkdir(exist_ok=True)
            sample.image.save(tmp_path / "harmless" / f"{index}.jpg")
        place = tmp_path / "images" / sample.category
        place.mkdir(parents=True, exist_ok=True)
        sample.image.save(place / f"{index}.jpg")
    recipe, policy = blocks("toml")
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples(code, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), {})
    assert "looked for" in capsys.readouterr().out


@pytest.mark.parametrize("block", blocks("console"))
def test_commands(block, folder):
    for line in block.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        script = Path(sys.executable).parent / command
        done = subprocess.run([script, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 10), f"{line}: {done.stderr}"


def test_there_are_examples_of_each_kind():
    assert all(blocks(language) for language in ("python", "console", "toml"))


def test_nothing_is_left_to_fill_in():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert "@@" not in page.read_text(encoding="utf-8"), page.name
