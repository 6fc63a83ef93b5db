"""Lays out the sources of the documentation site.

The pages of docs/ link to files beside that folder too, as SECURITY.md, a recipe or a folder of results. So that each
link works in the repository and on the site, this copies the pages and whatever they lead to into one folder, with
the links between them rewritten:

    python docs/tools/stage.py build/docs

A page of docs/ comes to the root of the site; everything else keeps its path. A link to a folder leads to a list of
what lies in it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE_DOCS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # pages of the site that lie at the root
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def place(path: Path, root: Path) -> Path:
    """Where a file or folder of the repository lies on the site, relative to its root."""
    relative = path.relative_to(root)
    if path.is_dir():
        relative /= "index.md"
    return Path(*relative.parts[1:]) if relative.parts[0] == "docs" else relative


def targets(page: Path, text: str, root: Path) -> Iterator[tuple[str, Path]]:
    """What a page links to in the repository, as (link, path)."""
    for link in LINK.findall(text):
        target = Path(os.path.normpath(page.parent / link))
        if target.is_relative_to(root) and target != root and target.exists():
            yield link, target


def rewritten(page: Path, text: str, root: Path) -> str:
    """The page's text with the links of the site."""
    here = place(page, root).parent
    places = ((link, os.path.relpath(place(target, root), here)) for link, target in targets(page, text, root))
    links = {link: Path(relative).as_posix() for link, relative in places}
    return LINK.sub(lambda found: links.get(found[0], found[0]), text)


def listing(folder: Path) -> str:
    """A page for a folder: its files, each a link."""
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    return "\n".join([f"# {folder.name}", "", *(f"- [{name}]({name})" for name in files), ""])


def stage(root: Path, out: Path) -> list[Path]:
    """Writes the sources of the site to `out`, and returns their paths on the site."""
    waiting = [*(root / name for name in BESIDE_DOCS), *sorted((root / "docs").rglob("*.md"))]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        copy = out / place(path, root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            copy.write_text(listing(path), encoding="utf-8")
            waiting.extend(file for file in path.iterdir() if file.is_file())
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            copy.write_text(rewritten(path, text, root), encoding="utf-8")
            waiting.extend(target for _, target in targets(path, text, root))
        else:
            shutil.copyfile(path, copy)
    return sorted(place(path, root) for path in done)


def main() -> None:
    """Stages this repository into the folder that is named."""
    (out,) = (Path(argument) for argument in sys.argv[1:])
    shutil.rmtree(out, ignore_errors=True)
    print(f"{out}: {len(stage(REPOSITORY, out))} files")


if __name__ == "__main__":
    main()
