"""Where the time of each case goes, as a picture; needs the extra `bench`."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec

from safevlm_runtime.bench.compare import case_name
from safevlm_runtime.bench.figures import percentiles
from safevlm_runtime.bench.result import STEPS, Result
from safevlm_sdk.errors import MissingExtra

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#009E73")
DPI = 120


def require_plot() -> None:
    """Says before long work that nothing could be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "bench")


def draw_plot(result: Result) -> bytes:
    """A PNG: one bar per case, the medians of its steps end to end, and a mark at the p95 of the whole.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require_plot()
    from matplotlib.figure import Figure

    cases = result.cases
    figure = Figure(figsize=(9.0, 1.8 + 0.32 * len(cases)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    rows, starts = range(len(cases)), [0.0] * len(cases)
    for step, colour in zip(STEPS, COLOURS, strict=True):
        widths = [percentiles(case.steps[step])[0] for case in cases]
        axes.barh(rows, widths, left=starts, color=colour, label=step)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.scatter([percentiles(case.ms)[1] for case in cases], rows, marker="|", s=120, color="black", label="p95")
    axes.set_yticks(rows, [case_name(case) for case in cases], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds per image")
    axes.set_title(f"{result.subject.bundle}, {result.subject.graph}, {result.subject.provider}", parse_math=False)
    figure.legend(loc="outside lower center", ncols=len(STEPS) + 1, frameon=False)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a file's name may be in a script that the font lacks
        figure.savefig(out, format="png")
    return out.getvalue()
