"""Every kind of document, which of them are private, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .badges import badge, blank_badge
from .bank_cards import bank_card
from .club_cards import loyalty_card, plain_chip_card
from .design import Design
from .forms import blank_form, filled_form
from .identity import driving_licence, id_card
from .identity_twins import info_card, specimen_card
from .leisure import business_card, game_card, playing_card, team_card
from .papers import book_cover, captioned_picture, poster
from .passports import blank_passport, passport
from .prints import receipt, text_page
from .screens import screen_page
from .slides import slide
from .statements import payslip, price_list
from .streams import stream
from .tickets import ticket
from .values import Artwork

Draw = Callable[[Design, np.random.Generator], Artwork]

POSITIVES: dict[str, Draw] = {
    "bank_card": bank_card,
    "id_card": id_card,
    "driving_licence": driving_licence,
    "passport": passport,
    "badge": badge,
    "filled_form": filled_form,
    "payslip": payslip,
}

TWINS: dict[str, Draw] = {
    "plain_chip_card": plain_chip_card,
    "specimen_card": specimen_card,
    "info_card": info_card,
    "blank_passport": blank_passport,
    "blank_badge": blank_badge,
    "blank_form": blank_form,
    "price_list": price_list,
    "loyalty_card": loyalty_card,
    "business_card": business_card,
    "game_card": game_card,
    "playing_card": playing_card,
    "team_card": team_card,
    "ticket": ticket,
    "receipt": receipt,
    "text_page": text_page,
    "screen_page": screen_page,
    "slide": slide,
    "book_cover": book_cover,
    "poster": poster,
    "captioned_picture": captioned_picture,
}

DRAWN: dict[str, Draw] = POSITIVES | TWINS

SCENE = "scene"

SHARES: dict[str, int] = {
    "bank_card": 7,
    "id_card": 7,
    "driving_licence": 7,
    "passport": 7,
    "badge": 4,
    "filled_form": 4,
    "payslip": 4,
    "plain_chip_card": 4,
    "specimen_card": 3,
    "info_card": 3,
    "blank_passport": 2,
    "blank_badge": 3,
    "blank_form": 3,
    "price_list": 3,
    "loyalty_card": 2,
    "business_card": 3,
    "receipt": 3,
    "text_page": 3,
    "slide": 3,
    "ticket": 2,
    "screen_page": 2,
    "game_card": 1,
    "playing_card": 1,
    "team_card": 1,
    "book_cover": 1,
    "poster": 1,
    "captioned_picture": 1,
    SCENE: 15,
}
"""Samples of each kind among every hundred: 40 private, 45 twins, 15 scenes or photographs."""

HIGH = frozenset({"bank_card", "passport"})
"""Kinds whose level is high when their number can be read."""


def kind_of(index: int) -> str:
    """Name the kind of a sample; every hundred samples in a row keep to `SHARES`."""
    return _ORDER[index % len(_ORDER)]


def _order() -> tuple[str, ...]:
    each = [kind for kind, share in SHARES.items() for _ in range(share)]
    return tuple(each[place] for place in stream("order").permutation(len(each)).tolist())


_ORDER = _order()
