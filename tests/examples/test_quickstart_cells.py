"""examples/quickstart.py, cell by cell as in a notebook."""

from __future__ import annotations

import pytest


def test_every_cell_runs(cells, capsys):
    names, printed = {}, []
    for kind, text in cells("quickstart.py"):
        if kind == "python":
            exec(compile(text, "quickstart.py", "exec"), names)
            printed.append(capsys.readouterr().out)
    drawn, judged, one, failed, policy = printed
    assert drawn.startswith("12 pictures: bank_card, ")
    assert "looked for ('privacy',)" in judged
    assert one.startswith("caution privacy MEDIUM | privacy 0.9")
    assert "@" in one
    assert failed.startswith("block | the gate failed, and found no risk: image_format | the bytes are of no known ")
    assert policy.startswith("block | I cannot help with this image.\n")
    assert policy.endswith("'scene_hills', 'scene_room']\n")


@pytest.mark.parametrize("name", ["quickstart.py", "train_a_gate/run.py"])
def test_cells_are_text_and_code_in_turn(cells, name):
    kinds = [kind for kind, _ in cells(name)]
    assert kinds == ["markdown", "python"] * (len(kinds) // 2)
    assert len(kinds) >= 10
    for kind, text in cells(name):
        assert kind == "python" or all(line.startswith("#") for line in text.splitlines() if line)
