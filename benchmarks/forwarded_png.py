"""What the PNG costs that goes on to an engine, beside Pillow's at its fastest level: processor time and bytes.

    python benchmarks/forwarded_png.py [IMAGE …] [--rounds 31]

Without images: two photographs of scikit-learn, at three sizes, and the picture of the page in docs/images. Times are
of one thread, interleaved, medians; compare only what stands in one run.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_runtime.bench.card import machine_card
from safevlm_sdk.raster import encode_png

Pixels = NDArray[np.uint8]
PAGE = Path(__file__).parent.parent / "docs" / "images" / "page.png"
LONGEST = 1024  # as the starter's raster_max_side


def fastest_of_pillow(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


WAYS: dict[str, Callable[[Pixels], bytes]] = {"pillow": fastest_of_pillow, "ours": encode_png}


def samples() -> dict[str, Image.Image]:
    from sklearn.datasets import load_sample_image

    china, flower = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))
    return {
        "china": china,
        "flower, 800 x 534": flower.resize((800, 534), Image.Resampling.BICUBIC),
        "china, 1024 x 683": china.resize((1024, 683), Image.Resampling.BICUBIC),
        "the page": Image.open(PAGE),
    }


def taken(pixels: Pixels, encode: Callable[[Pixels], bytes]) -> tuple[float, float, int]:
    """Milliseconds of the gate (PNG, base64, JSON) and of a server (JSON, base64, PNG), and bytes of the body."""
    start = time.thread_time()
    url = f"data:image/png;base64,{base64.b64encode(encode(pixels)).decode('ascii')}"
    body = json.dumps({"url": url}).encode()
    sent = time.thread_time()
    data = base64.b64decode(json.loads(body)["url"].partition(",")[2])
    Image.open(io.BytesIO(data)).load()
    return (sent - start) * 1e3, (time.thread_time() - sent) * 1e3, len(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card())
    for name, value in card.items():
        print(f"{name}: {value}")
    pictures = {path.name: Image.open(path) for path in options.images} or samples()
    result = {}
    for name, picture in pictures.items():
        picture.thumbnail((LONGEST, LONGEST))
        pixels = np.asarray(picture.convert("RGB"))
        rounds = [[taken(pixels, encode) for encode in WAYS.values()] for _ in range(options.rounds)]
        pillow, ours = np.median(np.array(rounds), axis=0)
        result[name] = {"size": picture.size, "pillow": pillow.round(2).tolist(), "ours": ours.round(2).tolist(),
                        "ratios": (ours / pillow).round(2).tolist()}  # fmt: skip
        print(f"{name} {picture.size}: gate {ours[0] / pillow[0]:.2f} x, server {ours[1] / pillow[1]:.2f} x, "
              f"bytes {ours[2] / pillow[2]:.2f} x ({ours[2] / 1024:.0f} KiB)")  # fmt: skip
    print(json.dumps({"benchmark": "forwarded_png", "card": card, "result": result}))


if __name__ == "__main__":
    main()
