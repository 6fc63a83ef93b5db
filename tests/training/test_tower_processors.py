"""Image processors of transformers are repeated to the bit, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skimage.data
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.preprocess import preprocess
from safevlm_training.towers.processor import preprocessing_from_processor

CROP: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
SQUARE: dict[str, Any] = {"size": {"height": 32, "width": 32}}


@pytest.mark.parametrize(
    "processor",
    [
        CLIPImageProcessorPil(**CROP),
        CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE["size"]),  # as DINOv2 resizes
        SiglipImageProcessorPil(**SQUARE),
        ViTImageProcessorPil(**SQUARE),
    ],
)
def test_preprocessing_is_the_processors(processor: Any) -> None:
    spec = preprocessing_from_processor(processor)
    pixels = skimage.data.coffee()
    theirs = processor(images=pixels, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(preprocess(pixels, spec), theirs)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (SiglipImageProcessorPil(resample=0), "nearest"),
        (SiglipImageProcessorPil(do_resize=False), "do_resize"),
        (SiglipImageProcessorPil(do_rescale=False), "do_rescale"),
        (SiglipImageProcessorPil(do_pad=True), "do_pad"),
        (SiglipImageProcessorPil(size={"longest_edge": 64, "shortest_edge": 32}), "longest_edge"),
        (CLIPImageProcessorPil(do_center_crop=False), "without do_center_crop"),
        (CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=SQUARE["size"]), "hold the crop"),
        (
            CLIPImageProcessorPil(size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}),
            "then crops",
        ),
    ],
)
def test_refuses_processors_that_it_cannot_repeat(processor: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        preprocessing_from_processor(processor)


def test_a_processor_that_does_something_more_is_found_out() -> None:
    class Brightener(SiglipImageProcessorPil):
        def rescale(self, image: Any, scale: float, **kwargs: Any) -> Any:
            return super().rescale(image, scale, **kwargs) + np.float32(0.01)

    with pytest.raises(CheckpointError, match="something more"):
        preprocessing_from_processor(Brightener(**SQUARE))


def test_without_normalisation() -> None:
    spec = preprocessing_from_processor(SiglipImageProcessorPil(**SQUARE, do_normalize=False))
    assert (spec.mean, spec.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
