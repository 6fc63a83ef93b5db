from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safevlm_training.cache import FeatureCache
from safevlm_training.config import SafetyConfig
from safevlm_training.data import Example
from safevlm_training.fit import Labelled, class_weights, epoch_order, fit, judge, labelled, learning_rate, load_state
from safevlm_training.modules import SafetyModules
from safevlm_training.progress import Progress
from safevlm_training.recipe import TrainRecipe
from safevlm_training.splits import Item
from safevlm_training.towers.efficientnet_lite0 import EfficientNetLite0
from safevlm_training.trainable import PIECE, Trainable

RECIPE = TrainRecipe(epochs=2, batch_size=20, lr=0.01, unfreeze_last=2, tower_lr=0.003)


@pytest.fixture
def tower() -> EfficientNetLite0:
    torch.manual_seed(0)
    tower = EfficientNetLite0("hidden:6", (32, 32))
    for part in tower.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    tower.freeze()
    return tower


@pytest.fixture
def safety(make_config: Callable[..., SafetyConfig], tower: EfficientNetLite0) -> SafetyModules:
    torch.manual_seed(1)
    return SafetyModules(make_config(grid=tower.grid, feature_width=tower.feature_width))


@pytest.fixture
def data(tmp_path: Path, tower: EfficientNetLite0) -> Labelled:
    """Fifty rows of what enters block 5; half of them are brighter, and called privacy."""
    generator = torch.Generator().manual_seed(2)
    items = []
    with FeatureCache(tmp_path / "cache", shape=tower.front_shape(2), dtype="float32") as cache:
        for number in range(50):
            pixels = torch.rand(1, 3, 32, 32, generator=generator) + number % 2
            image = f"{number:064x}"
            cache.add([(image, tower.front(pixels, 2)[0].numpy())])
            category = ("safe", "privacy")[number % 2]
            example = Example(
                path=Path(image),
                category=category,
                level=number % 2,
                group=None,
                source="few" if number < 10 else "many",
                split=None,
                where=image,
            )
            items.append(Item(example=example, image=image, group=image, split="train"))
        return labelled(cache, items, ("privacy", "illegal_risk", "safe"), {"few": 2.0, "many": 1.0})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def run(model: Trainable, data: Labelled, state_file: Path, recipe: TrainRecipe = RECIPE) -> None:
    fit(model, data, data, recipe, state_file=state_file, fingerprint="f", progress=Progress(False))


@pytest.mark.parametrize("count", [1, PIECE + 1])
def test_a_piece_of_one_row_has_the_gradient_of_two_equal_ones(
    count: int, tower: EfficientNetLite0, safety: SafetyModules, data: Labelled
) -> None:
    """On a CPU, torch 2.13 errs at a `BatchNorm2d` in eval mode when one image and its gradient lie differently."""
    rows = data.features(np.arange(count, dtype=np.int64))
    gradients = []
    for batch in (rows, torch.cat([rows, rows])):
        model = Trainable(tower, safety, 2)
        model.optimizer(RECIPE).zero_grad()
        model(batch).type_logits[:, 0].mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.blocks.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-6 * float(two.abs().max()) + 1e-9)
    assert any(float(gradient.abs().max()) > 0 for gradient in gradients[0])


def test_frozen_weights_and_running_statistics_stay_bit_for_bit(
    tower: EfficientNetLite0, safety: SafetyModules, data: Labelled, tmp_path: Path
) -> None:
    before = snapshot(tower)
    model = Trainable(tower, safety, 2)
    run(model, data, tmp_path / "state.pt")
    changed = {name for name, value in tower.state_dict().items() if not value.equal(before[name])}
    tuned = {name for name, _ in tower.named_parameters() if name.startswith(("_blocks.5.", "_blocks.6."))}
    assert changed == tuned
    assert len(tuned) == 2 * 9
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(part.training for part in tower.modules())


def test_a_frozen_tower_stays_whole(
    tower: EfficientNetLite0, make_config: Callable[..., SafetyConfig], data: Labelled, tmp_path: Path
) -> None:
    tokens, width = tower.front_shape(2)
    safety = SafetyModules(make_config(grid=(tokens, 1), feature_width=width))
    before = snapshot(tower)
    model = Trainable(tower, safety)
    assert {name.split(".")[0] for name in model.state_dict()} == {"safety"}
    run(model, data, tmp_path / "state.pt")
    assert all(value.equal(before[name]) for name, value in tower.state_dict().items())


def test_the_model_in_training_is_the_model_afterwards(
    tower: EfficientNetLite0, safety: SafetyModules, data: Labelled
) -> None:
    model = Trainable(tower, safety, 2).train()
    assert safety.training
    assert not any(part.training for part in model.blocks.modules())
    rows = data.features(np.arange(2 * PIECE + 3))
    expected = safety(tower.back(rows, 2)).type_logits
    assert torch.allclose(model(rows).type_logits, expected, atol=1e-5)
    judged = judge(model, data, 7)
    assert np.allclose(judged.type_logits[: len(rows)], expected.detach().numpy(), atol=1e-5)


def test_going_on_gives_the_same_bits(
    tower: EfficientNetLite0, safety: SafetyModules, data: Labelled, tmp_path: Path
) -> None:
    start = snapshot(tower), snapshot(safety)

    def fresh() -> Trainable:
        tower.load_state_dict(start[0])
        safety.load_state_dict(start[1])
        return Trainable(tower, safety, 2)

    run(model := fresh(), data, tmp_path / "whole.pt")
    expected = snapshot(model)

    class Killed(Progress):
        def say(self, line: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            fresh(), data, data, RECIPE, state_file=tmp_path / "s.pt", fingerprint="f", progress=Killed(False)
        )  # after the first epoch
    state = load_state(tmp_path / "s.pt", "f")
    assert state is not None
    assert state.epoch == 1
    assert any(name.startswith("blocks.") for name in state.weights)
    run(model := fresh(), data, tmp_path / "s.pt")
    assert all(value.equal(expected[name]) for name, value in model.state_dict().items())


def test_blocks_have_a_learning_rate_of_their_own_on_the_same_course(
    tower: EfficientNetLite0, safety: SafetyModules
) -> None:
    optimizer = Trainable(tower, safety, 2).optimizer(RECIPE)
    assert [group["peak"] for group in optimizer.param_groups] == [0.01, 0.003]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    assert sizes == [len(list(safety.parameters())), 2 * 9]
    assert len(Trainable(tower, safety).optimizer(RECIPE).param_groups) == 1
    for step in (0, 3, 10, 50, 99):
        fast, slow = (learning_rate(step, 100, peak, 0.05) for peak in (0.01, 0.003))
        assert slow == pytest.approx(0.3 * fast)
    assert learning_rate(4, 100, 0.01, 0.05) == 0.01
    assert learning_rate(99, 100, 0.01, 0.05) < 1e-4


def test_a_small_tower_rate_changes_the_tower_less(
    tower: EfficientNetLite0, safety: SafetyModules, data: Labelled, tmp_path: Path
) -> None:
    start, moved = (snapshot(tower), snapshot(safety)), []
    for rate in (0.003, 0.00003):
        tower.load_state_dict(start[0])
        safety.load_state_dict(start[1])
        recipe = msgspec.structs.replace(RECIPE, tower_lr=rate, epochs=1)
        run(Trainable(tower, safety, 2), data, tmp_path / f"{rate}.pt", recipe)
        weight = "_blocks.6._project_conv.weight"
        moved.append(float((tower.state_dict()[weight] - start[0][weight]).abs().mean()))
    assert moved[0] > 20 * moved[1] > 0


def test_heavier_images_come_more_often_in_an_epoch_of_the_same_length() -> None:
    weights = np.array([2.0] * 10 + [1.0] * 30)
    counts = np.zeros(40)
    for epoch in range(1, 201):
        order = epoch_order(weights, 0, epoch)
        assert len(order) == 40
        drawn = np.bincount(order, minlength=40)
        assert set(drawn[:10]) <= {1, 2}
        assert set(drawn[10:]) <= {0, 1}
        counts += drawn
    assert counts[:10] / 200 == pytest.approx(np.full(10, 1.6), abs=0.12)
    assert counts[10:] / 200 == pytest.approx(np.full(30, 0.8), abs=0.12)
    assert sorted(epoch_order(np.full(40, 3.0), 0, 1)) == list(range(40))
    assert not np.array_equal(epoch_order(weights, 0, 1), epoch_order(weights, 0, 2))
    assert not np.array_equal(epoch_order(weights, 0, 1), epoch_order(weights, 1, 1))


def test_classes_are_balanced_as_they_are_drawn(data: Labelled) -> None:
    assert data.weights.tolist() == [2.0] * 10 + [1.0] * 40
    heavy = [index for index, kind in enumerate(data.types) if kind == 0]
    drawn = np.array([data.weights[data.types == kind].sum() for kind in (0, 2)])
    found = class_weights(data, "balanced")
    assert found is not None
    assert (found[[0, 2]].numpy() * drawn) == pytest.approx(np.full(2, drawn.sum() / 3))
    assert len(heavy) == 25
    assert class_weights(data, "none") is None
