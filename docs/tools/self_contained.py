"""Refuses a site that loads anything from elsewhere: scripts, styles, fonts, pictures.

    python docs/tools/self_contained.py build/site

What a page loads by itself is looked at; links that a reader may follow are not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

FOREIGN = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", re.IGNORECASE)
LOADS = {"src", "srcset", "poster", "data", "xlink:href"}
LINKS_THAT_LOAD_NOTHING = {"canonical", "next", "prev", "alternate"}


class _Page(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        values = {name: value or "" for name, value in attrs}
        self.loaded += [value for name, value in values.items() if name in LOADS]
        self.loaded += IN_STYLE.findall(values.get("style", ""))
        if tag == "link" and values.get("rel") not in LINKS_THAT_LOAD_NOTHING:
            self.loaded.append(values.get("href", ""))
        if "mermaid" in values.get("class", "").split():
            self.loaded.append("//the theme loads mermaid's script from elsewhere")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += IN_STYLE.findall(data)


def foreign(site: Path) -> Iterator[str]:
    """What pages and styles of a site load from elsewhere, as `file: address`."""
    for file in sorted(site.rglob("*")):
        if file.suffix not in (".html", ".css", ".svg"):
            continue
        text = file.read_text(encoding="utf-8")
        page = _Page()
        page.feed(text)
        loaded = IN_STYLE.findall(text) if file.suffix == ".css" else page.loaded
        yield from (f"{file.relative_to(site)}: {address}" for address in loaded if FOREIGN.match(address))


def main() -> None:
    """Checks the site that is named."""
    (site,) = sys.argv[1:]
    found = list(foreign(Path(site)))
    if found:
        sys.exit("\n".join([f"{site} loads from elsewhere, which it must not:", *found]))


if __name__ == "__main__":
    main()
