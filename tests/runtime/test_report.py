"""The HTML report shows what was judged, and nothing of it can run as code."""

from __future__ import annotations

import base64
import io
import os
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.report import render_report, write_report
from safevlm_sdk.errors import OptionError
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import decode
from safevlm_sdk.report_style import html_page
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict


def verdict_on(path, **changes):
    parts = {
        "action": Action.BLOCK,
        "category": "privacy",
        "level": RiskLevel.HIGH,
        "score": 0.75,
        "categories": {"privacy": 0.75},
        "covered": ("privacy",),
        "uncovered": ("fairness",),
        "error": None,
        "reason": "privacy 0.750 >= 0.500",
        "timings_ms": {"decode": 1.0, "total": 2.0},
        "provider": "CPUExecutionProvider",
        "source_sha256": None,
        "raster_sha256": as_judged(path).frames[0].sha256 if path.is_file() else None,
        "bundle_digests": (),
        "policy_digests": (),
        "attention": np.eye(4, dtype=np.float32) / 4,
    }
    return Verdict(**(parts | changes))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (80, 60), (10, 200, 30)).save(path)
    return path


def as_judged(path):
    return decode(path, max_side=64)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_it_shows_the_picture_and_the_heatmap(picture, tmp_path):
    out = tmp_path / "report.html"
    write_report(out, [picture], [verdict_on(picture)], as_judged)
    page = out.read_text(encoding="utf-8")
    sources = [attrs["src"] for tag, attrs in tags(page) if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/") for source in sources)
    assert "1 blocked" in page
    assert "fairness, which no loaded bundle covers" in page


def test_the_heatmap_of_a_tile_lies_over_that_tile_alone(picture):
    verdict = verdict_on(picture, region=(32, 24, 64, 48), attention=np.full((4, 4), 1 / 16, np.float32))
    page = render_report([picture], [verdict], as_judged)
    heat = next(attrs["src"] for tag, attrs in tags(page) if attrs.get("class") == "heat")
    with Image.open(io.BytesIO(base64.b64decode(heat.partition(",")[2]))) as overlay:
        alpha = np.asarray(overlay)[..., 3]
    assert alpha.shape == (48, 64)
    assert alpha[24:, 32:].min() == 128
    assert alpha[:24].max() == alpha[:, :32].max() == 0


def test_it_loads_nothing_from_elsewhere(picture):
    for tag, attrs in tags(render_report([picture], [verdict_on(picture)], as_judged)):
        assert tag not in ("script", "link", "iframe")
        assert not attrs.get("src", "data:").startswith("http")


def test_a_file_that_changed_since_is_not_shown(picture):
    verdict = verdict_on(picture)
    Image.new("RGB", (80, 60), (1, 2, 3)).save(picture)
    page = render_report([picture], [verdict], as_judged)
    assert "img" not in [tag for tag, _ in tags(page)]
    assert "has changed since" in page


def test_a_failed_gate_is_called_that(tmp_path):
    failed = {"category": None, "level": None, "score": None, "categories": {}, "attention": None}
    absent = tmp_path / "absent.png"
    page = render_report([absent], [verdict_on(absent, **failed, error="image_not_found", provider=None)], as_judged)
    assert "gate failed: image_not_found" in page
    assert "1 of them because the gate failed" in page


def test_the_page_has_the_frame_of_every_page(picture):
    page = render_report([picture], [verdict_on(picture)], as_judged)
    body = page.partition("<body>\n")[2].removesuffix("\n</body>\n</html>\n")
    assert page == html_page("SafeVLM: verdicts", body, images=True)
    plain = html_page("<a> & b", "<p>c</p>", style="p { margin: 0; }")
    assert "<title>&lt;a&gt; &amp; b</title>\n<style>p { margin: 0; }</style>" in plain
    assert "img-src" in page
    assert "img-src" not in plain
    for one in (page, plain):
        assert "default-src 'none';" in one


def test_a_file_name_is_text(tmp_path):
    path = tmp_path / "<script>alert(1)<"
    Image.new("RGB", (80, 60)).save(path, format="PNG")
    assert "script" not in [tag for tag, _ in tags(render_report([path], [verdict_on(path)], as_judged))]


@pytest.mark.parametrize("name", ["photo.png", "report.txt", "absent/report.html", "folder.html"])
def test_a_report_never_takes_the_place_of_something_else(picture, name):
    (picture.parent / "folder.html").mkdir()
    before = picture.read_bytes()
    with pytest.raises(OptionError, match="the report"):
        write_report(picture.parent / name, [picture], [verdict_on(picture)], as_judged)
    assert picture.read_bytes() == before


def test_a_file_name_that_is_no_text(picture):
    path = picture.parent / os.fsdecode(b"\xff\xfe.png")
    picture.rename(path)
    out = picture.parent / "report.html"
    write_report(out, [path], [verdict_on(path)], as_judged)
    assert "udcff" in out.read_text(encoding="utf-8")
