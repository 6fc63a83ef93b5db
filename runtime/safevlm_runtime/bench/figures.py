"""What follows from the samples of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safevlm_runtime.bench.result import Case, Ceiling, Result

# By the precision of a graph, the one that its matrices are multiplied in.
ARITHMETIC = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8", "w8": "fp32", "w4": "fp32"}


def percentiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99, between neighbouring samples where they fall there."""
    p50, p95, p99 = (float(value) for value in np.percentile(samples, (50, 95, 99)))
    return p50, p95, p99


def per_second(case: Case) -> float:
    """Images per second at the median."""
    return 1e3 / percentiles(case.ms)[0]


def views_of_case(result: Result, case: Case) -> int:
    """How often the graph looks at the case's picture."""
    return next(picture.views for picture in result.pictures if picture.name == case.picture)


def computed_rate(result: Result, case: Case) -> float | None:
    """10^9 operations per second of the step "infer" at the median; None where they could not be counted."""
    samples = _rates(result, case)
    return None if samples is None else float(np.median(samples))


def share_of_ceiling(result: Result, case: Case) -> float | None:
    """The median over rounds of the rate of "infer" over that of the machine in the same round.

    Returns:
        None where the operations were not counted, or the machine has no kernel of the graph's precision.
    """
    rates, best = _rates(result, case), gemm_of(result, case.threads)
    return None if rates is None or best is None else float(np.median(rates / np.asarray(best)))


def ceiling_of(result: Result, threads: int | None) -> Ceiling | None:
    """What was measured with as many threads."""
    return next((ceiling for ceiling in result.ceilings if ceiling.threads == threads), None)


def gemm_of(result: Result, threads: int | None) -> Sequence[float] | None:
    """The machine's rates in the arithmetic of the graph's precision."""
    ceiling = ceiling_of(result, threads)
    return None if ceiling is None else ceiling.gemm.get(ARITHMETIC[result.subject.precision])


def floors_ms(result: Result, threads: int | None) -> tuple[float, float] | None:
    """What one view takes to compute at the GEMM rate, and to move at the copy bandwidth without caches."""
    ceiling, rates, counted = ceiling_of(result, threads), gemm_of(result, threads), result.operations
    if ceiling is None or not rates or not ceiling.copy or counted is None:
        return None
    moved = counted.weight_bytes + counted.activation_bytes
    return counted.flops / float(np.median(rates)) / 1e6, moved / float(np.median(ceiling.copy)) / 1e6


def cold_total(result: Result) -> tuple[float, ...]:
    """Milliseconds from import to the first verdict, per process."""
    cold = result.cold
    return tuple(sum(parts) for parts in zip(cold.import_ms, cold.load_ms, cold.first_ms, strict=True))


def _rates(result: Result, case: Case) -> np.ndarray | None:
    counted = result.operations
    infer = np.asarray(case.steps["infer"])
    if counted is None or counted.flops == 0 or not infer.all():
        return None
    rates: np.ndarray = counted.flops * views_of_case(result, case) / infer / 1e6
    return rates
