"""What the gate adds: `Runtime.check` to the bare graph, the head to its tower, a verdict to a large photograph.

    OMP_NUM_THREADS=1 python benchmarks/overheads.py [--images FOLDER] [--rounds 20] [--threads 1] [--json FILE]

Three comparisons, each interleaved: for every image all contenders take their turn, and the ratio or difference is
taken within the visit. What of the first is known by name is timed by itself in the same visits. Without `--images`
the picture is drawn, as `safevlm bench` draws it. The tower is ViT-B/16 with random weights behind the default head:
what it says means nothing, and what it costs is what it costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from export_families import of_architecture
from paired import median_interval, percentiles, turn
from PIL import Image

from safevlm_export.components import component_sources
from safevlm_export.graphs import gate_source
from safevlm_export.proving import opened_graph
from safevlm_export.tracing import export_graph
from safevlm_runtime import Runtime
from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.bench.images import draw_picture, own_pictures
from safevlm_runtime.bench.operations import count_operations
from safevlm_runtime.bundle.loading import starter_folder
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import jpeg
from safevlm_sdk.raster.canonical import capped_size, raster_digest
from safevlm_sdk.raster.limits import DEFAULT_LIMITS

Contenders = Mapping[str, Callable[[Any], object]]
PHONE = (4000, 3000)


def interleaved(contenders: Contenders, subjects: list[Any], rounds: int) -> dict[str, np.ndarray]:
    """Name to milliseconds [rounds, subjects]; the first round warms up and is not counted."""
    names = list(contenders)
    found = {name: np.zeros((rounds + 1, len(subjects))) for name in names}
    for visit in range(rounds + 1):
        for column, subject in enumerate(subjects):
            for place in turn(len(names), visit * len(subjects) + column):
                start = time.perf_counter()
                contenders[names[place]](subject)
                found[names[place]][visit, column] = 1e3 * (time.perf_counter() - start)
    return {name: times[1:] for name, times in found.items()}


def added(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Milliseconds more, and times as much: medians over visits, with the ratio's interval over visits."""
    ratio, low, high = median_interval((ours / theirs).ravel())
    return {"ms_more": float(np.median(ours - theirs)), "ratio": ratio, "low": low, "high": high}


def bare_session(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A graph in ONNX Runtime with nothing around it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def runtime_over_bare(files: list[Path], rounds: int, threads: int) -> dict[str, Any]:
    """`Runtime.check` beside Pillow's decoding, the same preparation and the same graph."""
    bundle = read_bundle(starter_folder())
    graph = next(one for one in bundle.manifest.graphs if one.decides)
    session = bare_session(bundle.graphs[graph.id], threads)
    wanted = [output.name for output in session.get_outputs()]

    def bare(file: Path) -> object:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return session.run(wanted, {"pixel_values": preprocess(pixels, bundle.manifest.preprocessing)[None]})

    with Runtime.starter(threads=threads) as runtime:
        encoded = {file: file.read_bytes() for file in files}
        rasters = {file: runtime.raster(file).frames[0].pixels for file in files}
        parts: Contenders = {
            "hash of the file": lambda file: sha256(encoded[file]).hexdigest(),
            "walk over its structure": lambda file: jpeg.parse(encoded[file], DEFAULT_LIMITS),
            "hash of the raster": lambda file: raster_digest(rasters[file]),
        }
        times = interleaved({"runtime": runtime.check, "bare": bare, **parts}, list(files), rounds)
        decide = [runtime.check(file).timings_ms["decide"] for file in files for _ in range(rounds)]
    return {
        "images": len(files),
        "parts_ms": {name: float(np.median(times[name])) for name in parts} | {"decision": float(np.median(decide))},
        "runtime_ms": percentiles(times["runtime"]),
        "bare_ms": percentiles(times["bare"]),
        **added(times["runtime"], times["bare"]),
    }


def head_over_tower(rounds: int, threads: int) -> dict[str, Any]:
    """The gate's graph beside the graph of its tower alone: operations and time."""
    model = of_architecture("vit-b16")
    sources = {"gate": gate_source(model), "tower": component_sources(model)[0]}
    counted, sessions = {}, {}
    for name, source in sources.items():
        data = export_graph(source, identity={}, opset=18).data
        opened = opened_graph(source.role, source.inputs, source.outputs, data)
        opened.backend.close()
        counted[name] = count_operations(data, opened.graph)
        sessions[name] = bare_session(data, threads)
    side = model.config.preprocessing.height
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    times = interleaved(
        {name: lambda x, one=session: one.run(None, {"pixel_values": x}) for name, session in sessions.items()},
        [pixels],
        rounds,
    )
    gate, tower = (counted[name].flops for name in ("gate", "tower"))
    return {
        "tower": "vit-b16",
        "tower_flops": tower,
        "operations_share": (gate - tower) / tower,
        "gate_ms": percentiles(times["gate"]),
        "tower_ms": percentiles(times["tower"]),
        **added(times["gate"], times["tower"]),
    }


def phone_photograph(rounds: int, threads: int) -> dict[str, Any]:
    """A JPEG of 12 megapixels to its verdict, beside Pillow's decodings to the same raster."""
    with tempfile.TemporaryDirectory() as folder, Runtime.starter(threads=threads) as runtime:
        file = Path(folder) / "phone.jpg"
        draw_picture(*PHONE).save(file, quality=90)
        side = read_bundle(starter_folder()).manifest.view_plan.raster_max_side
        size = capped_size(PHONE, side)

        def full(path: Path) -> object:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))

        def draft(path: Path) -> object:
            with Image.open(path) as picture:
                picture.draft("RGB", size)
                return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))

        times = interleaved({"runtime": runtime.check, "full": full, "draft": draft}, [file], rounds)
    return {
        "pixels": PHONE[0] * PHONE[1],
        "raster": size,
        **{f"{name}_ms": percentiles(one) for name, one in times.items()},
        "over_full": added(times["runtime"], times["full"]),
        "over_draft": added(times["runtime"], times["draft"]),
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """What is printed."""
    first, head, phone = found["runtime_over_bare"], found["head_over_tower"], found["phone_photograph"]
    return [
        f"Runtime.check over Pillow, preparation and a bare session: {first['ms_more']:+.2f} ms, "
        f"{first['ratio']:.3f} [{first['low']:.3f}, {first['high']:.3f}] of {first['bare_ms'][0]:.1f} ms; of these "
        + ", ".join(f"{name} {ms:.2f}" for name, ms in first["parts_ms"].items()),
        f"head over ViT-B/16: {head['operations_share']:.2%} of the operations, {head['ratio'] - 1:+.2%} of the time "
        f"[{head['low'] - 1:+.2%}, {head['high'] - 1:+.2%}] of {head['tower_ms'][0]:.0f} ms",
        f"12 megapixels, file to verdict: {phone['runtime_ms'][0]:.0f} ms, {phone['over_full']['ratio']:.2f} of "
        f"Pillow's full decoding to the raster, {phone['over_draft']['ratio']:.2f} of its draft",
    ]


def main() -> int:
    """Prints three lines and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=None, help="A folder of your own; up to 24 are taken.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None, help="Write the line of JSON here, too.")
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card())
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            drawn = Path(folder) / "drawn.jpg"
            draw_picture(640, 480).save(drawn, quality=90)
        files = [drawn] if options.images is None else own_pictures(options.images)
        found = {
            "runtime_over_bare": runtime_over_bare(files, options.rounds, options.threads),
            "head_over_tower": head_over_tower(options.rounds, options.threads),
            "phone_photograph": phone_photograph(options.rounds, options.threads),
        }
    print(*lines_of(found), sep="\n")
    line = json.dumps(
        {
            "benchmark": "overheads",
            "card": card,
            "threads": options.threads,
            "rounds": options.rounds,
            "result": found,
        }
    )
    print(line)
    if options.json is not None:
        options.json.write_text(line + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
