from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTModel

from safevlm_sdk.errors import TrainingError
from safevlm_training.config import SafetyConfig
from safevlm_training.folded import fold
from safevlm_training.levels import OrdinalLevels, ordinal_logprobs
from safevlm_training.modules import SafetyModules
from safevlm_training.projector import CAbstractor

MakeConfig = Callable[..., SafetyConfig]


def build(config: SafetyConfig, seed: int = 0) -> SafetyModules:
    torch.manual_seed(seed)
    return SafetyModules(config).eval()


def size_of(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


@pytest.mark.parametrize("preset", ["edge", "paper"])
def test_shapes_and_sums(make_config: MakeConfig, preset: str) -> None:
    config = make_config(preset)
    output = build(config)(torch.randn(2, 12, 20))
    assert output.type_logits.shape == (2, 3)
    assert output.level_logprobs.shape == (2, 4)
    assert torch.allclose(output.level_logprobs.exp().sum(1), torch.ones(2))
    assert output.attention.shape == (2, 12)
    assert torch.allclose(output.attention.sum(1), torch.ones(2))
    embeddings = output.safety_embeddings
    assert embeddings is not None
    assert embeddings.shape == ((2, 2, 12) if preset == "edge" else (2, 6, 16))
    assert not embeddings.equal(embeddings.flip(0)) or preset == "paper"


def test_paper_embeddings_are_the_same_for_every_image_and_their_own_set(make_config: MakeConfig) -> None:
    modules = build(make_config("paper"))
    embeddings = modules(torch.randn(2, 12, 20)).safety_embeddings
    assert embeddings[0].equal(embeddings[1])
    assert embeddings[0].equal(modules.llm_tokens.rows)
    assert not modules.llm_tokens.rows[:5].equal(modules.tokens.rows)


def test_no_llm_no_embeddings(make_config: MakeConfig) -> None:
    assert build(make_config("edge", llm_width=None))(torch.randn(1, 12, 20)).safety_embeddings is None


def test_attention_equals_torchs(make_config: MakeConfig) -> None:
    modules = build(make_config()).double()
    head = modules.head
    for linear in (head.q_proj, head.k_proj, head.v_proj, head.out_proj):
        nn.init.normal_(linear.bias)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    parts = (head.q_proj, head.k_proj, head.v_proj)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(head.out_proj.state_dict())
    keys = torch.randn(3, 17, 16, dtype=torch.float64)
    mask = torch.rand(3, 17) < 0.6
    query = head.query.expand(3, -1, -1)
    expected, weights = theirs(query, keys, keys, key_padding_mask=~mask, average_attn_weights=False)
    attended, ours = head.attend(keys, mask)
    assert torch.allclose(attended, expected, rtol=0, atol=1e-12)
    assert torch.allclose(ours, weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", ["edge", "paper"])
def test_what_is_masked_has_no_say(make_config: MakeConfig, preset: str) -> None:
    modules = build(make_config(preset))
    features = torch.randn(2, 12, 20)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 7:] = False
    spoiled = features.clone()
    spoiled[0, 7:] = math.nan
    first, second = modules(features, mask), modules(spoiled, mask)
    assert first.type_logits.equal(second.type_logits)
    assert first.level_logprobs.equal(second.level_logprobs)
    assert second.attention[0, 7:].eq(0).all()
    assert torch.allclose(second.attention.sum(1), torch.ones(2))
    assert not first.type_logits.equal(modules(features).type_logits)


def test_padding_equals_absence_per_patch(make_config: MakeConfig) -> None:
    modules = build(make_config("edge"))
    features = torch.randn(1, 12, 20)
    mask = (torch.arange(12) < 9)[None]
    assert torch.allclose(modules(features, mask).type_logits, modules(features[:, :9]).type_logits, atol=1e-6)


def test_a_row_without_a_valid_patch_is_an_error(make_config: MakeConfig) -> None:
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[1] = False
    modules = build(make_config())
    for model in (modules, fold(modules)):
        with pytest.raises(TrainingError, match=r"rows \[1\]"):
            model(torch.randn(3, 12, 20), mask)


@pytest.mark.parametrize("score", [0.0, 3.0, -40.0, 1e3, -1e6, 3e38, -3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ordinal_levels_are_finite_for_any_finite_score(score: float, dtype: torch.dtype) -> None:
    first, gaps = torch.tensor([-1.0], dtype=dtype), torch.tensor([1.0, 1e-3], dtype=dtype)
    found = ordinal_logprobs(torch.tensor([[score]], dtype=dtype), first, gaps)
    assert torch.isfinite(found).all()
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_ordinal_levels_are_differences_of_sigmoids_and_rise_with_the_score() -> None:
    first, gaps = torch.tensor([-1.2], dtype=torch.float64), torch.tensor([1.5, 1.7], dtype=torch.float64)
    cuts = torch.tensor([-1.2, 0.3, 2.0], dtype=torch.float64)
    scores = torch.linspace(-6, 6, 41, dtype=torch.float64)[:, None]
    below = torch.sigmoid(cuts - scores)
    expected = torch.cat([below[:, :1], below.diff(dim=1), 1 - below[:, -1:]], dim=1)
    found = ordinal_logprobs(scores, first, gaps).exp()
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)
    assert ((found * torch.arange(4.0)).sum(1).diff() > 0).all()


def test_every_level_can_be_the_likeliest_before_training() -> None:
    levels = OrdinalLevels(1)
    scores = torch.linspace(-10, 10, 401)[:, None]
    found = ordinal_logprobs(scores, levels.first, levels.gaps)
    assert set(found.argmax(dim=1).tolist()) == {0, 1, 2, 3}
    assert set((found[:, 1:].argmax(dim=1) + 1).tolist()) == {1, 2, 3}


def test_cut_points_stay_in_order_whatever_training_does() -> None:
    levels = OrdinalLevels(3)
    levels.raw_gaps.data.fill_(-1e4)
    levels.first.data.fill_(2e4)
    assert (levels.gaps > 0).all()
    assert torch.isfinite(levels(torch.randn(5, 3) * 1e4)).all()


def test_every_parameter_learns(make_config: MakeConfig) -> None:
    for preset in ("edge", "paper"):
        modules = SafetyModules(make_config(preset))
        output = modules(torch.randn(4, 12, 20))
        loss = output.type_logits.logsumexp(1).sum() - output.level_logprobs[:, 1].sum()
        (loss + output.safety_embeddings.square().sum()).backward()
        # a key bias adds the same to every score of a query, so the softmax gives it no gradient
        silent = {
            name
            for name, parameter in modules.named_parameters()
            if parameter.grad is None or parameter.grad.abs().max() < 1e-9
        }
        assert silent <= {"head.k_proj.bias"}


def test_paper_query_is_the_given_embedding_and_frozen(make_config: MakeConfig) -> None:
    embedding = torch.randn(16)
    modules = SafetyModules(make_config("paper"), bos_embedding=embedding)
    assert modules.head.query.equal(embedding[None])
    assert "head.query" not in dict(modules.named_parameters())
    assert "head.query" in modules.state_dict()
    assert "head.query" in dict(SafetyModules(make_config("edge")).named_parameters())
    with pytest.raises(ValueError, match="edge preset"):
        SafetyModules(make_config("edge"), bos_embedding=embedding)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        SafetyModules(make_config("paper"), bos_embedding=torch.randn(5))


def test_no_submodule_is_called_type(make_config: MakeConfig) -> None:
    for preset in ("edge", "paper"):
        names = {part for name, _ in build(make_config(preset)).named_modules() for part in name.split(".")}
        assert "type" not in names


def test_paper_sizes_are_the_papers(make_config: MakeConfig) -> None:
    config = make_config(
        "paper", grid=(24, 24), feature_width=1024, width=4096, num_heads=8, num_tokens=64, num_llm_tokens=64
    )
    with torch.device("meta"):
        modules = SafetyModules(config)
        projected = modules.projector(torch.empty(2, 576, 1024))
    assert projected.shape == (2, 576, 4096)
    assert size_of(modules.projector) == pytest.approx(40e6, rel=0.02)
    attention = (modules.head.q_proj, modules.head.k_proj, modules.head.v_proj, modules.head.out_proj)
    assert sum(map(size_of, attention)) == pytest.approx(67.1e6, rel=0.01)
    assert size_of(modules.tokens) + size_of(modules.llm_tokens) == 2 * 64 * 4096
    assert size_of(modules) == pytest.approx(108e6, rel=0.01)


def test_c_abstractor_sees_neighbours_on_a_grid_that_is_not_square() -> None:
    torch.manual_seed(0)
    projector = CAbstractor(6, 8, (3, 5)).eval()
    features = torch.randn(1, 15, 6, requires_grad=True)
    projected: Tensor = projector(features)
    assert projected.shape == (1, 15, 8)
    projected[0, 0].sum().backward()
    assert features.grad.abs().sum(2)[0].min() > 0


def test_edge_gate_costs_at_most_one_percent_of_vit_b(make_config: MakeConfig) -> None:
    config = make_config(
        "edge",
        grid=(14, 14),
        feature_width=768,
        width=128,
        num_queries=4,
        num_heads=4,
        num_tokens=8,
        num_llm_tokens=8,
    )
    with torch.device("meta"):
        gate = fold(SafetyModules(config))
        tower = ViTModel(ViTConfig(), add_pooling_layer=False)
        features, pixels = torch.empty(1, 196, 768), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as gate_count:
        gate(features)
    with FlopCounterMode(display=False) as tower_count:
        tower(pixels)
    assert tower_count.get_total_flops() > 30e9
    assert 0 < gate_count.get_total_flops() <= 0.01 * tower_count.get_total_flops()


def test_modules_go_through_torch_export(make_config: MakeConfig) -> None:
    class Flat(nn.Module):
        def __init__(self, modules: nn.Module) -> None:
            super().__init__()
            self.modules_ = modules

        def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
            output = self.modules_(features, mask)
            return output.type_logits, output.level_logprobs, output.attention, output.safety_embeddings

    for preset in ("edge", "paper"):
        flat = Flat(fold(build(make_config(preset))))
        features, mask = torch.randn(2, 12, 20), torch.rand(2, 12) < 0.7
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(flat, (features, mask), dynamic_shapes=({0: batch}, {0: batch}))
        more, more_mask = torch.randn(5, 12, 20), torch.ones(5, 12, dtype=torch.bool)
        for ours, theirs in zip(exported.module()(more, more_mask), flat(more, more_mask), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)
