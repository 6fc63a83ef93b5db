"""Labelled images, and the rows that could not be read: none is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import DataError
from safevlm_sdk.rows import Role
from safevlm_sdk.taxonomy import SAFE, RiskLevel, Taxonomy

Split = Literal["train", "validation", "calibration"]
SPLITS: tuple[Split, ...] = get_args(Split)
LEVELS = {level.name.lower(): int(level) for level in RiskLevel}
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one of the two said about an image."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One labelled image, and what was said about it.

    The same image may come in several examples with different turns, all with one label.

    Attributes:
        path: Of the image file.
        category: A covered risk or `safe`.
        level: 0 for `safe`, 1 to 3 for a risk.
        group: Images that belong together, as pictures of one template; the same name means the same group in every
            source. None: the image stands for itself.
        source: Name of the recipe's source, followed by "/" and the row's own `source` where it has one.
        split: As the row says, or None.
        where: File and line, or the path, for messages.
        turns: A user and an assistant in turn, the assistant last; empty where nothing is to be learned from them.
        kind: What else the data set calls the row, as "SSU" for a safe image with a safe text and an unsafe meaning.
        license: As the publisher of a published data set states it.
    """

    path: Path
    category: str
    level: int
    group: str | None
    source: str
    split: Split | None
    where: str
    turns: tuple[Turn, ...] = ()
    kind: str = ""
    license: str = ""

    @property
    def origin(self) -> str:
        """Name of the recipe's source."""
        return self.source.split("/", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that cannot be used, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Which categories a row may carry."""

    taxonomy: Taxonomy
    covered: tuple[str, ...]

    def check(self, category: str, level: int | str | None) -> int:
        """The level of a row.

        Args:
            category: As the row says.
            level: 0 to 3, its name, or None for the taxonomy's usual level.

        Raises:
            ValueError: The category is not one of ours, or the level does not fit it.
        """
        self._check_category(category)
        if isinstance(level, str) and level not in LEVELS:
            raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
        if level is None:
            return 0 if category == SAFE else self.taxonomy.categories[category].usual_level
        number = LEVELS[level] if isinstance(level, str) else level
        if not 0 <= number <= 3:
            raise ValueError(f"level {number} is out of range; it must lie in 0 to 3")
        if (number == 0) != (category == SAFE):
            raise ValueError(f"level {number} does not go with category {category!r}: only `safe` has level 0")
        return number

    def _check_category(self, category: str) -> None:
        known = ", ".join((*self.covered, SAFE))
        if category == SAFE or category in self.covered:
            return
        if category in self.taxonomy.categories:
            raise ValueError(f"category {category!r} is not in [model.coverage], which has: {known}")
        raise ValueError(f"category {category!r} is not in taxonomy {self.taxonomy.name!r}; covered are: {known}")


def image_file(path: Path) -> Path:
    """The path itself.

    Raises:
        ValueError: No file lies there.
    """
    if "\0" in str(path) or not path.is_file():
        raise ValueError(f"there is no image file at {str(path)!r}")
    return path


def write_bad_rows(path: Path, bad: Sequence[BadRow]) -> None:
    """Lists bad rows, one JSON object per line; without any, an earlier list is removed."""
    if not bad:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"where": row.where, "reason": row.reason}, ensure_ascii=False) for row in bad]
    publish_file(path, ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"), error=DataError)


def refuse(bad: Sequence[BadRow], listed: Path) -> None:
    """Refuses a data set that has bad rows.

    Raises:
        DataError: With the first of them, their number, and where all are listed.
    """
    if not bad:
        return
    shown = [f"  {row.where}: {row.reason}" for row in bad[:SHOWN]]
    more = [f"  and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    lines = "\n".join([*shown, *more])
    raise DataError(
        f'{len(bad)} bad rows, all listed in {listed}; correct them, or write bad_rows = "skip" at the top of the '
        f"recipe, above [model], to train on the rest:\n{lines}"
    )


def check_splits(present: Iterable[tuple[Split, str, str]], labels: Labels, bounds: Sequence[Sequence[str]]) -> None:
    """Refuses a data set that training or calibration would have nothing to learn from.

    Args:
        present: (split, category, name of the recipe's source) of every example.
        labels: Which categories must be there.
        bounds: Of each bound that sets thresholds, the names of those whose safe images count; empty for all.

    Raises:
        DataError: Naming every split and category that has no example.
    """
    found = set(present)
    pairs = {(split, category) for split, category, _ in found}
    wanted = [(split, category) for split in SPLITS[:2] for category in (*labels.covered, SAFE)]
    missing = [f"{category} in {split}" for split, category in wanted if (split, category) not in pairs]
    counted = [s for split, category, s in found if split == "calibration" and category == SAFE]
    for sources in bounds:
        if not any(not sources or name in sources for name in counted):
            missing.append("safe in calibration" + (f" from {', '.join(sources)}" if sources else ""))
    if missing:
        raise DataError(
            f"no example of: {'; '.join(missing)}. Add images, or change `splits` of the sources or the rows' "
            "`split` (whole groups go into one split, so a few large groups may leave another one empty)"
        )
