"""The section of a model card, of a checkpoint or of a bundle, that tells its evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from safevlm_sdk.evaluation_record import (
    AttackRow,
    EvaluationRecord,
    Figure,
    Overall,
    Robustness,
    SourceRow,
    Tally,
)
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_sdk.taxonomy import SAFE

HEADING = "## Evaluation on images that trained nothing"
GENERATED = "generated"
NOT_MEASURED = "not measured"
NO_CLAIM = (
    "Whoever has the weights can make images that it misjudges: attacks succeed, and no robustness against them is "
    "claimed."
)
FIGURES = {
    "recall": "recall (risky images flagged)",
    "false_positive_rate": "false positive rate (safe images flagged)",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "level_accuracy": "level accuracy",
    "expected_calibration_error": "expected calibration error",
}
METHODS = {"exact": "exact", "exact_effective": "exact, by groups", "none": "none: one group of like images"}
GOALS = {"allow": "have a risky image allowed", "flag": "have a safe image flagged"}
# Whatever begins markup, a reference, a link or a mention; an underscore inside a word does not.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~#!$@^{}]|_(?![^\W_])|(?<![^\W_])_|:(?=//)|(?<=www)\.", re.IGNORECASE)


def evaluation_section(record: EvaluationRecord) -> str:
    """Markdown that begins with `HEADING`, without a line end after it."""
    parts = [HEADING, _terms(record), _overall(record.overall, record.probe_auroc), _sources(record.sources)]
    parts += [*_generated(record.sources), *_robustness(record.robustness), NO_CLAIM]
    if record.notes:
        parts.append("\n".join(f"- {plain(note)}" for note in record.notes))
    return "\n\n".join(parts)


def with_section(card: str, section: str) -> str:
    """A card with this section in the place of the one that it had, or else at its end."""
    start = re.search(rf"^{re.escape(HEADING)}[ \t\r]*$", card, re.MULTILINE)
    if start is None:
        return f"{card.rstrip()}\n\n{section}\n"
    following = re.compile(r"^#{1,2} ", re.MULTILINE).search(card, start.end())
    rest = "" if following is None else "\n" + card[following.start() :]
    return f"{card[: start.start()]}{section}\n{rest}"


def plain(text: str) -> str:
    """Any text as Markdown that shows it on one line and does nothing else."""
    shown = "".join(ch if ch.isprintable() else _escape(ch) for ch in " ".join(text.split()))
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _terms(record: EvaluationRecord) -> str:
    default = record.policy == parse_policy(default_policy_text()).digest
    policy = (
        "the default policy"
        if default
        else "the policy of the digest below, which is not the default one of SafeVLM SDK"
    )
    return (
        f"Measured with `safevlm eval` on {record.images} images in {record.groups} groups of like images, at the "
        f"shipped thresholds and under {policy}. In brackets: two-sided 95 % intervals. That no model was "
        "trained on these images is the word of whoever chose them.\n\n"
        f"Checkpoint `{record.checkpoint}`, images `{record.data}`, policy `{record.policy}`."
    )


def _overall(overall: Overall, probe: Figure | None) -> str:
    rows = [(name, _figure(getattr(overall, field))) for field, name in FIGURES.items()]
    if probe is not None:
        rows.append(("AUROC of a linear probe on the same features", _figure(probe)))
    return _table(("figure", "value"), rows)


def _sources(rows: Sequence[SourceRow]) -> str:
    ordered = sorted(rows, key=lambda row: (row.category == SAFE, row.source, row.category))
    cells = [
        (
            plain(row.source),
            f"`{row.category}`",
            f"{row.images} {GENERATED}" if _is_generated(row) else str(row.images),
            str(row.groups),
            str(row.flagged),
            _figure(Figure(value=row.rate, low=row.low, high=row.high)),
            METHODS[row.method],
        )
        for row in ordered
    ]
    return _table(("source", "label", "images", "groups", "flagged", "rate", "interval"), cells)


def _generated(rows: Sequence[SourceRow]) -> list[str]:
    risky = [row for row in rows if row.category != SAFE]
    made = sum(row.images for row in risky if _is_generated(row))
    if not made:
        return []
    return [
        f"Of the {sum(row.images for row in risky)} risky pictures, {made} were generated, as the names of their "
        "sources say: how many real ones it would flag, they cannot tell."
    ]


def _robustness(found: Robustness | None) -> list[str]:
    if found is None:
        return []
    corrupted = [
        (plain(row.corruption), plain(row.severity), _tally(row.risky_flagged), _tally(row.safe_flagged))
        for row in found.corruptions
    ]
    parts = [
        "### Robustness",
        "Of each corruption, the severity at which it did worst.",
        _table(("corruption", "severity", "risky images flagged", "safe images flagged"), corrupted),
    ]
    if found.attacks:
        parts.append("Attacks that know the weights, and their controls, on images that were judged right before.")
        parts.append(_table(("attack", "goal", "change of 255", "succeeded"), map(_attack, found.attacks)))
    return parts


def _attack(row: AttackRow) -> tuple[str, ...]:
    change = "" if row.epsilon is None else str(row.epsilon)
    return (plain(row.attack), GOALS[row.goal], change, _tally(row.succeeded))


def _is_generated(row: SourceRow) -> bool:
    return GENERATED in row.source.lower()


def _tally(tally: Tally) -> str:
    return f"{tally.count} of {tally.images}" if tally.images else NOT_MEASURED


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return NOT_MEASURED
    interval = (
        "" if figure.low is None or figure.high is None else f" [{_number(figure.low)}, {_number(figure.high)}]"
    )
    return _number(figure.value) + interval


def _number(value: float) -> str:
    """Three decimals, or six where three would show 0 or 1 and it is neither."""
    text = f"{value:.3f}"
    return f"{value:.6f}" if text in ("0.000", "1.000") and value not in (0.0, 1.0) else text


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Cells are Markdown already."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ("---",) * len(heads), *rows))
