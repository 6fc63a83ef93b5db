"""Tower and safety modules together: from pixels to a risk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from safevlm_sdk.errors import CheckpointError
from safevlm_training.checkpoint import CheckpointCalibration, load_modules, load_tower_state, save_checkpoint
from safevlm_training.config import SafetyConfig
from safevlm_training.hub import PushToHub, find_checkpoint, push_checkpoint
from safevlm_training.modules import SafetyModules, SafetyOutput
from safevlm_training.towers.load import check_digest, load_tower, tuned_weights
from safevlm_training.towers.tower import Tower


class RiskModel(nn.Module, PushToHub):
    """A vision tower and the safety modules that listen to it.

    Args:
        tower: Frozen, or tuned by whoever unfroze it.
        modules: Projector, tokens and head.
        tuned_tower: Some of the tower's weights are not the published ones, so that saving must include them.

    Raises:
        CheckpointError: The tower's grid or width is not what the modules expect.
    """

    def __init__(self, tower: Tower, modules: SafetyModules, *, tuned_tower: bool = False) -> None:
        super().__init__()
        config = modules.config
        if (tower.grid, tower.feature_width) != (config.grid, config.feature_width):
            raise CheckpointError(
                f"tower {config.tower.name}: gives {tower.grid} patches of width {tower.feature_width}, but the "
                f"modules expect {config.grid} of width {config.feature_width}; check tap and image size"
            )
        self.tower = tower
        self.safety = modules
        self.tuned_tower = tuned_tower

    @property
    def config(self) -> SafetyConfig:
        """The configuration of the safety modules."""
        return self.safety.config

    def forward(self, pixel_values: Tensor) -> tuple[SafetyOutput, Tensor]:
        """Judges normalised pixels [N, 3, H, W]; the second value is the tower's features [N, T, Dv]."""
        features: Tensor = self.tower(pixel_values)
        return self.safety(features), features

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        tower: Tower | None = None,
        revision: str | None = None,
        digest: str | None = None,
    ) -> RiskModel:
        """Reads a checkpoint folder, or a repository of the Hugging Face hub, in eval mode.

        Args:
            path: A folder, or an id as "owner/name".
            tower: Already loaded; else it is loaded as the configuration says.
            revision: Of the checkpoint's repository; a commit cannot change.
            digest: What `checkpoint_digest` must say of it.

        Raises:
            CheckpointError: The checkpoint is damaged, or the tower is not the one it was trained with.
            HubError: The hub does not give it.
        """
        folder = find_checkpoint(path, revision=revision, digest=digest)
        modules = load_modules(folder)
        state = load_tower_state(folder)
        config = modules.config
        if tower is None:
            tower = load_tower(config.tower, config.preprocessing, state=state)
        else:
            check_digest(tower, config.tower)
        return cls(tower, modules, tuned_tower=state is not None).eval()

    def save_pretrained(
        self,
        path: str | Path,
        *,
        calibration: CheckpointCalibration | None = None,
        training: Mapping[str, Any] | None = None,
        card: str | None = None,
        push_to_hub: str | None = None,
    ) -> None:
        """Writes a checkpoint folder; where the tower differs from the published one, its tuned weights are in it.

        Args:
            path: A folder, made if need be.
            calibration: Temperature and thresholds; None: it decides nothing yet.
            training: How it was trained, as plain values.
            card: The model card.
            push_to_hub: A repository of the Hugging Face hub, as "owner/name", that gets it, too.

        Raises:
            CheckpointError: The thresholds are not the covered risks', the published tower is gone, or the folder
                cannot be written.
            HubError: The hub does not take it.
        """
        found = self.tower.digest
        if found != self.config.tower.digest:
            tower = msgspec.structs.replace(self.config.tower, digest=found)
            self.safety.config = msgspec.structs.replace(self.config, tower=tower)
            self.tuned_tower = True
        tuned = None
        if self.tuned_tower:
            tuned = tuned_weights(self.tower, self.config.tower, self.config.preprocessing) or None
        save_checkpoint(path, self.safety, calibration=calibration, training=training, card=card, tower=tuned)
        if push_to_hub is not None:
            push_checkpoint(path, push_to_hub)
