"""What the engine of a language model takes of a gate: safety embeddings, and the model's own image embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safevlm_export.graphs import Embeddings
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import TensorSpec
from safevlm_training.config import PROJECTED
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import check_digest
from safevlm_training.towers.tower import Tower

IMAGE_FEATURES = "image_features"


class SharedTower(nn.Module):
    """The tapped features and the image embeddings of one view, by one model's tower.

    Both halves run the tower, with the same weights; the exported graph does once what is equal in both.
    """

    def __init__(self, tower: Tower, projected: Tower | None) -> None:
        super().__init__()
        self.tower = tower
        self.projected = projected

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, T, D] and image embeddings [N, T', Dllm] of normalised pixels [N, 3, H, W]."""
        features: Tensor = self.tower(pixel_values)
        return features, features.clone() if self.projected is None else self.projected(pixel_values)


def embeddings_of(model: RiskModel) -> Embeddings:
    """What a checkpoint can give to the engine of the language model that it was trained with.

    Raises:
        ExportError: It was trained with none, or its tower is no longer that model's own.
        CheckpointError: The model is not the one that the gate was trained with.
    """
    config = model.config
    if config.llm_width is None:
        raise ExportError(
            "this checkpoint has no safety embeddings, since no language model took part in its training (llm_width "
            "is null); leave --embeddings out, or train it in front of a vision-language model"
        )
    if config.tower.kind != "vlm":
        return Embeddings(tower=None, outputs=())
    if model.tuned_tower:
        raise ExportError(
            "the tower of this checkpoint was tuned, so that its image embeddings are not those that the language "
            "model knows; leave --embeddings out, or train with unfreeze_last = 0"
        )
    shared = _shared_tower(model)
    spec = config.preprocessing
    with torch.inference_mode():
        embedded = shared(torch.zeros(1, 3, spec.height, spec.width))[1]
    shape = ("batch", *embedded.shape[1:])
    return Embeddings(tower=shared, outputs=(TensorSpec(name=IMAGE_FEATURES, dtype="float32", shape=shape),))


def _shared_tower(model: RiskModel) -> SharedTower:
    from safevlm_training.towers.vlm_parts import load_vision_parts
    from safevlm_training.towers.vlm_tower import VlmTower, tower_of

    config, spec = model.config.tower, model.config.preprocessing
    if config.tap == PROJECTED:
        return SharedTower(model.tower, None)
    size = (spec.height, spec.width)
    parts = load_vision_parts(config.name, revision=config.revision)
    projected = VlmTower(parts, PROJECTED, size).freeze()
    tower = tower_of(parts, config.tap, size).freeze()
    check_digest(tower, config)
    return SharedTower(tower, projected)
