"""Every kind of source gives its images by name, in one order, and their bytes in any process."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections import Counter

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from safevlm_runtime.audit import open_source
from safevlm_runtime.audit.item import Unusable
from safevlm_runtime.audit.reader import Reader
from safevlm_sdk.errors import AuditSourceError, ItemUnusable, SafeVLMError
from safevlm_sdk.raster import Limits


def read_all(path, **options):
    """{name: bytes, or the error's code}, of references that went through pickle."""
    reader, found = Reader(Limits()), {}
    source = open_source(str(path), **options)
    items = list(source.items())
    assert items == list(source.items()) == list(open_source(str(path), **options).items())
    for item in items:
        assert item.name not in found
        json.dumps(item.name, ensure_ascii=False).encode("utf-8")
        try:
            found[item.name] = reader.read(pickle.loads(pickle.dumps(item)))
        except SafeVLMError as problem:
            found[item.name] = problem.code
    reader.close()
    return found


def sources_of(path):
    return [item.source for item in open_source(str(path)).items()]


@pytest.fixture
def pictures(encoded):
    return [encoded(0, 250, 0, mark=number) for number in range(7)]


def test_a_folder(tmp_path, pictures):
    for name in ("b/2.png", "b/1.JPG", "a.webp", "c/d/e.png", "c/picture", ".hidden.gif", "old.bmp"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures[0])
    (tmp_path / "set" / "notes.txt").write_text("PNG")
    os.mkfifo(tmp_path / "set" / "pipe")
    (tmp_path / "set" / "linked.png").symlink_to(tmp_path / "set" / "a.webp")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    found = read_all(tmp_path / "set")
    assert list(found) == [
        ".hidden.gif", "a.webp", "b/1.JPG", "b/2.png", "c/d/e.png", "c/picture", "linked.png", "old.bmp",
    ]  # fmt: skip
    assert set(found.values()) == {pictures[0]}
    assert sources_of(tmp_path / "set") == [".", ".", "b", "b", "c/d", "c", ".", "."]
    passed_over = Counter()
    list(open_source(str(tmp_path / "set")).items(passed_over))
    assert passed_over == {"files that are no images": 2, "links to folders": 1}


def test_names_that_are_no_text_or_hold_newlines(tmp_path, pictures):
    folder = os.fsencode(tmp_path / "set")
    os.mkdir(folder)
    for name in (
        b"caf\xe9.png",
        "café.png".encode(),
        b"two\nlines.png",
        b"back\\slash.png",
        b"back\\xe9.png",
        b'"{.png',
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(pictures[0])
    found = read_all(tmp_path / "set")
    assert set(found) == {
        r"caf\xe9.png", "café.png", "two\nlines.png", r"back\\slash.png", r"back\\xe9.png", '"{.png',
    }  # fmt: skip
    assert set(found.values()) == {pictures[0]}


def test_a_file_that_nobody_can_look_into_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").write_bytes(b"whatever")
    (tmp_path / "open").write_bytes(b"no image")
    opened = os.open

    def open_but_closed(path, flags, *rest):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_but_closed)
    assert read_all(tmp_path) == {"closed": "image_unreadable"}


def test_a_folder_that_vanishes_is_a_row(tmp_path, pictures):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(pictures[0])
    items = open_source(str(tmp_path / "set")).items()
    assert next(items).name == "a/1.png"
    shutil.rmtree(tmp_path / "set" / "b")
    (rest,) = items
    assert (rest.name, rest.source) == ("b/", "b")
    assert isinstance(rest.reference, Unusable)


def test_folders_deep_within_one_another(tmp_path, pictures):
    folder = str(tmp_path / "set")
    os.mkdir(folder)
    folders = [folder := f"{folder}/d" for _ in range(1200)]
    for folder in folders:
        os.mkdir(folder)
    with open(f"{folder}/1.png", "wb") as file:
        file.write(pictures[0])
    try:
        (item,) = open_source(str(tmp_path / "set")).items()
        assert item.name == "d/" * 1200 + "1.png"
    finally:  # pytest's own way to remove it is recursive
        os.unlink(f"{folder}/1.png")
        for folder in reversed(folders):
            os.rmdir(folder)


def test_json_lines(tmp_path, pictures):
    (tmp_path / "images").mkdir()
    for number, data in enumerate(pictures):
        (tmp_path / "images" / f"{number}.png").write_bytes(data)
    lines = [
        b'{"image": "images/0.png", "source": "camera", "caption": "other keys are their owner\'s"}',
        b'{"path": "images/1.png"}',
        json.dumps({"image": str(tmp_path / "images" / "2.png")}).encode(),
        b"",
        b'{"image": "images/0.png"}',
        b"{not json",
        b'["images/0.png"]',
        b'{"image": ["images/0.png"]}',
        b'{"image": "https://example.com/cat.png"}',
        b'{"image": "data:image/png;base64,AAAA"}',
        b'{"image": "images/missing.png"}',
        b'{"image": "images/\\ud800.png", "source": "\\udfff"}',
        b"\xff\xfe",
        b'{"image": "images/0.png", "deep": ' + b"[" * 100_000,
        b'{"image": "' + b"a" * 2**24 + b'"}',
        b'{"image": "images"}',
        b'{"image": "images/6.png"}',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    found = read_all(tmp_path / "rows.jsonl")
    absolute = str(tmp_path / "images" / "2.png").replace("\\", "\\\\")
    assert found == {
        "images/0.png#1": pictures[0],
        "images/1.png#2": pictures[1],
        f"{absolute}#3": pictures[2],
        "images/0.png#5": pictures[0],
        "#6": "item_unusable",
        "#7": "item_unusable",
        "#8": "item_unusable",
        "https://example.com/cat.png#9": "item_unusable",
        "data:image/png;base64,AAAA#10": "item_unusable",
        "images/missing.png#11": "image_not_found",
        r"images/\ud800.png#12": "image_not_found",
        "#13": "item_unusable",
        "#14": "item_unusable",
        "#15": "item_unusable",
        "images#16": "image_not_a_file",
        "images/6.png#17": pictures[6],
    }
    assert sources_of(tmp_path / "rows.jsonl")[:2] == ["camera", "rows.jsonl"]


def test_tar_shards(tmp_path, pictures, tar):
    for shard in range(3):
        members = [("unnamed", pictures[0]), ("long/" * 30 + "x.png", pictures[1])]
        for number, data in enumerate(pictures):
            members += [(f"{number:05}.png", data), (f"{number:05}.json", b"{}")]
        tar(tmp_path / f"shard-{shard:03}.tar", members)
    found = read_all(tmp_path / "shard-{000..002}.tar")
    assert list(found)[:2] == ["shard-000.tar#unnamed", "shard-000.tar#" + "long/" * 30 + "x.png"]
    assert len(found) == 27
    assert found == read_all(tmp_path)
    assert found["shard-002.tar#00006.png"] == pictures[6]
    assert found["shard-001.tar#unnamed"] == pictures[0]
    with pytest.raises(AuditSourceError, match=r"2 of 5 files are not there, the first is .*shard-003\.tar"):
        open_source(str(tmp_path / "shard-{000..004}.tar"))


def test_a_shard_that_is_cut_keeps_what_comes_before_and_the_other_shards(tmp_path, pictures, tar):
    tar(tmp_path / "a.tar", [(f"{number}.png", data) for number, data in enumerate(pictures)])
    tar(tmp_path / "b.tar", [("0.png", pictures[0])])
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: 512 * 5])
    found = read_all(tmp_path)
    assert found["a.tar#0.png"] == pictures[0]
    assert found["a.tar#"] == "item_unusable"
    assert found["b.tar#0.png"] == pictures[0]
    assert found["c.tar#"] == "item_unusable"


def test_parquet(tmp_path, pictures):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [{"bytes": data, "path": "x.png"} for data in pictures]
    column = pa.array([*cells, None, {"bytes": None, "path": "/etc/passwd"}], kind)
    (tmp_path / "data").mkdir()
    for part in range(2):
        table = pa.table({"caption": pa.array(["c"] * 9), "image": column})
        pq.write_table(table, tmp_path / "data" / f"part-{part}.parquet", row_group_size=4)
    (tmp_path / "data" / "part-2.parquet").write_bytes(b"PAR1 no more PAR1")
    (tmp_path / "README.md").write_text("a data set")
    found = read_all(tmp_path)
    assert list(found)[:2] == ["data/part-0.parquet#0", "data/part-0.parquet#1"]
    for part in range(2):
        assert [found[f"data/part-{part}.parquet#{row}"] for row in range(9)] == [
            *pictures, "item_unusable", "item_unusable",
        ]  # fmt: skip
    assert found["data/part-2.parquet#"] == "item_unusable"
    assert read_all(tmp_path / "data" / "part-1.parquet")["part-1.parquet#6"] == pictures[6]


def test_which_column_holds_the_images(tmp_path, pictures):
    binary = pa.array(pictures, pa.large_binary())
    pq.write_table(pa.table({"left": binary, "right": binary, "n": pa.array(range(7))}), tmp_path / "two.parquet")
    with pytest.raises(AuditSourceError, match="left, right; name one with --column"):
        open_source(str(tmp_path / "two.parquet"))
    assert read_all(tmp_path / "two.parquet", column="right")["two.parquet#3"] == pictures[3]
    with pytest.raises(AuditSourceError, match="no column 'n' holds images; these could: left, right"):
        open_source(str(tmp_path / "two.parquet"), column="n")
    pq.write_table(pa.table({"n": pa.array(range(7))}), tmp_path / "none.parquet")
    with pytest.raises(AuditSourceError, match="there are: n"):
        open_source(str(tmp_path / "none.parquet"))


def test_a_data_set_that_hugging_face_saved(tmp_path, pictures):
    images = [Image.open(io.BytesIO(data)) for data in pictures]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    one = datasets.Dataset.from_dict({"image": images, "label": list(range(7))}, features=features)
    one.save_to_disk(str(tmp_path / "one"), num_shards=2)
    found = read_all(tmp_path / "one")
    assert next(iter(found)) == "data-00000-of-00002.arrow#0"
    assert [Image.open(io.BytesIO(data)).getpixel((0, 0))[0] for data in found.values()] == list(range(7))
    datasets.DatasetDict({"train": one, "test": one.select([6, 2])}).save_to_disk(str(tmp_path / "two"))
    found = read_all(tmp_path / "two")
    assert next(iter(found)) == "train/data-00000-of-00001.arrow#0"
    assert [Image.open(io.BytesIO(data)).getpixel((0, 0))[0] for data in list(found.values())[-2:]] == [6, 2]
    (tmp_path / "one" / "data-00000-of-00002.arrow").write_bytes(b"\xff\xff\xff\xff" + b"\0" * 64)
    found = read_all(tmp_path / "one")
    assert next(iter(found.values())) == "item_unusable"
    assert len(found) == 4
    (tmp_path / "one" / "state.json").write_text('{"_data_files": [{"filename": "../two/train/state.json"}]}')
    with pytest.raises(AuditSourceError, match="which is no file or folder beside it"):
        open_source(str(tmp_path / "one"))


def test_what_is_no_source_is_refused(tmp_path, pictures, tar):
    for name, message in (
        ("missing", "is not there"),
        ("a.png", "is one image"),
        ("a.tar.gz", "unpack what is comp"),
    ):
        if name != "missing":
            (tmp_path / name).write_bytes(pictures[0])
        with pytest.raises(AuditSourceError, match=message):
            open_source(str(tmp_path / name))
    (tmp_path / "a.tar.gz").unlink()
    tar(tmp_path / "b.tar", [("0.png", pictures[0])])
    with pytest.raises(AuditSourceError, match=r"more than one kind of source: folder \(a\.png\), tar \(b\.tar\)"):
        open_source(str(tmp_path))
    assert list(read_all(tmp_path, kind="folder")) == ["a.png"]
    assert list(read_all(tmp_path, kind="tar")) == ["b.tar#0.png"]


def test_what_is_neither_file_nor_folder_nor_of_the_kind_is_refused(tmp_path, pictures, tar):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "0.png").write_bytes(pictures[0])
    for number in range(2):
        (tmp_path / f"rows-{number}.jsonl").write_text('{"image": "0.png"}')
    (tmp_path / "tars").mkdir()
    tar(tmp_path / "tars" / "a.tar", [("0.png", pictures[0])])
    for name, kind, message in (
        ("pipe", None, "is neither a file nor a folder"),
        ("tars", "jsonl", "is a folder; give the file of JSON lines"),
        ("rows-{0..1}.jsonl", None, "means 2 files; audit each"),
        ("rows-0.jsonl", "folder", "is no folder, and cannot be read as folder"),
    ):
        with pytest.raises(AuditSourceError, match=message):
            open_source(str(tmp_path / name), kind=kind)
    assert read_all(tmp_path / "rows-{1..1}.jsonl") == {"0.png#1": pictures[0]}


def test_what_is_too_large_or_gone_is_not_read(tmp_path, pictures, tar):
    tar(tmp_path / "a.tar", [("0.png", pictures[0]), ("1.png", pictures[1])])
    pq.write_table(pa.table({"image": pa.array(pictures[:2])}), tmp_path / "a.parquet")
    small = Reader(Limits(max_bytes=50))
    for name in ("a.tar", "a.parquet"):
        with pytest.raises(SafeVLMError, match="bytes; up to 50 are read"):
            small.read(next(open_source(str(tmp_path / name)).items()))
    items = list(open_source(str(tmp_path / "a.tar")).items()), list(open_source(str(tmp_path / "a.parquet")).items())
    os.truncate(tmp_path / "a.tar", 1024)
    with pytest.raises(SafeVLMError, match="the archive ends after"):
        Reader(Limits()).read(items[0][1])
    pq.write_table(pa.table({"image": pa.array(pictures[:1])}), tmp_path / "a.parquet")
    with pytest.raises(ItemUnusable, match="do not change the data set"):
        Reader(Limits()).read(items[1][1])
