"""A dozen fixed pictures for demonstrations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from .capture import Shot
from .generate import draw, level_of
from .kinds import POSITIVES
from .scenes import draw_scene
from .streams import stream
from .surfaces import surface
from .values import Assets, Sample
from .warp import place, pose

SIZE = (900, 600)
SHOWN = (
    ("bank_card", 8), ("id_card", 9), ("driving_licence", 12), ("passport", 3), ("loyalty_card", 5),
    ("business_card", 5), ("game_card", 1), ("book_cover", 8), ("receipt", 3), ("slide", 8),
)  # fmt: skip
PLAIN = (("scene_hills", "hills", 13), ("scene_room", "room", 15))


def examples() -> Iterator[tuple[str, Sample]]:
    """Yield twelve named samples, 900 × 600, always the same."""
    for kind, number in SHOWN:
        rng = stream("example", kind, number)
        art, group = draw(rng, kind, Assets(), 1200)
        frame = surface(rng, SIZE)
        ratio = art.image.width / art.image.height
        covers = 0.5 if ratio >= 1 else 0.36
        quad = pose(rng, SIZE, art.image.size, covers, flat=True, spill=False)
        place(rng, frame, art, quad + 0.8 * (np.array(SIZE) / 2 - quad.mean(0)))
        private = kind in POSITIVES
        shot = Shot(image=frame, mode="photo", area=covers)
        level = level_of(kind, shot) if private else 0
        category = "privacy" if private else "safe"
        yield kind, Sample(image=frame, category=category, level=level, kind=kind, group=group, parts=art.parts)
    for name, scene, number in PLAIN:
        picture: Image.Image = draw_scene(stream("example", scene, number), scene, SIZE)
        yield name, Sample(image=picture, category="safe", level=0, kind="scene", group=f"scene/{scene}", parts={})
