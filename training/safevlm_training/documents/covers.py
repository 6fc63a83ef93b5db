"""What lies over a document in a photograph, and how much of it can still be seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .grounds import gradient
from .palette import hsv, mix
from .portraits import SKINS
from .values import Artwork
from .warp import Points, clipped, place, polygon_area


class Cover:
    """A quarter-size map of what hides the document."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.map = Image.new("L", (size[0] // 4 + 1, size[1] // 4 + 1), 0)

    def add(self, quad: Points) -> None:
        """Mark a polygon as hidden."""
        ImageDraw.Draw(self.map).polygon([tuple(p) for p in (quad / 4).tolist()], fill=255)

    def visible(self, quad: Points) -> float:
        """Measure which fraction of a quadrangle is inside the picture and not hidden."""
        inside = Image.new("L", self.map.size, 0)
        ImageDraw.Draw(inside).polygon([tuple(p) for p in (quad / 4).tolist()], fill=255)
        pixels = np.asarray(inside) > 0
        shown = pixels & (np.asarray(self.map) == 0)
        on_frame = polygon_area(clipped(quad, self.size)) / max(polygon_area(quad), 1e-6)
        return min(on_frame * float(shown.sum()) / max(float(pixels.sum()), 1.0), 1.0)


def cover(
    rng: np.random.Generator, frame: Image.Image, hidden: Cover, quad: Points, others: Sequence[Artwork]
) -> None:
    """Let fingers, a slip of paper or another document hide a part; mostly nothing does."""
    fate = rng.random()
    if fate < 0.2:
        for _ in range(int(rng.integers(1, 3))):
            finger(rng, frame, hidden, quad)
    elif fate < 0.26:
        first, second = hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 1)), (255, 255, 240)
        note = Artwork(image=gradient(48, 48, first, mix(first, second, 0.4), 1.0))
        _corner(rng, frame, hidden, quad, note)
    elif fate < 0.5 and others:
        _corner(rng, frame, hidden, quad, others[0])


def finger(rng: np.random.Generator, frame: Image.Image, hidden: Cover, quad: Points) -> None:
    """Let a finger reach from outside over one edge."""
    side = int(rng.integers(4))
    root = quad[side] + (quad[(side + 1) % 4] - quad[side]) * rng.uniform(0.1, 0.9)
    inward = quad.mean(0) - root
    tip = root + inward * rng.uniform(0.1, 0.5)
    far = root - inward / max(np.linalg.norm(inward), 1) * max(frame.size) * 0.8
    thick = float(np.sqrt(polygon_area(quad)) * rng.uniform(0.14, 0.27))
    skin = SKINS[int(rng.integers(len(SKINS)))]
    layer = Image.new("RGBA", frame.size, (*skin, 0))
    pen = ImageDraw.Draw(layer)
    for share, colour in ((1.0, mix(skin, (70, 30, 20), 0.3)), (0.78, skin), (0.4, mix(skin, (255, 240, 230), 0.18))):
        reach = thick * share / 2
        pen.line([*far.tolist(), *tip.tolist()], fill=(*colour, 255), width=max(2, round(thick * share)))
        pen.ellipse([tip[0] - reach, tip[1] - reach, tip[0] + reach, tip[1] + reach], fill=(*colour, 255))
    soft = layer.filter(ImageFilter.BoxBlur(max(1.0, thick * 0.05)))
    frame.paste(soft.convert("RGB"), (0, 0), soft.getchannel("A"))
    spots = [*(far / 4).tolist(), *(tip / 4).tolist()]
    ImageDraw.Draw(hidden.map).line(spots, fill=255, width=max(1, round(thick / 4)))
    reach, (x, y) = thick / 8, (tip / 4).tolist()
    ImageDraw.Draw(hidden.map).ellipse([x - reach, y - reach, x + reach, y + reach], fill=255)


def _corner(rng: np.random.Generator, frame: Image.Image, hidden: Cover, quad: Points, art: Artwork) -> None:
    """Lay other artwork over one corner."""
    start = quad[int(rng.integers(4))]
    reach = float(np.sqrt(polygon_area(quad))) * rng.uniform(0.2, 0.5)
    wide = np.array([1.0, art.image.height / art.image.width])
    turn = rng.uniform(0, 2 * np.pi)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    shape = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * wide / max(wide) * reach
    corners: Points = start + (quad.mean(0) - start) * rng.uniform(-0.2, 0.3) + shape @ axes
    place(rng, frame, art, corners)
    hidden.add(corners)


def sleeve(frame: Image.Image, quad: Points, *, above: bool) -> None:
    """Draw the clear plastic around a document before it is placed, or the shine on it afterwards."""
    layer = Image.new("RGBA", frame.size, (255, 255, 255, 0))
    pen = ImageDraw.Draw(layer)
    middle = quad.mean(0)
    rim = [tuple(p) for p in (middle + (quad - middle) * 1.07).tolist()]
    if not above:
        pen.polygon(rim, fill=(255, 255, 255, 70), outline=(255, 255, 255, 150))
    else:
        across = quad[1] - quad[0]
        band = [quad[0] + across * 0.15, quad[0] + across * 0.38, quad[3] + across * 0.2, quad[3]]
        pen.polygon([tuple(p) for p in np.stack(band).tolist()], fill=(255, 255, 255, 60))
        pen.line([*rim, rim[0]], fill=(255, 255, 255, 130), width=2)
    frame.paste(layer.convert("RGB"), (0, 0), layer.getchannel("A"))
