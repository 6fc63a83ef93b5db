"""A robustness result for people: a fragment of an HTML report, and lines for a console."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from safevlm_training.robustness.rates import Rate
from safevlm_training.robustness.results import AttackRow, CorruptionRow, RobustnessResult

NO_CLAIM = (
    "No robustness against an attacker who has the weights is claimed. The attacks measured here are few and "
    "bounded; expect a patient attacker, with stronger ones, to succeed more often."
)
CORRUPTED = (
    "Flagged images at the checkpoint's own thresholds, with the exact 95 % interval, which takes images for "
    "independent. A crop may cut the risk out of a picture, and a screenshot may make it tiny: then fewer flags are "
    "no mistake."
)
NOTHING_ATTACKED = "Nothing was attacked."
CORRUPTION_HEAD = (
    "corruption",
    "severity",
    "risky images flagged",
    "safe images flagged",
    "mean score, risky",
    "safe",
)
ATTACK_HEAD = ("attack", "goal", "change of 255", "succeeded", "mean score before", "after")
GOALS = {"allow": "have a risky image allowed", "flag": "have a safe image flagged"}

Row = tuple[str, ...]


def html_section(result: RobustnessResult) -> str:
    """A `<section class="robustness">` with tables, without a style of its own."""
    parts = [
        "<h2>Robustness</h2>",
        _paragraph(NO_CLAIM),
        _paragraph(_sample(result)),
        "<h3>Corruptions</h3>",
        _paragraph(CORRUPTED),
        _table(CORRUPTION_HEAD, [_corruption_row(row) for row in result.corruptions]),
        "<h3>Attacks with the weights</h3>",
        _paragraph(_attack_terms(result)),
    ]
    if result.attack is not None:
        parts.append(_table(ATTACK_HEAD, [_attack_row(row) for row in result.attacks]))
    for transfer in result.transfers if result.attack is not None else ():
        parts.append(f"<h3>The same attacked images, judged by {escape(transfer.name)}</h3>")
        parts.append(_paragraph(_transfer_terms(transfer.digest)))
        parts.append(_table(ATTACK_HEAD, [_attack_row(row) for row in transfer.rows]))
    if result.skipped:
        listed = "".join(f"<li>{escape(row.where)}: {escape(row.reason)}</li>" for row in result.skipped)
        parts.append(f"<p>{len(result.skipped)} images could not be decoded and do not count:</p><ul>{listed}</ul>")
    inside = "\n".join(parts)
    return f'<section class="robustness">\n{inside}\n</section>\n'


def console_lines(result: RobustnessResult) -> tuple[str, ...]:
    """The same as plain lines."""
    lines = ["Robustness", NO_CLAIM, _sample(result), ""]
    lines += _aligned(CORRUPTION_HEAD, [_corruption_row(row) for row in result.corruptions])
    lines += ["", _attack_terms(result)]
    if result.attack is not None:
        lines += _aligned(ATTACK_HEAD, [_attack_row(row) for row in result.attacks])
    for transfer in result.transfers if result.attack is not None else ():
        lines += ["", f"judged by {transfer.name}: {_transfer_terms(transfer.digest)}"]
        lines += _aligned(ATTACK_HEAD, [_attack_row(row) for row in transfer.rows])
    lines += [f"could not be decoded and does not count: {row.where}: {row.reason}" for row in result.skipped]
    return tuple(lines)


def _sample(result: RobustnessResult) -> str:
    return (
        f"{result.checkpoint} ({result.digest}) on {result.risky.images} risky images of {result.risky.groups} "
        f"groups and {result.safe.images} safe images of {result.safe.groups} groups, chosen with seed "
        f"{result.seed}; of an image with several frames, the first."
    )


def _attack_terms(result: RobustnessResult) -> str:
    plan = result.attack
    if plan is None:
        return NOTHING_ATTACKED
    patch = "Too few images were judged right for a patch."
    if result.patch_images:
        patch = (
            f"A square of {plan.patch_share:.0%} of the area, in the lower right corner, was trained on "
            f"{result.patch_images} other risky images, with {plan.patch_steps} gradients each."
        )
    return (
        f"Images no longer than {plan.max_side} pixels that were judged right before. Projected gradient descent "
        f"through the preprocessing, {plan.steps} gradients per image from one random start, then rounded to 8 bits "
        f"and judged as any image. {patch} Random signs and a grey square of the same size are controls."
    )


def _transfer_terms(digest: str) -> str:
    return f"{digest}; the attacker did not use its weights. Of the images that both judged right before."


def _corruption_row(row: CorruptionRow) -> Row:
    rates = (_rate(row.risky), _rate(row.safe))
    return (row.corruption, row.severity, *rates, _score(row.risky_score), _score(row.safe_score))


def _attack_row(row: AttackRow) -> Row:
    change = "" if row.epsilon is None else str(row.epsilon)
    scores = (_score(row.score_before), _score(row.score_after))
    return (row.attack, GOALS[row.goal], change, _rate(row.success), *scores)


def _rate(rate: Rate) -> str:
    if rate.rate is None:
        return "no image"
    return f"{rate.count} of {rate.images}, {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(head: Row, rows: Sequence[Row]) -> str:
    titles = "".join(f"<th scope='col'>{escape(title)}</th>" for title in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _aligned(head: Row, rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
