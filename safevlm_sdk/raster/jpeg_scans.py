"""The scans of a JPEG image: does the file send all that its header announces?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safevlm_sdk.raster.container import damaged

_MAX_SCANS: Final = 32
"""Encoders write about ten; every further scan of a few bytes costs a pass over the whole image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan header: components, band of coefficients, lowest bit sent."""

    components: tuple[int, ...]
    first: int
    last: int
    low_bit: int


def read_scan(payload: bytes) -> Scan:
    """Read a start-of-scan segment."""
    count = payload[0] if payload else 0
    if not 1 <= count <= 4 or len(payload) != 4 + 2 * count:
        raise damaged("JPEG", "a scan header has a wrong length")
    first, last, bits = payload[-3:]
    return Scan(components=tuple(payload[1:-3:2]), first=first, last=last, low_bit=bits & 15)


def check_scans(scans: Sequence[Scan], components: Sequence[int], *, progressive: bool) -> None:
    """Refuse a file that lacks scans, or has so many that they are an attack.

    Raises:
        ImageCorrupt: A component, or a bit of a coefficient, is never sent; or there are too many scans.
    """
    if len(scans) > _MAX_SCANS:
        raise damaged("JPEG", f"it has more than {_MAX_SCANS} scans")
    for component in components:
        mine = [scan for scan in scans if component in scan.components]
        missing = set(range(64)) if progressive else {0}
        for scan in mine:
            if not progressive or scan.low_bit == 0:
                missing -= set(range(scan.first, scan.last + 1))
        if missing:
            raise damaged("JPEG", "scans are missing, so that it was cut short")
