"""`python -m safevlm_export.conformance OUT` writes the test vectors to a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from safevlm_export.conformance.files import conformance_files


def main(arguments: list[str] | None = None) -> None:
    """Writes every file; reads the command line where no arguments are given."""
    parser = argparse.ArgumentParser(prog="python -m safevlm_export.conformance", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, data in conformance_files().items():
        (out / name).write_bytes(data)
        print(f"{out / name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
