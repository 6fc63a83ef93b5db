"""Every item gets one row, however often an audit is interrupted."""

from __future__ import annotations

import json
import os
import random
import shutil

import pyarrow.parquet
import pytest
from PIL import Image

from safevlm_runtime.audit import Watching, read_record, row_of
from safevlm_runtime.audit.journal import Journal
from safevlm_sdk.actions import Action
from safevlm_sdk.errors import AuditBusy, AuditError, AuditMismatch, AuditStopped
from safevlm_sdk.policy import parse_policy


def lines_of(out):
    return (out / "verdicts.jsonl").read_bytes()


def rows_of(out):
    return {row.path: row for row in map(row_of, lines_of(out).splitlines())}


def test_every_image_has_one_row_in_the_order_of_the_source(images, audited, tmp_path):
    rows = rows_of(audited(images, tmp_path / "out"))
    assert list(rows) == [
        *(f"{number:03}.png" for number in range(1, 40, 2)),
        "cut.png", "empty.jpg", "gone.png",
        *(f"more/{number:03}.png" for number in range(0, 40, 2)),
        "named_otherwise.dat",
    ]  # fmt: skip
    assert rows["more/002.png"].action is Action.BLOCK
    assert (rows["more/002.png"].category, rows["more/002.png"].level) == ("illegal_risk", 3)
    assert rows["003.png"].category == "privacy"
    assert rows["001.png"].action is Action.ALLOW
    assert {row.source for row in rows.values()} == {".", "more"}
    assert rows["named_otherwise.dat"].action is Action.BLOCK


def test_what_is_broken_is_a_row_and_ends_nothing(images, audited, tmp_path):
    Image.new("1", (11_000, 11_000)).save(images / "bomb.png")
    os.mkfifo(images / "pipe.png")
    (images / "large.png").write_bytes(b"")
    os.truncate(images / "large.png", 10 * 2**20 + 1)
    rows = rows_of(audited(images, tmp_path / "out"))
    found = {name: row.error for name, row in rows.items() if row.error is not None}
    assert found == {
        "bomb.png": "image_too_many_pixels",
        "cut.png": "image_corrupt",
        "empty.jpg": "image_empty",
        "gone.png": "image_not_found",
        "large.png": "image_too_large",
        "pipe.png": "image_not_a_file",
    }
    assert len(rows) == 47
    for name in found:
        row = rows[name]
        assert (row.action, row.category, row.level, row.score) == (Action.BLOCK, None, None, None)
    assert rows["cut.png"].sha256 is not None
    assert rows["gone.png"].sha256 is None


def test_copies_have_the_verdict_of_the_first(images, audited, tmp_path):
    rows = rows_of(audited(images, tmp_path / "out"))
    copies = {name: row.duplicate_of for name, row in rows.items() if row.duplicate_of is not None}
    assert copies == {
        "025.png": "005.png", "035.png": "015.png", "more/000.png": "005.png", "more/020.png": "005.png",
        "more/030.png": "more/010.png",
    }  # fmt: skip
    for name, first in copies.items():
        assert rows[first].duplicate_of is None
        assert (rows[name].sha256, rows[name].score) == (rows[first].sha256, rows[first].score)


@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_rows_do_not_depend_on_how_many_work(images, audited, tmp_path, jobs):
    assert lines_of(audited(images, tmp_path / "one", jobs=1)) == lines_of(
        audited(images, tmp_path / "many", jobs=jobs)
    )


def test_an_audit_that_stops_goes_on_to_the_same_bytes(images, audited, tmp_path):
    whole, out = lines_of(audited(images, tmp_path / "whole")), tmp_path / "out"
    for stops in range(1, 4):
        told = []
        with pytest.raises(AuditStopped, match="run the same command again"):
            audited(images, out, watching=Watching(done=told.append, stop=lambda told=told: len(told) > 5))
        assert len(lines_of(out).splitlines()) == told[-1]
        assert whole.startswith(lines_of(out)), stops
        assert read_record(out).finished is None
    assert lines_of(audited(images, out)) == whole
    assert not (out / ".hashes.sqlite").exists()


def test_a_journal_cut_anywhere_is_gone_on_with(images, audited, tmp_path):
    out = audited(images, tmp_path / "out")
    whole, record = lines_of(out), json.loads((out / "audit.json").read_bytes())
    rng = random.Random(0)
    for size in [0, 1, len(whole) - 1, len(whole), *(rng.randrange(len(whole)) for _ in range(16))]:
        (out / "verdicts.jsonl").write_bytes(whole[:size])
        (out / "audit.json").write_text(
            json.dumps(record | {"finished": None}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        )
        assert lines_of(audited(images, out)) == whole
    assert read_record(out).finished.rows == whole.count(b"\n")


def test_a_finished_audit_is_left_alone(images, audited, tmp_path):
    out = audited(images, tmp_path / "out")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    shutil.rmtree(images / "more")  # a finished audit does not look at its source again
    audited(images, out)
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert set(before) == {"audit.json", "verdicts.jsonl", "verdicts.parquet"}
    (out / "verdicts.jsonl").write_bytes(b"".join(lines_of(out).splitlines(keepends=True)[1:]))
    with pytest.raises(AuditError, match="it was changed"):
        audited(images, out)


def stopped(audited, images, out):
    told = []
    with pytest.raises(AuditStopped):
        audited(images, out, watching=Watching(done=told.append, stop=lambda: len(told) > 30))
    return out


def test_a_source_that_changed_is_refused(images, audited, tmp_path):
    out = stopped(audited, images, tmp_path / "out")
    (images / "000.png").write_bytes(b"new")
    kept = lines_of(out)
    with pytest.raises(AuditMismatch, match=r"line 1 is of '001\.png', where the source now has '000\.png'"):
        audited(images, out)
    (images / "000.png").unlink()
    for name in ("more", "cut.png"):
        (images / name).rename(tmp_path / name)
    with pytest.raises(AuditMismatch, match="line 21 "):
        audited(images, out)
    assert lines_of(out) == kept


def test_another_policy_bundle_or_source_is_refused(images, audited, maker, tmp_path):
    out = stopped(audited, images, tmp_path / "out")
    policy = parse_policy(maker.policy.replace(b'medium = "block"', b'medium = "caution"', 1), where="test")
    with pytest.raises(AuditMismatch, match="another policy: sha256:"):
        audited(images, out, policy=policy)
    maker.name = "others"
    with pytest.raises(AuditMismatch, match="another bundle: sha256:"):
        audited(images, out, bundles=(str(maker.write(tmp_path / "other")),))
    with pytest.raises(AuditMismatch, match="another source: folder "):
        audited(images / "more", out)
    audited(images, out)


def test_two_do_not_write_one_audit(images, audited, tmp_path):
    with Journal(tmp_path / "out"), pytest.raises(AuditBusy, match="another process writes it"):
        audited(images, tmp_path / "out")
    audited(images, tmp_path / "out")


def test_where_nothing_can_be_written_is_said_at_once(images, audited, tmp_path):
    with pytest.raises(AuditError, match="lies within the source"):
        audited(images, images / "out")
    assert not (images / "out").exists()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(AuditError, match=r"cannot be written \(.*directory\)"):
        audited(images, tmp_path / "file" / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "verdicts.jsonl").write_text("{}\n")
    with pytest.raises(AuditError, match=r"no audit\.json"):
        audited(images, tmp_path / "other")


def test_a_source_is_not_written_over(images, audited, tmp_path):
    data = [(images / f"{number:03}.png").read_bytes() for number in (1, 3)]
    path = tmp_path / "verdicts.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": data}), path)
    before = path.read_bytes()
    with pytest.raises(AuditError, match="would be written over"):
        audited(path, tmp_path)
    assert path.read_bytes() == before
    audited(path, tmp_path / "out")


def test_parquet_says_what_the_lines_say(images, audited, tmp_path):
    out = audited(images, tmp_path / "out")
    table = pyarrow.parquet.read_table(out / "verdicts.parquet")
    told = table.to_pylist(maps_as_pydicts="strict")
    assert told == [json.loads(line) for line in lines_of(out).splitlines()]
    judged = [row for row in told if row["error"] is None]
    assert all(set(row["categories"]) == {"illegal_risk", "privacy"} for row in judged)
    assert [row["categories"] for row in told if row["error"] is not None] == [{}] * (len(told) - len(judged))
    (out / "verdicts.parquet").unlink()
    audited(images, out)
    assert pyarrow.parquet.read_table(out / "verdicts.parquet").equals(table)


def test_the_record_says_under_what_and_how_much(images, audited, bundle, tmp_path):
    (images / "linked").symlink_to(images / "more")
    record = read_record(audited(images, tmp_path / "out"))
    assert record.source.path == str(images)
    assert record.bundle_digests == (json.loads((bundle / "manifest.json").read_bytes())["digest"],)
    assert record.covered == ("illegal_risk", "privacy")
    assert record.finished.rows == record.finished.judged == 44
    assert record.finished.passed_over == {"files that are no images": 1, "links to folders": 1}


def test_what_a_policy_only_observes_is_told(images, audited, maker, tmp_path):
    policy = parse_policy(maker.policy.replace(b'name = "test"', b'name = "test"\nmode = "observe"'), where="test")
    rows = rows_of(audited(images, tmp_path / "out", policy=policy))
    assert rows["more/002.png"].action is Action.BLOCK
    assert rows["cut.png"].action is Action.BLOCK
