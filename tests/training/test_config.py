from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safevlm_training
from safevlm_sdk.errors import CheckpointError, MissingExtra
from safevlm_training.config import SafetyConfig, TowerConfig, config_bytes, edge_config, load_config, paper_config

MakeConfig = Callable[..., SafetyConfig]


def test_config_survives_writing_and_reading(make_config: MakeConfig, tmp_path: Path) -> None:
    for preset in ("edge", "paper"):
        config = make_config(preset)
        (tmp_path / "config.json").write_bytes(config_bytes(config))
        assert load_config(tmp_path) == config
        assert load_config(tmp_path / "config.json") == config
    assert config_bytes(config).startswith(b'{\n  "model_type": "safevlm"')


def test_labels_are_the_coverage_in_order_then_safe(make_config: MakeConfig) -> None:
    assert make_config().labels == ("privacy", "illegal_risk", "safe")


def test_default_sizes(make_config: MakeConfig) -> None:
    tiny = make_config()
    given: dict[str, Any] = {
        name: getattr(tiny, name)
        for name in ("tower", "grid", "feature_width", "taxonomy", "coverage", "preprocessing")
    }
    edge, paper = edge_config(**given), paper_config(**given)
    assert (edge.width, edge.num_queries, edge.num_heads, edge.num_tokens, edge.num_llm_tokens) == (128, 4, 4, 8, 8)
    assert (edge.projector, edge.level_head, edge.llm_width) == ("mlp", "ordinal", None)
    assert (paper.width, paper.num_queries, paper.num_heads, paper.num_tokens) == (4096, 1, 8, 64)
    assert (paper.num_llm_tokens, paper.projector, paper.level_head) == (64, "c_abstractor", "softmax")
    assert paper.llm_width == 4096
    assert paper_config(**given, width=32).llm_width == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "must divide width"),
        ({"coverage": {}}, "coverage is empty"),
        ({"coverage": {"weapons": "x"}}, "'weapons' is not in taxonomy"),
        ({"coverage": {"privacy": " "}}, "coverage.privacy is empty"),
        ({"grid": (0, 4)}, "at least 1"),
        ({"num_queries": 0}, "at least 1"),
        ({"num_tokens": 0}, "at least 1"),
        ({"llm_width": 0}, "at least 1"),
        ({"num_llm_tokens": 0}, "at least 1"),
    ],
)
def test_refuses_sizes_that_cannot_be(make_config: MakeConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tap": "last"}, "hidden:<layer>"), ({"digest": "sha256:12"}, "tower.digest"), ({"name": ""}, "tower.name")],
)
def test_refuses_towers_that_cannot_be(change: dict[str, str], message: str) -> None:
    fields: dict[str, Any] = {"kind": "transformers", "name": "x", "revision": None, "tap": "hidden:-2"}
    with pytest.raises(ValueError, match=message):
        TowerConfig(**{**fields, "digest": "sha256:" + "0" * 64, **change})


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda raw: raw.update(extra=1), "extra"),
        (lambda raw: raw.pop("num_heads"), "num_heads"),
        (lambda raw: raw["tower"].pop("revision"), "revision"),
        (lambda raw: raw["tower"].update(colour="red"), "colour"),
        (lambda raw: raw.update(schema_version=2), "schema_version"),
        (lambda raw: raw.update(model_type="clip"), "model_type"),
        (lambda raw: raw.update(width="16"), "width"),
        (lambda raw: raw.update(num_heads=3), "num_heads"),
        (lambda raw: raw["preprocessing"].update(height=-1), "preprocessing"),
    ],
)
def test_reading_is_strict(make_config: MakeConfig, tmp_path: Path, edit: Callable[[Any], Any], field: str) -> None:
    raw = json.loads(config_bytes(make_config()))
    edit(raw)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError) as caught:
        load_config(tmp_path)
    assert str(file) in str(caught.value)
    assert field in str(caught.value)


def test_refuses_doubled_keys_and_broken_json(make_config: MakeConfig, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    text = config_bytes(make_config()).decode()
    file.write_text(text.replace('"width": 16,', '"width": 16, "width": 32,', 1))
    with pytest.raises(CheckpointError, match="'width' appears twice"):
        load_config(tmp_path)
    for data in (b"{", b"\xff\xfe", b"[" * 100_000, text.encode().replace(b"20", b"NaN", 1)):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load_config(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_config(file)


def test_public_names_are_there() -> None:
    assert sorted(safevlm_training.__all__) == list(safevlm_training.__all__)
    assert dir(safevlm_training) == safevlm_training.__all__
    for name in safevlm_training.__all__:
        assert getattr(safevlm_training, name).__module__.startswith("safevlm_training.")
    with pytest.raises(AttributeError, match="nothing"):
        _ = safevlm_training.nothing


def test_package_imports_without_torch() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; import safevlm_training, safevlm_training.config; "
    code += "assert not {'torch', 'transformers', 'safetensors'} & set(sys.modules)"
    paths = [str(Path(safevlm_training.__file__).parents[1]), str(Path(safevlm_training.__file__).parents[2])]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(safevlm_training, "import_module", fail)
    monkeypatch.delitem(vars(safevlm_training), "fold", raising=False)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[train\]"):
        _ = safevlm_training.fold
