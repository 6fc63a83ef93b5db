"""Golden inputs that stay clear under new thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from safevlm_sdk.decision import Rule
from safevlm_sdk.golden import Golden
from safevlm_sdk.manifest import DECISION_OUTPUTS, IMAGE_ROLES, Graph
from safevlm_sdk.margins import NEAR, decision_margin
from safevlm_sdk.policy import Policy


def still_clear(golden: Golden, graphs: Sequence[Graph], rule: Rule, policy: Policy) -> Golden:
    """The golden vectors without those whose decision now lies near another one.

    On another machine such an input may be decided otherwise although the numbers are within their tolerance. Where
    all lie near, the clearest stays.
    """
    images = _clear_rows(golden, [one.id for one in graphs if one.decides and one.role in IMAGE_ROLES], rule, policy)
    heads = [graph.id for graph in graphs if graph.decides and graph.role not in IMAGE_ROLES]
    rows = _clear_rows(golden, heads, rule, policy) if heads else list(range(len(golden.features)))
    kept = {graph.id: images if graph.role in IMAGE_ROLES else rows for graph in graphs}
    return replace(
        golden,
        images=tuple(golden.images[row] for row in images),
        features=golden.features[rows],
        mask=golden.mask[rows],
        expected={
            graph: {name: values[kept[graph]] for name, values in outputs.items()}
            for graph, outputs in golden.expected.items()
        },
    )


def _clear_rows(golden: Golden, graphs: Sequence[str], rule: Rule, policy: Policy) -> list[int]:
    types, levels = DECISION_OUTPUTS
    margins = np.array(
        [
            [
                decision_margin(logits, logprobs, rule, policy)
                for logits, logprobs in zip(
                    golden.expected[graph][types], golden.expected[graph][levels], strict=True
                )
            ]
            for graph in graphs
        ]
    ).min(axis=0)
    clear = [int(row) for row in np.flatnonzero(margins >= NEAR)]
    return clear or [int(margins.argmax())]
