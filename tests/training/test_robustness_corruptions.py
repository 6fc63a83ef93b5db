"""The table of corruptions, and the preprocessing through which gradients flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safevlm_sdk.preprocess import Preprocessing, Resample, preprocess
from safevlm_sdk.resize import resize
from safevlm_training.robustness.attacks import to_pixels, to_values
from safevlm_training.robustness.corruptions import CORRUPTIONS, Corruption, Step, corrupt
from safevlm_training.robustness.resampling import DifferentiablePreprocess, Resize

STEPS = [pytest.param(c, step, id=f"{c.name}, {step.label}") for c in CORRUPTIONS for step in c.steps]
RESAMPLES: tuple[Resample, ...] = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
Pixels = NDArray[np.uint8]


def picture(height: int = 330, width: int = 440, seed: int = 0) -> Pixels:
    """A smooth scene with edges, text-like bars and a little grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 215, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for y in range(20, height - 20, 24):
        pen.rectangle((width // 10, y, int(rng.integers(width // 4, width)), y + 6), fill=(20, 20, 30))
    grainy = np.asarray(image) + rng.normal(0, 3, (height, width, 3))
    pixels: Pixels = np.clip(grainy, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def named(name: str) -> Corruption:
    return next(corruption for corruption in CORRUPTIONS if corruption.name == name)


def psnr(left: Pixels, right: Pixels) -> float:
    error = np.mean((left.astype(float) - right.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize(("corruption", "step"), STEPS)
def test_each_step_changes_the_picture_always_in_the_same_way(corruption: Corruption, step: Step) -> None:
    pixels = picture()
    damaged = corrupt(pixels, corruption, step)
    assert damaged.dtype == np.uint8
    assert damaged.ndim == 3
    assert damaged.shape[2] == 3
    assert damaged.flags.c_contiguous
    assert damaged.shape != pixels.shape or not np.array_equal(damaged, pixels)
    assert np.array_equal(damaged, corrupt(pixels, corruption, step))


@pytest.mark.parametrize(("corruption", "step"), STEPS)
def test_the_smallest_picture_survives(corruption: Corruption, step: Step) -> None:
    assert corrupt(np.full((1, 3, 3), 200, dtype=np.uint8), corruption, step).size


def test_names_are_unique() -> None:
    assert len({corruption.name for corruption in CORRUPTIONS}) == len(CORRUPTIONS)
    for corruption in CORRUPTIONS:
        assert len({step.label for step in corruption.steps}) == len(corruption.steps)


@pytest.mark.parametrize(
    "name",
    ["JPEG", "resize", "messenger", "Gaussian blur", "Gaussian noise", "low light", "motion blur"],
)
def test_later_steps_damage_more(name: str) -> None:
    pixels = picture(600, 800)
    shown = [Image.fromarray(corrupt(pixels, named(name), step)).resize((800, 600)) for step in named(name).steps]
    found = [psnr(np.asarray(image), pixels) for image in shown]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 1


@pytest.mark.parametrize(
    ("name", "shares"), [("crop, central", (0.9, 0.75, 0.5)), ("crop, corner", (0.9, 0.75, 0.5))]
)
def test_crops_keep_their_share_of_the_area(name: str, shares: tuple[float, ...]) -> None:
    pixels = picture()
    for share, step in zip(shares, named(name).steps, strict=True):
        kept = corrupt(pixels, named(name), step)
        assert kept.shape[0] * kept.shape[1] / (330 * 440) == pytest.approx(share, abs=0.005)
        top, left = (330 - kept.shape[0], 440 - kept.shape[1])
        places = [(top // 2, left // 2)] if "central" in name else [(y, x) for y in (0, top) for x in (0, left)]
        assert any(np.array_equal(pixels[y : y + kept.shape[0], x : x + kept.shape[1]], kept) for y, x in places)


def test_quarter_turns_lose_nothing() -> None:
    pixels, turns = picture(), named("rotation").steps
    quarter, half = (corrupt(pixels, named("rotation"), step) for step in turns[2:])
    assert any(np.array_equal(quarter, np.rot90(pixels, turn)) for turn in (1, 3))
    assert np.array_equal(half, pixels[::-1, ::-1])


def test_a_slight_turn_keeps_every_corner() -> None:
    for step, angle in zip(named("rotation").steps[:2], (5, 15), strict=True):
        height, width = corrupt(picture(), named("rotation"), step).shape[:2]
        sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
        assert height == pytest.approx(330 * cosine + 440 * sine, abs=2)
        assert width == pytest.approx(440 * cosine + 330 * sine, abs=2)


def test_screenshots_show_the_whole_picture_ever_smaller() -> None:
    magenta = np.full((330, 440, 3), (255, 0, 255), dtype=np.uint8)
    areas = []
    for step in named("screenshot").steps:
        shot = corrupt(magenta, named("screenshot"), step)
        inside = (shot == (255, 0, 255)).all(axis=2)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert inside.sum() == area
        assert (columns[-1] - columns[0] + 1) / (rows[-1] - rows[0] + 1) == pytest.approx(440 / 330, abs=0.02)
        areas.append(int(area))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 2 * areas[1]


def test_low_light_is_dark_and_noisy() -> None:
    grey = np.full((100, 100, 3), 128, dtype=np.uint8)
    seen = [corrupt(grey, named("low light"), step).astype(float) for step in named("low light").steps]
    assert [image.mean() for image in seen] == pytest.approx(
        [128 * 2 ** (-stops / 2.2) for stops in (1, 2, 4)], abs=2
    )
    relative = [image.std() / image.mean() for image in seen]
    assert relative == sorted(relative)


def test_noise_is_drawn_for_each_picture() -> None:
    dark, bright = (np.full((40, 40, 3), value, dtype=np.uint8) for value in (100, 101))
    step = named("Gaussian noise").steps[0]
    first, second = (corrupt(grey, named("Gaussian noise"), step).astype(int) for grey in (dark, bright))
    assert not np.array_equal(first, second - 1)
    assert (first - 100).std() == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("shape", [(427, 640), (436, 327), (60, 100), (511, 96), (96, 96)])
def test_matrices_resize_as_pillow_does(resample: Resample, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    real = resize(Image.fromarray(pixels), (128, 96), Image.Resampling[resample.upper()])
    ours = to_pixels(Resize.between(shape, (96, 128), resample)(to_values(pixels)))
    difference = np.abs(ours.astype(int) - np.asarray(real))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("shape", [(333, 500), (640, 480), (80, 60)])
@pytest.mark.parametrize("resize", ["exact", "shortest_edge"])
def test_the_differentiable_preprocessing_is_the_real_one(shape: tuple[int, int], resize: str) -> None:
    spec = Preprocessing(
        resize="exact" if resize == "exact" else "shortest_edge",
        height=64,
        width=48,
        shortest_edge=None if resize == "exact" else 72,
        resample="bicubic",
        rescale_factor=1 / 255,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
    )
    pixels = picture(*shape)
    ours = DifferentiablePreprocess.of(shape, spec)(to_values(pixels))[0].numpy()
    grey_levels = np.abs(ours - preprocess(pixels, spec)) * np.array(spec.std)[:, None, None] * 255
    assert grey_levels.max() < 1.001
    assert (grey_levels > 0.5).mean() < 0.001


def test_gradients_pass_through_rounding_as_if_there_were_none() -> None:
    resize = Resize.between((50, 70), (20, 30), "bicubic")
    values = torch.rand(1, 3, 50, 70) * 255
    values.requires_grad_()
    weights = torch.randn(1, 3, 20, 30)
    (gradient,) = torch.autograd.grad((resize(values) * weights).sum(), values)
    expected = resize.rows.T @ weights @ resize.columns
    assert torch.allclose(gradient, expected, atol=1e-5)
