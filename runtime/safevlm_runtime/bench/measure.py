"""The benchmark itself: rounds in which every case, the ceilings and a fresh process take their turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.case import CaseRun, Loaded, describe, failure
from safevlm_runtime.bench.ceiling import CeilingRun, ceiling_provider
from safevlm_runtime.bench.cold import ColdRun
from safevlm_runtime.bench.images import drawn_pictures, own_pictures
from safevlm_runtime.bench.operations import count_operations
from safevlm_runtime.bench.result import Operations, Result
from safevlm_runtime.bench.subject import MAX_IMAGE_BYTES, Setup, chosen_graph, subject_of
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.bundle.signature import KeySigner
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.errors import BenchmarkError, OptionError
from safevlm_sdk.manifest import GATE, Graph
from safevlm_sdk.raster import Limits

COLD_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        setup: The bundle, and how it is loaded.
        batch_sizes: Each is measured.
        threads: Each is measured; None leaves the number to the provider.
        rounds: Samples of each case.
        images: A folder of the user's own; None draws some.
    """

    setup: Setup
    batch_sizes: tuple[int, ...] = (1,)
    threads: tuple[int | None, ...] = (None,)
    rounds: int = 30
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.batch_sizes or min(self.batch_sizes) < 1 or not self.threads:
            raise OptionError(
                f"rounds is {self.rounds} and batch sizes are {list(self.batch_sizes)}; give numbers of at least 1"
            )


def run_bench(plan: Plan) -> Result:
    """Loads, warms up and measures; nothing else should run on the machine meanwhile.

    Raises:
        BenchmarkError: No image can be judged, or the gate stops judging.
        OptionError, BundleError, ProviderError, MissingExtra: As `Runtime.load` says.
    """
    setup = plan.setup
    key = setup.public_key
    signer = None if key is None else KeySigner(public_key=key)
    bundle = read_bundle(setup.bundle, digest=setup.digest, signer=signer)
    graph, card = chosen_graph(bundle, setup), machine_card()
    with ExitStack() as stack:
        loaded = [
            Loaded(threads=threads, runtime=stack.enter_context(_runtime(setup, threads)))
            for threads in dict.fromkeys(plan.threads)
        ]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = list(drawn_pictures(folder)) if plan.images is None else own_pictures(plan.images)
        root = folder if plan.images is None else plan.images
        judged, left_out = _judged(loaded[0].runtime, {_name(path, root): path for path in paths})
        pictures = [describe(loaded[0].runtime, bundle.manifest, name, path) for name, path in judged.items()]
        cases = [
            CaseRun(one, name, path, batch_size)
            for name, path in judged.items()
            for batch_size in dict.fromkeys(plan.batch_sizes)
            for one in loaded
        ]
        name, path = next(iter(judged.items()))
        cold = ColdRun(setup, path, name, loaded[0].threads)
        operations = _operations(bundle, graph)
        provider = cases[0].provider()
        ceilings = _ceilings(provider, [one.threads for one in loaded])
        _rounds(cases, ceilings, cold, plan.rounds)
    return Result(
        benchmark="safevlm bench",
        schema_version=1,
        card=card,
        subject=subject_of(bundle, graph, provider),
        rounds=plan.rounds,
        pictures=tuple(pictures),
        left_out=tuple(left_out),
        operations=operations,
        cases=tuple(case.result() for case in cases),
        ceilings=tuple(ceiling.result() for ceiling in ceilings),
        cold=cold.result(),
    )


def turn(count: int, lap: int) -> list[int]:
    """In what order things take their turn: every second round is the one before, backwards; then another begins."""
    row = [(start + lap // 2) % count for start in range(count)]
    return row[::-1] if lap % 2 else row


def _rounds(cases: Sequence[CaseRun], ceilings: Sequence[CeilingRun], cold: ColdRun, rounds: int) -> None:
    measured: list[CaseRun | CeilingRun] = [*cases, *ceilings]
    for one in (*measured, cold):
        one.warm_up()
    for lap in range(rounds):
        steps: list[Callable[[], None]] = [measured[index].measure for index in turn(len(measured), lap)]
        if lap < COLD_RUNS:
            steps.append(cold.measure)
        for step in steps:
            step()


def _runtime(setup: Setup, threads: int | None) -> Runtime:
    return Runtime.load(setup.bundle, limits=Limits(max_bytes=MAX_IMAGE_BYTES), **setup.options(threads))


def _name(path: Path, root: Path) -> str:
    """The path below the folder, with escapes for what is no text."""
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _judged(runtime: Runtime, paths: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The images that the gate judges, and why the others are left out: a refusal is quick and measures nothing."""
    kept, left_out = {}, []
    for name, path in paths.items():
        problem = failure(runtime.check(path))
        if problem is None:
            kept[name] = path
        else:
            left_out.append(f"{name}: {problem}")
    if not kept:
        raise BenchmarkError(
            f"the gate judges none of the images; the first: {left_out[0]}; give others with --images"
        )
    return kept, left_out


def _operations(bundle: Bundle, chosen: Graph) -> Operations | None:
    """Of the chosen graph, or of another gate graph where ONNX Runtime cannot run that one on a CPU."""
    others = [graph for graph in bundle.manifest.graphs if graph.role == GATE and graph.id != chosen.id]
    for graph in (chosen, *others):
        if graph.backend == "onnxruntime":
            counted = count_operations(bundle.graphs[graph.id], graph)
            if counted is not None:
                return counted
    return None


def _ceilings(provider: str, threads: Sequence[int | None]) -> list[CeilingRun]:
    measuring = ceiling_provider(provider)
    return [] if measuring is None else [CeilingRun(measuring, number) for number in threads]
