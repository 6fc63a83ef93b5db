"""EfficientNet-Lite0 and its published weights, whole and in two halves."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.preprocess import preprocess
from safevlm_training.towers.efficientnet_lite0 import (
    EfficientNetLite0,
    SameConv,
    efficientnet_preprocessing,
    pretrained_state,
)
from safevlm_training.towers.load import describe_tower
from safevlm_training.towers.tower import check_tail


def test_efficientnet_knows_photographs() -> None:
    state = pretrained_state()
    spec = efficientnet_preprocessing()
    tower = describe_tower("efficientnet-lite0", "hidden:-1")[0]
    found = []
    for photo in (skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()):
        side = int(min(photo.shape[:2]) * 0.875)
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        pixels = preprocess(np.ascontiguousarray(photo[top : top + side, left : left + side]), spec)
        pooled = tower(torch.from_numpy(pixels)[None]).mean(dim=1)
        chances = (pooled @ state["_fc.weight"].T + state["_fc.bias"]).softmax(dim=1)[0]
        found.append((int(chances.argmax()), float(chances.max())))
    espresso, tiger_cat, missile = 967, 282, 657
    assert [name for name, _ in found] == [espresso, tiger_cat, missile]
    # with symmetric padding each is lower: .934, .344 and .285
    assert [chance for _, chance in found] == pytest.approx([0.951, 0.385, 0.320], abs=0.01)


@pytest.mark.parametrize(
    ("tap", "grid", "width"),
    [
        ("hidden:-1", (7, 7), 1280),
        ("hidden:-2", (7, 7), 320),
        ("hidden:15", (7, 7), 320),
        ("hidden:10", (14, 14), 112),
        ("hidden:4", (28, 28), 40),
        ("hidden:0", (112, 112), 16),
    ],
)
def test_efficientnet_taps(tap: str, grid: tuple[int, int], width: int) -> None:
    tower, config, preprocessing = describe_tower("efficientnet-lite0", tap)
    assert (tower.grid, tower.feature_width) == (grid, width)
    assert tower(torch.zeros(1, 3, 224, 224)).shape == (1, grid[0] * grid[1], width)
    assert (preprocessing.height, preprocessing.width) == (224, 224)
    assert config.digest == describe_tower("efficientnet-lite0", "hidden:-1", image_size=320)[0].digest


def test_efficientnet_takes_any_size_and_refuses_layers_that_it_lacks() -> None:
    tower = EfficientNetLite0("hidden:-2", (97, 321)).eval()
    assert tower.grid == (4, 11)
    assert tower(torch.zeros(1, 3, 97, 321)).shape == (1, 44, 320)
    for tap in ("hidden:17", "hidden:-18"):
        with pytest.raises(CheckpointError, match="layers 0 to 16"):
            EfficientNetLite0(tap, (224, 224))


def test_same_padding_puts_the_odd_pixel_last() -> None:
    conv = SameConv(1, 1, 3, stride=2)
    conv.weight.data.fill_(1.0)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv(image)[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


@pytest.mark.parametrize("tap", ["hidden:10", "hidden:-1", "hidden:2"])
def test_the_last_blocks_of_efficientnet_give_the_same_bits(tap: str) -> None:
    tower = describe_tower("efficientnet-lite0", tap)[0]
    size = (97, 65)
    odd = EfficientNetLite0(tap, size)
    odd.load_state_dict(tower.state_dict())
    odd.freeze()
    pixels = torch.randn(2, 3, *size)
    features = odd(pixels)
    assert odd.depth == {"hidden:10": 11, "hidden:-1": 17, "hidden:2": 3}[tap]
    for n in range(odd.depth + 1):
        hidden = odd.front(pixels, n)
        assert hidden.shape[1:] == odd.front_shape(n)
        assert odd.back(hidden, n).equal(features)
        assert torch.allclose(odd.back(hidden.contiguous(), n), features, atol=1e-4)  # as rows of the cache are
        check_tail(odd, n, size)
    with pytest.raises(CheckpointError, match=f"at most {odd.depth}"):
        check_tail(odd, odd.depth + 1, size)


@pytest.mark.parametrize(
    ("tap", "n", "expected"),
    [
        ("hidden:10", 3, ["_blocks.8", "_blocks.9", "_blocks.10"]),
        ("hidden:10", 0, []),
        ("hidden:-1", 2, ["_blocks.15", "_conv_head", "_bn1"]),
    ],
)
def test_the_last_blocks_of_efficientnet_by_name(tap: str, n: int, expected: list[str]) -> None:
    tower = EfficientNetLite0(tap, (64, 64))
    names = {module: name for name, module in tower.named_modules()}
    assert [names[block] for block in tower.last_blocks(n)] == expected
