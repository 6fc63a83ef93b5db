"""Temperature scaling: one number that makes probabilities as confident as they are right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from safevlm_sdk.decision import Activation
from safevlm_sdk.errors import DataError

TEMPERATURES = (0.1, 10.0)


def fit_temperature(
    type_logits: NDArray[np.float64],
    types: NDArray[np.int64],
    labels: Sequence[str],
    activation: Activation = "softmax",
) -> float:
    """The temperature in [0.1, 10] that minimises the log loss of the types, to 4 decimals.

    Args:
        type_logits: [N, len(labels)].
        types: [N], index of the true type in `labels`; for sigmoid, `len(labels)` where the image is safe.
        labels: Names of the logits.
        activation: How logits become probabilities.

    Raises:
        DataError: A type has no image.
    """
    names = [*labels] if activation == "softmax" else [*labels, "safe"]
    absent = [name for index, name in enumerate(names) if index not in set(types.tolist())]
    if absent:
        raise DataError(f"there is no image of {', '.join(absent)}; a temperature needs every type, add some")
    loss = _softmax_loss if activation == "softmax" else _sigmoid_loss
    low, high = TEMPERATURES
    found = minimize_scalar(
        lambda log_temperature: loss(type_logits / math.exp(log_temperature), types),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return round(min(high, max(low, math.exp(found.x))), 4)


def _softmax_loss(logits: NDArray[np.float64], types: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float((normaliser - shifted[np.arange(len(types)), types]).mean())


def _sigmoid_loss(logits: NDArray[np.float64], types: NDArray[np.int64]) -> float:
    truth = types[:, None] == np.arange(logits.shape[1])
    return float(np.logaddexp(0.0, np.where(truth, -logits, logits)).sum(axis=1).mean())
