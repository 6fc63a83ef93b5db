from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from safevlm_sdk.errors import DataError, TrainingError
from safevlm_sdk.preprocess import Preprocessing, preprocess
from safevlm_sdk.raster import decode
from safevlm_training.cache import FeatureCache
from safevlm_training.capture_variants import capture_variant
from safevlm_training.config import SafetyConfig
from safevlm_training.data import Example
from safevlm_training.encode import Encoder, fill_cache, hash_images, row_key
from safevlm_training.progress import Progress
from safevlm_training.splits import Item
from safevlm_training.towers.efficientnet_lite0 import EfficientNetLite0
from safevlm_training.towers.tower import Tower

SHAPE = (12, 20)
QUIET = Progress(False)


class Means(Tower):
    """Twelve patches whose twenty features are their mean colour, scaled."""

    def __init__(self) -> None:
        super().__init__(grid=(3, 4), feature_width=20)
        self.calls = 0

    def forward(self, pixel_values: Tensor) -> Tensor:
        self.calls += 1
        patches = torch.nn.functional.adaptive_avg_pool2d(pixel_values, self.grid).flatten(2).mean(1)
        return patches[:, :, None] * torch.linspace(1, 2, 20)


@pytest.fixture
def encoder(make_config: Callable[..., SafetyConfig]) -> Encoder:
    return Encoder(tower=Means(), config=make_config())


@pytest.fixture
def examples(tmp_path: Path) -> tuple[Example, ...]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(40):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
        made.append(Example(path=path, category="safe", level=0, group=None, source="s", split=None, where=str(path)))
    return tuple(made)


def items_of(cache: FeatureCache, examples: tuple[Example, ...]) -> list[Item]:
    kept, images, _ = hash_images(cache, examples, QUIET)
    return [Item(example=e, image=i, group=i, split="train") for e, i in zip(kept, images, strict=True)]


def features(number: int) -> tuple[str, Any]:
    return f"{number:064x}", np.full(SHAPE, number / 8, dtype=np.float32)


def opened(folder: Path) -> FeatureCache:
    return FeatureCache(folder, shape=SHAPE, dtype="float16")


def test_rows_are_what_the_runtime_would_see(tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...]) -> None:
    with encoder.open_cache(tmp_path / "c", "float32") as cache:
        items = items_of(cache, examples)
        assert fill_cache(cache, encoder, items, QUIET) == ()
        rows = cache.read([item.image for item in items])
    for item, row in zip(items, rows, strict=True):
        raster = decode(item.example.path, max_side=encoder.config.raster_max_side)
        pixels = preprocess(raster.frames[0].pixels, encoder.config.preprocessing)
        assert np.array_equal(row, Means()(torch.from_numpy(pixels)[None])[0].numpy())


def test_a_second_run_reads_no_image(
    tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        items = items_of(cache, examples)
        fill_cache(cache, encoder, items, QUIET)
        rows = cache.read([item.image for item in items])
    calls = encoder.tower.calls  # type: ignore[union-attr]
    monkeypatch.setattr("safevlm_training.cache._sha256", _refuse)
    monkeypatch.setattr("safevlm_training.encode.read_source", _refuse)
    monkeypatch.setattr("safevlm_training.encode.decode", _refuse)
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        again = items_of(cache, examples)
        fill_cache(cache, encoder, again, QUIET)
        assert np.array_equal(cache.read([item.image for item in again]), rows)
    assert again == items
    assert calls == encoder.tower.calls == 40  # type: ignore[union-attr]


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the image was opened again")


def test_touched_files_are_hashed_again_and_moved_ones_found(
    tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...]
) -> None:
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        items = items_of(cache, examples)
        fill_cache(cache, encoder, items, QUIET)
    os.utime(examples[0].path, ns=(1, 1))
    Image.new("RGB", (30, 30), "red").save(examples[1].path)
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        again = items_of(cache, examples)
        fill_cache(cache, encoder, again, QUIET)
    changed = [one.image != two.image for one, two in zip(items, again, strict=True)]
    assert changed == [False, True] + [False] * 38
    assert encoder.tower.calls == 41  # type: ignore[union-attr]


def test_an_image_that_changes_meanwhile_is_noticed(
    tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...]
) -> None:
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        items = items_of(cache, examples)
        Image.new("RGB", (30, 30), "red").save(examples[7].path)
        with pytest.raises(DataError, match=r"7\.png: changed while it was being read"):
            fill_cache(cache, encoder, items, QUIET)


def test_every_undecodable_image_is_named_once_per_row(
    tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...]
) -> None:
    for number in (3, 20):
        examples[number].path.write_bytes(examples[number].path.read_bytes()[: 50 + number])
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        items = items_of(cache, (*examples, examples[3]))
        bad = fill_cache(cache, encoder, items, QUIET)
        assert len(cache) == 38
    assert [Path(row.where).name for row in bad] == ["3.png", "20.png", "3.png"]
    assert {row.reason.split(":")[0] for row in bad} == {"image_corrupt"}


def test_what_is_no_image_by_its_first_bytes_is_named_before_features_are_computed(
    tmp_path: Path, encoder: Encoder, examples: tuple[Example, ...]
) -> None:
    examples[3].path.write_bytes(b"no image")
    examples[20].path.write_bytes(b"")
    for number, kind in enumerate(("JPEG", "WEBP", "GIF"), start=4):
        Image.new("RGB", (30, 30), "red").save(examples[number].path, kind)
    with encoder.open_cache(tmp_path / "c", "float16") as cache:
        for _ in range(2):  # a file that was hashed before is named again
            kept, images, bad = hash_images(cache, examples, QUIET)
            assert len(kept) == len(images) == 38
            assert [Path(row.where).name for row in bad] == ["3.png", "20.png"]
            assert [row.reason.split(":")[0] for row in bad] == ["image_format", "image_empty"]


def test_the_encoder_decides_the_folder(make_config: Callable[..., SafetyConfig]) -> None:
    plain = make_config()
    other: Preprocessing = make_config().preprocessing
    configs = [
        (plain, "float16"),
        (plain, "float32"),
        (make_config(raster_max_side=512), "float16"),
        (make_config(preprocessing=_with(other, resample="bilinear")), "float16"),
        (make_config(tower=_with(plain.tower, tap="hidden:-1")), "float16"),
        (make_config(tower=_with(plain.tower, digest="sha256:" + "1" * 64)), "float16"),
    ]
    digests = {Encoder(tower=Means(), config=config).digest(dtype) for config, dtype in configs}
    assert len(digests) == len(configs)
    assert Encoder(tower=Means(), config=make_config(width=32)).digest("float16") in digests
    digests |= {Encoder(tower=Means(), config=plain, unfreeze_last=n).digest("float16") for n in (0, 1, 2)}
    assert len(digests) == len(configs) + 2


def test_the_cache_of_a_tuned_tower_holds_what_enters_its_first_tuned_block(
    tmp_path: Path, make_config: Callable[..., SafetyConfig], examples: tuple[Example, ...]
) -> None:
    torch.manual_seed(0)
    tower = EfficientNetLite0("hidden:4", (96, 128))
    tower.freeze()
    config = make_config(grid=tower.grid, feature_width=tower.feature_width)
    encoder = Encoder(tower=tower, config=config, unfreeze_last=2)
    with encoder.open_cache(tmp_path / "c", "float32") as cache:
        items = items_of(cache, examples[:3])
        captures = [replace(items[0], variant=number) for number in (1, 2)]
        assert fill_cache(cache, encoder, [*items, *captures], QUIET) == ()
        assert len(cache) == 5
        rows = cache.read([row_key(item) for item in (*items, *captures)])
    assert rows.shape == (5, *tower.front_shape(2)) == (5, 24 * 32, 24)
    for item, row in zip((*items, *captures), rows, strict=True):
        pixels = decode(item.example.path, max_side=config.raster_max_side).frames[0].pixels
        if item.variant:
            pixels = capture_variant(pixels, item.image, item.variant)
        prepared = torch.from_numpy(preprocess(pixels, config.preprocessing))[None]
        prepared = prepared.contiguous(memory_format=torch.channels_last)
        assert np.array_equal(row, tower.front(prepared, 2)[0].numpy())
        assert torch.allclose(tower.back(torch.from_numpy(row)[None], 2), tower(prepared), atol=1e-5)


def _with(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(TrainingError, match="another process is writing"):
        opened(tmp_path)
    opened(tmp_path).__exit__(None, None, None)


def test_after_a_release_another_process_writes_and_this_one_reads(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.add([features(0), features(1)])
        cache.release()
        with opened(tmp_path) as other:
            other.add([features(2)])
            assert len(other) == 3
        assert np.array_equal(cache.read([features(1)[0]])[0], features(1)[1])
        with pytest.raises(TrainingError, match="writing to this feature cache has ended"):
            cache.add([features(3)])


def test_float16_says_when_it_overflows(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        with pytest.raises(TrainingError, match=r"not finite in float16 .*70000.*float32"):
            cache.add([("a" * 64, np.full(SHAPE, 70000.0))])
        with pytest.raises(TrainingError, match="have shape"):
            cache.add([("a" * 64, np.zeros((2, 2)))])
        assert len(cache) == 0


def test_whatever_the_kill_leaves_whole_rows_survive(tmp_path: Path) -> None:
    """The two files are cut at every combination of a few lengths, as a kill or a lost write may leave them."""
    with opened(tmp_path) as cache:
        cache.add([features(0), features(1)])
        cache.add([features(2)])
    files = [tmp_path / "index.jsonl", tmp_path / "rows.bin"]
    index, rows = (file.read_bytes() for file in files)
    row = len(rows) // 3
    ends = [position + 1 for position, byte in enumerate(index) if byte == 10]
    for index_cut in {0, 5, *ends, *(end - 1 for end in ends), ends[1] + 20}:
        for rows_cut in (0, 1, row, row + 7, 2 * row, 3 * row - 1, 3 * row):
            files[0].write_bytes(index[:index_cut])
            files[1].write_bytes(rows[:rows_cut])
            expected = min(sum(end <= index_cut for end in ends), rows_cut // row)
            with opened(tmp_path) as cache:
                assert len(cache) == expected
                missing = [features(n) for n in range(3) if features(n)[0] not in cache]
                cache.add(missing)
            with opened(tmp_path) as cache:
                found = cache.read([features(n)[0] for n in range(3)])
                assert np.array_equal(found, np.stack([features(n)[1] for n in range(3)]))


def test_damage_in_the_middle_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.add([features(n) for n in range(4)])
    rows = bytearray((tmp_path / "rows.bin").read_bytes())
    rows[len(rows) // 4 + 3] ^= 1
    (tmp_path / "rows.bin").write_bytes(rows)
    with opened(tmp_path) as cache:
        assert [features(n)[0] in cache for n in range(4)] == [True, False, False, False]
