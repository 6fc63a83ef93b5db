"""Cards on the templates of identity cards and driving licences that are about nobody."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .design import Design
from .identity_form import (
    ID_TITLES,
    LICENCE_TITLES,
    RADIUS,
    Form,
    draw_extras,
    draw_header,
    draw_watermark,
    form,
    silhouette,
)
from .ornaments import logo, matrix_code, symbol
from .palette import mix
from .people import state_title
from .scenes import draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Box

TOPICS: dict[str, tuple[str, ...]] = {
    "HOUSE RULES": ("Open", "Closed", "Quiet", "Pool", "Lift", "Bins", "Dogs", "Desk"),
    "WASHING GUIDE": ("Cotton", "Wool", "Silk", "Linen", "Dark", "Light", "Iron", "Dry"),
    "GUEST WI-FI": ("Network", "Password", "Floor", "Speed", "Hours", "Help", "Cost", "Page"),
    "TARIFF": ("Adult", "Child", "Group", "Day", "Week", "Month", "Dog", "Bicycle"),
    "MEMBERSHIP RULES": ("Pay", "Bring", "Return", "Renew", "Fee", "Limit", "Hours", "Lost"),
    "FIRST AID": ("Call", "Check", "Press", "Cool", "Cover", "Wait", "Warm", "Tell"),
    "TIMETABLE": ("Harbour", "Market", "Bridge", "Castle", "School", "Museum", "Park", "Station"),
    "WARRANTY": ("Model", "Type", "Volts", "Parts", "Years", "Shop", "Batch", "Made"),
}


def specimen_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw an identity card or licence with an empty photo frame and no data."""
    plan = design.plan()
    licence = design.template == "driving_licence"
    at, canvas, pattern = _start(design, rng, plan)
    script = design.faces.script
    title = pick(rng, LICENCE_TITLES if licence else ID_TITLES)
    title = in_script(title, script) if chance(rng, 0.5) else title
    draw_header(canvas, design, plan, at.header, (in_script(state_title(rng), script).upper(), title))
    canvas.fill(at.photo, mix(design.scheme.ground, (255, 255, 255), 0.5))
    canvas.frame(at.photo, design.scheme.faint)
    if chance(rng, 0.6):
        silhouette(canvas, at.photo, design)
    draw_extras(canvas, design, rng, plan, at)
    labels = ("Surname", "Given names", "Date of birth", "Sex", "Document No.", "Expires", "Place of birth", "Issued")
    tags = ("1.", "2.", "3.", "5.", "4b.", "9.", "8.", "4a.")
    names = tags if at.numbered else tuple(in_script(label, design.faces.script) for label in labels)
    _lines(canvas, design, at, [(label, "") for label in names])
    if chance(rng, 0.5):
        stamp = pick(rng, ("SPECIMEN", "SAMPLE", "VOID", "MUSTER"))
        canvas.text((0.5, 0.6), stamp, design.faces.bold, 0.19, (190, 30, 40, 150), anchor="mm")
    return design.done(canvas, radius=RADIUS, pattern=pattern, header=at.header, foot=at.foot)


def info_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a card of rules, prices or instructions on the template of an identity card."""
    plan = design.plan()
    at, canvas, pattern = _start(design, rng, plan)
    script = design.faces.script
    topic = pick(rng, tuple(TOPICS))
    firm = in_script(f"{name(rng)} {pick(rng, ('Hotel', 'Club', 'City', 'Sports', 'Museum', 'Ferry'))}", script)
    draw_header(
        canvas, design, plan, at.header, (firm.upper(), in_script(topic, script) if chance(rng, 0.5) else topic)
    )
    _picture(canvas, design, rng, at.photo)
    draw_extras(canvas, design, rng, plan, at)
    _lines(canvas, design, at, [(in_script(label, script), _fact(rng, script)) for label in TOPICS[topic]])
    if at.foot == "mrz":
        canvas.fill((0, 0.8, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.55))
        for row in range(2):
            canvas.text((0.04, 0.88 + 0.08 * row), words(rng, 6), design.faces.body, 0.06, (20, 20, 24), room=0.92)
    return design.done(canvas, radius=RADIUS, pattern=pattern, header=at.header, foot=at.foot, topic=topic.lower())


def _start(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> tuple[Form, Canvas, str]:
    """Open the template; where an identity card shows its back, the front of that template is taken."""
    if design.template == "id_card":
        chance(plan, 0.1)
    at = form(plan, design.template == "driving_licence")
    canvas, pattern = design.card(rng, plan, at.ratio)
    draw_watermark(canvas, design, plan)
    return at, canvas, pattern


def _fact(rng: np.random.Generator, script: str) -> str:
    kind = int(rng.integers(4))
    if kind == 0:
        return f"{rng.uniform(0.5, 90):.2f}"
    if kind == 1:
        return f"{int(rng.integers(5, 12))}:{digits(rng, 1)}0 - {int(rng.integers(13, 23))}:00"
    return in_script(words(rng, int(rng.integers(1, 4))), script)


def _picture(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    """Fill the place of the portrait with anything but a face; sometimes leave it."""
    x0, y0, x1, y1 = canvas.box(area)
    kind = pick(rng, ("scene", "logo", "code", "symbol", "text", "nothing"))
    scheme = design.scheme
    if kind == "scene":
        canvas.paste(draw_scene(rng, pick(rng, ("hills", "sea", "street", "bokeh")), (x1 - x0, y1 - y0)), area)
    elif kind == "logo":
        logo(canvas, area, (scheme.accent, scheme.accent2), rng)
    elif kind == "code":
        matrix_code(canvas, area, rng)
    elif kind == "symbol":
        canvas.fill(area, mix(scheme.ground, (255, 255, 255), 0.5))
        symbol(canvas, area, scheme.accent, rng)
    elif kind == "text":
        step = (area[3] - area[1]) / 6
        for row in range(5):
            at = (area[0], area[1] + step * (row + 1))
            canvas.text(at, words(rng, 2), design.faces.body, 0.05, scheme.ink, room=area[2] - area[0])


def _lines(canvas: Canvas, design: Design, at: Form, rows: list[tuple[str, str]]) -> None:
    """Write labels where the template has them, with what belongs to them or an empty line."""
    faces, ink, faint = design.faces, design.scheme.ink, mix(design.scheme.faint, design.scheme.ink, 0.4)
    room = (at.right - at.left) / at.columns
    y, column = at.top, 0
    for index, (label, value) in enumerate(rows):
        x = at.left + room * column
        canvas.text((x, y + at.step * 0.4), label, faces.body, at.size * (0.62 if value else 0.54), faint, room=room)
        if value:
            canvas.text((x, y + at.step * 0.88), value, faces.bold, at.size * 0.9, ink, room=room - 0.02)
        else:
            canvas.fill((x, y + at.step * 0.86, x + room - 0.03, y + at.step * 0.87), faint)
        column = column + 1 if column + 1 < at.columns and index >= 2 else 0
        if column == 0:
            y += at.step
        if y + at.step > at.low:
            break
