"""Twins stand on the templates of private documents and hold nothing personal."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from safevlm_training.documents.design import TEMPLATES, Design
from safevlm_training.documents.kinds import DRAWN, POSITIVES, TWINS
from safevlm_training.documents.palette import scheme
from safevlm_training.documents.streams import stream
from safevlm_training.documents.text import choose_faces

PERSONAL = ("person", "portrait", "card_number", "machine_lines", "signature", "handwrite")
PAIRS = [(twin, template) for twin, templates in TEMPLATES.items() for template in templates]


def drawn(kind, template, layout):
    faces, colours = choose_faces(stream("faces"), ()), scheme(layout % 5, stream("colours"))
    made = Design(kind=kind, template=template, layout=layout, scheme=colours, faces=faces, size=160)
    return DRAWN[kind](made, stream("content", layout))


@pytest.mark.parametrize("kind", DRAWN)
def test_templates_of_a_kind_look_different(kind):
    template = TEMPLATES.get(kind, (kind,))[0]
    pictures = {drawn(kind, template, layout).image.tobytes() for layout in range(0, 30, 5)}
    assert len(pictures) == 6


def test_twins_name_private_documents_as_their_models():
    assert TEMPLATES.keys() <= TWINS.keys()
    assert {template for _, template in PAIRS} <= POSITIVES.keys()
    assert len(POSITIVES.keys() - {template for _, template in PAIRS}) <= 1


@pytest.mark.parametrize(("twin", "template"), PAIRS)
def test_a_twin_shares_the_template_of_its_model(twin, template):
    shapes = set()
    for layout in range(24):
        model, art = drawn(template, template, layout), drawn(twin, template, layout)
        if model.parts.get("header") == "back":
            continue
        assert art.image.size == model.image.size, layout
        assert (art.radius, art.least, art.mask is None) == (model.radius, model.least, model.mask is None)
        for part in ("pattern", "header", "foot", "hung", "shape", "side", "ruled", "tables", "photo", "open"):
            assert art.parts.get(part) == model.parts.get(part), (layout, part)
        shapes.add((art.image.size, *(art.parts.get(part) for part in ("header", "hung", "side", "ruled", "open"))))
    assert len(shapes) >= 3


@pytest.mark.parametrize(("twin", "template"), PAIRS)
def test_a_twin_draws_no_face_no_person_and_no_number(twin, template, monkeypatch):
    def forbidden(*_arguments, **_options):
        raise AssertionError("a twin drew something personal")

    for name in (
        "badges",
        "bank_cards",
        "forms",
        "identity",
        "identity_twins",
        "passports",
        "statements",
        "club_cards",
    ):
        module = sys.modules[f"safevlm_training.documents.{name}"]
        for part in PERSONAL:
            if hasattr(module, part):
                monkeypatch.setattr(module, part, forbidden)
    for layout in range(12):
        assert drawn(twin, template, layout).number is None
        with pytest.raises(AssertionError, match="personal"):
            drawn(template, template, layout)


@pytest.mark.parametrize(("twin", "template"), PAIRS)
def test_a_twin_keeps_most_of_its_models_look(twin, template):
    """Both have the same corners, edges and background: most pixels differ little in brightness."""
    close = []
    for layout in range(24):
        model, art = (drawn(kind, template, layout) for kind in (template, twin))
        if model.image.size == art.image.size:
            first, second = (np.asarray(one.image.convert("L"), float) for one in (model, art))
            close.append(np.mean(np.abs(first - second) < 48))
    assert np.median(close) > 0.6
