"""A result and a comparison as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safevlm_runtime.bench.compare import Comparison, Ratio
from safevlm_runtime.bench.figures import (
    cold_total,
    computed_rate,
    floors_ms,
    per_second,
    percentiles,
    share_of_ceiling,
)
from safevlm_runtime.bench.result import STEPS, Case, Ceiling, Result

HEAD = ("image", "MP", "KB", "batch", "threads", "p50", "p95", "p99", "images/s", *STEPS, "Gop/s", "of ceiling")
_UNKNOWN = "-"


def card_lines(result: Result) -> list[str]:
    """The machine, what was measured on it, what its graph takes, and what the machine does at best."""
    card, subject, cold = result.card, result.subject, result.cold
    packages = ", ".join(f"{name} {version}" for name, version in card.packages.items() if version is not None)
    lines = [
        f"machine: {card.cpu or 'unknown processor'}, {card.cores} cores, {card.system}, load {_text(card.load)}",
        f"GPU: {', '.join(card.gpus) or 'none'}",
        f"versions: Python {card.python}, {packages}",
        f"bundle: {subject.bundle}, {subject.digest}",
        f"graph: {subject.graph}, {subject.precision}, {subject.file_bytes / 1e6:.2f} MB, on {subject.provider}",
        f"rounds: {result.rounds}",
        _operations_line(result),
    ]
    for ceiling in result.ceilings:
        lines += _ceiling_lines(result, ceiling)
    if not result.ceilings:
        lines.append("ceiling: nothing here measures this provider's device")
    parts = zip(("import", "load", "first verdict"), (cold.import_ms, cold.load_ms, cold.first_ms), strict=True)
    steps = ", ".join(f"{name} {percentiles(samples)[0]:.0f}" for name, samples in parts)
    memory = "unknown" if cold.peak_mib is None else f"{percentiles(cold.peak_mib)[0]:.0f} MiB"
    lines.append(
        f"cold: {percentiles(cold_total(result))[0]:.0f} ms from import to the first verdict ({steps}), "
        f"peak memory {memory}; {len(cold.import_ms)} processes, {cold.picture}"
    )
    return lines + [f"left out: {line}" for line in result.left_out]


def table_lines(result: Result) -> list[str]:
    """One row per case, milliseconds per image; the steps are medians."""
    return _aligned([HEAD, *(_row(result, case) for case in result.cases)])


def comparison_lines(comparison: Comparison) -> list[str]:
    """Two tables and what differs; ratios are second over first."""
    lines = [f"differs: {difference}" for difference in comparison.differences]
    lines += [f"in one of them only: {name}" for name in comparison.unmatched]
    for title, ratios in (
        ("the machine (above 1: the second run's was faster)", comparison.machine),
        ("the gate (below 1: the second is faster or smaller)", comparison.gate),
    ):
        lines += ["", title, *_aligned([("", "first", "second", "ratio", "95 %"), *map(_ratio_row, ratios)])]
    return lines


def _operations_line(result: Result) -> str:
    counted = result.operations
    if counted is None:
        return "operations: not counted, for ONNX Runtime runs none of the bundle's gate graphs on this CPU"
    left = f"; not counted: {', '.join(counted.not_counted)}" if counted.not_counted else ""
    return (
        f"operations: {counted.flops / 1e9:.3f} Gop per view, {counted.weight_bytes / 1e6:.2f} MB of weights, "
        f"{counted.activation_bytes / 1e6:.2f} MB of activations ({counted.graph}){left}"
    )


def _ceiling_lines(result: Result, ceiling: Ceiling) -> Iterator[str]:
    rates = ", ".join(
        f"{kind} {_UNKNOWN if samples is None else format(percentiles(samples)[0], '.1f')}"
        for kind, samples in ceiling.gemm.items()
    )
    copy = f"{percentiles(ceiling.copy)[0]:.1f} GB/s" if ceiling.copy else "unknown"
    where = f"{ceiling.provider}, threads {_threads(ceiling.threads)}"
    yield f"ceiling: GEMM in Gop/s: {rates}; copy {copy} ({where})"
    floors = floors_ms(result, ceiling.threads)
    if floors is not None:
        least = f"{floors[0]:.2f} ms to compute; {floors[1]:.2f} ms to move without caches"
        yield f"at the ceiling a view takes {least} ({where})"


def _row(result: Result, case: Case) -> tuple[str, ...]:
    picture = next(picture for picture in result.pictures if picture.name == case.picture)
    rate, share = computed_rate(result, case), share_of_ceiling(result, case)
    return (
        case.picture,
        f"{picture.width * picture.height / 1e6:.2f}",
        f"{picture.file_bytes / 1e3:.0f}",
        str(case.batch_size),
        _threads(case.threads),
        *(f"{value:.2f}" for value in percentiles(case.ms)),
        f"{per_second(case):.1f}",
        *(f"{percentiles(case.steps[step])[0]:.2f}" for step in STEPS),
        _UNKNOWN if rate is None else f"{rate:.2f}",
        _UNKNOWN if share is None else f"{share:.0%}",
    )


def _ratio_row(one: Ratio) -> tuple[str, ...]:
    interval = _UNKNOWN if one.interval is None else f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
    ratio = _UNKNOWN if one.ratio is None else f"{one.ratio:.3f}"
    return one.name, f"{one.first:.3f}", f"{one.second:.3f}", ratio, interval


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _threads(threads: int | None) -> str:
    return "default" if threads is None else str(threads)


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
