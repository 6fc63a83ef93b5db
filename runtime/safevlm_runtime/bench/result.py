"""One run of the benchmark: every sample that was taken, so that others can be compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from safevlm_sdk.errors import BenchmarkError
from safevlm_sdk.strict import Strict, canonical_json, from_json

STEPS = ("decode", "preprocess", "infer", "decide")
MAX_BYTES = 2**28

Samples = tuple[float, ...]
"""One value per round."""


class Card(Strict, frozen=True):
    """The machine; `load` is the system's load average of the last minute when the run began."""

    cpu: str | None
    cores: int | None
    load: float | None
    gpus: tuple[str, ...]
    system: str
    python: str
    packages: dict[str, str | None]


class Subject(Strict, frozen=True):
    """What was measured.

    Attributes:
        bundle: Its name.
        digest: Its digest.
        provider: The one that was in use.
        graph: Id of the graph that judged.
        precision: Of that graph.
        file_bytes: Of that graph's file.
    """

    bundle: str
    digest: str
    provider: str
    graph: str
    precision: str
    file_bytes: int


class Picture(Strict, frozen=True):
    """One image file; `views` is how often the graph looks at it."""

    name: str
    format: str
    width: int
    height: int
    file_bytes: int
    sha256: str
    views: int


class Operations(Strict, frozen=True):
    """What a graph computes and moves for one view.

    Attributes:
        graph: Id of the graph that was counted.
        flops: Two per multiplication with addition, of matrix products and convolutions; of nothing else.
        weight_bytes: Constants, each as often as a node reads it.
        activation_bytes: What nodes read and write besides, after ONNX Runtime has fused them for a CPU.
        not_counted: Operators with matrix products that are not in `flops`.
    """

    graph: str
    flops: int
    weight_bytes: int
    activation_bytes: int
    not_counted: tuple[str, ...]


class Case(Strict, frozen=True):
    """One picture, batch size and number of threads.

    Attributes:
        picture: Its name.
        batch_size: 1 is `Runtime.check`, more is `Runtime.check_many`.
        threads: Within one operator; None leaves it to the provider.
        images: Judged in each round.
        ms: Wall time per image.
        steps: Name of a step to its time per image.
    """

    picture: str
    batch_size: int
    threads: int | None
    images: int
    ms: Samples
    steps: dict[str, Samples]


class Ceiling(Strict, frozen=True):
    """What the machine does at best, measured in the same rounds.

    Attributes:
        threads: As in a case.
        provider: ONNX Runtime's, which multiplied the matrices.
        gemm: "fp32", "fp16", "bf16" or "int8" to 10^9 operations per second; None where there is no kernel.
        copy: 10^9 bytes per second, read and written.
    """

    threads: int | None
    provider: str
    gemm: dict[str, Samples | None]
    copy: Samples


class Cold(Strict, frozen=True):
    """Fresh processes; `peak_mib` is the largest resident memory of each, None where the system does not tell."""

    picture: str
    threads: int | None
    import_ms: Samples
    load_ms: Samples
    first_ms: Samples
    peak_mib: Samples | None


class Result(Strict, frozen=True):
    """A whole run."""

    benchmark: Literal["safevlm bench"]
    schema_version: Literal[1]
    card: Card
    subject: Subject
    rounds: int
    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...]
    operations: Operations | None
    cases: tuple[Case, ...]
    ceilings: tuple[Ceiling, ...]
    cold: Cold


def to_line(result: Result) -> str:
    """One line of JSON."""
    return canonical_json(result).decode("utf-8")


def load_result(path: Path) -> Result:
    """Reads what `safevlm bench --json` wrote.

    Raises:
        BenchmarkError: It cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise BenchmarkError(
            f"{path}: cannot be read ({problem.strerror}); give a file of `safevlm bench --json`"
        ) from (problem)
    if len(data) > MAX_BYTES:
        raise BenchmarkError(f"{path}: has more than {MAX_BYTES} bytes; give a file of `safevlm bench --json`")
    return from_json(data.rstrip(b"\n"), Result, error=BenchmarkError, where=str(path))
