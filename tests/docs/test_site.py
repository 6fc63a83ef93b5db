"""The site's sources: every page has its place, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

import safevlm_export
import safevlm_runtime
import safevlm_sdk
import safevlm_training
from safevlm_sdk import errors

ROOT = Path(__file__).resolve().parents[2]
STAGE = runpy.run_path(str(ROOT / "docs" / "tools" / "stage.py"))["stage"]
FOREIGN = runpy.run_path(str(ROOT / "docs" / "tools" / "self_contained.py"))["foreign"]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The staged sources of this repository."""
    out = tmp_path_factory.mktemp("site")
    STAGE(ROOT, out)
    return out


def nav_pages(entries):
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else nav_pages(value)


def test_every_page_stands_in_the_navigation_and_every_entry_is_there(site):
    listed = list(nav_pages(CONFIG["nav"]))
    staged = {path.relative_to(site).as_posix() for path in site.rglob("*.md")}
    assert len(listed) == len(set(listed))
    folders = {path for path in staged if path.endswith("/index.md")}
    assert CONFIG["not_in_nav"].split() == ["*/**/index.md"]
    assert staged - folders == set(listed)


def test_every_link_leads_to_a_file_of_the_site(site):
    count = 0
    for page in site.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path = link.split("#")[0]
            if path and not link.startswith("https://"):
                count += 1
                assert (page.parent / path).is_file(), f"{page.relative_to(site)}: {link}"
    assert count > 100


def test_a_link_out_of_docs_takes_its_target_along(tmp_path):
    root, out = tmp_path / "repository", tmp_path / "out"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "recipes").mkdir()
    (root / "recipes" / "a.toml").write_text("a = 1\n")
    for name in ("CHANGELOG", "CONTRIBUTING"):
        (root / f"{name}.md").write_text("# A\n")
    (root / "SECURITY.md").write_text(
        "[page](docs/deep/page.md#there) [gone](docs/gone.md) [web](https://a.example/b)\n"
    )
    (root / "docs" / "deep" / "page.md").write_text("[s](../../SECURITY.md) [r](../../recipes/) ![p](../p.png)\n")
    (root / "docs" / "p.png").write_bytes(b"p")
    (root / "secret.txt").write_text("nobody links here\n")
    names = {path.as_posix() for path in STAGE(root, out)}
    beside = {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    assert names == beside | {"deep/page.md", "p.png", "recipes/a.toml", "recipes/index.md"}
    links = "[page](deep/page.md#there) [gone](docs/gone.md) [web](https://a.example/b)\n"
    assert (out / "SECURITY.md").read_text() == links
    assert (out / "deep" / "page.md").read_text() == "[s](../SECURITY.md) [r](../recipes/index.md) ![p](../p.png)\n"
    assert "- [a.toml](a.toml)\n" in (out / "recipes" / "index.md").read_text()


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://a.example/s.js"></script>',
        '<img src="//a.example/i.png">',
        '<link rel="stylesheet" href="https://a.example/s.css">',
        '<link rel="preconnect" href="https://a.example">',
        "<style>@import 'https://a.example/s.css';</style>",
        '<p style="background: url(https://a.example/i.png)">',
        '<pre class="mermaid">',
    ],
)
def test_what_comes_from_elsewhere_is_found(tmp_path, page):
    (tmp_path / "page.html").write_text(page)
    assert len(list(FOREIGN(tmp_path))) == 1


def test_links_to_follow_and_own_files_are_fine(tmp_path):
    page = '<a href="https://a.example/">a</a><img src="i.png"><link rel="canonical" href="https://b.example/">'
    (tmp_path / "page.html").write_text(f"{page}<p>url(https://a.example/)</p>")
    (tmp_path / "style.css").write_text("a { background: url('data:image/svg+xml;charset=utf-8,<svg/>') }")
    assert list(FOREIGN(tmp_path)) == []
    (tmp_path / "style.css").write_text("a { background: url(https://a.example/i.png) }")
    assert list(FOREIGN(tmp_path)) == ["style.css: https://a.example/i.png"]


def test_the_theme_asks_nobody():
    assert CONFIG["theme"]["font"] is False
    assert not {"repo_url", "extra_javascript", "extra_css"} & set(CONFIG)
    assert CONFIG["plugins"][0] == "search"


def test_what_the_questions_page_counts_is_what_the_starter_s_page_counts():
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("faq.md", "starter.md")]
    asked, counted = (set(re.findall(r"\d+ of \d+", " ".join(page.split()))) for page in pages)
    assert len(asked) == 3
    assert asked <= counted


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}
    packages = (safevlm_sdk, safevlm_runtime, safevlm_training, safevlm_export)
    public = {name for package in packages for name in package.__all__}
    assert public - shown == {"SafeVLMError", "__version__"}, "the first is on the page of errors"
    assert "members: [SafeVLMError]" in (REFERENCE / "errors.md").read_text(encoding="utf-8")
    assert "└── ExportError" in errors.__doc__
