"""ViT-B/16 with random weights, in every form that a contender of `peers.py` takes.

    python make_vit.py FOLDER

FOLDER/transformers is what `save_pretrained` writes, FOLDER/vit.onnx its logits, FOLDER/bundle a bundle of it in
float32 and int8. What it says means nothing; what it costs is what any ViT-B/16 at 224 pixels costs. The
pictures that int8 finds its ranges on are drawn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnx
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from safevlm_export import ExportOptions, export_from_hf
from safevlm_export.classifier.from_hf import HubOriginal
from safevlm_export.classifier.label_map import load_label_map
from safevlm_runtime.bench.images import draw_picture
from safevlm_training.quiet import quiet

OPSET = 18
SIZES = ((640, 480), (480, 640), (512, 512), (800, 600))
LABEL_MAP = """
schema = 1
name = "vit-b16-random"
license = "Apache-2.0"

[model]
activation = "softmax"
outputs = "logits"

[labels]
LABEL_0 = "safe"
LABEL_1 = "illegal_risk"

[coverage]
illegal_risk = "Nothing: random weights."

[levels]
illegal_risk = "usual"
"""


def main() -> None:
    folder = Path(sys.argv[1])
    model = folder / "transformers"
    torch.manual_seed(0)
    with quiet():
        ViTForImageClassification(ViTConfig()).eval().save_pretrained(model)
        ViTImageProcessorPil().save_pretrained(model)
    label_map = folder / "labels.toml"
    label_map.write_text(LABEL_MAP, encoding="utf-8")
    found, _, _ = load_label_map(label_map)
    onnx.save(HubOriginal(str(model), found, str(label_map), opset=OPSET).model(), folder / "vit.onnx")
    with tempfile.TemporaryDirectory() as drawn:
        for width, height in SIZES:
            draw_picture(width, height).save(Path(drawn) / f"{width}x{height}.jpg", quality=90)
        options = ExportOptions(opset=OPSET, calibration_data=Path(drawn), precisions=("fp32", "int8"))
        print(export_from_hf(str(model), label_map, folder / "bundle", options).render())


if __name__ == "__main__":
    main()
