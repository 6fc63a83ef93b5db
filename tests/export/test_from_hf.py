"""Image classifiers of transformers as bundles, with the preprocessing and the labels that they bring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from typer.testing import CliRunner

from safevlm_export.classifier.export import export_from_hf
from safevlm_export.export import ExportOptions
from safevlm_export.proof_images import synthetic_images
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import ExportError, LabelMapError

pytestmark = pytest.mark.usefixtures("drawn_once")

LABELS = ("neutral", "gore", "drawing", "id card")
MAP = """
schema = 1
name = "tiny"
license = "Apache-2.0"

[model]
activation = "softmax"
outputs = "logits"

[labels]
neutral = "safe"
gore = "illegal_risk"
drawing = "safe"
"id card" = "privacy"

[coverage]
illegal_risk = "Gore."
privacy = "Cards."

[levels]
illegal_risk = { medium = 0.4, high = 0.7 }
privacy = "usual"

[thresholds]
any = 0.5
categories = { illegal_risk = 0.3, privacy = 0.4 }
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with a classifier whose answers vary from image to image."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(4)
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        id2label=dict(enumerate(LABELS)), label2id={label: index for index, label in enumerate(LABELS)},
    )  # fmt: skip
    model, processor = (
        ViTForImageClassification(config).eval(),
        ViTImageProcessorPil(size={"height": 32, "width": 32}),
    )
    pixels = processor(images=[Image.fromarray(raster) for _, raster in synthetic_images()], return_tensors="pt")
    with torch.no_grad():
        model.classifier.weight.mul_(200.0)
        model.classifier.bias.sub_(model(**pixels).logits.mean(dim=0))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def export(vit: Path, photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Exports the ViT, or another folder, under a map."""

    def run(text: str = MAP, folder: Path | str = vit, **options: Any) -> Path:
        (tmp_path / "map.toml").write_text(text)
        chosen = ExportOptions(**{"calibration_data": photos, **options})
        export_from_hf(str(folder), tmp_path / "map.toml", tmp_path / "bundle", chosen)
        return tmp_path / "bundle"

    return run


def test_the_bundle_says_what_the_model_says(export: Callable[..., Path], vit: Path, photos: Path) -> None:
    bundle = export()
    model, processor = ViTForImageClassification.from_pretrained(vit), ViTImageProcessorPil.from_pretrained(vit)
    answers = []
    with Runtime.load(bundle, threads=1) as runtime:
        for path in sorted(photos.iterdir()):
            inputs = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
            with torch.inference_mode():
                p = model(**inputs).logits.softmax(dim=-1)[0].numpy()
            found = runtime.check(path).categories
            assert found == pytest.approx({"illegal_risk": p[1], "privacy": p[3]}, abs=1e-5)
            answers.append(p)
    assert np.ptp(np.stack(answers), axis=0).max() > 0.01
    manifest = read_bundle(bundle).manifest
    assert manifest.labels == ("illegal_risk", "privacy", "safe")
    assert manifest.identity.tower == vit.name
    assert str(vit.parent) not in (bundle / "manifest.json").read_text()
    proof = manifest.proof.graphs["gate.fp32"]
    assert (proof.flips, max(proof.max_error.values()) < 1e-3) == (0, True)
    assert "PyTorch" in manifest.proof.source


def test_the_command_exports_a_folder(vit: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(MAP)
    arguments = ["--from-hf", vit, "--labels", tmp_path / "map.toml", "--calibration-data", photos, tmp_path / "out"]
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "covers privacy: Cards." in done.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('drawing = "safe"\n', "", "lacks 'drawing', which the model has"),
        ("drawing", "cartoon", "lacks 'drawing'"),
        ('gore = "illegal_risk"', 'gore = "illegal_risk"\nweapon = "illegal_risk"', "has 'weapon', which the model"),
        ('outputs = "logits"', 'outputs = "probabilities"', 'Hugging Face model gives "logits"'),
        ('outputs = "logits"', 'outputs = "logits"\nlabels = ["a"]', "labels is for ONNX files"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(old: str, new: str, message: str, export: Callable[..., Path]) -> None:
    with pytest.raises(LabelMapError, match=message):
        export(MAP.replace(old, new))


def test_a_folder_that_is_no_classifier_is_refused(export: Callable[..., Path], vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no folder of this name, and no Hugging Face id"):
        export(folder="missing-folder")
    with pytest.raises(ExportError, match="no image processor"):
        export(folder=tmp_path)
    bare = tmp_path / "bare"
    shutil.copytree(vit, bare)
    config = json.loads((bare / "config.json").read_text())
    names = {"id2label": {str(number): f"label {number}" for number in range(5)}, "label2id": {}}
    (bare / "config.json").write_text(json.dumps({**config, **names}))
    with pytest.raises(ExportError, match=r"cannot be loaded as|no weights for"):
        export(folder=bare)
