from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevlm_sdk.errors import DataError
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.data import SPLITS, BadRow, Example, Labels, Turn, check_splits, refuse, write_bad_rows
from safevlm_training.readers import read_folder, read_jsonl, read_sources
from safevlm_training.recipe import Fractions, SourceRecipe
from safevlm_training.splits import assign, draw, without_more_turns

LABELS = Labels(taxonomy=load_taxonomy(), covered=("privacy", "illegal_risk"))
HALVES = {"s": Fractions(train=0.5, validation=0.25, calibration=0.25)}


@pytest.fixture
def touch(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    return make


def jsonl(folder: Path, *lines: str | dict[str, Any] | bytes) -> list[Example | BadRow]:
    raw = [x if isinstance(x, bytes) else (x if isinstance(x, str) else json.dumps(x)).encode() for x in lines]
    (folder / "rows.jsonl").write_bytes(b"\n".join(raw))
    return list(read_jsonl(folder / "rows.jsonl", "s", LABELS))


def example(number: int, **changes: Any) -> Example:
    fields: dict[str, Any] = {"category": "safe", "level": 0, "group": None, "source": "s", "split": None}
    return Example(path=Path(f"{number}.png"), where=f"rows.jsonl:{number}", **fields | changes)


def test_a_folder_tree_is_read(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    for name in (
        "privacy/a.JPG",
        "privacy/3/b.png",
        "privacy/low/c.webp",
        "safe/d.gif",
        "safe/none/e.jpeg",
        ".git/x",
    ):
        touch(name)
    found = {row.path.name: row for row in read_folder(tmp_path, "s", LABELS) if isinstance(row, Example)}
    levels = {name: (row.category, row.level) for name, row in found.items()}
    assert levels == {
        "a.JPG": ("privacy", 2),
        "b.png": ("privacy", 3),
        "c.webp": ("privacy", 1),
        "d.gif": ("safe", 0),
        "e.jpeg": ("safe", 0),
    }


def test_a_folder_of_one_category_may_be_any_tree(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    for name in ("a.jpg", "shirts/b.jpg", "trousers/blue/c.jpg"):
        touch(name)
    found = list(read_folder(tmp_path, "s", LABELS, category="safe"))
    assert [(row.path.name, row.category, row.level) for row in found if isinstance(row, Example)] == [
        ("a.jpg", "safe", 0),
        ("b.jpg", "safe", 0),
        ("c.jpg", "safe", 0),
    ]


def test_every_stray_file_of_a_folder_is_named(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    bad = {
        "loose.png": "does not lie in",
        "privacy/deep/er/x.png": "does not lie in",
        "privacy/notes.txt": "is no image by its name",
        "privacy/extreme/x.png": "level 'extreme' is none of",
        "privacy/7/x.png": "out of range",
        "privacy/0/x.png": "only `safe` has level 0",
        "safe/2/x.png": "only `safe` has level 0",
        "fairness/x.png": "is not in [model.coverage]",
        "cats/x.png": "is not in taxonomy 'safevlm'",
    }
    for name in bad:
        touch(name)
    found = {row.where: row.reason for row in read_folder(tmp_path, "s", LABELS) if isinstance(row, BadRow)}
    assert found.keys() == {str(tmp_path / name) for name in bad}
    for name, reason in bad.items():
        assert reason in found[str(tmp_path / name)]


def test_rows_carry_everything(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    touch("images/a.png")
    row = {"image": "images/a.png", "category": "privacy", "level": "high", "group": "g", "source": "scans"}
    full, plain = jsonl(tmp_path, row | {"split": "train", "meta": {"any": [1]}}, {**row, "level": None}, "", "  ")
    assert full == Example(
        path=tmp_path / "images/a.png",
        category="privacy",
        level=3,
        group="g",
        source="s/scans",
        split="train",
        where=f"{tmp_path / 'rows.jsonl'}:1",
    )
    assert isinstance(plain, Example)
    assert (plain.level, plain.origin) == (2, "s")


BAD = [
    (b"{not json", "Expecting"),
    (b"\xff\xfe", "codec can't decode"),
    ("[1, 2]", "Expected `object`"),
    ("[" * 100_000, "recursion"),
    ({"image": "a.png"}, "missing required field `category`"),
    ({"image": "a.png", "category": "safe", "lable": 1}, "unknown field `lable`"),
    ('{"image": "a.png", "category": "safe", "category": "privacy"}', "appears twice"),
    ({"image": "a.png", "category": "gore"}, "not in taxonomy"),
    ({"image": "a.png", "category": "politics"}, "not in [model.coverage]"),
    ({"image": "a.png", "category": "privacy", "level": 4}, "out of range"),
    ({"image": "a.png", "category": "privacy", "level": -1}, "out of range"),
    ({"image": "a.png", "category": "privacy", "level": 0}, "only `safe` has level 0"),
    ({"image": "a.png", "category": "privacy", "level": True}, "Expected `int | str | null`"),
    ({"image": "a.png", "category": "safe", "level": "low"}, "only `safe` has level 0"),
    ({"image": "a.png", "category": "safe", "split": "test"}, "Invalid enum value 'test'"),
    ({"image": "a.png", "category": "safe", "group": ""}, "`group` is empty"),
    ({"image": "b.png", "category": "safe"}, "there is no image file"),
    ({"image": ".", "category": "safe"}, "there is no image file"),
    ({"image": "a.png\0", "category": "safe"}, "there is no image file"),
]


def test_every_bad_line_is_named_and_every_good_one_kept(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    touch("a.png")
    good = {"image": "a.png", "category": "safe"}
    rows = jsonl(tmp_path, *(line for bad, _ in BAD for line in (bad, good)))
    assert [type(row) for row in rows] == [BadRow, Example] * len(BAD)
    for number, (row, (_, reason)) in enumerate(zip(rows[::2], BAD, strict=True)):
        assert isinstance(row, BadRow)
        assert row.where == f"{tmp_path / 'rows.jsonl'}:{2 * number + 1}"
        assert reason in row.reason


def test_the_message_shows_twenty_and_the_file_all(tmp_path: Path) -> None:
    bad = [BadRow(where=f"rows.jsonl:{n}", reason="bad\nnews") for n in range(1, 34)]
    listed = tmp_path / "new" / "bad_rows.jsonl"
    write_bad_rows(listed, bad)
    with pytest.raises(DataError) as caught:
        refuse(bad, listed)
    assert 'write bad_rows = "skip" at the top of the recipe, above [model]' in str(caught.value)
    assert "33 bad rows" in str(caught.value)
    assert "rows.jsonl:20:" in str(caught.value)
    assert "rows.jsonl:21:" not in str(caught.value)
    assert "and 13 more" in str(caught.value)
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert rows == [{"where": row.where, "reason": row.reason} for row in bad]
    write_bad_rows(listed, [])
    assert not listed.exists()
    refuse([], listed)


def test_sources_are_read_in_order(tmp_path: Path, touch: Callable[[str], Path]) -> None:
    touch("tree/safe/a.png")
    (tmp_path / "rows.jsonl").write_text('{"image": "tree/safe/a.png", "category": "safe"}\nx')
    recipes = [
        SourceRecipe(name="one", kind="folder", path="tree", license="CC0-1.0"),
        SourceRecipe(name="two", kind="jsonl", path="rows.jsonl", license="MIT"),
    ]
    examples, bad = read_sources(recipes, [tmp_path / "tree", tmp_path / "rows.jsonl"], LABELS)
    assert [row.source for row in examples] == ["one", "two"]
    assert len(bad) == 1
    with pytest.raises(DataError, match=r"source 'two': .* cannot be read"):
        read_sources(recipes, [tmp_path / "tree", tmp_path / "gone.jsonl"], LABELS)


rows = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", "c", "d", "e"]), st.integers(0, 12), st.sampled_from([None, None, *SPLITS])
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)
@given(rows, st.integers(0, 5))
def test_groups_and_equal_images_never_straddle(drawn: list[tuple[str | None, int, Any]], seed: int) -> None:
    examples = [example(n, group=group, split=split) for n, (group, _, split) in enumerate(drawn)]
    images = [f"{image:064x}" for _, image, _ in drawn]
    items, bad = assign(examples, images, HALVES, seed)
    assert sorted([item.example.where for item in items] + [row.where for row in bad]) == sorted(
        one.where for one in examples
    )
    for one in items:
        assert one.example.split in (None, one.split)
        for two in items:
            related = one.image == two.image or (
                one.example.group is not None and one.example.group == two.example.group
            )
            assert not related or (one.group, one.split) == (two.group, two.split)


def test_splits_do_not_depend_on_order_or_company() -> None:
    examples = [example(n, group=f"g{n // 3}") for n in range(300)]
    images = [f"{n:064x}" for n in range(300)]
    items, _ = assign(examples, images, HALVES, 0)
    backwards, _ = assign(examples[::-1], images[::-1], HALVES, 0)
    few, _ = assign(examples[30:60], images[30:60], HALVES, 0)
    assert list(backwards[::-1]) == list(items)
    assert list(few) == list(items[30:60])
    shares = [sum(item.split == split for item in items) / 300 for split in SPLITS]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.1)
    other, _ = assign(examples, images, HALVES, 1)
    assert [item.split for item in other] != [item.split for item in items]


def test_a_row_can_move_its_whole_group_and_two_cannot_tear_it() -> None:
    same = ["0" * 64, "1" * 64, "1" * 64]
    chain = [example(1, group="a"), example(2, group="a"), example(3, group="b", split="calibration")]
    items, bad = assign(chain, same, HALVES, 0)
    assert ({item.split for item in items}, bad) == ({"calibration"}, ())
    torn = [*chain[1:], example(1, group="a", split="train")]
    items, bad = assign(torn, [*same[1:], same[0]], HALVES, 0)
    assert items == ()
    assert len(bad) == 3
    assert "calibration and train" in bad[0].reason


def test_one_image_with_two_labels_is_bad() -> None:
    rows = [example(1), example(2, category="privacy", level=2), example(3)]
    items, bad = assign(rows, ["0" * 64, "0" * 64, "1" * 64], HALVES, 0)
    assert [item.example.where for item in items] == ["rows.jsonl:3"]
    assert [row.where for row in bad] == ["rows.jsonl:1", "rows.jsonl:2"]
    assert "labelled privacy 2 and safe 0" in bad[0].reason


def test_what_else_was_said_about_an_image_does_not_count_it_twice() -> None:
    said = (Turn(role="user", text="What?"), Turn(role="assistant", text="A ball."))
    rows = [example(1, turns=said), example(2, turns=said), example(3), example(4)]
    items, _ = assign(rows, ["0" * 64, "0" * 64, "1" * 64, "1" * 64], HALVES, 0)
    assert [item.example.where[-1] for item in without_more_turns(items)] == ["1", "3", "4"]


def test_fractions_of_one_keep_everything_together() -> None:
    only = Fractions(train=0.0, validation=0.0, calibration=1.0)
    assert {draw(f"group:{n}", only, 0) for n in range(200)} == {"calibration"}


def test_missing_categories_are_all_named_before_work_starts() -> None:
    full = [(split, name, "s") for split in SPLITS for name in ("privacy", "illegal_risk", "safe")]
    check_splits(full, LABELS, [()])
    check_splits(full, LABELS, [("s",), ()])
    with pytest.raises(DataError, match="privacy in train; safe in validation"):
        check_splits([x for x in full if x[:2] not in {("train", "privacy"), ("validation", "safe")}], LABELS, [()])
    with pytest.raises(DataError, match="safe in calibration from real"):
        check_splits(full, LABELS, [(), ("real",)])
    with pytest.raises(DataError, match="no example of: privacy in train"):
        check_splits([], LABELS, [()])
