"""A bundle's graphs as a model repository for Triton Inference Server, which speaks the KServe v2 protocol.

The server gives logits. Whoever asks it decodes, preprocesses and decides, as `safevlm_sdk` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.atomic import publish_folder, require_publishable
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import Graph, TensorSpec
from safevlm_sdk.strict import digest

MAX_BATCH = 32
QUEUE_DELAY_US = 500
VERSION = "1"
CONFIG_FILE = "config.pbtxt"
DIGEST_PARAMETER = "safevlm_bundle_digest"

PLATFORM = "onnxruntime_onnx"
MODEL_FILE = "model.onnx"
DATA_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int64": "TYPE_INT64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRepository:
    """What was written.

    Attributes:
        folder: The repository.
        models: Names of the models, each a graph.
        left_out: Graph ids that the server has no platform for.
    """

    folder: Path
    models: tuple[str, ...]
    left_out: tuple[str, ...]

    def render(self) -> str:
        """Plain text for a console."""
        lines = [f"wrote {self.folder}: {', '.join(self.models)}"]
        if self.left_out:
            lines.append(f"left out, for the server has no platform for them: {', '.join(self.left_out)}")
        return "\n".join(lines)


def write_model_repository(bundle: Bundle, folder: Path) -> ModelRepository:
    """Writes `<folder>/<model>/config.pbtxt` and `<folder>/<model>/1/model.onnx` for each graph.

    Models of others in the folder stay; one that this function wrote under the same name is exchanged in one step.

    Args:
        bundle: Read and checked; the files that are written are the bytes that were checked.
        folder: The repository; it is made if it is not there.

    Raises:
        ExportError: The folder cannot be written, another model has a name that is needed, or no graph can be served.
    """
    served = [graph for graph in bundle.manifest.graphs if _is_served(graph)]
    names = {model_name(bundle.manifest.name, graph.id): graph for graph in served}
    if len(names) != len(served) or not served:
        raise ExportError(
            f"bundle {bundle.manifest.name!r}: {len(served)} graphs can be served, under the names {sorted(names)}; "
            "each needs a name of its own"
        )
    for name in names:
        require_publishable(folder / name, is_ours, error=ExportError)
    for name, graph in names.items():
        data, config = bundle.graphs[graph.id], model_config(bundle, graph)

        def fill(place: Path, data: bytes = data, config: str = config) -> None:
            (place / VERSION).mkdir()
            (place / VERSION / MODEL_FILE).write_bytes(data)
            (place / CONFIG_FILE).write_text(config, encoding="utf-8")

        publish_folder(folder / name, fill, replaceable=is_ours, error=ExportError)
    left_out = tuple(graph.id for graph in bundle.manifest.graphs if not _is_served(graph))
    return ModelRepository(folder=folder, models=tuple(names), left_out=left_out)


def model_name(bundle: str, graph: str) -> str:
    """A name for a folder and a URL: letters, digits, `-` and `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{bundle}-{graph}").strip("-")


def is_ours(folder: Path) -> bool:
    """True for a model that `write_model_repository` wrote, with nothing added."""
    known = {CONFIG_FILE, VERSION, f"{VERSION}/{MODEL_FILE}"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    try:
        return found <= known and DIGEST_PARAMETER in (folder / CONFIG_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def model_config(bundle: Bundle, graph: Graph) -> str:
    """The text of `config.pbtxt`: a `ModelConfig` message in protobuf's text format."""
    batched = has_batch_dimension(graph)
    parameters = {
        DIGEST_PARAMETER: bundle.manifest.digest,
        "safevlm_graph": graph.id,
        "safevlm_graph_digest": digest(bundle.graphs[graph.id]),
    }
    lines = [
        f"name: {_quoted(model_name(bundle.manifest.name, graph.id))}",
        f"platform: {_quoted(PLATFORM)}",
        f"default_model_filename: {_quoted(MODEL_FILE)}",
        f"max_batch_size: {MAX_BATCH if batched else 0}",
        *(_tensor("input", spec, batched) for spec in graph.inputs),
        *(_tensor("output", spec, batched) for spec in graph.outputs),
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    lines += (
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in parameters.items()
    )
    return "\n".join(lines) + "\n"


def has_batch_dimension(graph: Graph) -> bool:
    """Whether the first dimension of every input and output is one and the same that varies."""
    first = {spec.shape[0] if spec.shape else None for spec in (*graph.inputs, *graph.outputs)}
    return len(first) == 1 and isinstance(first.pop(), str)


def _tensor(kind: str, spec: TensorSpec, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in shape)
    return f"{kind} {{ name: {_quoted(spec.name)} data_type: {DATA_TYPES[spec.dtype]} dims: [ {dims} ] }}"


def _is_served(graph: Graph) -> bool:
    """Not what another engine than ONNX Runtime was proven with: IRs of OpenVINO, graphs for TensorRT's parser."""
    return graph.backend == "onnxruntime" and graph.target != "tensorrt"


def _quoted(text: str) -> str:
    """A string of the text format: printable ASCII as it is, every other byte of its UTF-8 in octal."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
