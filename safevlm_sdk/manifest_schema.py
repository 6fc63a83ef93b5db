"""The JSON Schema of a bundle's manifest, made of the types that read it.

    python -m safevlm_sdk.manifest_schema docs/bundle.schema.json

writes the one that is published. It says which fields there are and of what type; what they must be together, as a
digest that fits, is beyond a schema, and `parse_manifest` checks it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from safevlm_sdk.manifest import Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_FIELD = re.compile(r"(\w+): (.*)")


def manifest_schema() -> dict[str, Any]:
    """The schema, as a tree of JSON values; descriptions are the types' own docstrings."""
    schema = msgspec.json.schema(Manifest)
    for part in schema["$defs"].values():
        part["description"], fields = _described(part.get("description", ""))
        for name, text in fields.items():
            part["properties"][name]["description"] = text
    return {"$schema": DIALECT, "title": "The manifest of a SafeVLM bundle", **schema}


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of its class, and of each field under `Attributes:`."""
    text, _, attributes = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    fields: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(attributes).splitlines():
        if not line.startswith(" ") and (found := _FIELD.fullmatch(line)):
            name, fields[found[1]] = found[1], found[2]
        else:
            fields[name] += " " + line.strip()
    return " ".join(text.split()), fields


def schema_text() -> str:
    """The published file."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the schema to the file that is named."""
    (out,) = sys.argv[1:]
    Path(out).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
