"""Pictures of icons: labels by a table, twins that differ in one icon, the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import safevlm_training.icons as icons_package
from safevlm_sdk.errors import DataError
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.data import Example, Labels
from safevlm_training.documents.streams import stream
from safevlm_training.icons import IconAssets, generate, read_icons
from safevlm_training.icons.__main__ import main
from safevlm_training.icons.generate import choose_icons
from safevlm_training.icons.glyphs import ink_over, inked, one_colour
from safevlm_training.icons.layouts import layout, layout_for
from safevlm_training.icons.table import LABELS, read_labels
from safevlm_training.readers import read_jsonl

TABLE = """icon\tlabel\treason
blade.png\trisky\tblade
bomb.png\trisky\texplosive
cup.png\tharmless\tkitchenware
ball.png\tharmless\tsport
axe.png\tunused\ta tool or a weapon
"""


@pytest.fixture
def icons(tmp_path):
    """A family in colour and one of silhouettes, and icons that nobody may show."""
    for family, colour in (("colour", (200, 30, 30)), ("line", (0, 0, 0))):
        folder = tmp_path / "icons" / family
        folder.mkdir(parents=True)
        for number, name in enumerate(("blade", "bomb", "cup", "ball", "axe", "unnamed")):
            icon = Image.new("RGBA", (64, 64))
            pen = ImageDraw.Draw(icon)
            pen.regular_polygon((32, 32, 28), 3 + number, fill=(*colour, 255))
            if family == "colour":
                pen.rectangle([26, 26, 38, 38], fill=(20, 200, 90, 255))
            icon.save(folder / f"{name}.png")
    table = tmp_path / "labels.tsv"
    table.write_text(TABLE, encoding="utf-8")
    return tmp_path / "icons", table


@pytest.fixture
def assets(icons):
    return IconAssets(icons=read_icons(*icons))


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_table_decides_which_icons_are_used_and_what_they_are(icons):
    found = read_icons(*icons)
    assert [(icon.name, icon.risky) for icon in found if icon.family == "line"] == [
        ("line/ball", False),
        ("line/blade", True),
        ("line/bomb", True),
        ("line/cup", False),
    ]
    assert {icon.path.stem for icon in found} == {"ball", "blade", "bomb", "cup"}


def test_a_sample_depends_on_seed_and_index_alone(assets):
    first, again, other = (generate(seed, 2, assets=assets) for seed in (4, 4, 5))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.parts == again.parts
    assert first.image.tobytes() != other.image.tobytes()


def test_of_five_samples_two_are_risky_and_two_are_their_twins(assets):
    usual = load_taxonomy().categories["illegal_risk"].usual_level
    for index in range(0, 30, 5):
        samples = [generate(1, index + place, assets=assets) for place in range(5)]
        assert [sample.category for sample in samples] == ["illegal_risk", "safe", "illegal_risk", "safe", "safe"]
        assert [sample.level for sample in samples] == [usual, 0, usual, 0, 0]
        assert samples[4].kind == "scene"
        assert "icons" not in samples[4].parts
        for risky, twin in (samples[:2], samples[2:4]):
            assert_twins(risky, twin)


def assert_twins(risky, twin):
    assert risky.image.size == twin.image.size
    assert risky.image.tobytes() != twin.image.tobytes()
    assert {key: value for key, value in risky.parts.items() if key != "icons"} == {
        key: value for key, value in twin.parts.items() if key != "icons"
    }
    shown, instead = risky.parts["icons"].split(), twin.parts["icons"].split()
    assert sum(one != other for one, other in zip(shown, instead, strict=True)) == 1
    assert {name.split("/")[0] for name in shown + instead} == {risky.parts["icons"].split("/")[0]}
    dangerous = {"blade", "bomb"}
    assert sum(name.split("/")[1] in dangerous for name in shown) == 1
    assert not any(name.split("/")[1] in dangerous for name in instead)


def test_a_sample_is_grouped_by_the_icon_that_decides_its_label(assets):
    sample = generate(1, 0, assets=assets)
    risky = [name for name in sample.parts["icons"].split() if name.split("/")[1] in ("blade", "bomb")]
    assert [f"icon/{name}" for name in risky] == [sample.group]


def test_the_splits_share_no_layout():
    train, held_out = (
        {layout_for(stream("test", number), split).number for number in range(400)} for split in ("train", "held-out")
    )
    assert train
    assert held_out
    assert not train & held_out
    assert {layout(number).style for number in range(120)} == {"open", "tile", "sticker", "grid", "sheet"}
    assert {layout(number).icons for number in range(120)} == {1, 2, 3}


def test_every_family_is_shown(assets):
    rng = stream("families")
    shown = {choose_icons(rng, assets.icons, 1, risky=True)[0][0].family for _ in range(40)}
    assert shown == {"colour", "line"}


def test_a_silhouette_takes_a_colour_that_can_be_told_from_the_ground(icons):
    line, colour = (Image.open(icons[0] / family / "blade.png") for family in ("line", "colour"))
    assert one_colour(line)
    assert not one_colour(colour)
    for ground in ((0, 0, 0), (128, 128, 128), (255, 255, 255)):
        ink = ink_over(stream("ink", ground[0]), ground)
        assert abs(np.dot(ink, (0.3, 0.59, 0.11)) - ground[0]) >= 60
        assert inked(line, ink).getpixel((32, 32)) == (*ink, 255)


def test_training_reads_every_row_of_the_manifest(tmp_path, icons, capsys):
    out = tmp_path / "out"
    assert main([str(out), "--icons", str(icons[0]), "--labels", str(icons[1]), "--count", "10", "--seed", "3"]) == 0
    assert "10 pictures" in capsys.readouterr().out
    written = rows(out / "manifest.jsonl")
    labels = Labels(taxonomy=load_taxonomy(), covered=("illegal_risk",))
    read = list(read_jsonl(out / "manifest.jsonl", "icons", labels))
    assert [type(row) for row in read] == [Example] * 10
    assert [(row.category, row.level, row.group) for row in read] == [
        (row["category"], row["level"], row["group"]) for row in written
    ]
    assert [part["image"] for part in rows(out / "parts.jsonl")] == [row["image"] for row in written]


def test_the_command_writes_the_same_bytes_again(tmp_path, icons):
    for name in ("one", "two"):
        arguments = ["--icons", str(icons[0]), "--labels", str(icons[1]), "--count", "6", "--split", "held-out"]
        assert main([str(tmp_path / name), *arguments]) == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert len(one) == 9


def test_licences_of_icons_and_backgrounds_are_recorded(tmp_path, icons):
    (icons[0] / "LICENSES.tsv").write_text(
        "file\tpackage\tlicence\nline/cup.png\tmy-icons 1.0\tCC-BY-3.0\n", encoding="utf-8"
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30), (20, 200, 40)).save(photos / "a.png")
    (photos / "LICENSE").write_text("Some Licence\n", encoding="utf-8")
    arguments = ["--icons", str(icons[0]), "--labels", str(icons[1]), "--count", "2", "--backgrounds", str(photos)]
    assert main([str(tmp_path / "out"), *arguments]) == 0
    listed = json.loads((tmp_path / "out" / "assets.json").read_text(encoding="utf-8"))
    licences = {entry["file"]: entry["licence"] for entry in listed["icons"]}
    assert licences["icons/line/cup.png"] == "CC-BY-3.0"
    assert licences["icons/line/blade.png"] == "unknown"
    assert len(licences) == 8
    assert [entry["licence"] for entry in listed["backgrounds"]] == ["LICENSE: Some Licence"]
    assert listed["labels"]["file"] == "labels.tsv"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("name\tlabel\n", "must name the columns icon, label, reason"),
        ("icon\tlabel\treason\na.png\trisky\n", "labels.tsv:2"),
        ("icon\tlabel\treason\na.png\tdoubtful\tblade\n", "none of risky, harmless, unused"),
        ("icon\tlabel\treason\na.png\trisky\tx\na.png\tunused\tx\n", "a.png is named twice"),
        ("icon\tlabel\treason\na.png\trisky\tx\n", "no family has both"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(icons, table, complaint):
    icons[1].write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        read_icons(*icons)


def test_the_command_says_what_is_wrong(tmp_path, icons, capsys):
    assert main([str(tmp_path / "out"), "--icons", str(icons[0]), "--labels", str(tmp_path / "none.tsv")]) == 1
    assert "none.tsv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--icons", str(icons[0]), "--labels", str(icons[1]), "--count", "-1"])


def test_the_table_of_the_project_is_valid_and_judges_weapons():
    labels = read_labels(Path(icons_package.__file__).parent / "labels.tsv")
    assert {label for label, _ in labels.values()} == set(LABELS)
    assert {reason for label, reason in labels.values() if label == "risky"} == {"blade", "explosive", "firearm"}
    assert labels["1f4a3.png"] == ("risky", "explosive")
    assert labels["1f52a.png"][0] == "unused"
