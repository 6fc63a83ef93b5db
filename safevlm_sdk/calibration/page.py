"""The page that says what a calibration changed, what it promises, and what it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.calibration import chart
from safevlm_sdk.calibration.bounds import errors_that_agree
from safevlm_sdk.calibration.note import sentence, warning_of
from safevlm_sdk.calibration.record import Rate
from safevlm_sdk.calibration.run import Outcome
from safevlm_sdk.errors import OptionError
from safevlm_sdk.report_style import STYLE, html_page

SHOWN = 500
SHEET = f"""{STYLE}{chart.STYLE}section {{ margin: 1.75rem 0; }}
td {{ padding-right: 1.5rem; overflow-wrap: anywhere; }}
h2 {{ margin-bottom: .4rem; }}"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """A calibration that was put in place.

    Attributes:
        out: The new bundle or checkpoint.
        page: The HTML page.
        digest: Of the new bundle or checkpoint.
        outcome: What was found.
        passed_over: Files and rows that are no images of these kinds.
        proof: What the proof of the graphs says of its images and thresholds; empty for a checkpoint.
        notes: Whatever else its user should know, in sentences.
    """

    out: Path
    page: Path
    digest: str
    outcome: Outcome
    passed_over: int
    proof: str
    notes: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """Said where the new thresholds leave the gate nearly off."""
        return warning_of(self.outcome.thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for one JSON document."""
        found, before = self.outcome, self.outcome.subject.rule
        return {
            "schema_version": 1,
            "out": str(self.out),
            "page": str(self.page),
            "digest": self.digest,
            "calibration": msgspec.to_builtins(found.calibration),
            "thresholds": msgspec.to_builtins(found.thresholds),
            "before": {
                "temperature": before.temperature,
                "thresholds": {"categories": dict(before.thresholds), "any": before.any_threshold},
            },
            "flagged": list(found.flagged),
            "flagged_groups_before": found.flagged_before,
            "failures": [{"image": name, "error": error} for name, error in _failures(found)],
            "near_duplicates": [list(pair) for pair in found.data.near_duplicates],
            "passed_over": self.passed_over,
            "notes": [*([self.warning] if self.warning else []), *self.notes],
        }


def publish_page(written: Written) -> None:
    """Writes the page as a whole; it needs no network and no other file.

    Raises:
        OptionError: It cannot be written.
    """
    publish_file(written.page, render(written).encode("utf-8", "backslashreplace"), error=OptionError)


def render(written: Written) -> str:
    """The page's HTML."""
    found = written.outcome
    record = found.record
    marks = (found.present, found.step)
    picture = chart.histogram(
        found.safe.values, {name: groups.values for name, groups in found.risky.items()}, found.family, marks
    )
    body = f"""<header>
<h1>{escape(found.subject.name)}: new thresholds</h1>
<p>{"<br>".join(escape(sentence(rate)) for rate in record.rates)}<br>{escape(images_flagged(found))}<br>{
        escape(than_before(found))
    }</p>
<p class="small">from {escape(found.subject.digest)}<br>to {escape(written.digest)}, under policy
{escape(found.subject.policy.name)} ({escape(record.policy)})</p>
</header>
<section><h2>What changed</h2>
{_thresholds(found)}
{f"<p><strong>{escape(written.warning)}</strong></p>" if written.warning else ""}
<p>{escape(_temperature(found))}</p></section>
<section><h2>What is promised, and what it rests on</h2>
{_rates(record.rates)}
<p>{escape(_method(found))}</p></section>
<section><h2>Where the images lie</h2>
{picture}
<p class="small">Each group of images by the threshold on the score up to which it is flagged, on a log-odds scale:
harmless ones above the line, risky ones below; heights grow with the square root of the count. Right of the line
&ldquo;now&rdquo; is flagged. {escape(_before(found))}</p></section>
{
        _list(
            "Harmless images that are still flagged",
            "Look at them: a wrong label here makes thresholds too hard.",
            found.flagged,
        )
    }
{
        _list(
            "Images on which the gate failed",
            "A harmless one counts as flagged, for it would be blocked; a risky one does not count at all.",
            [f"{name}: {error}" for name, error in _failures(found)],
        )
    }
{
        _list(
            "Near-duplicates",
            "Such images count as one group, for they are not independent. These pairs join the groups.",
            [" and ".join(pair) for pair in found.data.near_duplicates],
        )
    }
<section><h2>What this does not say</h2>
{_limits(written)}</section>"""
    return html_page(f"SafeVLM: calibration of {found.subject.name}", body, style=SHEET)


def images_flagged(found: Outcome) -> str:
    """How many single images the flagged groups hold."""
    return f"{len(found.flagged)} of {found.safe.images} single harmless images are flagged."


def than_before(found: Outcome) -> str:
    """Whether the new thresholds flag more of the harmless groups than the ones before, or fewer."""
    now, before = int(found.safe.errors("flag", found.step).sum()), found.flagged_before
    of = f"of {len(found.safe.values)} groups of harmless images"
    if now < before:
        return f"The gate flags fewer than before: {now} {of}, before: {before}."
    lower = found.present is not None and found.step < found.present
    if now == before and not lower:
        return f"The gate flags as many as before: {now} {of}."
    said = f"more than before: {now} {of}, before: {before}" if now > before else f"as many as before: {now} {of}"
    lowered = ", at lower thresholds: it is stricter, and others of your images may be flagged" if lower else ""
    why = (
        " Thresholds were set as low as the bound on flags allows, so that as much risk as possible is caught; for "
        "fewer flags ask for a smaller one."
    )
    return f"The gate flags {said}{lowered}.{'' if found.demand.flag_at_most is None else why}"


def _thresholds(found: Outcome) -> str:
    before, after = found.subject.rule, found.thresholds
    rows = []
    for name in before.covered:
        off = "" if name in found.subject.judged else " (switched off by the policy: nothing is promised for it)"
        rows.append((name + off, f"{before.thresholds[name]:.6g}", f"{after.categories[name]:.6g}"))
    rows.append(("any risk (score)", f"{before.any_threshold:.6g}", f"{after.any:.6g}"))
    rows.append(("temperature", f"{before.temperature:.6g}", f"{found.calibration.temperature:.6g}"))
    return _table(("threshold on", "before", "now"), rows)


def _temperature(found: Outcome) -> str:
    used = found.record.temperature_groups
    if used:
        return f"The temperature was fitted on {used} groups of images, which set no threshold."
    return (
        "The temperature stayed as it was, and all groups served the thresholds: a new one needs risky images, with "
        "at least 10 groups of every type among the quarter of groups that would set it."
    )


def _before(found: Outcome) -> str:
    """What the mark of the old thresholds means, or why there is none."""
    if found.calibration.temperature == found.subject.rule.temperature:
        return ""
    if found.present is None:
        return (
            "The old thresholds are not marked: they were of another temperature, and with several risks no place on "
            "this scale flags what they flagged."
        )
    return "The line \u201cbefore\u201d stands where the old thresholds flag the same images at the new temperature."


def _rates(rates: Sequence[Rate]) -> str:
    heads = ("what", "promised", "images", "groups", "allowed", "seen", "exact upper bound", "confidence")
    rows = [
        (
            "harmless, not ALLOW" if rate.kind == "flag" else f"{rate.category}, ALLOW",
            "only measured" if rate.at_most is None else f"at most {100 * rate.at_most:.4g} %",
            str(rate.images),
            str(rate.groups),
            "" if rate.allowed is None else str(rate.allowed),
            str(rate.errors),
            f"{100 * rate.upper_bound:.4g} %",
            f"{100 * rate.confidence:.4g} %",
        )
        for rate in rates
    ]
    return _table(heads, rows)


def _method(found: Outcome) -> str:
    return (
        "All thresholds, the one on the score included, move together from where they stood, by the same log-odds; "
        "so each group has one number, up to where it is flagged, and the number of groups that may err was fixed by "
        "the sample size before any was counted. The promise holds although the same images set the thresholds "
        "(distribution-free, exact binomial). It is about independent groups of images: a group of near-duplicates "
        "counts once, by its worst image, and the share of single images can be higher. Counted is the final "
        "decision, under the policy named above; all "
        f"promises together hold at {100 * found.demand.confidence:.4g} % confidence."
    )


def _limits(written: Written) -> str:
    record = written.outcome.record
    said = [
        "It speaks of images like these alone, drawn as these were. Other images may be flagged or missed far more "
        "often; a folder that was picked by hand says nothing of traffic.",
        "If these images trained the gate, or chose its thresholds before, what is promised is optimistic.",
        "It holds under the policy named above and no other; thresholds in a policy replace these.",
        "It says nothing of images that are made to deceive the gate.",
        f"{record.near_threshold} of the judged images lie within 0.01 of a new threshold.",
    ]
    said += [
        f"A count scatters: among as many new groups like these, {rate.groups}, up to "
        f"{errors_that_agree(rate.groups, rate.at_most)} errors would still agree with the promise of at most "
        f"{100 * rate.at_most:.4g} % ({rate.category or 'harmless'} images)."
        for rate in record.rates
        if rate.at_most is not None
    ]
    if not written.outcome.risky:
        said.append("No risky image was judged: what these thresholds miss is unknown.")
    if written.proof:
        said.append(
            f"The graphs are the same bytes as before. Their proof was made on {written.proof}. The largest error of "
            "an output holds for any threshold; flips were not counted again, for that needs the checkpoint, but of "
            f"the images judged here {record.undecided} lie so near a new threshold that an error as large as the "
            "largest one of the proof could turn the decision."
        )
    if written.passed_over:
        said.append(
            f"{written.passed_over} files or rows were passed over: by name or category none of these images."
        )
    return "".join(f"<p>{escape(text)}</p>" for text in (*said, *written.notes))


def _failures(found: Outcome) -> list[tuple[str, str]]:
    return [(sample.image.name, sample.error) for sample in found.data.samples if sample.error is not None]


def _list(title: str, meaning: str, names: Sequence[str]) -> str:
    shown = "".join(f"<li>{escape(name)}</li>" for name in names[:SHOWN])
    more = f"<p>and {len(names) - SHOWN} more</p>" if len(names) > SHOWN else ""
    body = f"<p>{escape(meaning)}</p><ul class='small'>{shown}</ul>{more}" if names else "<p>none</p>"
    return f"<section><h2>{escape(title)}: {len(names)}</h2>{body}</section>"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
