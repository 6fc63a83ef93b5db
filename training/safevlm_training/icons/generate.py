"""One sample from a seed and an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.taxonomy import SAFE, load_taxonomy
from safevlm_training.documents.capture import shoot, shoot_scene
from safevlm_training.documents.generate import frame_size, photograph
from safevlm_training.documents.palette import hsv
from safevlm_training.documents.scenes import SCENES, draw_scene
from safevlm_training.documents.streams import chance, pick, stream
from safevlm_training.documents.surfaces import Size, surface
from safevlm_training.documents.values import Artwork, Sample

from .compose import compose
from .glyphs import cut_out
from .layouts import Layout, layout_for
from .values import RISK, Icon, IconAssets

ROUND = 5
"""Samples of a round: a risky one and its twin, twice, and a picture without icons."""

SHEET = 560
LEAST = 0.35
"""Smallest fraction of a picture that a sheet of icons fills."""


def generate(seed: int, index: int, *, assets: IconAssets) -> Sample:
    """Make the sample that belongs to a seed and an index, whatever was made before.

    Of each five, the first and third show a risky icon, perhaps among harmless ones; the second and fourth are their
    twins, the same picture with a harmless icon in its place; the fifth shows none.

    Raises:
        ValueError: The seed or the index is negative.
        OSError: An icon or a background of `assets` cannot be read.
    """
    if seed < 0 or index < 0:
        raise ValueError(
            f"seed and index count from 0, found seed {seed} and index {index}; pass non-negative integers"
        )
    turn, place = divmod(index, ROUND)
    if place == ROUND - 1:
        return _plain(stream("icon scene", assets.split, seed, turn), assets)
    pair = (assets.split, seed, turn, place // 2)
    plan = layout_for(stream("icon layout of", *pair), assets.split)
    chooser = stream("icon choice", *pair)
    shown, spot = choose_icons(chooser, assets.icons, plan.icons, risky=place % 2 == 0)
    return _shown(stream("icon picture", *pair), plan, shown, spot, assets)


def choose_icons(
    rng: np.random.Generator, icons: Sequence[Icon], count: int, *, risky: bool
) -> tuple[tuple[Icon, ...], int]:
    """Choose icons of one family and say which decides the label; the others are harmless and the same either way.

    A family is chosen by the square root of how many risky icons it has; then a kind of object, then an icon of it.
    """
    families = sorted({icon.family for icon in icons})
    weights = np.sqrt([sum(icon.risky and icon.family == family for icon in icons) for family in families])
    family = families[int(rng.choice(len(families), p=weights / weights.sum()))]
    chances = rng.random(2)
    others = [_one(rng.random(2), icons, family, risky=False) for _ in range(count - 1)]
    spot = int(rng.integers(count))
    main = _one(chances, icons, family, risky=risky)
    return (*others[:spot], main, *others[spot:]), spot


def _one(chances: NDArray[np.float64], icons: Sequence[Icon], family: str, *, risky: bool) -> Icon:
    fitting = [icon for icon in icons if icon.family == family and icon.risky == risky]
    reasons = sorted({icon.reason for icon in fitting})
    reason = reasons[int(chances[0] * len(reasons))]
    same = [icon for icon in fitting if icon.reason == reason]
    return same[int(chances[1] * len(same))]


def _shown(rng: np.random.Generator, plan: Layout, icons: Sequence[Icon], spot: int, assets: IconAssets) -> Sample:
    glyphs = [cut_out(icon.path) for icon in icons]
    size = frame_size(rng)
    ground, named = _ground(rng, size, assets.backgrounds, plain=1.0 if plan.style == "grid" else 0.3)
    if plan.style == "sheet":
        paper = Image.new("RGB", _sheet_size(plan), hsv(rng.random(), rng.choice([0.02, 0.3]), rng.uniform(0.8, 1)))
        sheet = Artwork(image=compose(rng, plan, glyphs, paper), least=LEAST)
        shot = shoot(rng, sheet, (), ground)
    else:
        shot = shoot_scene(rng, compose(rng, plan, glyphs, ground))
    main = icons[spot]
    return Sample(
        image=shot.image,
        category=RISK if main.risky else SAFE,
        level=load_taxonomy().categories[RISK].usual_level if main.risky else 0,
        kind=f"{main.family}-{main.reason}",
        group=f"icon/{main.name}",
        parts={
            "icons": " ".join(icon.name for icon in icons),
            "layout": f"{plan.number}-{plan.style}",
            "background": named,
            "capture": shot.mode,
        },
    )


def _sheet_size(plan: Layout) -> Size:
    columns, rows = plan.cells
    longest = max(columns, rows)
    return max(SHEET * columns // longest, SHEET // 2), max(SHEET * rows // longest, SHEET // 2)


def _ground(
    rng: np.random.Generator, size: Size, backgrounds: Sequence[Path], *, plain: float
) -> tuple[Image.Image, str]:
    """Choose a plain colour this often, else a photograph, a surface or a drawn scene."""
    if chance(rng, plain):
        return Image.new("RGB", size, hsv(rng.random(), rng.choice([0.0, 0.5]), rng.uniform(0.1, 1))), "plain"
    if backgrounds and chance(rng, 0.6):
        path = backgrounds[int(rng.integers(len(backgrounds)))]
        return photograph(rng, path, size), f"{path.parent.name}/{path.stem}"
    if chance(rng, 0.5):
        return surface(rng, size), "surface"
    scene = pick(rng, SCENES)
    return draw_scene(rng, scene, size), scene


def _plain(rng: np.random.Generator, assets: IconAssets) -> Sample:
    """Make a picture without icons; a photograph if there are some."""
    picture, named = _ground(rng, frame_size(rng), assets.backgrounds, plain=0.0)
    shot = shoot_scene(rng, picture)
    return Sample(
        image=shot.image,
        category=SAFE,
        level=0,
        kind="scene",
        group=f"icon-scene/{named}",
        parts={"background": named, "capture": shot.mode},
    )
