"""The parts of the page, each from the report's figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safevlm_sdk.taxonomy import RiskLevel
from safevlm_training.evaluation.drawings import ranking_charts, reliability_charts
from safevlm_training.evaluation.intervals import Value
from safevlm_training.evaluation.tables import Html, cell, notes, number, paragraph, short, table
from safevlm_training.metrics import FPRS

Report = Mapping[str, Any]
AT = ("precision", "recall", "f1", "false_positive_rate")
RANKS = ("auroc", "average_precision")
RECALLS = tuple(f"{fpr:g}" for fpr in FPRS)
RECALL_HEADS = tuple(f"recall at {fpr:.1%} false positives" for fpr in FPRS)
TITLES = {"false_alarms": "False alarms", "misses": "Misses", "wrong_category": "Wrong category"}


def classes(report: Report) -> Iterator[tuple[str, Any]]:
    """The figures of any risk and of each risk, by name."""
    yield "any risk", report["any_risk"]
    if len(report["categories"]) > 1:
        yield from report["categories"].items()


def at_thresholds(report: Report) -> Html:
    """Precision, recall, F1 and false-positive rate."""
    found = list(classes(report))
    thresholds = report["checkpoint"]["thresholds"]
    stated = ", ".join(f"{name} {value:g}" for name, value in thresholds["categories"].items())
    text = f"Thresholds: {stated}; any risk {thresholds['any']:g}. Precision depends on how common risks are here."
    rows = [(name, *(cell(figures[key]) for key in AT)) for name, figures in found]
    values = [figures[key] for _, figures in found for key in AT]
    return _join(
        paragraph(text), table(("", "precision", "recall", "F1", "false-positive rate"), rows), notes(values)
    )


def sources(report: Report) -> Html:
    """How often safe and risky images of each source were flagged."""
    rows = [
        (name, cell(one["safe_flagged"]), cell(one["risky_flagged"]), one["failed"])
        for name, one in report["sources"].items()
    ]
    values = [one[key] for one in report["sources"].values() for key in ("safe_flagged", "risky_flagged")]
    known = [value for value in values if value.value is not None]
    return _join(table(("source", "safe images flagged", "risky images flagged", "failed"), rows), notes(known))


def ranking(report: Report) -> Html:
    """AUROC, average precision, recall at fixed false-positive rates, their curves, and the linear probe beside."""
    rows, values = [], []
    for name, figures in classes(report):
        rows.append((name, *_ranks(figures)))
        values += _rank_values(figures)
    probe = report["probe"]
    if probe is not None:
        compared = [("any risk", probe["any_risk"])]
        compared += list(probe["categories"].items()) if len(probe["categories"]) > 1 else []
        rows += [(f"linear probe, {name}", *_ranks(figures)) for name, figures in compared if figures is not None]
    head = ("", "AUROC", "average precision", *RECALL_HEADS)
    return _join(ranking_charts(report), table(head, rows), notes(values), _probe(probe))


def calibration(report: Report) -> Html:
    """Calibration error, Brier score and log loss, with the reliability diagrams."""
    rows = []
    for name, figures in classes(report):
        found = figures["calibration"]
        keys = ("expected_calibration_error", "brier", "log_loss")
        mean, share = number(found["mean_probability"]), number(found["share_of_class"])
        rows.append((name, *(cell(found[key]) for key in keys), mean, share))
    head = ("", "expected calibration error", "Brier score", "log loss", "mean probability", "share of the class")
    text = (
        "Ten bins of equally many images. A gate can be calibrated on one mix of images only: where risks are rarer, "
        "its probabilities are too high. The calibration error of few images is too large, and so is its interval."
    )
    return _join(reliability_charts(list(classes(report))), table(head, rows), paragraph(text))


def confusions(report: Report) -> Html:
    """What each true category was said to be, and which action followed."""
    types, actions = report["confusion"], report["actions"]
    return _join(
        Html("<h3>Categories: rows are the truth, columns the decision</h3>"),
        _matrix(types["labels"], types["labels"], types["counts"]),
        Html("<h3>Actions under the policy</h3>"),
        _matrix(actions["labels"], actions["actions"], actions["counts"]),
    )


def levels(report: Report) -> Html:
    """Accuracy, mean absolute error, kappa, confusion and the figures of each level."""
    found = report["levels"]
    keys = ("accuracy", "mean_absolute_error", "quadratic_weighted_kappa", "accuracy_of_head_on_risky")
    head = ("accuracy", "mean absolute error", "quadratic weighted kappa", "accuracy of the level head, risky images")
    per_level = found["per_level"].items()
    rows = [(name, *(cell(one[key]) for key in AT[:3]), *_ranks(one)) for name, one in per_level]
    columns = ("level", "precision", "recall", "F1", "AUROC", "average precision", *RECALL_HEADS)
    return _join(
        paragraph(
            "As decided: none where nothing was flagged. AUROC and the rest are of the level head's probability."
        ),
        table(("", *head), [("all images", *(cell(found[key]) for key in keys))]),
        Html("<h3>Rows are the truth, columns the decision</h3>"),
        _matrix(found["labels"], found["labels"], found["confusion"]),
        table(columns, rows),
        notes([found[key] for key in keys]),
    )


def mistakes(report: Report, thumbnails: Mapping[str, str]) -> Html:
    """The worst of each kind; `thumbnails` by the sha256 of the file."""
    parts = []
    for kind, title in TITLES.items():
        found = report["mistakes"][kind]
        shown = len(found["worst"])
        more = f", the worst {shown}" if shown < found["count"] else ""
        parts.append(Html(f"<h3>{title}: {found['count']}{more}</h3>"))
        if shown:
            head = ("file", *(("",) if thumbnails else ()), "source", "labelled", "decided", "action", "score")
            parts.append(table(head, [_mistake(one, thumbnails) for one in found["worst"]]))
    return _join(*parts)


def unusable(report: Report) -> Html:
    """Images that the gate failed on, and rows that carry no usable label: neither is in any figure above."""
    failed, bad = report["data"]["failed"], report["data"]["bad_rows"]
    parts = [
        paragraph(f"{len(failed)} images failed and {len(bad)} rows could not be used. No figure includes them.")
    ]
    if failed:
        rows = [(one["file"], one["source"], one["category"], one["error"], one["reason"]) for one in failed]
        parts.append(table(("file", "source", "labelled", "error", "reason"), rows))
    if bad:
        parts.append(table(("row", "reason"), [(one["where"], one["reason"]) for one in bad]))
    return _join(*parts)


def provenance(report: Report) -> Html:
    """Digests, versions and how intervals are made."""
    checkpoint, policy, data, intervals = (report[key] for key in ("checkpoint", "policy", "data", "intervals"))
    tower = checkpoint["tower"]
    rows = [
        ("checkpoint", checkpoint["digest"]),
        ("tower", f"{tower['name']}, {tower['tap']}, {tower['digest']}"),
        ("policy", f"{policy['name']}, {policy['digest']}"),
        ("data", data["digest"]),
        ("calibration", checkpoint["calibration"]["note"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
        (
            "intervals",
            "Rates: exact (Clopper-Pearson) where every group is one image, else Clopper-Pearson with Korn and "
            "Graubard's effective sample size. Everything else: cluster bootstrap, groups drawn again within each "
            f"label, {intervals['resamples']} times, seed {intervals['seed']}; percentiles widened for few groups.",
        ),
    ]
    return table(("", ""), rows)


def _probe(probe: Report | None) -> Html:
    if probe is None:
        return paragraph("No linear probe: give --probe-data for a baseline on the same features.")
    shared = probe["images_also_evaluated"]
    text = (
        f"Linear probe: {probe['classifier']}, on the {probe['features']}; fitted on {probe['images']} images. "
        f"AUROC of the gate less the probe's: {short(probe['gate_less_probe_auroc'])}. At the gate's false-positive "
        f"rate, with the threshold chosen on these images, the probe's recall is "
        f"{short(probe['recall_at_gate_false_positive_rate'])}."
    )
    if shared or probe["groups_also_evaluated"]:
        text += (
            f" {shared} evaluated images and {probe['groups_also_evaluated']} groups are also among those that the "
            "probe was fitted on, which flatters it."
        )
    return paragraph(text)


def _rank_values(figures: Report) -> list[Value]:
    return [*(figures[key] for key in RANKS), *(figures["recall_at_fpr"][fpr] for fpr in RECALLS)]


def _ranks(figures: Report) -> list[Html]:
    return [cell(value) for value in _rank_values(figures)]


def _matrix(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    return table(("", *columns), [(name, *line) for name, line in zip(rows, counts, strict=True)])


def _mistake(one: Report, thumbnails: Mapping[str, str]) -> list[str]:
    picture = thumbnails.get(one["sha256"])
    image = [Html(f'<img alt="" src="{picture}">') if picture else ""] if thumbnails else []
    levels = [RiskLevel(one[key]).name.lower() for key in ("level", "decided_level")]
    truth, said = f"{one['category']}, {levels[0]}", f"{one['decided_category']}, {levels[1]}"
    return [one["file"], *image, one["source"], truth, said, one["action"], number(one["score"])]


def _join(*parts: str) -> Html:
    return Html("\n".join(part for part in parts if part))
