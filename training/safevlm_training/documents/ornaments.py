"""Small parts that sit on cards and papers: emblems, flags, chips, codes, signatures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .canvas import Canvas, Ink
from .palette import hsv, mix
from .streams import chance, pick
from .values import Box, Colour

EMBLEMS = ("shield", "star", "seal", "sun", "crest")
LOGOS = ("hexagon", "petals", "bars", "arc", "kite", "drops")


def _middle(box: tuple[int, int, int, int]) -> tuple[float, float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, min(box[2] - box[0], box[3] - box[1]) / 2


def _spikes(at: tuple[float, float], outer: float, inner: float, points: int) -> list[tuple[float, float]]:
    turn = np.arange(points * 2) * np.pi / points - np.pi / 2
    reach = np.where(np.arange(points * 2) % 2, inner, outer)
    return list(zip((at[0] + reach * np.cos(turn)).tolist(), (at[1] + reach * np.sin(turn)).tolist(), strict=True))


def emblem(
    canvas: Canvas, area: Box, colours: tuple[Colour, Colour], plan: np.random.Generator, alpha: int = 255
) -> None:
    """Draw an invented coat of arms or seal; `alpha` makes it a watermark."""
    x, y, r = _middle(canvas.box(area))
    pen, first, second = canvas.draw, (*colours[0], alpha), (*colours[1], alpha)
    kind = pick(plan, EMBLEMS)
    points = int(plan.integers(5, 13))
    if kind in ("shield", "crest"):
        pen.polygon(
            [
                (x - r * 0.7, y - r * 0.7),
                (x + r * 0.7, y - r * 0.7),
                (x + r * 0.62, y + r * 0.25),
                (x, y + r),
                (x - r * 0.62, y + r * 0.25),
            ],
            fill=first,
        )
        pen.polygon(_spikes((x, y - r * 0.1), r * 0.42, r * 0.2, points), fill=second)
        if kind == "crest":
            for side in (-1, 1):
                for step in range(5):
                    leaf_x, leaf_y = x + side * r * (0.85 - 0.09 * abs(step - 2)), y + r * (0.55 - 0.28 * step)
                    pen.ellipse(
                        [leaf_x - r * 0.12, leaf_y - r * 0.12, leaf_x + r * 0.12, leaf_y + r * 0.12], fill=second
                    )
        return
    if kind == "seal":
        pen.polygon(_spikes((x, y), r, r * 0.9, 28), fill=first)
        pen.ellipse(
            [x - r * 0.72, y - r * 0.72, x + r * 0.72, y + r * 0.72], outline=second, width=max(1, round(r * 0.07))
        )
    elif kind == "sun":
        pen.polygon(_spikes((x, y), r, r * 0.6, points + 6), fill=first)
        pen.ellipse([x - r * 0.5, y - r * 0.5, x + r * 0.5, y + r * 0.5], fill=second)
        return
    pen.polygon(_spikes((x, y), r * 0.62, r * 0.28, points), fill=second if kind == "seal" else first)


def logo(canvas: Canvas, area: Box, colours: tuple[Colour, Colour], plan: np.random.Generator) -> None:
    """Draw the sign of an invented brand."""
    x, y, r = _middle(canvas.box(area))
    pen, (first, second) = canvas.draw, colours
    kind = pick(plan, LOGOS)
    if kind == "hexagon":
        pen.regular_polygon((x, y, r), 6, fill=first)
        pen.regular_polygon((x, y, r * 0.5), 3, fill=second)
    elif kind == "petals":
        for turn in np.arange(5) * 2 * np.pi / 5:
            px, py = x + r * 0.5 * float(np.cos(turn)), y + r * 0.5 * float(np.sin(turn))
            pen.ellipse([px - r * 0.42, py - r * 0.42, px + r * 0.42, py + r * 0.42], fill=(*first, 190))
    elif kind == "bars":
        for step in range(4):
            top = y + r * (0.5 - 0.42 * step)
            pen.rectangle(
                [x - r + step * r * 0.52, top, x - r * 0.62 + step * r * 0.52, y + r],
                fill=first if step % 2 else second,
            )
    elif kind == "arc":
        for share, colour in ((1.0, first), (0.62, second)):
            pen.arc(
                [x - r * share, y - r * share, x + r * share, y + r * share],
                150,
                420,
                fill=colour,
                width=max(2, round(r * 0.22)),
            )
    elif kind == "kite":
        pen.polygon([(x, y - r), (x + r * 0.7, y), (x, y + r), (x - r * 0.7, y)], fill=first)
        pen.polygon([(x, y - r * 0.4), (x + r * 0.7, y), (x, y + r)], fill=second)
    else:
        for step, colour in enumerate((first, second)):
            left = x - r * 0.9 + step * r * 0.7
            pen.rounded_rectangle(
                [left, y - r * 0.7 + step * r * 0.3, left + r * 0.9, y + r * 0.5 + step * r * 0.3],
                r * 0.4,
                fill=(*colour, 210),
            )


def flag(canvas: Canvas, area: Box, plan: np.random.Generator) -> None:
    """Draw a flag in colours and an order that `plan` invents."""
    x0, y0, x1, y1 = canvas.box(area)
    hue = plan.random()
    colours = [hsv(hue + step * plan.uniform(0.15, 0.4), 0.75, plan.uniform(0.4, 0.9)) for step in range(5)]
    stripes, upright = int(plan.integers(4, 6)), chance(plan, 0.4)
    for step in range(stripes):
        low, high = step / stripes, (step + 1) / stripes
        if upright:
            canvas.draw.rectangle([x0 + (x1 - x0) * low, y0, x0 + (x1 - x0) * high, y1], fill=colours[step % 5])
        else:
            canvas.draw.rectangle([x0, y0 + (y1 - y0) * low, x1, y0 + (y1 - y0) * high], fill=colours[step % 5])
    x, y, r = _middle((x0, y0, x1, y1))
    canvas.draw.polygon(_spikes((x, y), r * 0.6, r * 0.25, int(plan.integers(4, 9))), fill=(250, 250, 240))


def chip(canvas: Canvas, area: Box, rng: np.random.Generator) -> None:
    """Draw a contact chip, gold or silver."""
    x0, y0, x1, y1 = canvas.box(area)
    metal = hsv(0.12, 0.45, 0.85) if chance(rng, 0.7) else (196, 198, 204)
    line, width = mix(metal, (40, 30, 10), 0.55), max(1, (y1 - y0) // 26)
    canvas.draw.rounded_rectangle([x0, y0, x1, y1], (y1 - y0) * 0.16, fill=metal, outline=line, width=width)
    third, wide = (y1 - y0) / 3, x1 - x0
    for step in (1, 2):
        canvas.draw.line([x0, y0 + third * step, x0 + wide * 0.32, y0 + third * step], fill=line, width=width)
        canvas.draw.line([x1 - wide * 0.32, y0 + third * step, x1, y0 + third * step], fill=line, width=width)
    canvas.draw.rounded_rectangle(
        [x0 + wide * 0.32, y0 + third * 0.6, x1 - wide * 0.32, y1 - third * 0.6],
        third * 0.3,
        outline=line,
        width=width,
    )
    canvas.draw.line([(x0 + x1) / 2, y0, (x0 + x1) / 2, y0 + third * 0.6], fill=line, width=width)


def contactless(canvas: Canvas, area: Box, ink: Ink) -> None:
    """Draw four nested arcs."""
    x0, y0, x1, y1 = canvas.box(area)
    for step in range(4):
        reach = (y1 - y0) * (0.2 + 0.1 * step)
        x, y = x0 + (x1 - x0) * 0.1 * step, (y0 + y1) / 2
        canvas.draw.arc(
            [x - reach, y - reach, x + reach, y + reach], -45, 45, fill=ink, width=max(1, (y1 - y0) // 14)
        )


def hologram(canvas: Canvas, area: Box, rng: np.random.Generator) -> None:
    """Lay a rainbow patch over the picture."""
    x0, y0, x1, y1 = canvas.box(area)
    hue, slope = rng.random(), rng.uniform(0.4, 1.2)
    y, x = np.mgrid[0:12, 0:12] / 12
    pixels = np.stack([127 + 110 * np.cos(2 * np.pi * (hue + slope * (x + y) + d / 3)) for d in range(3)], axis=-1)
    patch = Image.fromarray(pixels.astype(np.uint8)).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
    mask = Image.new("L", patch.size, 0)
    pen = ImageDraw.Draw(mask)
    (pen.ellipse if chance(rng, 0.5) else pen.rectangle)(
        [0, 0, x1 - x0 - 1, y1 - y0 - 1], fill=int(rng.integers(70, 190))
    )
    pen.polygon(_spikes(((x1 - x0) / 2, (y1 - y0) / 2), (y1 - y0) * 0.4, (y1 - y0) * 0.2, 7), fill=230)
    canvas.image.paste(patch, (x0, y0), mask)


def barcode(
    canvas: Canvas, area: Box, rng: np.random.Generator, ink: Ink = (15, 15, 18), *, paper: bool = True
) -> None:
    """Draw upright bars, on a white label when `paper`."""
    x0, y0, x1, y1 = canvas.box(area)
    if paper:
        canvas.draw.rectangle([x0, y0, x1, y1], fill=(250, 250, 248))
    module = max(1.0, (x1 - x0) / 110)
    x = x0 + 5 * module
    while x < x1 - 5 * module:
        bar = module * int(rng.integers(1, 4))
        canvas.draw.rectangle([x, y0 + 2, x + bar - 1, y1 - 2], fill=ink)
        x += bar + module * int(rng.integers(1, 4))


def matrix_code(canvas: Canvas, area: Box, rng: np.random.Generator) -> None:
    """Draw a square code with three corner marks; it encodes nothing."""
    side = int(rng.integers(21, 34))
    cells = rng.random((side, side)) < 0.5
    for row, column in ((0, 0), (0, side - 7), (side - 7, 0)):
        cells[row : row + 7, column : column + 7] = True
        cells[row + 1 : row + 6, column + 1 : column + 6] = False
        cells[row + 2 : row + 5, column + 2 : column + 5] = True
    code = Image.fromarray(np.where(np.pad(cells, 2), 15, 250).astype(np.uint8)).convert("RGB")
    x0, y0, x1, y1 = canvas.box(area)
    edge = min(x1 - x0, y1 - y0)
    canvas.image.paste(code.resize((edge, edge), Image.Resampling.NEAREST), (x0, y0))


def signature(canvas: Canvas, area: Box, rng: np.random.Generator, ink: Ink) -> None:
    """Scribble a signature."""
    x0, y0, x1, y1 = canvas.box(area)
    t = np.linspace(0, 1, 90)
    beats = rng.uniform(3, 9, 3)
    x = t + 0.08 * np.sin(2 * np.pi * beats[0] * t + rng.uniform(0, 6))
    fade = np.exp(-rng.uniform(0.2, 2.2) * t)
    y = 0.5 + fade * (
        0.3 * np.sin(2 * np.pi * beats[1] * t) + 0.2 * np.sin(2 * np.pi * beats[2] * t + rng.uniform(0, 6))
    )
    points = np.stack([x0 + (x1 - x0) * np.clip(x, 0, 1), y0 + (y1 - y0) * np.clip(y, 0, 1)], 1)
    canvas.draw.line(points.ravel().tolist(), fill=ink, width=max(1, (y1 - y0) // 22), joint="curve")


def symbol(canvas: Canvas, area: Box, ink: Ink, rng: np.random.Generator) -> None:
    """Draw a plain sign such as stands on notices: a ring, an arrow, a cross, a drop or a house."""
    x, y, r = _middle(canvas.box(area))
    r *= 0.8
    pen, width = canvas.draw, max(2, round(r * 0.18))
    kind = pick(rng, ("ring", "arrow", "cross", "drop", "house"))
    if kind == "ring":
        pen.ellipse([x - r, y - r, x + r, y + r], outline=ink, width=width)
        pen.line([x - r * 0.65, y + r * 0.65, x + r * 0.65, y - r * 0.65], fill=ink, width=width)
    elif kind == "arrow":
        pen.polygon([(x + r, y), (x, y - r * 0.8), (x, y + r * 0.8)], fill=ink)
        pen.rectangle([x - r, y - r * 0.3, x, y + r * 0.3], fill=ink)
    elif kind == "cross":
        pen.rectangle([x - r * 0.3, y - r, x + r * 0.3, y + r], fill=ink)
        pen.rectangle([x - r, y - r * 0.3, x + r, y + r * 0.3], fill=ink)
    elif kind == "drop":
        pen.polygon([(x, y - r), (x + r * 0.6, y + r * 0.2), (x - r * 0.6, y + r * 0.2)], fill=ink)
        pen.ellipse([x - r * 0.68, y - r * 0.3, x + r * 0.68, y + r], fill=ink)
    else:
        pen.polygon([(x, y - r), (x + r, y), (x - r, y)], fill=ink)
        pen.rectangle([x - r * 0.7, y, x + r * 0.7, y + r], outline=ink, width=width)
