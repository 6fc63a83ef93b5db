"""The hash hook is asked before anything else touches an image, and fails closed."""

from __future__ import annotations

import hashlib
import sys
from enum import Enum
from types import ModuleType

import numpy as np
import pytest

from safevlm_runtime.audit import row_of
from safevlm_runtime.audit.hook import load_hook
from safevlm_sdk.actions import Action
from safevlm_sdk.errors import OptionError


@pytest.fixture
def hook(monkeypatch):
    """A module `operators_hook`; its `answer` is what it says, `asked` what it was asked for."""
    module = ModuleType("operators_hook")
    module.asked, module.answer = [], lambda sha256, data: None

    def look(sha256, data):
        module.asked.append((sha256, data))
        return module.answer(sha256, data)

    module.look = look
    module.no_function = "a text"
    monkeypatch.setitem(sys.modules, "operators_hook", module)
    return module


def rows_of(out):
    return {row.path: row for row in map(row_of, (out / "verdicts.jsonl").read_bytes().splitlines())}


def test_a_named_image_is_blocked_and_never_decoded(images, audited, hook, tmp_path, monkeypatch):
    known = (images / "001.png").read_bytes()
    hook.answer = lambda sha256, data: "known set 1" if data == known else None
    (images / "cut.png").write_bytes(known)
    decoded = []
    from safevlm_sdk.raster import decode

    monkeypatch.setattr(
        "safevlm_runtime.judging.checker.decode", lambda data, **rest: decoded.append(data) or decode(data, **rest)
    )
    rows = rows_of(audited(images, tmp_path / "out", hash_hook="operators_hook:look"))
    for name, copy_of in (("001.png", None), ("cut.png", "001.png")):
        row = rows[name]
        assert (row.action, row.hook, row.reason) == (Action.BLOCK, "known set 1", "hook: known set 1")
        assert (row.category, row.level, row.score, row.error) == (None, None, None, None)
        assert row.duplicate_of == copy_of
    assert decoded
    assert known not in decoded
    assert rows["005.png"].hook is None
    for sha256, data in hook.asked:
        assert sha256 == hashlib.sha256(data).hexdigest()
    assert {data for _, data in hook.asked} == {
        path.read_bytes() for path in images.rglob("*.*") if path.is_file()
    } - {
        b"",
        b"no image",
    }


def test_broken_bytes_are_asked_for_before_anything_is_parsed(images, audited, hook, tmp_path):
    hook.answer = lambda sha256, data: "broken but known" if not data.endswith(b"IEND\xaeB`\x82") else None
    row = rows_of(audited(images, tmp_path / "out", hash_hook="operators_hook:look"))["cut.png"]
    assert (row.hook, row.error) == ("broken but known", None)


@pytest.mark.parametrize("answer", ["", 1, "x" * 81, "two\nlines", b"bytes"])
def test_a_hook_that_fails_blocks_by_name(images, audited, hook, tmp_path, answer):
    hook.answer = lambda sha256, data: answer
    row = rows_of(audited(images, tmp_path / "out", hash_hook="operators_hook:look"))["001.png"]
    assert (row.action, row.error, row.hook) == (Action.BLOCK, "hash_hook_failed", None)
    assert "1 to 80 printable characters" in row.reason


def test_what_a_hook_raises_is_not_quoted(images, audited, hook, tmp_path):
    def fail(sha256, data):
        raise KeyError("a secret")

    hook.answer = fail
    out = audited(images, tmp_path / "out", hash_hook="operators_hook:look")
    row = rows_of(out)["001.png"]
    assert (row.action, row.error) == (Action.BLOCK, "hash_hook_failed")
    assert "KeyError" in row.reason
    assert "secret" not in (out / "verdicts.jsonl").read_text()


def test_a_hook_that_ends_the_process_does_not_end_it(images, audited, hook, tmp_path, monkeypatch):
    hook.answer = lambda sha256, data: sys.exit(0)
    row = rows_of(audited(images, tmp_path / "out", hash_hook="operators_hook:look"))["001.png"]
    assert (row.action, row.error) == (Action.BLOCK, "hash_hook_failed")
    assert "SystemExit" in row.reason
    (tmp_path / "a_script.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match="cannot be imported: SystemExit"):
        load_hook("a_script:look")


class Label(str, Enum):
    KNOWN = "known"


@pytest.mark.parametrize("label", [Label.KNOWN, np.str_("known")])
def test_a_label_of_another_kind_of_text_is_its_text(images, audited, hook, tmp_path, label):
    hook.answer = lambda sha256, data: label
    row = rows_of(audited(images, tmp_path / "out", hash_hook="operators_hook:look"))["001.png"]
    assert (row.hook, row.reason) == ("known", "hook: known")


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_hook_is_asked_once_for_copies_beside_one_another(encoded, audited, hook, tmp_path, jobs):
    (tmp_path / "set").mkdir()
    for number in range(40):
        (tmp_path / "set" / f"{number:02}.png").write_bytes(encoded(0, 250, 0, mark=number // 10))
    rows = rows_of(audited(tmp_path / "set", tmp_path / "out", jobs=jobs, hash_hook="operators_hook:look"))
    assert len(hook.asked) == 4
    assert [name for name, row in rows.items() if row.duplicate_of is None] == [
        "00.png",
        "10.png",
        "20.png",
        "30.png",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("operators_hook", "give it as module:function"),
        ("operators_hook:", "give it as module:function"),
        ("not_installed_anywhere:look", "put its folder on PYTHONPATH"),
        ("operators_hook:look_up", "look_up"),
        ("operators_hook:no_function", "is a str; name a function"),
    ],
)
def test_a_hook_that_is_not_there_is_said_at_once(hook, name, message):
    with pytest.raises(OptionError, match=message):
        load_hook(name)
