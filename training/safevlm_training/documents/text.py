"""Typefaces, scripts and invented words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageFont

from .streams import chance, pick

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

ONSETS = (*"bdfghjkmnprstvzltsr", "br", "dr", "gr", "kl", "st", "tr", "pl")
VOWELS = (*"aaeeiioou", "ai", "ea")
CODAS = ("", "", "", "l", "n", "r", "s", "nd", "rk", "th", "m", "x")
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_FOREIGN = {
    "cyrillic": "абцдефгхийклмнопкрстуввкыз",
    "greek": "αβψδεφγηιξκλμνοπκρστυβωχυζ",
}
SCRIPTS = ("latin", *_FOREIGN)
_TRIED = {"latin": "aRz27<", **{script: letters[::6] for script, letters in _FOREIGN.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """The typefaces of one document; None stands for Pillow's own."""

    body: Path | None
    bold: Path | None
    mono: Path | None
    script: str

    @property
    def name(self) -> str:
        """Name the body face for a manifest."""
        return self.body.stem if self.body else "pillow-default"


@lru_cache(maxsize=512)
def font_at(face: Path | None, size: int) -> Font:
    """Load a face at a size in pixels; the last few hundred stay loaded."""
    if face is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=512)
def writes(face: Path | None, script: str) -> bool:
    """Tell whether a face has its own glyphs for a script."""
    if face is None:
        return script == "latin"
    font = font_at(face, 24)
    blank = bytes(font.getmask("\U0010fffe"))
    return all(bytes(font.getmask(letter)) not in (blank, b"") for letter in _TRIED[script])


def choose_faces(rng: np.random.Generator, fonts: Sequence[Path]) -> Faces:
    """Choose a document's faces and a script that the body face can write; faces without Latin are passed over."""
    fonts = [font for font in fonts if writes(font, "latin")]
    body = _one(rng, fonts, lambda name: "mono" not in name or chance(rng, 0.2))
    script = pick(rng, SCRIPTS) if chance(rng, 0.4) else "latin"
    if not writes(body, script):
        script = "latin"
    bold = _one(rng, fonts, lambda name: "bold" in name or "black" in name)
    return Faces(
        body=body,
        bold=bold if writes(bold, script) else body,
        mono=_one(rng, fonts, lambda name: "mono" in name or "code" in name or "typewriter" in name),
        script=script,
    )


def _one(rng: np.random.Generator, fonts: Sequence[Path], wanted: Callable[[str], bool]) -> Path | None:
    if not fonts:
        return None
    fitting = [font for font in fonts if wanted(font.stem.lower())] or list(fonts)
    return fitting[int(rng.integers(len(fitting)))]


def word(rng: np.random.Generator, syllables: int) -> str:
    """Invent a lower-case word."""
    return "".join(pick(rng, ONSETS) + pick(rng, VOWELS) for _ in range(syllables)) + pick(rng, CODAS)


def name(rng: np.random.Generator) -> str:
    """Invent a capitalised name of two or three syllables."""
    return word(rng, int(rng.integers(1, 4))).capitalize()


def words(rng: np.random.Generator, count: int) -> str:
    """Invent a phrase."""
    return " ".join(word(rng, int(rng.integers(1, 4))) for _ in range(count))


def digits(rng: np.random.Generator, count: int) -> str:
    """Write random digits."""
    return "".join(str(d) for d in rng.integers(0, 10, count))


def in_script(text: str, script: str) -> str:
    """Rewrite Latin letters one for one in another script."""
    if script == "latin":
        return text
    table = dict(zip(_LATIN, _FOREIGN[script], strict=True))
    return "".join(
        table[letter.lower()].upper() if letter.isupper() else table.get(letter, letter) for letter in text
    )
