"""How much a graph may differ: from the original when it is proven, from its golden values on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.manifest import DECISION_OUTPUTS, Precision

FLOOR = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What is allowed for one precision.

    Attributes:
        decisions: Largest error of type logits and levels in the proof, as a share of their largest value (or of 1).
        others: Root mean square of the error of features, attention and safety embeddings in the proof, as a share of
            that of their values. A single feature of many thousands may be far off, as where rounding moves one from
            one side of a ReLU6 to the other, while the decision, which hangs on all of them, is not.
        headroom: How many times the proof's largest error the self-test tolerates.
    """

    decisions: float
    others: float
    headroom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large values are: the largest absolute one, and their root mean square."""

    largest: float
    typical: float


# Flips decide whether a graph is written; these bounds catch one that is wrong and flips nothing by luck. They are
# about three times what sound graphs showed: two EfficientNet-Lite0, tuned and not, and ViT-B/16 with random weights.
ALLOWED: dict[Precision, Allowed] = {
    "fp32": Allowed(decisions=1e-3, others=1e-3, headroom=20.0),
    "fp16": Allowed(decisions=1e-2, others=2e-2, headroom=2.0),
    "bf16": Allowed(decisions=0.1, others=0.25, headroom=2.0),
    "int8": Allowed(decisions=0.1, others=0.3, headroom=1.0),
    "w8": Allowed(decisions=0.05, others=0.1, headroom=1.0),
    "w4": Allowed(decisions=0.4, others=0.6, headroom=1.0),
}


def proof_limits(scales: Mapping[str, Scale], precision: Precision) -> dict[str, float]:
    """Output name to the largest error that a proof forgives: an absolute one, or a root mean square.

    Args:
        scales: Output name to how large the original's values are.
        precision: Of the graph.
    """
    allowed = ALLOWED[precision]
    return {
        name: allowed.decisions * max(1.0, scale.largest)
        if name in DECISION_OUTPUTS
        else allowed.others * max(FLOOR, scale.typical)
        for name, scale in scales.items()
    }


def tolerances(
    expected: Mapping[str, NDArray[np.float32]],
    found: Mapping[str, NDArray[np.float32]],
    proven: Mapping[str, float],
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Output name to the largest absolute difference that the self-test accepts.

    Other processors and other releases of an engine round otherwise. The golden values of a float32 graph are the
    original's, and 20 times the largest error seen here is still tiny. Of an int8 graph that would accept anything:
    there the golden values are what the graph itself gave when it was proven, which another sound engine comes much
    nearer to than to the original, for the weights are rounded already. So the largest error of the proof, which is
    of hundreds of images, is tolerated once; and twice where engines differ in what they store in 16 bits at all.
    At least 1e-4 of the largest golden value (or of 1) is tolerated.

    Args:
        expected: Golden values.
        found: What the graph gave for them here.
        proven: Largest error per output on the proof images.
        precision: Of the graph.
    """
    allowed = {}
    for name, values in expected.items():
        seen = max(float(np.abs(found[name].astype(np.float64) - values).max()), proven[name])
        allowed[name] = max(ALLOWED[precision].headroom * seen, FLOOR * max(1.0, float(np.abs(values).max())))
    return allowed
