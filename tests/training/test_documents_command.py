"""The command that writes generated documents: manifests that training reads, errors that say what to do."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image

from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_sdk.version import __version__
from safevlm_training.data import Example, Labels
from safevlm_training.documents.__main__ import main
from safevlm_training.documents.arguments import PICTURES, files_below, whole_from
from safevlm_training.icons.__main__ import main as draw_icons
from safevlm_training.readers import read_jsonl


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_command_writes_a_manifest_whose_rows_resolve(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(out), "--count", "12", "--seed", "7", "--split", "held-out"]) == 0
    assert "12 pictures" in capsys.readouterr().out
    written = rows(out / "manifest.jsonl")
    assert len(written) == 12
    assert [part["image"] for part in rows(out / "parts.jsonl")] == [row["image"] for row in written]
    for row in written:
        assert row.keys() == {"image", "category", "level", "group", "source"}
        assert row["source"] == f"generated/{row['image'].split('-')[1].removesuffix('.jpg')}"
        assert isinstance(row["level"], int)
        with Image.open(out / row["image"]) as picture:
            picture.load()
    assert len(list(out.glob("*.jpg"))) == len({row["image"] for row in written}) == 12


def test_training_reads_every_row_of_the_manifest(tmp_path):
    assert main([str(tmp_path), "--count", "8", "--seed", "1"]) == 0
    labels = Labels(taxonomy=load_taxonomy(), covered=("privacy",))
    read = list(read_jsonl(tmp_path / "manifest.jsonl", "generated", labels))
    assert [type(row) for row in read] == [Example] * 8
    written = rows(tmp_path / "manifest.jsonl")
    assert [(row.category, row.level, row.group) for row in read] == [
        (row["category"], row["level"], row["group"]) for row in written
    ]
    assert {row.category for row in read} == {"privacy", "safe"}


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "out"), "--fonts", str(tmp_path)]) == 1
    assert "file found under" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--count", "0"])


def test_both_commands_take_the_same_material_and_numbers(tmp_path, capsys):
    for name in ("b/2.PNG", "b/1.jpg", "a/notes.txt", "a/3.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files_below([tmp_path / "b", tmp_path / "a"], PICTURES)
    assert [path.name for path in found] == ["1.jpg", "2.PNG", "3.webp"]
    with pytest.raises(FileNotFoundError, match=r"no \.ttf file found under"):
        files_below([tmp_path], (".ttf",))
    assert whole_from(1)("3") == 3
    for command, rest in ((main, []), (draw_icons, ["--icons", str(tmp_path), "--labels", str(tmp_path)])):
        with pytest.raises(SystemExit):
            command([str(tmp_path / "out"), *rest, "--seed", "-1"])
        assert "starts at 0, found -1" in capsys.readouterr().err


def test_any_number_of_processes_writes_the_same_bytes(tmp_path):
    for jobs in ("1", "2"):
        assert main([str(tmp_path / jobs), "--count", "6", "--seed", "3", "--jobs", jobs]) == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / jobs).iterdir()} for jobs in ("1", "2"))
    assert one == two
    assert len(one) == 9


def test_the_sources_are_listed_with_hashes_and_licences(tmp_path):
    photos = tmp_path / "photos" / "test"
    (photos / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png", "c.png"):
        Image.new("RGB", (40, 30), (20, 200, 40)).save(photos / name)
    (tmp_path / "photos" / "LICENSE").write_text("\nSome Licence\nVersion 2\n", encoding="utf-8")
    (photos / "LICENSES.tsv").write_text("file\tpackage\tlicence\na.png\tmine\tCC0-1.0\n", encoding="utf-8")
    arguments = ["--count", "1", "--seed", "5", "--split", "held-out", "--backgrounds", str(photos)]
    assert main([str(tmp_path / "out"), *arguments]) == 0
    listed = json.loads((tmp_path / "out" / "assets.json").read_text(encoding="utf-8"))
    assert listed["version"] == __version__
    assert (listed["seed"], listed["count"], listed["split"], listed["fonts"]) == (5, 1, "held-out", [])
    found = {entry.pop("file"): entry for entry in listed["backgrounds"]}
    digest = hashlib.sha256((photos / "a.png").read_bytes()).hexdigest()
    assert found["test/a.png"] == {"sha256": digest, "package": "mine", "licence": "CC0-1.0"}
    assert (
        found["test/c.png"]["licence"] == found["test/deep/b.png"]["licence"] == "LICENSE: Some Licence / Version 2"
    )


def test_a_table_of_licences_without_its_columns_is_refused(tmp_path, capsys):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "LICENSES.tsv").write_text("name\tterms\na.png\tCC0\n", encoding="utf-8")
    assert main([str(tmp_path / "out"), "--count", "1", "--backgrounds", str(tmp_path)]) == 1
    assert "lacks the column file, licence, package" in capsys.readouterr().err


def test_leaving_out_kinds_keeps_the_others_as_they_are(tmp_path):
    assert main([str(tmp_path / "all"), "--count", "8", "--seed", "3"]) == 0
    kinds = sorted({path.stem.split("-")[1] for path in (tmp_path / "all").glob("*.jpg")})
    assert main([str(tmp_path / "some"), "--count", "8", "--seed", "3", "--only", kinds[0]]) == 0
    every, some = (
        {path.name: path.read_bytes() for path in (tmp_path / out).glob("*.jpg")} for out in ("all", "some")
    )
    assert some == {name: jpeg for name, jpeg in every.items() if name.endswith(f"-{kinds[0]}.jpg")}
    assert 0 < len(some) < len(every)
