"""What an export did, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safevlm_export.proof import GraphResult
from safevlm_sdk.manifest import Manifest

NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportReport:
    """A finished export.

    Attributes:
        out: The bundle's folder.
        manifest: As written.
        results: Graph id to its proof, with the names of images.
        sizes: Path inside the bundle to bytes.
        warnings: What is not as whoever exports may expect.
        notes: What else was made of the graphs.
    """

    out: Path
    manifest: Manifest
    results: Mapping[str, GraphResult]
    sizes: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def render(self) -> str:
        """Plain text for a console."""
        lines = [f"wrote {self.out} ({sum(self.sizes.values()) / 1e6:.1f} MB)", f"digest {self.manifest.digest}"]
        lines.append(f"proof: {self.manifest.proof.kind}, on {self.manifest.proof.source}")
        for graph in self.manifest.graphs:
            lines += _graph_lines(graph.id, sum(self.sizes[file] for file in graph.files), self.results[graph.id])
        lines.append("checked: loaded by the runtime, and one image judged as by the original")
        lines += (f"covers {risk}: {claim}" for risk, claim in self.manifest.coverage.items())
        if self.manifest.proof.kind == "numeric":
            lines.append("not calibrated: it decides nothing yet, and loads only with allow_uncalibrated=True")
        lines += self.notes
        lines += (f"warning: {warning}" for warning in self.warnings)
        return "\n".join(lines)


def _graph_lines(graph: str, size: int, result: GraphResult) -> list[str]:
    proof = result.proof
    error = ", ".join(f"{name} {value:.2g}" for name, value in proof.max_error.items())
    lines = [
        f"  {graph} ({size / 1e6:.1f} MB): {proof.images} images, {proof.flips} flips, max error: {error}",
    ]
    for what, names in (("changed", result.flipped), ("within 0.01 of a threshold", result.near_threshold)):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            lines.append(f"    {what}: {', '.join(names[:NAMES_SHOWN])}{more}")
    lines += (f"    {note}" for note in result.notes)
    return lines
