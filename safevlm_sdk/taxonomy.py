"""What can be wrong with an image: categories as data, levels as a fixed scale."""

from __future__ import annotations

from enum import IntEnum
from importlib import resources
from pathlib import Path

import msgspec

from safevlm_sdk.errors import TaxonomyError
from safevlm_sdk.strict import from_toml

SAFE = "safe"


class RiskLevel(IntEnum):
    """How serious a risk is; the order of the numbers is the order of severity."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Category(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One risk category; `usual_level` (1 to 3) stands in where data carry no level."""

    usual_level: int
    description: str

    def __post_init__(self) -> None:
        if not RiskLevel.LOW <= self.usual_level <= RiskLevel.HIGH:
            raise ValueError(f"usual_level is {self.usual_level}; it must be 1 (low), 2 (medium) or 3 (high)")


class Taxonomy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A named set of risk categories. `safe` is implied and never listed."""

    name: str
    categories: dict[str, Category]

    def __post_init__(self) -> None:
        if not self.categories or SAFE in self.categories:
            raise ValueError("a taxonomy lists at least one risk category, and never `safe`")
        for name in self.categories:
            if not name.isidentifier() or not name.islower():
                raise ValueError(f"category {name!r} must be a lower-case identifier such as `privacy`")

    def require(self, category: str, *, where: str) -> Category:
        """The category's entry.

        Raises:
            TaxonomyError: The taxonomy has no such category.
        """
        if category not in self.categories:
            known = ", ".join(self.categories)
            raise TaxonomyError(f"{where}: {category!r} is not in taxonomy {self.name!r}, which has: {known}")
        return self.categories[category]


def load_taxonomy(name_or_path: str | Path = "safevlm") -> Taxonomy:
    """Reads a shipped taxonomy by name, or any taxonomy from a TOML file.

    Raises:
        TaxonomyError: No such taxonomy, or the file is not valid.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            text = path.read_bytes()
        except OSError as problem:
            raise TaxonomyError(f"{path}: cannot be read ({problem.strerror})") from problem
        return from_toml(text, Taxonomy, error=TaxonomyError, where=str(path))
    shipped = resources.files("safevlm_sdk") / "taxonomies" / f"{name_or_path}.toml"
    if not shipped.is_file():
        raise TaxonomyError(f"there is no shipped taxonomy {name_or_path!r}; give the path of a .toml file")
    return from_toml(shipped.read_bytes(), Taxonomy, error=TaxonomyError, where=f"taxonomy {name_or_path}")
