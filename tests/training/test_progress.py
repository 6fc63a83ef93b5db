from __future__ import annotations

import pytest

from safevlm_training.progress import Progress

LINE = "epoch 1/3  " + "[loss] 0.5  " * 20


def test_a_log_gets_plain_lines_and_no_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    progress = Progress()
    assert list(progress.over([1, 2, 3], "epoch 1")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
    progress.say(LINE)
    assert capsys.readouterr() == ("", f"{LINE}\n")


def test_a_terminal_gets_both(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = Progress()
    assert list(progress.over([1, 2, 3], "epoch 1")) == [1, 2, 3]
    assert "epoch 1" in capsys.readouterr().err
    progress.say(LINE)
    assert LINE in capsys.readouterr().err


def test_silence_when_nothing_is_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = Progress(False)
    assert list(progress.over([1], "epoch 1")) == [1]
    progress.say(LINE)
    assert capsys.readouterr() == ("", "")
