"""What a checkpoint carries of its evaluation: figures with their sizes, no names of images and no paths."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.strict import canonical_json, from_json

EVALUATION_FILE = "evaluation.json"
MAX_ROWS = 500
MAX_TEXT = 400

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Label = Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_]*\Z", max_length=64)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every part of the record."""


class Figure(_Strict, frozen=True):
    """A number in 0 to 1 and its two-sided 95 % interval; None where there is none."""

    value: Share | None
    low: Share | None
    high: Share | None

    def __post_init__(self) -> None:
        _check_interval(self.low, self.high)


class SourceRow(_Strict, frozen=True):
    """The images of one source that carry one label.

    Attributes:
        source: Its name.
        category: "safe", or the risk.
        images: That were judged.
        groups: Distinct groups among them.
        flagged: Of the images.
        rate: `flagged` of `images`.
        low: Of the interval; None for a single group of images that are alike.
        high: Of the interval.
        method: How the interval was made: "exact_effective" heeds that images of one group are alike.
    """

    source: Text
    category: Label
    images: Count
    groups: Count
    flagged: Count
    rate: Share
    low: Share | None
    high: Share | None
    method: Literal["exact", "exact_effective", "none"]

    def __post_init__(self) -> None:
        _check_interval(self.low, self.high)
        if not (self.flagged <= self.images and 1 <= self.groups <= self.images):
            raise ValueError(f"{self.flagged} of {self.images} images in {self.groups} groups is no rate")
        if self.rate != self.flagged / self.images:
            raise ValueError(f"rate is {self.rate}, but {self.flagged} of {self.images} images are flagged")


class Overall(_Strict, frozen=True):
    """Any risk against safe; levels as decided."""

    recall: Figure
    false_positive_rate: Figure
    precision: Figure
    f1: Figure
    auroc: Figure
    average_precision: Figure
    level_accuracy: Figure
    expected_calibration_error: Figure


class Tally(_Strict, frozen=True):
    """How many of how many images."""

    count: Count
    images: Count

    def __post_init__(self) -> None:
        if self.count > self.images:
            raise ValueError(f"{self.count} of {self.images} images is no count")


class CorruptionRow(_Strict, frozen=True):
    """Flagged images under the severity of one corruption at which the gate did worst; first, unchanged ones."""

    corruption: Text
    severity: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    risky_flagged: Tally
    safe_flagged: Tally


class AttackRow(_Strict, frozen=True):
    """How often one attack, or its control, turned a right judgement into a wrong one.

    Attributes:
        attack: Its name.
        goal: "allow" a risky image, or "flag" a safe one.
        epsilon: Largest change of a value, of 255; None where it is not bounded so.
        succeeded: Wrong after, of the images judged right before.
    """

    attack: Text
    goal: Literal["allow", "flag"]
    epsilon: Annotated[int, msgspec.Meta(ge=1, le=255)] | None
    succeeded: Tally


class Robustness(_Strict, frozen=True):
    """What corruptions and attacks did; `attacks` is empty where nothing was attacked."""

    corruptions: Annotated[tuple[CorruptionRow, ...], msgspec.Meta(max_length=MAX_ROWS)]
    attacks: Annotated[tuple[AttackRow, ...], msgspec.Meta(max_length=MAX_ROWS)]


class EvaluationRecord(_Strict, frozen=True):
    """One run of `safevlm eval` at the checkpoint's own thresholds.

    Attributes:
        schema_version: 1.
        checkpoint: Digest of the checkpoint that was measured; the figures are of no other one.
        policy: Digest of the policy that it was measured under, the default one of that version.
        data: Digest of the images' hashes, labels and groups.
        images: That were judged.
        groups: Distinct groups among them.
        sources: One row per source and label.
        overall: Over all images.
        probe_auroc: Of a linear probe on the same features, the baseline; None where none was fitted.
        robustness: None where it was not measured.
        notes: What must be known to read the figures.
    """

    schema_version: Literal[1]
    checkpoint: Digest
    policy: Digest
    data: Digest
    images: Count
    groups: Count
    sources: Annotated[tuple[SourceRow, ...], msgspec.Meta(max_length=MAX_ROWS)]
    overall: Overall
    probe_auroc: Figure | None
    robustness: Robustness | None
    notes: Annotated[tuple[Text, ...], msgspec.Meta(max_length=20)]

    def __post_init__(self) -> None:
        counted = sum(row.images for row in self.sources)
        if counted != self.images:
            raise ValueError(f"images is {self.images}, but the rows of sources hold {counted}")


def evaluation_bytes(record: EvaluationRecord) -> bytes:
    """The bytes of `evaluation.json`."""
    return canonical_json(record)


def parse_evaluation(data: bytes, *, where: str = EVALUATION_FILE) -> EvaluationRecord:
    """Reads the bytes of `evaluation.json`.

    Raises:
        CheckpointError: They are not canonical, or not such a record; the message names `where` and the field.
    """
    try:
        return from_json(data, EvaluationRecord, error=CheckpointError, where=where)
    except (CheckpointError, ValueError) as problem:
        raise CheckpointError(f"{problem}; measure the checkpoint again with `safevlm eval --card`") from problem


def _check_interval(low: float | None, high: float | None) -> None:
    if (low is None) != (high is None):
        raise ValueError("an interval has two ends or none")
    if low is not None and high is not None and low > high:
        raise ValueError(f"the interval [{low}, {high}] is empty")
