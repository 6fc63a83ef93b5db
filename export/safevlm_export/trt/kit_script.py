"""Builds the engines of this kit with TensorRT or TensorRT-RTX.

    python build.py [GRAPH ...]

Run it on the machine whose GPU the engines are for; TensorRT-RTX builds without a GPU, too. It needs nothing but that
library. Precision is in the graphs: the networks are strongly typed, and no flag changes it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(kit: Path, wanted: list[str]) -> int:
    """Builds the engines of the graphs that are named, or of all."""
    told = json.loads((kit / "kit.json").read_text(encoding="utf-8"))
    trt = importlib.import_module(told["flavor"])
    unknown = set(wanted) - {one["graph"] for one in told["engines"]}
    if unknown:
        print(f"no such graph: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    (kit / "engines").mkdir(exist_ok=True)
    for one in told["engines"]:
        if not wanted or one["graph"] in wanted:
            out = kit / one["engine"]
            out.write_bytes(build(trt, told, one, checked(kit / one["onnx"], one["sha256"])))
            print(f"{out}: {out.stat().st_size} bytes, {told['flavor']} {trt.__version__}")
    return 0


def checked(path: Path, sha256: str) -> bytes:
    """The file's bytes, if they are those that were exported."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{path}: is not the graph that was exported; copy the kit again")
    return data


def build(trt: Any, told: dict[str, Any], one: dict[str, Any], onnx: bytes) -> bytes:
    """One engine."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise SystemExit("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    if one["profile"]:
        profile = builder.create_optimization_profile()
        for name, (least, usual, most) in one["profile"].items():
            profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
    if hasattr(trt, "ComputeCapability"):  # TensorRT-RTX
        names = ["SM" + capability.replace(".", "") for capability in told["capabilities"]] or ["CURRENT"]
        config.num_compute_capabilities = len(names)
        for index, name in enumerate(names):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    elif told["compatibility"] == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise SystemExit(f"{one['graph']}: nothing was built; the log above says why")
    return bytes(engine)


if __name__ == "__main__":
    raise SystemExit(main(Path(__file__).resolve().parent, sys.argv[1:]))
