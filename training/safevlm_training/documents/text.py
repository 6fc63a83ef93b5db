"""Typefaces, scripts and invented words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import ImageFont

from .scripts import SCRIPTS, sample_of
from .streams import chance, pick

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

HANDS = ("hand", "script", "italic", "oblique")
ONSETS = (*"bdfghjkmnprstvzltsr", "br", "dr", "gr", "kl", "st", "tr", "pl")
VOWELS = (*"aaeeiioou", "ai", "ea")
CODAS = ("", "", "", "l", "n", "r", "s", "nd", "rk", "th", "m", "x")
NATIVE = 0x370
"""The first letter that a document's own script may hold; what lies below is Latin."""


@dataclass(frozen=True, slots=True)
class Face:
    """A typeface for Latin and one for the document's script; None stands for Pillow's own."""

    latin: Path | None
    native: Path | None

    def runs(self, text: str) -> list[tuple[Path | None, str]]:
        """Divide a text into pieces that one file can write."""
        pieces = groupby(text, lambda letter: ord(letter) >= NATIVE and not 0x2000 <= ord(letter) < 0x2100)
        return [(self.native if native else self.latin, "".join(letters)) for native, letters in pieces]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """The typefaces of one document."""

    body: Face
    bold: Face
    mono: Face
    hand: Face
    script: str

    @property
    def name(self) -> str:
        """Name the body face for a manifest, and the face of the script where there is one."""
        files = (self.body.latin, self.body.native) if self.script != "latin" else (self.body.latin,)
        return " + ".join(file.stem if file else "pillow-default" for file in files)


@lru_cache(maxsize=512)
def font_at(face: Path | None, size: int) -> Font:
    """Load a face at a size in pixels; the last few hundred stay loaded."""
    if face is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)


def line_width(runs: Sequence[tuple[Path | None, str]], size: int) -> float:
    """Measure pieces of text at a size, both in pixels."""
    return float(sum(font_at(file, size).getlength(piece) for file, piece in runs))


@lru_cache(maxsize=16384)
def writes(face: Path | None, script: str) -> bool:
    """Tell whether a face has its own glyphs for a script."""
    if face is None:
        return script == "latin"
    font = font_at(face, 24)
    blank = bytes(font.getmask("\U0010fffe"))
    return all(bytes(font.getmask(letter)) not in (blank, b"") for letter in sample_of(script))


def choose_faces(rng: np.random.Generator, fonts: Sequence[Path]) -> Faces:
    """Choose a document's faces and a script that one of the files can write; two of five use another than Latin."""
    files = [font for font in fonts if writes(font, "latin")]
    body = _one(rng, files, lambda name: "mono" not in name or chance(rng, 0.2))
    bold = _one(rng, files, lambda name: "bold" in name or "black" in name)
    mono = _one(rng, files, lambda name: "mono" in name or "code" in name or "typewriter" in name)
    hand = _one(rng, files, lambda name: any(part in name for part in HANDS))
    script, native, heavy = "latin", None, None
    others = [other for other in SCRIPTS[1:] if any(writes(font, other) for font in fonts)]
    if others and chance(rng, 0.4):
        script = pick(rng, tuple(others))
        able = [font for font in fonts if writes(font, script)]
        native = _one(rng, able, lambda name: "bold" not in name)
        heavy = _one(rng, able, lambda name: "bold" in name)
    return Faces(
        body=Face(body, native),
        bold=Face(bold, heavy),
        mono=Face(mono, native),
        hand=Face(hand, native),
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
