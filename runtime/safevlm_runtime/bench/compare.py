"""One result against another: ratios of medians, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from safevlm_runtime.bench.figures import cold_total
from safevlm_runtime.bench.result import Case, Ceiling, Result

FEWEST = 5  # samples on each side, below which an interval would say nothing
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The second result's median over the first's.

    Attributes:
        name: Of what.
        first: Median of the first result.
        second: Median of the second.
        ratio: None where the first is 0.
        interval: 95 % bootstrap interval over the rounds of both; None where one has fewer than `FEWEST`.
    """

    name: str
    first: float
    second: float
    ratio: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that two results have in common, and what sets them apart.

    Attributes:
        machine: Ratios of what the machine did at best: more is faster.
        gate: Ratios of times and memory: less is better.
        differences: What else differs between the runs, in words.
        unmatched: Cases that only one of them has.
    """

    machine: tuple[Ratio, ...]
    gate: tuple[Ratio, ...]
    differences: tuple[str, ...]
    unmatched: tuple[str, ...]


def compare(first: Result, second: Result) -> Comparison:
    """Everything that both results measured, second over first."""
    cases, others = ({case_name(case): case for case in one.cases} for one in (first, second))
    gate = [
        ratio_of(f"{name}, {what}", samples, dict(_timed(others[name]))[what])
        for name, case in cases.items()
        if name in others
        for what, samples in _timed(case)
    ]
    gate += [
        ratio_of(name, samples, dict(_started(second))[name])
        for name, samples in _started(first)
        if name in dict(_started(second))
    ]
    rates = dict(_best(second.ceilings))
    machine = [ratio_of(name, samples, rates[name]) for name, samples in _best(first.ceilings) if name in rates]
    return Comparison(
        machine=tuple(machine),
        gate=tuple(gate),
        differences=tuple(_differences(first, second)),
        unmatched=tuple(sorted(cases.keys() ^ others.keys())),
    )


def ratio_of(name: str, first: Sequence[float], second: Sequence[float]) -> Ratio:
    """The ratio of two medians; both sides are drawn again, independently, for the interval."""
    before, after = float(np.median(first)), float(np.median(second))
    interval = None
    if min(len(first), len(second)) >= FEWEST and before > 0:
        rng = np.random.default_rng(0)
        drawn = [_medians(rng, np.asarray(samples)) for samples in (first, second)]
        if drawn[0].all():
            low, high = np.percentile(drawn[1] / drawn[0], (2.5, 97.5))
            interval = float(low), float(high)
    ratio = after / before if before > 0 else None
    return Ratio(name=name, first=before, second=after, ratio=ratio, interval=interval)


def case_name(case: Case) -> str:
    """What tells a case from the others of its run."""
    threads = "default threads" if case.threads is None else f"threads {case.threads}"
    return f"{case.picture}, batch {case.batch_size}, {threads}"


def _medians(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    medians: np.ndarray = np.median(samples[rng.integers(len(samples), size=(RESAMPLES, len(samples)))], axis=1)
    return medians


def _timed(case: Case) -> Iterator[tuple[str, Sequence[float]]]:
    yield "total ms", case.ms
    for step, samples in case.steps.items():
        yield f"{step} ms", samples


def _started(result: Result) -> Iterator[tuple[str, Sequence[float]]]:
    cold = result.cold
    yield "cold: import to verdict, ms", cold_total(result)
    for name in ("import_ms", "load_ms", "first_ms"):
        yield f"cold: {name.removesuffix('_ms')}, ms", getattr(cold, name)
    if cold.peak_mib is not None:
        yield "cold: peak memory, MiB", cold.peak_mib


def _best(ceilings: Sequence[Ceiling]) -> Iterator[tuple[str, Sequence[float]]]:
    for ceiling in ceilings:
        threads = "default threads" if ceiling.threads is None else f"threads {ceiling.threads}"
        for kind, samples in ceiling.gemm.items():
            if samples is not None:
                yield f"{ceiling.provider}, {threads}, {kind} GEMM, Gop/s", samples
        if ceiling.copy:
            yield f"{ceiling.provider}, {threads}, copy, GB/s", ceiling.copy


def _differences(first: Result, second: Result) -> Iterator[str]:
    """What is not the same, so that nobody takes one cause for another."""
    for part in ("card", "subject"):
        before, after = getattr(first, part), getattr(second, part)
        for field in before.__struct_fields__:
            if getattr(before, field) != getattr(after, field):
                yield f"{field}: {_plain(getattr(before, field))} -> {_plain(getattr(after, field))}"
    files = {picture.name: picture.sha256 for picture in first.pictures}
    for picture in second.pictures:
        if picture.sha256 != files.get(picture.name, picture.sha256):
            yield f"{picture.name}: is another file"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {found}" for key, found in value.items() if found is not None)
    return str(value)
