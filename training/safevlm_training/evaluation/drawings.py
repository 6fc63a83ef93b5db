"""The curves of the report as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safevlm_training.evaluation.charts import Axis, Line, Mark, Point, chart
from safevlm_training.evaluation.intervals import Value
from safevlm_training.evaluation.tables import Html, short

Report = Mapping[str, Any]
RARE = Axis(title="false-positive rate", low=0.001, log=True, ticks=(0.001, 0.01, 0.1, 1.0))
RECALL = Axis(title="recall")
CHANCE = tuple((10 ** (step / 10 - 3),) * 2 for step in range(31))


def ranking_charts(report: Report) -> Html:
    """ROC with false-positive rates on a log scale, and precision against recall."""
    gate = report["any_risk"]
    if gate["curves"] is None:
        return Html("")
    probe = None if report["probe"] is None else report["probe"]["any_risk"]["curves"]
    roc, pr = [Line(name="gate", kind="gate", points=_points(gate["curves"]["roc"]))], []
    pr.append(Line(name="gate", kind="gate", points=_points(gate["curves"]["pr"])))
    if probe is not None:
        roc.append(Line(name="linear probe", kind="probe", points=_points(probe["roc"])))
        pr.append(Line(name="linear probe", kind="probe", points=_points(probe["pr"])))
    roc.append(Line(name="chance", kind="chance", points=CHANCE))
    marks = [_mark(float(fpr), value, "gate") for fpr, value in gate["recall_at_fpr"].items()]
    fpr, recall, precision = (gate[key] for key in ("false_positive_rate", "recall", "precision"))
    marks.append(_mark(fpr.value, recall, "shipped"))
    shipped = [_mark(recall.value, precision, "shipped")] if precision.value is not None else []
    return Html(
        '<div class="charts">'
        + chart("ROC of any risk; circle: shipped thresholds", RARE, RECALL, roc, marks)
        + chart("Precision and recall; circle: shipped thresholds", RECALL, Axis(title="precision"), pr, shipped)
        + "</div>"
    )


def reliability_charts(classes: Sequence[tuple[str, Report]]) -> Html:
    """A reliability diagram per class, with the interval of each bin."""
    charts = []
    for name, figures in classes:
        bins = figures["calibration"]["reliability"]
        points = [(one["mean_probability"], one["observed"].value) for one in bins]
        lines = [
            Line(name="observed", kind="gate", points=points),
            Line(name="calibrated", kind="chance", points=((0.0, 0.0), (1.0, 1.0))),
        ]
        marks = [_mark(one["mean_probability"], one["observed"], "gate") for one in bins]
        x, y = Axis(title="mean probability of the bin"), Axis(title="share of the class")
        charts.append(chart(f"Reliability, {name}", x, y, lines, marks))
    return Html(f'<div class="charts">{"".join(charts)}</div>')


def _points(curve: Sequence[Sequence[float]]) -> list[Point]:
    return [(point[0], point[1]) for point in curve]


def _mark(x: float, value: Value, kind: str) -> Mark:
    return Mark(x=x, y=value.value or 0.0, low=value.low, high=value.high, kind=kind, title=short(value))
