"""The report of an audit counts what is there, runs and loads nothing, and shows no picture that it should not."""

from __future__ import annotations

import base64
import io
import os
from html.parser import HTMLParser

import pytest
from PIL import Image

from safevlm_runtime.audit.record import read_record
from safevlm_runtime.audit.report import read_rows, write_report
from safevlm_runtime.audit.thumbnails import MOST, SIDE
from safevlm_sdk.errors import AuditError

LOADING = {"script", "link", "iframe", "object", "embed", "form", "video", "audio", "base"}


class Page(HTMLParser):
    """The tags of a page and the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.rows, self.in_cell = text, [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data

    def all(self, wanted):
        return [attrs for tag, attrs in self.tags if tag == wanted]


def page_of(folder, **options):
    write_report(folder, **options)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def finished(images, audited, tmp_path):
    return audited(images, tmp_path / "out")


def test_it_counts_what_the_rows_say(finished):
    rows = list(read_rows(finished / "verdicts.jsonl"))
    page = page_of(finished)
    assert f"Audit of {len(rows)} images" in page.text
    for action in ("allow", "caution", "block"):
        assert f"{sum(row.action.value == action for row in rows)} {action}</b>" in page.text
    flagged = [row for row in rows if row.error is None and row.action.value != "allow"]
    privacy = sum(row.category == "privacy" for row in flagged)
    assert ["privacy", "0", str(privacy), "0", str(privacy), f"{100 * privacy / len(rows):.3g} %"] in page.rows
    more = [row for row in rows if row.source == "more"]
    assert ["more", str(len(more))] in [row[:2] for row in page.rows]
    assert ["image_corrupt", "1"] in page.rows
    assert ["image_empty", "1"] in page.rows
    assert ["files that are no images", "1"] in page.rows
    assert f"{sum(row.duplicate_of is not None for row in rows)} of {len(rows)} entries hold" in page.text


def test_it_says_what_was_looked_for_and_under_what(finished):
    text = page_of(finished).text
    record = read_record(finished)
    assert set(record.covered) == {"privacy", "illegal_risk"}
    assert f"Looked for: <b>{', '.join(record.covered)}</b>. Nothing else was looked for." in text
    for digest in (*record.bundle_digests, *record.policy_digests):
        assert digest in text
    assert "None was asked: no image was compared with a list of known ones." in text


def test_it_runs_and_loads_nothing(finished):
    page = page_of(finished, thumbnails=True)
    assert not LOADING & {tag for tag, _ in page.tags}
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "http" not in page.text.replace("http-equiv", "")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on") or name == "href"]
    assert "prefers-color-scheme: dark" in page.text


def test_names_cannot_become_markup(tmp_path, audited, encoded):
    folder = tmp_path / "images" / "<script>alert(1)</script>"
    folder.mkdir(parents=True)
    (folder / "'\"><img src=x onerror=alert(2)>\u202egnp.png").write_bytes(encoded(0, 0, 250))
    page = page_of(audited(tmp_path / "images", tmp_path / "out"), thumbnails=True)
    assert not page.all("script")
    assert [attrs["src"][:23] for attrs in page.all("img")] == ["data:image/jpeg;base64,"]
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert "\u202e" not in page.text
    assert any("<img src=x onerror=alert(2)>" in cell for row in page.rows for cell in row)


def test_no_picture_is_shown_unless_asked_for(finished):
    page = page_of(finished)
    assert not page.all("img")
    assert "No picture is shown: thumbnails were not asked for." in page.text


def test_thumbnails_are_small_blurred_and_made_anew(tmp_path, audited):
    picture = Image.new("RGB", (600, 300), (0, 0, 250))
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images" / "photo.jpg", exif=exif)
    page = page_of(audited(tmp_path / "images", tmp_path / "out"), thumbnails=True)
    [shown] = page.all("img")
    data = base64.b64decode(shown["src"].partition(",")[2])
    assert b"a secret" not in data
    with Image.open(io.BytesIO(data)) as thumbnail:
        assert thumbnail.size == (SIDE, SIDE // 2)
        assert not thumbnail.getexif()
    # A checkbox is what makes it sharp: it takes a click, and the space bar where it has the focus.
    assert [attrs["type"] for attrs in page.all("input")] == ["checkbox"]
    assert ".thumb img { display: block; filter: blur(" in page.text
    assert ".thumb input:checked + img { filter: none; }" in page.text
    assert [attrs["aria-label"] for attrs in page.all("input")] == ["show the picture of photo.jpg"]


def test_a_source_whose_path_is_no_text_is_found_again_for_thumbnails(tmp_path, audited, encoded):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, "0.png"), "wb") as file:
        file.write(encoded(0, 0, 250))
    assert len(page_of(audited(folder, tmp_path / "out"), thumbnails=True).all("img")) == 1


def test_of_copies_one_picture_is_shown_and_of_allowed_and_failed_images_none(finished):
    rows = list(read_rows(finished / "verdicts.jsonl"))
    flagged = {row.path for row in rows if row.action.value != "allow" and row.error is None and not row.duplicate_of}
    page = page_of(finished, thumbnails=True)
    assert {attrs["aria-label"].removeprefix("show the picture of ") for attrs in page.all("input")} == flagged
    assert len(page.all("img")) == len(flagged) < len(rows)


def test_pictures_are_capped(tmp_path, audited, encoded):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(MOST + 5):
        (folder / f"{number:03}.png").write_bytes(encoded(0, 0, 250, mark=number))
    page = page_of(audited(folder, tmp_path / "out"), thumbnails=True)
    assert len(page.all("img")) == MOST


def test_what_the_hook_named_is_never_shown(images, audited, tmp_path, monkeypatch):
    (tmp_path / "report_hook.py").write_text("def known(digest, data):\n    return 'listed <b>'\n")
    monkeypatch.syspath_prepend(tmp_path)
    page = page_of(audited(images, tmp_path / "out", hash_hook="report_hook:known"), thumbnails=True)
    assert not page.all("img")
    assert "listed &lt;b&gt;" in page.text
    assert "is never shown here" in page.text


def test_an_image_that_has_changed_since_has_no_picture(finished, images, encoded):
    (images / "003.png").write_bytes(encoded(0, 250, 0))
    (images / "007.png").unlink()
    labels = [attrs["aria-label"] for attrs in page_of(finished, thumbnails=True).all("input")]
    assert labels
    assert not {"show the picture of 003.png", "show the picture of 007.png"} & set(labels)


def test_an_unfinished_audit_has_no_report(tmp_path):
    with pytest.raises(AuditError, match="holds no finished audit"):
        write_report(tmp_path)


def test_a_line_that_is_no_row_is_named(finished):
    with (finished / "verdicts.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(AuditError, match=r"verdicts\.jsonl: line \d+ is no row"):
        write_report(finished)
