"""SafeVLM: a vision-language model that judges its images, and whose language model is shown what the gate saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safevlm_sdk.decision import Decision
from safevlm_sdk.errors import CheckpointError, OptionError
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import Policy
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import SafetyConfig
from safevlm_training.hub import PushToHub, push_checkpoint
from safevlm_training.modules import SafetyModules, SafetyOutput
from safevlm_training.vlm.adapter import Encoded, VisionAdapter
from safevlm_training.vlm.compatibility import check_fit, check_grids
from safevlm_training.vlm.lora import Lora, add_lora
from safevlm_training.vlm.output import SafeVLMOutput
from safevlm_training.vlm.passes import base_inputs, showing
from safevlm_training.vlm.processor import Message, SafeVLMProcessor
from safevlm_training.vlm.risks import Decider, with_notes
from safevlm_training.vlm.saving import Metadata, load_parts, save_parts
from safevlm_training.vlm.traded_features import pad_features, to_features

IGNORED = -100  # a label that counts for no loss


class SafeVLM(nn.Module, PushToHub):
    """A vision-language model with the safety modules beside it.

    The vision tower runs once per pass: its output goes to the gate and, as `mm_encoder_outputs`, to the language
    model. A family that does not take that (Mllama) runs it twice. Behind each image the language model sees K safety
    tokens; without them the model is the base model exactly. Tokens that were never trained with the language model
    are off unless they are asked for. One pass at a time: threads that share a model must take turns.

    Args:
        vlm: An image-text-to-text model of transformers.
        processor: Its processor.
        safety: Projector, tokens and head, for the tap and the tower that its configuration names.
        metadata: What a checkpoint holds beside the weights.

    Raises:
        CheckpointError: The model has another vision tower than the safety modules were made for, or another width.
    """

    def __init__(
        self, vlm: Any, processor: SafeVLMProcessor, safety: SafetyModules, *, metadata: Metadata | None = None
    ) -> None:
        super().__init__()
        self.vlm = vlm
        self.safety = safety
        self.processor = processor
        self.metadata = metadata or Metadata()
        self.adapter = VisionAdapter(vlm, safety.config.tower.tap)
        self.lora: Lora | None = None
        self.merged = False
        check_fit(safety.config, self.adapter, processor, vlm)

    @property
    def config(self) -> SafetyConfig:
        """The configuration of the safety modules."""
        return self.safety.config

    def train(self, mode: bool = True) -> SafeVLM:
        """Leaves everything of the base model but its language model in eval mode whatever `mode` says."""
        super().train(mode)
        self.vlm.train(False)
        self.vlm.get_decoder().train(mode)
        return self

    def judge(self, batch: Mapping[str, Any]) -> SafetyOutput | None:
        """Judges the images of a batch, N in reading order, without the language model; None where it has none."""
        return self._judge(self._encode(batch))

    def decide(self, output: SafetyOutput, *, policy: Policy | None = None) -> list[Decision]:
        """What follows for each image: by the checkpoint's thresholds, or without them by what is most likely.

        Args:
            output: From `judge`.
            policy: Categories without an entry are switched off; None wants every covered category.

        Raises:
            OutputNotFinite: An output is NaN or infinite.
        """
        return Decider(config=self.config, calibration=self.metadata.calibration, policy=policy)(output)

    def forward(
        self,
        *,
        labels: Tensor | None = None,
        types: Tensor | None = None,
        levels: Tensor | None = None,
        safety_tokens: bool | None = None,
        **batch: Any,
    ) -> SafeVLMOutput:
        """One pass over a batch of the processor, made with or without safety tokens.

        Args:
            labels: [B, L], ids to be predicted, -100 where none is; safety tokens never count.
            types: [N], index of each image's type in `config.labels`.
            levels: [N], 0 to 3.
            safety_tokens: None: on while training, and once they were trained with the language model.
            **batch: From the processor, and further arguments of the base model.

        Raises:
            DataError: The prompts hold no safety tokens although they are on, or the other way round.
        """
        encoded = self._encode(batch)
        safety = self._judge(encoded)
        given = {}
        if labels is not None:
            given["labels"] = labels.masked_fill(batch["input_ids"] == self.processor.safety_token_id, IGNORED)
        with self._showing(batch, safety, self._on(safety_tokens)):
            output = self.vlm(**self._inputs(batch, encoded), **given)
        return SafeVLMOutput(
            logits=output.logits,
            safety=safety,
            lm_loss=output.loss if given else None,
            type_loss=None if safety is None or types is None else F.cross_entropy(safety.type_logits, types),
            level_loss=None if safety is None or levels is None else F.nll_loss(safety.level_logprobs, levels),
        )

    @torch.no_grad()
    def generate_ids(
        self, batch: Mapping[str, Any], *, safety_tokens: bool | None = None, **generate_kwargs: Any
    ) -> Any:
        """Generates as the base model's `generate` does, and returns what it returns.

        Args:
            batch: From the processor, padded on the left.
            safety_tokens: None: on once they were trained with the language model.
            **generate_kwargs: Of the base model's `generate`.

        Raises:
            DataError: The prompts hold no safety tokens although they are on, or the other way round.
        """
        return self._generate(batch, self._encode(batch), self._on(safety_tokens), generate_kwargs)

    @torch.no_grad()
    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        images: Sequence[Sequence[Any]],
        *,
        prompt: Literal["none", "tiered"] = "none",
        policy: Policy | None = None,
        safety_tokens: bool | None = None,
        **generate_kwargs: Any,
    ) -> list[str]:
        """Answers conversations.

        Args:
            conversations: Lists of messages, as `{"role": "user", "content": [{"type": "image"}, …]}`.
            images: The images of each, in reading order.
            prompt: "tiered" judges first and puts a safety prompt behind the last question of each conversation,
                after its worst image.
            policy: For "tiered": its words, and its categories: those without an entry are switched off.
            safety_tokens: None: on once they were trained with the language model.
            **generate_kwargs: Of the base model's `generate`.

        Raises:
            DataError: Images and placeholders differ in number, or a text holds a safety token.
            OutputNotFinite: The gate gives NaN or infinity, so that "tiered" cannot be kept.
        """
        if prompt not in ("none", "tiered"):
            raise OptionError(f"prompt is {prompt!r}; it is none or tiered")
        on = self._on(safety_tokens)
        options: dict[str, Any] = {"add_generation_prompt": True, "safety_tokens": on}
        batch = self._moved(self.processor.conversations(conversations, images, **options))
        encoded = self._encode(batch)
        if prompt == "tiered" and (safety := self._judge(encoded)) is not None:
            decisions = iter(self.decide(safety, policy=policy))
            grouped = [[next(decisions) for _ in some] for some in images]
            noted = with_notes(conversations, grouped, self.config.taxonomy, policy)
            batch = self._moved(self.processor.conversations(noted, images, **options))
        sequences = self._generate(batch, encoded, on, generate_kwargs)
        ids = sequences if isinstance(sequences, Tensor) else sequences.sequences
        return self.processor.decode(ids[:, batch["input_ids"].shape[1] :])

    def vision_features(self, batch: Mapping[str, Any], images: Sequence[Any]) -> list[VisionFeatures]:
        """The tapped features of each image of a batch, for `judge_features` or for a runtime with the same tower.

        Args:
            batch: From the processor.
            images: The N images of the batch in reading order, as given to the processor; they name the features.
        """
        encoded = self._encode(batch)
        return [] if encoded is None else to_features(encoded, images, self.config.tower)

    def judge_features(self, features: Sequence[VisionFeatures]) -> SafetyOutput:
        """Judges images whose features are known, N of any length, without running a tower.

        Raises:
            FeaturesMismatch: They come from another tower, tap or width.
        """
        array, mask = pad_features(features, self.config)
        return self._safety(array, mask, [one.grid for one in features])

    def add_lora(
        self, r: int = 256, alpha: int = 16, dropout: float = 0.05, targets: Sequence[str] | None = None
    ) -> None:
        """Puts fresh LoRA adapters on the language model and freezes the rest of the base model.

        The sizes are those of arXiv 2405.13581. The vision tower never gets adapters: the gate's verdicts stay.

        Args:
            r: Rank.
            alpha: The adapters' output is scaled by alpha / r.
            dropout: Of their input, while training.
            targets: Last parts of names of linear layers; None: every one but the output layer.

        Raises:
            CheckpointError: There are adapters already.
            OptionError: No layer has such a name, or a number is out of range.
        """
        if self.lora is not None or self.merged:
            raise CheckpointError("this model has LoRA adapters already; load the base model anew for others")
        self.lora = add_lora(self.vlm, r=r, alpha=alpha, dropout=dropout, targets=targets)
        self.train(self.training)  # fresh adapters drop out whatever the model does

    def merge_lora(self) -> None:
        """Adds the adapters to the language model's weights; the checkpoint must have been saved before.

        Raises:
            CheckpointError: There are none.
        """
        if self.lora is None:
            raise CheckpointError("this model has no LoRA adapters that could be merged")
        self.lora.merge()
        self.lora, self.merged = None, True

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        vlm: Any = None,
        revision: str | None = None,
        digest: str | None = None,
        dtype: Any = None,
        device_map: Any = None,
    ) -> SafeVLM:
        """Reads a checkpoint folder, or a repository of the Hugging Face hub, in eval mode.

        Args:
            path: A folder, or an id as "owner/name".
            vlm: The base model, already loaded; it gets the checkpoint's LoRA adapters. Else it is loaded as the
                configuration says.
            revision: Of the checkpoint's repository; a commit cannot change.
            digest: What `checkpoint_digest` must say of it.
            dtype: Of the base model; None: as it was saved. The safety modules stay in float32.
            device_map: Of the base model, as in transformers.

        Raises:
            CheckpointError: The checkpoint is damaged, or the base model is not the one that it was trained with.
            HubError: The hub does not give it.
        """
        parts = load_parts(path, vlm=vlm, revision=revision, digest=digest, device_map=device_map)
        model = cls(parts.vlm, parts.processor, parts.safety, metadata=parts.metadata)
        if dtype is not None:  # after the digests were compared: they are of the weights as they were saved
            parts.vlm.to(dtype)
        model.lora = parts.add_adapters()
        return model.eval()

    def save_pretrained(
        self,
        path: str | Path,
        *,
        calibration: CheckpointCalibration | None = None,
        training: Mapping[str, Any] | None = None,
        card: str | None = None,
        push_to_hub: str | None = None,
    ) -> None:
        """Writes a checkpoint folder: safety modules, processor and LoRA adapters, but no weight of the base model.

        What is not given is what it was loaded with. Not atomic; see `save_checkpoint`.

        Args:
            path: A folder, made if need be.
            calibration: Temperature and thresholds.
            training: How it was trained, as plain values.
            card: The model card.
            push_to_hub: A repository, as "owner/name", that gets it, too.

        Raises:
            CheckpointError: Adapters were merged into the base model, or the folder cannot be written.
            HubError: The hub does not take it.
        """
        if self.merged:
            raise CheckpointError(
                "the LoRA adapters were merged into the base model, whose weights a checkpoint does not hold; save "
                "before `merge_lora`, or save `vlm` itself"
            )
        known = self.metadata
        self.metadata = Metadata(
            calibration=calibration or known.calibration, training=training or known.training, card=card or known.card
        )
        save_parts(path, self.safety, self.processor, self.lora, self.metadata)
        if push_to_hub is not None:
            push_checkpoint(path, push_to_hub)

    def _on(self, safety_tokens: bool | None) -> bool:
        if safety_tokens is None:
            return self.config.llm_width is not None and (self.training or self.config.llm_tokens_trained)
        if safety_tokens and self.config.llm_width is None:
            raise OptionError(
                "this checkpoint was trained without a language model (llm_width is null) and has no safety tokens "
                "for one; pass safety_tokens=False, or train it with objective risk+lm"
            )
        return safety_tokens

    def _encode(self, batch: Mapping[str, Any]) -> Encoded | None:
        encoded = self.adapter.encode(batch)
        return encoded if len(encoded.features) else None

    def _judge(self, encoded: Encoded | None) -> SafetyOutput | None:
        return None if encoded is None else self._safety(encoded.features, encoded.mask, encoded.grids)

    def _safety(self, features: Tensor, mask: Tensor, grids: Sequence[tuple[int, int]]) -> SafetyOutput:
        check_grids(self.config, grids)
        like = next(self.safety.parameters())
        output: SafetyOutput = self.safety(features.to(like), mask.to(like.device))
        return output

    def _generate(
        self, batch: Mapping[str, Any], encoded: Encoded | None, on: bool, generate_kwargs: Mapping[str, Any]
    ) -> Any:
        safety = self._judge(encoded) if on else None
        with self._showing(batch, safety, on):
            return self.vlm.generate(**self._inputs(batch, encoded), **generate_kwargs)

    def _showing(
        self, batch: Mapping[str, Any], safety: SafetyOutput | None, on: bool
    ) -> AbstractContextManager[None]:
        rows = safety.safety_embeddings if on and safety is not None else None
        return showing(self.vlm, self.processor.safety_token_id, batch["input_ids"], rows)

    def _inputs(self, batch: Mapping[str, Any], encoded: Encoded | None) -> dict[str, Any]:
        outputs = None if encoded is None else encoded.outputs
        return base_inputs(batch, outputs, self.adapter.image_inputs)

    def _moved(self, batch: Any) -> Any:
        return batch.to(self.vlm.get_input_embeddings().weight.device)
