"""Proof that a graph decides as what it was made of does; without it no bundle is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from safevlm_export.reference import Vectors
from safevlm_export.tolerances import Scale, proof_limits
from safevlm_runtime.backends.backend import Backend, Tensors
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import ProofFailed
from safevlm_sdk.manifest import DECISION_OUTPUTS, GraphProof, Precision
from safevlm_sdk.margins import NEAR, same, threshold_margin
from safevlm_sdk.policy import Policy

FAILED = "failed"
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphResult:
    """A graph's proof with the names behind its counts.

    Attributes:
        proof: For the manifest.
        flipped: Images whose decision changed.
        near_threshold: Images near a threshold.
        notes: How the graph came about, for reports.
    """

    proof: GraphProof
    flipped: tuple[str, ...]
    near_threshold: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Sizes:
    """How large the numbers of many arrays are; what is not finite stays so."""

    largest: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, values: NDArray[np.float64]) -> None:
        absolute = np.abs(values)
        self.largest = float(np.maximum(self.largest, absolute.max()))
        self.total += float(absolute.sum())
        self.squares += float(np.square(values).sum())
        self.count += values.size

    @property
    def scale(self) -> Scale:
        return Scale(largest=self.largest, typical=float(np.sqrt(self.squares / self.count)))


@dataclass(slots=True, kw_only=True, eq=False)
class Evidence:
    """Collects, batch by batch, how one graph differs from the reference.

    Attributes:
        graph: The graph's id.
        backend: Runs it.
        rule: The bundle's side of a decision.
        policy: The bundle's policy.
        precision: Of the graph; it says how large an error is allowed.
        left_out_by: How to export without the graph; None: without its precision.
    """

    graph: str
    backend: Backend
    rule: Rule
    policy: Policy
    precision: Precision = "fp32"
    left_out_by: str | None = None
    _images: int = 0
    _errors: dict[str, _Sizes] = field(default_factory=dict)
    _values: dict[str, _Sizes] = field(default_factory=dict)
    _flipped: list[str] = field(default_factory=list)
    _flips_of: Counter[str] = field(default_factory=Counter)
    _near: list[str] = field(default_factory=list)

    def add(self, names: list[str], vectors: Vectors) -> None:
        """Runs one batch and compares every output and, where the graph decides, every decision.

        Raises:
            EngineError: The graph does not run.
        """
        found = self.backend.run(vectors.inputs, list(vectors.expected))
        for output, expected in vectors.expected.items():
            wanted = expected.astype(np.float64)
            self._errors.setdefault(output, _Sizes()).add(found[output] - wanted)
            self._values.setdefault(output, _Sizes()).add(wanted)
        if all(name in vectors.expected for name in DECISION_OUTPUTS):
            self._compare_decisions(names, vectors, found)
        self._images += len(names)

    def _compare_decisions(self, names: list[str], vectors: Vectors, found: Tensors) -> None:
        types, levels = (vectors.expected[name] for name in DECISION_OUTPUTS)
        for row, name in enumerate(names):
            wanted = decide(types[row], levels[row], self.rule, self.policy)
            got = decide(found["type_logits"][row], found["level_logprobs"][row], self.rule, self.policy)
            if not same(wanted, got):
                self._flipped.append(name)
                self._flips_of[wanted.category or FAILED] += 1
            if wanted.error is None and threshold_margin(types[row], self.rule, self.policy) < NEAR:
                self._near.append(name)

    @property
    def flips(self) -> int:
        """Decisions that changed so far."""
        return len(self._flipped)

    @property
    def share_of_allowed(self) -> float:
        """The largest error so far, as a share of what is allowed for its output; NaN where it is not finite."""
        limits = self._limits()
        return float(np.max([self._error(name) / limit for name, limit in limits.items()]))

    def result(self, *, max_flips: int) -> GraphResult:
        """The proof.

        Raises:
            ProofFailed: More decisions changed than `max_flips`, an output is off by more than its precision allows,
                or there were no images; the message has the numbers.
        """
        if self._images == 0:
            raise ProofFailed(f"{self.graph}: there were no images to prove it on")
        proof = GraphProof(
            images=self._images,
            max_error={name: errors.largest for name, errors in self._errors.items()},
            mean_error={name: errors.total / errors.count for name, errors in self._errors.items()},
            flips=len(self._flipped),
            near_threshold=len(self._near),
            flips_by_category=dict(sorted(self._flips_of.items())),
        )
        limits = self._limits()
        wrong = [name for name, limit in limits.items() if not self._error(name) <= limit]
        if wrong or proof.flips > max_flips:
            raise ProofFailed(self._refusal(proof, {name: limits[name] for name in wrong}, max_flips))
        return GraphResult(proof=proof, flipped=tuple(self._flipped), near_threshold=tuple(self._near))

    def _limits(self) -> dict[str, float]:
        return proof_limits({name: values.scale for name, values in self._values.items()}, self.precision)

    def _error(self, name: str) -> float:
        """What `proof_limits` bounds: the largest error of what is decided by, the root mean square of the others."""
        scale = self._errors[name].scale
        return scale.largest if name in DECISION_OUTPUTS else scale.typical

    def _refusal(self, proof: GraphProof, wrong: dict[str, float], max_flips: int) -> str:
        errors = "".join(
            f"; {name} is off by {self._error(name):.3g}{'' if name in DECISION_OUTPUTS else ' (root mean square)'}, "
            f"{limit:.3g} is allowed"
            for name, limit in wrong.items()
        )
        remedy = "try another --opset, or report it with the versions of torch, onnxscript and onnxruntime"
        if self.precision != "fp32":
            leave = self.left_out_by or f"leave {self.precision} out of --precision"
            remedy = f"{leave}, or try it with more images in --calibration-data"
        return (
            f"{self.graph}: {proof.flips} of {proof.images} images changed category, level or action, {max_flips} may"
            f"{_named(proof.flips_by_category, self._flipped)}{errors}. Nothing was written: the graph does not "
            f"compute what the original does; {remedy}"
        )


def _named(by_category: dict[str, int], images: list[str]) -> str:
    if not images:
        return ""
    counted = ", ".join(f"{count} {category}" for category, count in by_category.items())
    more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
    return f" ({counted}: {', '.join(images[:SHOWN])}{more})"
