"""Kills the writer of a bundle at every numbered step. Run as a script.

    python bundle_faults.py CORE_TESTS BUNDLE WORKDIR

The faults are those of CORE_TESTS/atomic_faults.py. Prints the number of steps, or a traceback.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, sys.argv[1])
from atomic_faults import KILLED, Faults

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.bundle_writer import BundleParts, bundle_files, write_bundle


def parts_of(bundle: Path, name: str) -> BundleParts:
    read = read_bundle(bundle)
    return BundleParts(
        manifest=msgspec.structs.replace(read.manifest, name=name),
        graphs={graph.file: read.graphs[graph.id] for graph in read.manifest.graphs},
        golden=read.golden,
        policy=(bundle / "policy.toml").read_bytes(),
        card=f"# {name}",
    )


def killed_at(step: int, out: Path, parts: BundleParts) -> int:
    """The exit code of a child that writes the bundle and dies before the step; file writes leave one half."""
    child = os.fork()
    if child == 0:
        faults = Faults("kill", step)
        write = Path.write_bytes

        def write_bytes(path: Path, data: bytes) -> int:
            faults.strike(lambda: write(path, data[: len(data) // 2]))
            return write(path, data)

        Path.write_bytes = write_bytes
        faults.install()
        write_bundle(out, parts)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(bundle: Path, work: Path) -> None:
    old, new = parts_of(bundle, "old"), parts_of(bundle, "new")
    out = work / "out"
    digests = {name: bundle_files(parts)["manifest.json"] for name, parts in (("old", old), ("new", new))}
    step, seen, code = 0, set(), KILLED
    while code == KILLED:
        step += 1
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        write_bundle(out, old)
        code = killed_at(step, out, new)
        found = read_bundle(out).manifest
        if (out / "manifest.json").read_bytes() not in digests.values():
            raise AssertionError(f"step {step}: a mix")
        seen.add(found.name)
        write_bundle(out, new)
        if os.listdir(work) != ["out"] or read_bundle(out).manifest.name != "new":
            raise AssertionError(f"step {step}: leftovers {os.listdir(work)}")
    if code != 0 or seen != {"old", "new"}:
        raise AssertionError(f"code {code}, seen {seen}")
    print(step - 1)


if __name__ == "__main__":
    main(Path(sys.argv[2]), Path(sys.argv[3], "work"))
