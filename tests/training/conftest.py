from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import SafetyConfig, TowerConfig, edge_config, paper_config

TINY: dict[str, dict[str, Any]] = {
    "edge": {"width": 16, "num_queries": 3, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 2, "llm_width": 12},
    "paper": {"width": 16, "num_queries": 1, "num_heads": 4, "num_tokens": 5, "num_llm_tokens": 6},
}


@pytest.fixture
def make_config() -> Callable[..., SafetyConfig]:
    """Makes a tiny configuration of either preset; any field may be changed."""

    def make(preset: str = "edge", **changes: Any) -> SafetyConfig:
        build = edge_config if preset == "edge" else paper_config
        fields: dict[str, Any] = {
            "tower": TowerConfig(
                kind="efficientnet-lite0",
                name="efficientnet-lite0",
                revision=None,
                tap="hidden:-2",
                digest="sha256:" + "0" * 64,
            ),
            "grid": (3, 4),
            "feature_width": 20,
            "taxonomy": load_taxonomy(),
            "coverage": {"privacy": "Documents.", "illegal_risk": "Weapons."},
            "preprocessing": Preprocessing(
                resize="exact",
                height=96,
                width=128,
                shortest_edge=None,
                resample="bicubic",
                rescale_factor=1 / 255,
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
            ),
        }
        return build(**fields | TINY[preset] | changes)

    return make
