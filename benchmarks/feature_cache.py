"""How many images per second an epoch of training takes, with the feature cache and without it.

    python benchmarks/feature_cache.py [--images 64] [--epochs 3] [--towers tiny vit-b-16]

Without the cache, each epoch decodes every image and runs the vision tower; with it, the first epoch fills the cache
and the others read it. In both, the safety modules take one step per batch of 32. Towers have random weights, of a
CLIP configuration: "tiny", or ViT-B/16 at 224 pixels. Times are of this machine at this moment; compare only what
stands in one run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from safevlm_runtime.bench.card import machine_card
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import edge_config
from safevlm_training.encode import Encoder
from safevlm_training.modules import SafetyModules
from safevlm_training.quiet import quiet
from safevlm_training.towers.load import describe_tower

BATCH = 32
SIZE = (640, 427)
TOWERS: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "vit-b-16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    },
}


def make_encoder(name: str, folder: Path) -> Encoder:
    sizes = TOWERS[name]
    side = sizes["image_size"]
    with quiet():
        torch.manual_seed(0)
        CLIPVisionModel(CLIPVisionConfig(**sizes)).save_pretrained(folder)
        CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ).save_pretrained(folder)
    tower, described, preprocessing = describe_tower(str(folder), "hidden:-2")
    config = edge_config(
        tower=described,
        grid=tower.grid,
        feature_width=tower.feature_width,
        taxonomy=load_taxonomy(),
        coverage={"privacy": "Nothing: the weights are random."},
        preprocessing=preprocessing,
    )
    return Encoder(tower=tower, config=config)


def make_images(folder: Path, count: int) -> dict[str, Path]:
    """sha256 of each file to its path: photographs' size and JPEG's noise, drawn from the number."""
    found = {}
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 255, (27, 40, 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize(SIZE).save(path, quality=90)
        found[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    return found


def epoch(keys: list[str], read: Callable[[list[str]], Tensor], modules: SafetyModules, optimizer: Any) -> float:
    """Seconds of one epoch over all images."""
    start = time.perf_counter()
    for place in range(0, len(keys), BATCH):
        output = modules(read(keys[place : place + BATCH]))
        optimizer.zero_grad()
        (output.type_logits.logsumexp(1).mean() - output.level_logprobs.mean()).backward()
        optimizer.step()
    return time.perf_counter() - start


def measure(name: str, images: dict[str, Path], epochs: int, folder: Path) -> dict[str, Any]:
    encoder = make_encoder(name, folder / name)
    modules = SafetyModules(encoder.config)
    optimizer = torch.optim.AdamW(modules.parameters())
    keys = list(images)

    def anew(some: list[str]) -> Tensor:
        return torch.from_numpy(np.stack([encoder.encode(images[key], key)[0] for key in some]))

    with encoder.open_cache(folder / "cache", "float16") as cache:

        def kept(some: list[str]) -> Tensor:
            missing = [key for key in some if key not in cache]
            cache.add([(key, encoder.encode(images[key], key)[0]) for key in missing])
            return torch.from_numpy(cache.read(some))

        filling = epoch(keys, kept, modules, optimizer)
        pairs = [
            (epoch(keys, anew, modules, optimizer), epoch(keys, kept, modules, optimizer)) for _ in range(epochs)
        ]
    without, having = (median(column) for column in zip(*pairs, strict=True))
    row = encoder.tower.grid[0] * encoder.tower.grid[1] * encoder.tower.feature_width * 2
    return {
        "images": len(keys),
        "bytes_per_image_in_the_cache": row,
        "images_per_s_without": len(keys) / without,
        "images_per_s_first_epoch": len(keys) / filling,
        "images_per_s_with": len(keys) / having,
        "times_faster": median(slow / fast for slow, fast in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3, help="after the first one, each with and without the cache")
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=list(TOWERS))
    options = parser.parse_args()
    arguments = f"--images {options.images} --epochs {options.epochs} --towers {' '.join(options.towers)}"
    command = f"python benchmarks/feature_cache.py {arguments}"
    card = msgspec.to_builtins(machine_card()) | {"torch": str(torch.__version__)}
    card |= {"threads": torch.get_num_threads(), "command": command}
    for name, value in card.items():
        print(f"{name}: {value}")
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder, options.images)
        for tower in options.towers:
            result[tower] = measure(tower, images, options.epochs, folder)
            found = result[tower]
            print(
                f"{tower}: {found['images_per_s_without']:.1f} images/s without the cache, "
                f"{found['images_per_s_first_epoch']:.1f} in the epoch that fills it, "
                f"{found['images_per_s_with']:.1f} with it: {found['times_faster']:.1f} times"
            )
    print(json.dumps({"benchmark": "feature_cache", "card": card, "result": result}))


if __name__ == "__main__":
    main()
