from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from safevlm_training.config import SafetyConfig
from safevlm_training.folded import fold
from safevlm_training.modules import SafetyModules, SafetyOutput

MakeConfig = Callable[..., SafetyConfig]


def build(config: SafetyConfig, dtype: torch.dtype) -> SafetyModules:
    """Modules with weights as large as trained ones, and no bias left at zero."""
    torch.manual_seed(11)
    modules = SafetyModules(config).to(dtype).eval()
    head = modules.head
    for linear in (head.q_proj, head.k_proj, head.v_proj, head.out_proj):
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.normal_(linear.bias)
    nn.init.normal_(modules.tokens.rows)
    if config.preset == "paper":
        head.query.normal_()
    return modules


def padding(batch: int, patches: int) -> Tensor:
    mask = torch.rand(batch, patches) < 0.5
    mask[:, 0] = True
    return mask


def tensors(output: SafetyOutput) -> list[Tensor]:
    assert output.safety_embeddings is not None
    return [output.type_logits, output.level_logprobs, output.attention, output.safety_embeddings]


@pytest.mark.parametrize("preset", ["edge", "paper"])
@pytest.mark.parametrize("num_heads", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("grid", "width", "queries", "tokens"), [((3, 4), 16, 3, 5), ((1, 1), 8, 1, 1), ((7, 7), 64, 4, 8)]
)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_folded_equals_unfolded(
    make_config: MakeConfig,
    preset: str,
    num_heads: int,
    grid: tuple[int, int],
    width: int,
    queries: int,
    tokens: int,
    padded: bool,
    dtype: torch.dtype,
    bound: float,
) -> None:
    config = make_config(
        preset, grid=grid, width=width, num_heads=num_heads, num_queries=queries, num_tokens=tokens, llm_width=12
    )
    modules = build(config, dtype)
    patches = grid[0] * grid[1]
    features = torch.randn(3, patches, 20, dtype=dtype)
    mask = padding(3, patches) if padded else None
    for found, expected in zip(tensors(fold(modules)(features, mask)), tensors(modules(features, mask)), strict=True):
        assert found.dtype == dtype
        scale = expected.abs().max().clamp_min(1.0) if dtype == torch.float32 else 1.0
        assert ((found - expected).abs().max() / scale).item() <= bound


def test_folding_leaves_the_original_alone(make_config: MakeConfig) -> None:
    modules = build(make_config(), torch.float32)
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    folded = fold(modules)
    for value in folded.state_dict().values():
        value.zero_()
    assert all(value.equal(before[name]) for name, value in modules.state_dict().items())
    assert not list(filter(lambda parameter: parameter.requires_grad, folded.parameters()))
    assert all(parameter.requires_grad for parameter in modules.parameters())


def test_no_square_weight_meets_the_patches(make_config: MakeConfig) -> None:
    config = make_config("edge", width=32, num_queries=1, num_heads=2)
    head = fold(build(config, torch.float32)).head
    assert head.score_vectors.shape == (32, 2)
    assert head.token_scores.shape == (2, 1, 5)
    assert head.token_values.shape == (2, 5, 16)
