"""The command lines that build an engine of a graph, as the tools of TensorRT take them."""

from __future__ import annotations

from collections.abc import Mapping

from safevlm_export.trt.targets import Plan
from safevlm_sdk.manifest_graphs import ShapeRange

TOOLS = {"tensorrt": "trtexec", "tensorrt_rtx": "tensorrt_rtx"}


def command(plan: Plan, onnx: str, engine: str, profile: Mapping[str, ShapeRange]) -> str:
    """One command, of several lines.

    Args:
        plan: What builds, and for what.
        onnx: The graph's path.
        engine: The path to write to.
        profile: Input name to its smallest, usual and largest shape, where these differ.
    """
    words = [TOOLS[plan.name], f"--onnx={onnx}", f"--saveEngine={engine}"]
    for at, option in enumerate(("--minShapes", "--optShapes", "--maxShapes") if profile else ()):
        words.append(f"{option}={','.join(f'{name}:{_sizes(shapes[at])}' for name, shapes in profile.items())}")
    if plan.name == "tensorrt":
        words.append("--stronglyTyped")  # TensorRT 10 must be told; 11 knows no other networks
        if plan.compatibility == "ampere_plus":
            words.append("--hardwareCompatibilityLevel=ampere+")
    elif plan.capabilities:
        words.append("--computeCapabilities=" + ",".join(one.replace(".", "") for one in plan.capabilities))
    else:
        words.append("--useGpu")
    return " \\\n  ".join([*words, "--skipInference"])


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
