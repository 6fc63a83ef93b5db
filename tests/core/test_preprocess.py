from __future__ import annotations

from typing import Any

import numpy as np
import PIL
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from safevlm_sdk.preprocess import Preprocessing, normalisation_table, preprocess, resized_shape
from safevlm_sdk.resize import vertical_first

SHAPES = [(480, 640), (641, 333), (1, 1), (1, 97), (61, 3), (37, 900), (1200, 17), (224, 224), (223, 225), (337, 338)]


def crop(size: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}


def square(size: int) -> dict[str, Any]:
    return {"size": {"height": size, "width": size}}


PROCESSORS = {
    "clip-224": (CLIPImageProcessorPil, {}),
    "clip-336": (CLIPImageProcessorPil, crop(336)),
    "dinov2-256-224": (
        CLIPImageProcessorPil,
        {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    ),
    "clip-flat-crop": (
        CLIPImageProcessorPil,
        {"size": {"shortest_edge": 61}, "crop_size": {"height": 33, "width": 60}, "rescale_factor": 1 / 127},
    ),
    "siglip-224": (SiglipImageProcessorPil, {}),
    "siglip-384": (SiglipImageProcessorPil, square(384)),
    "vit-224": (ViTImageProcessorPil, {}),
    "vit-384": (ViTImageProcessorPil, square(384)),
    "vit-lanczos": (ViTImageProcessorPil, {"size": {"height": 51, "width": 80}, "resample": 1}),
}
# Older ones, such as Python 3.10 gets, resize tall images in the other order, and so does transformers with them.
PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13
FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


def described(processor: Any) -> Preprocessing:
    """Written out here on purpose: the reader of processors in the training part has its own tests."""
    cropped = processor.crop_size if processor.do_center_crop else processor.size
    return Preprocessing(
        resize="exact" if processor.size.shortest_edge is None else "shortest_edge",
        height=cropped.height,
        width=cropped.width,
        shortest_edge=processor.size.shortest_edge,
        resample=FILTERS[int(processor.resample)],
        rescale_factor=processor.rescale_factor,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )


@pytest.mark.parametrize("name", PROCESSORS)
def test_equals_transformers_bit_for_bit(name: str) -> None:
    kind, changes = PROCESSORS[name]
    processor = kind(**changes)
    spec = described(processor)
    generator = np.random.default_rng(7)
    for shape in SHAPES:
        pixels = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
        theirs = processor(images=pixels, input_data_format="channels_last", return_tensors="np")["pixel_values"][0]
        ours = preprocess(pixels, spec)
        in_their_order = PILLOW_13 or not vertical_first(shape[::-1], resized_shape(*shape, spec)[::-1])
        assert ours.dtype == np.float32
        assert ours.flags["C_CONTIGUOUS"]
        assert np.array_equal(ours, theirs) or not in_their_order, shape


def test_every_size_resizes_like_transformers() -> None:
    from transformers.image_transforms import get_resize_output_image_size

    spec = described(CLIPImageProcessorPil(**crop(336)))
    generator = np.random.default_rng(3)
    for height, width in generator.integers(1, 5000, (2000, 2)).tolist():
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        theirs = get_resize_output_image_size(blank, 336, default_to_square=False, input_data_format="channels_last")
        assert resized_shape(height, width, spec) == theirs


def test_table_holds_every_pixel_value() -> None:
    spec = described(SiglipImageProcessorPil())
    table = normalisation_table(spec)
    assert table.shape == (3, 256)
    assert table[0, 0] == -1.0
    assert table[2, 255] == 1.0
    assert (np.diff(table) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height x width"),
        ({"width": 4097}, "height x width"),
        ({"shortest_edge": 300}, "belongs to"),
        ({"resize": "shortest_edge"}, "belongs to"),
        ({"resize": "shortest_edge", "shortest_edge": 8}, "must hold the crop"),
        ({"std": (0.5, 0.0, 0.5)}, "positive"),
        ({"rescale_factor": -1.0}, "positive"),
    ],
)
def test_refuses_what_makes_no_sense(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "resize": "exact",
        "height": 16,
        "width": 16,
        "shortest_edge": None,
        "resample": "bilinear",
        "rescale_factor": 1 / 255,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    with pytest.raises(ValueError, match=message):
        Preprocessing(**fields | change)
