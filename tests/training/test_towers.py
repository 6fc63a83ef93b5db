"""Vision towers of the transformer families, saved as tiny models with random weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from safevlm_sdk.errors import CheckpointError
from safevlm_training.towers.load import describe_tower, load_tower
from safevlm_training.towers.tower import Tower, check_tail, weights_digest

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
}
CROP: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
SQUARE: dict[str, Any] = {"size": {"height": 32, "width": 32}}


def clip() -> tuple[nn.Module, Any]:
    config = CLIPConfig(
        text_config=CLIPTextConfig(**TEXT).to_dict(), vision_config=CLIPVisionConfig(**VISION).to_dict()
    )
    return CLIPModel(config), CLIPImageProcessorPil(**CROP)


def clip_vision() -> tuple[nn.Module, Any]:
    return CLIPVisionModel(CLIPVisionConfig(**VISION)), CLIPImageProcessorPil(**CROP)


def siglip() -> tuple[nn.Module, Any]:
    text, vision = SiglipTextConfig(**TEXT).to_dict(), SiglipVisionConfig(**VISION).to_dict()
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision)), SiglipImageProcessorPil(**SQUARE)


def siglip_vision() -> tuple[nn.Module, Any]:
    return SiglipVisionModel(SiglipVisionConfig(**VISION)), SiglipImageProcessorPil(**SQUARE)


def vit() -> tuple[nn.Module, Any]:
    return ViTModel(ViTConfig(**VISION)), ViTImageProcessorPil(**SQUARE)


def vit_without_pooler() -> tuple[nn.Module, Any]:
    return ViTModel(ViTConfig(**VISION), add_pooling_layer=False), ViTImageProcessorPil(**SQUARE)


def dinov2() -> tuple[nn.Module, Any]:
    return Dinov2Model(Dinov2Config(**VISION | {"image_size": 56})), CLIPImageProcessorPil(**CROP)


def dinov2_with_registers() -> tuple[nn.Module, Any]:
    config = Dinov2WithRegistersConfig(**VISION, num_register_tokens=4)
    return Dinov2WithRegistersModel(config), CLIPImageProcessorPil(**CROP)


FAMILIES = {
    "clip": (clip, 1),
    "clip-vision": (clip_vision, 1),
    "siglip": (siglip, 0),
    "siglip-vision": (siglip_vision, 0),
    "vit": (vit, 1),
    "vit-without-pooler": (vit_without_pooler, 1),
    "dinov2": (dinov2, 1),
    "dinov2-registers": (dinov2_with_registers, 5),
}


def save(folder: Path, make: Callable[[], tuple[nn.Module, Any]], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model, processor = make()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_patch_tokens_of_a_layer(tmp_path: Path, family: str) -> None:
    make, prefix = FAMILIES[family]
    saved = save(tmp_path, make)
    tower, config, preprocessing = describe_tower(str(tmp_path), "hidden:-2")
    pixels = torch.randn(2, 3, 32, 32)
    features = tower(pixels)
    assert (tower.grid, tower.feature_width) == ((4, 4), 16)
    assert features.shape == (2, 16, 16)
    with torch.no_grad():
        hidden = getattr(saved, "vision_model", saved)(pixels, output_hidden_states=True).hidden_states[2]
    assert torch.allclose(features, hidden[:, prefix:], atol=1e-5)
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not tower.train().training
    again = load_tower(config, preprocessing)
    assert again(pixels).equal(features)


@pytest.mark.parametrize("family", FAMILIES)
def test_digest_is_of_the_weights(tmp_path: Path, family: str) -> None:
    make, _ = FAMILIES[family]
    save(tmp_path / "a", make)
    save(tmp_path / "b", make, seed=1)
    first, config, preprocessing = describe_tower(str(tmp_path / "a"), "hidden:-2")
    moved = (tmp_path / "a").rename(tmp_path / "c")
    assert describe_tower(str(moved), "hidden:1")[0].digest == first.digest
    other = describe_tower(str(tmp_path / "b"), "hidden:-2")[0].digest
    assert other != first.digest
    with pytest.raises(CheckpointError, match=f"{other}.*{first.digest}"):
        load_tower(msgspec.structs.replace(config, name=str(tmp_path / "b")), preprocessing)


def test_what_is_no_tower_is_refused_by_name(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=f"tower folder {absent} is gone; put it back"):
        describe_tower(absent, "hidden:-2")
    save(tmp_path / "vit", vit)
    _, config, preprocessing = describe_tower(str(tmp_path / "vit"), "hidden:-2")
    with pytest.raises(CheckpointError, match=f"tower folder {absent} is gone; put it back"):
        load_tower(msgspec.structs.replace(config, name=absent), preprocessing)
    (tmp_path / "vit" / "preprocessor_config.json").rename(tmp_path / "kept.json")
    with pytest.raises(CheckpointError, match="no image processor"):
        describe_tower(str(tmp_path / "vit"), "hidden:-2")
    (tmp_path / "kept.json").rename(tmp_path / "vit" / "preprocessor_config.json")
    with pytest.raises(
        CheckpointError, match="has no hidden:9; it has hidden:0 to hidden:3, or hidden:-1 to hidden:-4"
    ):
        describe_tower(str(tmp_path / "vit"), "hidden:9")
    with pytest.raises(CheckpointError, match=r"hidden:-9"):
        describe_tower(str(tmp_path / "vit"), "hidden:-9")
    with pytest.raises(CheckpointError, match="image_size"):
        describe_tower(str(tmp_path / "vit"), "hidden:-2", image_size=64)
    flat = ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, image_size=32)
    save(tmp_path / "conv", lambda: (ConvNextModel(flat), SiglipImageProcessorPil(**SQUARE)))
    with pytest.raises(CheckpointError, match="no flat grid"):
        describe_tower(str(tmp_path / "conv"), "hidden:-1")


@pytest.mark.parametrize("name", ["efficientnet-lite", "../towers/vit", "a/b/c", "clip vit"])
def test_a_misspelt_name_is_never_asked_of_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("transformers was asked")

    for part in (AutoConfig, AutoImageProcessor):
        monkeypatch.setattr(part, "from_pretrained", refuse)
    with pytest.raises(CheckpointError, match=r"no folder .*no Hugging Face id of the form owner/name"):
        describe_tower(name, "hidden:-2")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", lambda _: b""),
        ("config.json", cut),
        ("config.json", lambda _: b"[]"),
        ("config.json", lambda data: data.replace(b'"num_hidden_layers": 3', b'"num_hidden_layers": "x"')),
        ("preprocessor_config.json", lambda _: b"[]"),
        ("preprocessor_config.json", cut),
        ("preprocessor_config.json", lambda data: data.replace(b'"height": 32', b'"height": "x"')),
        ("preprocessor_config.json", lambda data: data.replace(b'"resample": 2', b'"resample": 77')),
    ],
)
def test_damaged_files_are_said_on_one_line(tmp_path: Path, file: str, damage: Callable[[bytes], bytes]) -> None:
    save(tmp_path, vit)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(damage(whole))
    assert damage(whole) != whole
    with pytest.raises(CheckpointError) as caught:
        describe_tower(str(tmp_path), "hidden:-2")
    assert "\n" not in str(caught.value)


def test_loading_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, clip)  # whose text half a vision tower does not use, which transformers reports at length
    capsys.readouterr()
    log = logging.getLogger("transformers")
    heard = logging.StreamHandler()
    log.addHandler(heard)
    try:
        describe_tower(str(tmp_path), "hidden:-2")
    finally:
        log.removeHandler(heard)
    assert capsys.readouterr() == ("", "")


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    import safetensors.torch

    save(tmp_path, vit)
    file = tmp_path / "model.safetensors"
    state = safetensors.torch.load(file.read_bytes())
    victim = next(name for name in state if name.startswith("encoder") or "layer" in name)
    del state[victim]
    file.write_bytes(safetensors.torch.save(state, metadata={"format": "pt"}))
    with pytest.raises(CheckpointError, match="no weights for"):
        describe_tower(str(tmp_path), "hidden:-2")


def test_weights_digest_sees_names_shapes_dtypes_and_values() -> None:
    def of(extra: bytes = b"", **tensors: torch.Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_digest(module, extra)

    base = of(a=torch.zeros(2, 3))
    assert base == of(a=torch.zeros(3, 2).T)
    others = [
        of(b=torch.zeros(2, 3)),
        of(a=torch.zeros(3, 2)),
        of(a=torch.zeros(2, 3, dtype=torch.int32)),
        of(a=torch.ones(2, 3)),
        of(b"x", a=torch.zeros(2, 3)),
        of(a=torch.zeros(2, 3), b=torch.tensor(1)),
    ]
    assert len({base, *others}) == 7


def test_a_tower_needs_a_digest_of_its_own() -> None:
    with pytest.raises(NotImplementedError):
        _ = Tower(grid=(1, 1), feature_width=1).digest


@pytest.mark.parametrize("tap", ["hidden:-2", "hidden:-1"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_blocks_of_a_transformer_run_on_their_own(tmp_path: Path, family: str, tap: str) -> None:
    save(tmp_path, FAMILIES[family][0])
    tower = describe_tower(str(tmp_path), tap)[0]
    pixels = torch.randn(2, 3, 32, 32)
    assert tower.depth == (2 if tap == "hidden:-2" else 3)
    for n in range(tower.depth + 1):
        check_tail(tower, n, (32, 32))
        hidden = tower.front(pixels, n)
        assert hidden.shape[1:] == tower.front_shape(n)
        assert torch.allclose(tower.back(hidden, n), tower(pixels), atol=1e-5)
        assert len(tower.last_blocks(n)) == n
    with pytest.raises(CheckpointError, match=f"unfreeze_last is 9.*at most {tower.depth}"):
        check_tail(tower, 9, (32, 32))


def test_a_tail_that_is_not_the_towers_is_refused(tmp_path: Path) -> None:
    save(tmp_path, vit)
    tower = describe_tower(str(tmp_path), "hidden:-2")[0]
    real = tower.back
    tower.back = lambda hidden, n: real(hidden, n) + 0.001  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="on their own, do not give what the tower gives"):
        check_tail(tower, 1, (32, 32))


def test_blocks_that_cannot_be_told_apart_are_not_tuned(tmp_path: Path) -> None:
    save(tmp_path, vit)
    tower = describe_tower(str(tmp_path), "hidden:-2")[0]
    tower.model.extra = nn.ModuleList(nn.Identity() for _ in range(3))
    with pytest.raises(CheckpointError, match="at most 0"):
        check_tail(tower, 1, (32, 32))


def test_a_tower_without_blocks_is_never_tuned() -> None:
    class Flat(Tower):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.flatten(1)[:, None]

    tower = Flat(grid=(1, 1), feature_width=12)
    pixels = torch.randn(1, 3, 2, 2)
    check_tail(tower, 0, (2, 2))
    assert tower.back(tower.front(pixels, 0), 0).equal(tower(pixels))
    assert tower.front_shape(0) == (1, 12)
    with pytest.raises(CheckpointError, match="at most 0"):
        check_tail(tower, 1, (2, 2))
