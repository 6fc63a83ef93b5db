"""docs/bundle.md and docs/bundle.schema.json: the format as the code has it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest

from safevlm_runtime.bundle import folder, reader
from safevlm_runtime.bundle.reader import starter_path
from safevlm_runtime.bundle.signature import MAX_SIGNATURE_BYTES
from safevlm_sdk.manifest import manifest_digest, parse_manifest
from safevlm_sdk.manifest_schema import manifest_schema, schema_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "bundle.md").read_text(encoding="utf-8")
SCHEMA = json.loads((DOCS / "bundle.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def manifest():
    return json.loads((starter_path() / "manifest.json").read_text(encoding="utf-8"))


def valid(manifest):
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(manifest)


def test_the_published_schema_is_the_code_s():
    assert (DOCS / "bundle.schema.json").read_text(encoding="utf-8") == schema_text(), (
        "run python -m safevlm_sdk.manifest_schema docs/bundle.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_starter_s_manifest_is_valid(manifest):
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("digest"),
        lambda one: one.update(unknown=1),
        lambda one: one.update(schema_version=2),
        lambda one: one["thresholds"].update(any="0.5"),
        lambda one: one["graphs"][0].update(role="other"),
        lambda one: one["graphs"][0].update(inputs=None),
        lambda one: one["preprocessing"]["mean"].pop(),
        lambda one: one["taxonomy"]["categories"]["privacy"].pop("usual_level"),
        lambda one: one["proof"]["graphs"]["gate.fp32"].update(flips=0.5),
    ],
)
def test_what_the_schema_can_see_is_seen(manifest, change):
    change(manifest)
    assert not valid(manifest)


def test_the_page_names_every_field_and_no_other():
    sections = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
    written = set()
    for title, section in sections.items():
        names = [name for name in title.replace(" and ", " ").split() if name in SCHEMA["$defs"]]
        owner = names[0]
        for line in section.splitlines():
            if found := re.match(r"\| field(?: of (\w+))? \|", line):
                owner = found[1] or names[0]
            elif line.startswith("| `"):
                fields = re.findall(r"`([\w.]+)`", line.split(" | ")[0])
                if title.startswith("Graph and") and not set(fields) <= set(SCHEMA["$defs"]["Graph"]["properties"]):
                    continue  # the table of roles
                written |= {name if "." in name else f"{owner}.{name}" for name in fields}
        if "TensorSpec" in names:
            said = re.search(r"A TensorSpec has .*?varies", section, re.DOTALL)[0]
            written |= {f"TensorSpec.{name}" for name in re.findall(r"`(name|dtype|shape)`", said)}
    there = {f"{name}.{field}" for name, part in SCHEMA["$defs"].items() for field in part["properties"]}
    assert written == there


def test_what_is_optional_is_called_so():
    for name, part in SCHEMA["$defs"].items():
        for field in set(part["properties"]) - set(part["required"]):
            row = re.search(rf"^\| (?:`{name}\.)?`?{field}` \| optional: ", PAGE, re.MULTILINE)
            assert row, f"{name}.{field}"


def test_descriptions_come_from_the_docstrings():
    graph = manifest_schema()["$defs"]["Graph"]
    assert graph["description"].startswith("One executable graph. Inputs and outputs are float32")
    assert graph["properties"]["target"]["description"].endswith(
        "no other runtime chooses a graph made for TensorRT."
    )


def test_the_limits_of_the_page_are_the_reader_s():
    mib = {
        "`manifest.json`": reader.MAX_MANIFEST_BYTES,
        "`golden.npz`": reader.MAX_GOLDEN_BYTES,
        "`policy.toml`": reader.MAX_TEXT_BYTES,
        "`README.md`": reader.MAX_TEXT_BYTES,
        "`SIGNATURE`": MAX_SIGNATURE_BYTES,
    }
    for file, limit in mib.items():
        assert re.search(rf"^\| {file} \| .*at most {limit // 2**20} MiB", PAGE, re.MULTILINE), file
    text = " ".join(PAGE.split())
    assert f"at most {reader.MAX_FILE_BYTES // 2**30} GiB" in text
    assert f"together at most {reader.MAX_BUNDLE_BYTES // 2**30} GiB" in text
    assert f"at most {folder.MAX_ENTRIES} entries and {folder.MAX_DEPTH} levels" in text


def test_the_digest_is_what_the_page_computes(tmp_path, monkeypatch):
    shutil.copytree(starter_path(), tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(code, "bundle.md", "exec"), names)
    assert "sha256:" + names["stated"] == manifest_digest(parse_manifest(names["data"]))
    Path("bundle/manifest.json").write_bytes(names["data"].replace(b'"flips":0', b'"flips":1', 1))
    with pytest.raises(AssertionError):
        exec(compile(code, "bundle.md", "exec"), {})
