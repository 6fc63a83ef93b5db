"""What goes into the generator of icon pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safevlm_training.documents.values import Split

RISK = "illegal_risk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Icon:
    """One picture of one object.

    Attributes:
        path: A PNG with an alpha channel.
        family: Who drew it: icons are only shown among others of their family.
        risky: Whether the object is a weapon.
        reason: What kind of object it is, such as "blade" or "kitchenware".
    """

    path: Path
    family: str
    risky: bool
    reason: str

    @property
    def name(self) -> str:
        """Family and file, for groups and manifests."""
        return f"{self.family}/{self.path.stem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IconAssets:
    """Material from outside.

    Attributes:
        icons: Each family in use needs risky and harmless ones.
        backgrounds: Photographs to put icons on; also shown plainly as harmless pictures.
        split: Which layouts and random streams may be used; icons and backgrounds are divided by whoever lists them.
    """

    icons: tuple[Icon, ...]
    backgrounds: tuple[Path, ...] = ()
    split: Split = "train"
