"""Every kind of document, and which of them are private."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .bank_cards import bank_card, loyalty_card, plain_chip_card
from .design import Design
from .identity import driving_licence, id_card, specimen_card
from .leisure import business_card, game_card, playing_card, team_card
from .papers import blank_form, book_cover, captioned_picture, poster, receipt, slide, text_page
from .passports import passport
from .values import Artwork

Draw = Callable[[Design, np.random.Generator], Artwork]

POSITIVES: dict[str, Draw] = {
    "bank_card": bank_card,
    "id_card": id_card,
    "driving_licence": driving_licence,
    "passport": passport,
}

TWINS: dict[str, Draw] = {
    "loyalty_card": loyalty_card,
    "business_card": business_card,
    "specimen_card": specimen_card,
    "game_card": game_card,
    "plain_chip_card": plain_chip_card,
    "book_cover": book_cover,
    "receipt": receipt,
    "slide": slide,
    "team_card": team_card,
    "poster": poster,
    "captioned_picture": captioned_picture,
    "blank_form": blank_form,
    "playing_card": playing_card,
    "text_page": text_page,
}

DRAWN: dict[str, Draw] = POSITIVES | TWINS

HIGH = frozenset({"bank_card", "passport"})
"""Kinds whose level is high when their number can be read."""
