"""One picture, batch size and number of threads, judged again and again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from PIL import Image

from safevlm_runtime.bench.result import STEPS, Case, Picture
from safevlm_runtime.judging.tiles import needs_square
from safevlm_runtime.judging.views import views_of, with_tiles
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.errors import BenchmarkError
from safevlm_sdk.manifest import Manifest
from safevlm_sdk.verdict import Verdict

BATCHES = 2  # per call of `check_many`, so that the next images are decoded while the gate judges


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A runtime, and the number of threads that it was loaded with."""

    threads: int | None
    runtime: Runtime


class CaseRun:
    """A case that is ready, and its samples so far."""

    def __init__(self, loaded: Loaded, name: str, path: Path, batch_size: int) -> None:
        self._loaded, self._name, self._path, self._batch_size = loaded, name, path, batch_size
        self._images = 1 if batch_size == 1 else BATCHES * batch_size
        self._ms: list[float] = []
        self._steps: dict[str, list[float]] = {step: [] for step in STEPS}

    def warm_up(self) -> None:
        """Judges once without keeping a figure."""
        self._judge()

    def measure(self) -> None:
        """Takes one sample.

        Raises:
            BenchmarkError: The gate did not judge an image.
        """
        start = perf_counter()
        verdicts = self._judge()
        self._ms.append(round((perf_counter() - start) * 1e3 / self._images, 4))
        for step, samples in self._steps.items():
            samples.append(round(sum(verdict.timings_ms[step] for verdict in verdicts) / self._images, 4))
        for verdict in verdicts:
            problem = failure(verdict)
            if problem is not None:
                raise BenchmarkError(f"the gate no longer judges {self._name}: {problem}; run it again")

    def provider(self) -> str:
        """The provider that really runs.

        Raises:
            BenchmarkError: The gate did not judge.
        """
        verdict = self._judge()[0]
        if verdict.provider is None:
            raise BenchmarkError(f"the gate no longer judges {self._name}: {failure(verdict)}; run it again")
        return verdict.provider

    def result(self) -> Case:
        """All samples."""
        return Case(
            picture=self._name,
            batch_size=self._batch_size,
            threads=self._loaded.threads,
            images=self._images,
            ms=tuple(self._ms),
            steps={step: tuple(samples) for step, samples in self._steps.items()},
        )

    def _judge(self) -> list[Verdict]:
        runtime = self._loaded.runtime
        if self._batch_size == 1:
            return [runtime.check(self._path)]
        return runtime.check_many([self._path] * self._images, self._batch_size)


def failure(verdict: Verdict) -> str | None:
    """Why a verdict judged nothing; None if it did."""
    return None if verdict.error is None else f"{verdict.error}: {verdict.reason}"


def describe(runtime: Runtime, manifest: Manifest, name: str, path: Path) -> Picture:
    """A picture that the runtime has judged, and in how many views a bundle looks at it."""
    data = path.read_bytes()
    with Image.open(path) as image:
        form, (width, height) = str(image.format), image.size
    square = needs_square(manifest.preprocessing)
    looks = [with_tiles(view, manifest.view_plan, square=square) for view in views_of(runtime.raster(data).frames)]
    return Picture(
        name=name,
        format=form,
        width=width,
        height=height,
        file_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        views=sum(map(len, looks)),
    )
