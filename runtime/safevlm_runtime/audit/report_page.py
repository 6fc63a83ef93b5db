"""The report of an audit as one HTML page that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from safevlm_runtime.audit.picks import Picks
from safevlm_runtime.audit.record import AuditRecord, Finished
from safevlm_runtime.audit.report_parts import STYLE, flagged_list, histogram, share, table
from safevlm_runtime.audit.summary import Summary, Tally
from safevlm_sdk.command.printing import printable
from safevlm_sdk.report_style import html_page
from safevlm_sdk.taxonomy import RiskLevel

SOURCES = 200
LEVELS = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)


def render_page(
    record: AuditRecord, summary: Summary, picks: Picks, thumbnails: Mapping[str, str] | None = None
) -> str:
    """The page's HTML.

    Args:
        record: Of a finished audit.
        summary: The counts.
        picks: The rows to show one by one.
        thumbnails: Data URIs by the `path` of flagged rows.
    """
    parts = [
        ("Risks", _risks(summary)),
        ("Sources", _sources(summary)),
        ("Scores", _scores(summary)),
        ("The worst of the flagged images", flagged_list(picks.flagged, summary.total, thumbnails or {})),
        ("Images that could not be judged", _failures(summary, picks)),
        ("Copies", _copies(summary.total)),
        ("The hash hook", _hooks(record, summary)),
        ("What this does not say", _limits(record, summary.total)),
        ("What was passed over", _passed_over(record)),
        ("How this was made", table(("", ""), _facts(record))),
    ]
    sections = "\n".join(f"<section>\n<h2>{escape(title)}</h2>\n{html}\n</section>" for title, html in parts)
    body = f"{_header(record, summary.total)}\n<main>\n{sections}\n</main>"
    return html_page("SafeVLM: audit", body, style=STYLE, images=True)


def _header(record: AuditRecord, total: Tally) -> str:
    failed = (
        "" if not total.failed else f' <b class="block">{total.failed:,} of these not judged: the gate failed</b>'
    )
    return f"""<header>
<h1>Audit of {total.images:,} image{"" if total.images == 1 else "s"}</h1>
<p class="small">{escape(printable(record.source.path))}</p>
<p class="counts"><b class="allow">{total.allow:,} allow</b> <b class="caution">{total.caution:,} caution</b>
<b class="block">{total.block:,} block</b>{failed}</p>
<p>Looked for: <b>{_names(record.covered)}</b>. Nothing else was looked for{_wanted(record)}.</p>
</header>"""


def _wanted(record: AuditRecord) -> str:
    if not record.uncovered:
        return ""
    return f"; the policy also wants {_names(record.uncovered)}, which no loaded bundle covers"


def _names(names: Sequence[str]) -> str:
    return escape(printable(", ".join(names))) or "nothing"


def _risks(summary: Summary) -> str:
    if not summary.categories:
        return "<p>No image was flagged for a risk.</p>"
    total = summary.total.images
    rows = (
        (
            name,
            *(f"{levels[level]:,}" for level in LEVELS),
            f"{sum(levels.values()):,}",
            share(levels.values(), total),
        )
        for name, levels in summary.categories.items()
    )
    head = ("risk", *(level.name.lower() for level in LEVELS), "flagged", "of all images")
    return table(head, rows) + "<p class='small'>An image counts under the risk that gave its action.</p>"


def _sources(summary: Summary) -> str:
    # The sort is stable: sources with equally many flagged images stay in the order of the audit.
    ranked = sorted(summary.sources.items(), key=lambda entry: -entry[1].flagged)
    rows = ((name or "(no name)", *_counts(one), share([one.flagged], one.images)) for name, one in ranked[:SOURCES])
    more = len(ranked) - SOURCES
    note = f"<p>And {more:,} more with fewer flagged images; verdicts.jsonl has all.</p>" if more > 0 else ""
    head = ("source", "images", "allow", "caution", "block", "not judged", "copies", "flagged")
    return f"{table(head, rows)}<p class='small'>What was not judged counts under its action, too.</p>{note}"


def _counts(one: Tally) -> tuple[str, ...]:
    return tuple(
        f"{number:,}" for number in (one.images, one.allow, one.caution, one.block, one.failed, one.duplicates)
    )


def _scores(summary: Summary) -> str:
    judged = sum(summary.scores)
    if not judged:
        return "<p>No image was judged.</p>"
    return (
        f"<p>{judged:,} judged images by the probability that any of the judged risks is there, as the bundle was "
        "calibrated. The height of a bar grows with the logarithm of its count.</p>" + histogram(summary.scores)
    )


def _failures(summary: Summary, picks: Picks) -> str:
    if not summary.errors:
        return "<p>None: every image was judged, or named by the hash hook.</p>"
    counts = table(("error", "images"), ((name, f"{number:,}") for name, number in summary.errors.items()))
    rows = ((row.path, row.error or "", row.reason) for row in picks.failed)
    more = summary.total.failed - len(picks.failed)
    note = f"<p>And {more:,} more; verdicts.jsonl has all.</p>" if more > 0 else ""
    which = table(("image", "error", "what was found"), rows)
    return (
        "<p>Nothing is known of these images; that the gate failed is no risk that was found.</p>"
        f"{counts}<details><summary>which</summary>{which}{note}</details>"
    )


def _copies(total: Tally) -> str:
    return (
        f"<p>{total.duplicates:,} of {total.images:,} entries hold the same bytes as an earlier one, and have its "
        "verdict. Pictures that only look alike are not counted here.</p>"
    )


def _hooks(record: AuditRecord, summary: Summary) -> str:
    if record.hash_hook is None:
        return "<p>None was asked: no image was compared with a list of known ones.</p>"
    asked = f"<p>{escape(printable(record.hash_hook))} was asked before an image was decoded. "
    if not summary.hooks:
        return f"{asked}It named no image.</p>"
    named = table(("it said", "images"), ((label, f"{number:,}") for label, number in summary.hooks.items()))
    return f"{asked}What it named is blocked, was never decoded and is never shown here.</p>{named}"


def _limits(record: AuditRecord, total: Tally) -> str:
    said = [
        f"Whatever is not among {', '.join(record.covered) or 'the covered risks'} was not looked for; that an image "
        "was allowed says nothing of it.",
        "A verdict speaks of the image alone, not of a caption or question beside it.",
        "The gate errs in both directions, at rates that depend on the images. What is counted here is what it "
        "flagged, not what is there: look at samples of both kinds before anything rests on it.",
        "Images that are made to deceive the gate can deceive it.",
    ]
    if total.failed:
        said.append(f"{total.failed:,} images were not judged; do not count them as harmless.")
    return _paragraphs(said)


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(printable(text))}</p>" for text in texts)


def _passed_over(record: AuditRecord) -> str:
    passed_over = {} if record.finished is None else record.finished.passed_over
    if not passed_over:
        return "<p>Nothing: every file of the source is an entry here.</p>"
    rows = ((name, f"{number:,}") for name, number in passed_over.items())
    return f"<p>These were met in the source, and are no entries here.</p>{table(('', 'found'), rows)}"


def _facts(record: AuditRecord) -> Iterator[tuple[str, str]]:
    kind = (
        record.source.kind if record.source.column is None else f"{record.source.kind}, column {record.source.column}"
    )
    yield "source", f"{record.source.path} ({kind})"
    for name, digest in zip(record.bundles, record.bundle_digests, strict=True):
        yield "bundle", f"{name}, {digest}"
    for name, digest in zip(record.policies, record.policy_digests, strict=True):
        yield "policy", f"{name}, {digest}"
    yield "provider", record.provider
    yield "decoding", "in a child process with limits" if record.isolate_decoding else "in the judging process"
    yield "hash hook", record.hash_hook or "none"
    yield "SafeVLM SDK", record.safevlm
    if record.finished is not None:
        yield "time", _time(record.finished)


def _time(finished: Finished) -> str:
    """How long the last part of the audit took; one that was never interrupted has no other."""
    rate = f", {finished.judged / finished.seconds:.1f} images/s" if finished.seconds else ""
    earlier = finished.rows - finished.judged
    before = f"; {earlier:,} were done before an interruption" if earlier else ""
    return f"{finished.judged:,} images in {finished.seconds:,.1f} s{rate}{before}"
