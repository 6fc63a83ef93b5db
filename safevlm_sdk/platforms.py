"""The support matrix: what was run on which kind of machine, as data; and which kind this machine is.

`python -m safevlm_sdk.platforms` prints the matrix as Markdown.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from typing import Literal

import msgspec

from safevlm_sdk.errors import OptionError
from safevlm_sdk.strict import from_toml

State = Literal["ran", "built", "not run", "no"]

# Compute capabilities of NVIDIA's data-centre GPUs without a sibling among the RTX ones.
DATA_CENTRE = ("8.0", "9.0", "10.0", "10.3")
THOR = "11.0"
PROCESSORS = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}
OTHER_SYSTEMS = {"Darwin": "macos", "Windows": "windows"}
JETPACK_6 = 36  # its release of Jetson Linux

_PAGE = """# Platforms

What was done with this SDK on which kind of machine. *ran*: a bundle's graph gave verdicts there. *built*: an engine
for it was built elsewhere, and not run. *not run*: nothing speaks against it, and nobody tried. *no*: it cannot be.
`safevlm doctor` says which row your machine is, what is missing, and what not to install.

This page is made of `safevlm_sdk/platforms.toml`: `python -m safevlm_sdk.platforms > docs/platforms.md`.
"""


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of machine; `cells` says for each path what was done."""

    id: str
    name: str
    note: str
    cells: dict[str, State]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A package that is known to fail on some platforms, and what to do instead."""

    package: str
    platforms: tuple[str, ...]
    why: str
    instead: str


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it; `paths` is a way to run a graph, by id, to its name."""

    schema: Literal[1]
    paths: dict[str, str]
    platforms: tuple[Platform, ...]
    refused: tuple[Refusal, ...]

    def __post_init__(self) -> None:
        ids = {platform.id for platform in self.platforms}
        for platform in self.platforms:
            if set(platform.cells) != set(self.paths):
                raise ValueError(f"platform {platform.id} has cells for {sorted(platform.cells)}")
        unknown = {name for refusal in self.refused for name in refusal.platforms} - ids
        if len(ids) != len(self.platforms) or unknown:
            raise ValueError(f"platform ids are {sorted(ids)}, and refusals name {sorted(unknown)}")

    def platform(self, name: str | None) -> Platform | None:
        """The platform of this id."""
        return next((platform for platform in self.platforms if platform.id == name), None)

    def refusal(self, package: str, platform: str | None) -> Refusal | None:
        """Why a package is not for a platform, if it is not."""
        return next((one for one in self.refused if one.package == package and platform in one.platforms), None)


def load_matrix() -> Matrix:
    """The shipped support matrix."""
    text = (resources.files("safevlm_sdk") / "platforms.toml").read_bytes()
    return from_toml(text, Matrix, error=OptionError, where="platforms.toml")


def identify(system: str, machine: str, capabilities: tuple[str, ...], tegra_release: str | None) -> str | None:
    """Which platform of the matrix a machine is, or None.

    Args:
        system: As `platform.system()` gives it.
        machine: The processor, as `platform.machine()` gives it.
        capabilities: Compute capabilities of the GPUs that the driver shows, as "8.9".
        tegra_release: The text of /etc/nv_tegra_release, which only a Jetson has.
    """
    if tegra_release is not None:
        if THOR in capabilities:
            return "jetson-thor"
        release = re.match(r"# R(\d+) ", tegra_release)
        major = 0 if release is None else int(release[1])
        return "jetpack-7" if major > JETPACK_6 else "jetpack-6" if major == JETPACK_6 else None
    if system in OTHER_SYSTEMS:
        return OTHER_SYSTEMS[system]
    processor = PROCESSORS.get(machine.lower())
    if processor is None or (processor == "arm64" and capabilities):
        return None
    if not capabilities:
        return f"{processor}-cpu"
    return "x86-64-data-centre" if capabilities[0] in DATA_CENTRE else "x86-64-rtx"


def markdown(matrix: Matrix) -> str:
    """The matrix as a page."""
    lines = ["| machine | " + " | ".join(matrix.paths.values()) + " |", "| --- |" + " --- |" * len(matrix.paths)]
    lines += (
        f"| {platform.name} | " + " | ".join(platform.cells[path] for path in matrix.paths) + " |"
        for platform in matrix.platforms
    )
    notes = [f"- **{platform.name}.** {platform.note}" for platform in matrix.platforms]
    refused = ["| package | not on | because | instead |", "| --- | --- | --- | --- |"]
    for one in matrix.refused:
        names = "; ".join(platform.name for platform in matrix.platforms if platform.id in one.platforms)
        refused.append(f"| `{one.package}` | {names} | {one.why} | {one.instead} |")
    parts = [_PAGE, *lines, "", *notes, "", "## What not to install", "", *refused]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown(load_matrix()))
