"""`safevlm check`, `verify` and `inspect` with the starter that ships."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from safevlm_runtime.bundle.reader import starter_path
from safevlm_sdk.command.bundles import bundle_folders
from safevlm_sdk.manifest import MANIFEST_FILE, manifest_bytes, parse_manifest, sealed
from safevlm_training.documents import examples

KEYS = {
    "path",
    "schema",
    "action",
    "category",
    "level",
    "score",
    "categories",
    "covered",
    "uncovered",
    "error",
    "reason",
    "timings_ms",
    "provider",
    "source_sha256",
    "raster_sha256",
    "bundle_digests",
    "policy_digests",
    "safety_prompt",
    "refusal",
    "observed",
    "region",
    "cached",
    "views",
    "views_judged",
}


def run(*arguments):
    script = Path(sys.executable).parent / "safevlm"
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, sample in examples():
        sample.image.save(folder / f"{name}.jpg", quality=92)
    for name in ("china", "flower"):
        Image.fromarray(load_sample_image(f"{name}.jpg")).save(folder / f"{name}.jpg")
    return folder


def png_of_size(width, height):
    """A PNG file of 69 bytes that claims to be this large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_bank_card_is_not_allowed_and_a_photograph_is(images):
    done = run("check", images / "bank_card.jpg", images / "china.jpg", images / "flower.jpg", "--json")
    card, china, flower = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 10
    assert card.keys() == KEYS
    assert (card["action"] in ("block", "caution"), card["category"]) == (True, "privacy")
    assert (china["action"], flower["action"]) == ("allow", "allow")


def test_all_allowed_is_exit_code_0(images):
    done = run("check", images / "china.jpg")
    assert done.returncode == 0
    assert "looked for: privacy; for nothing else" in done.stdout


def test_bad_images_each_have_a_name_of_their_own(images, tmp_path):
    whole = (images / "china.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "thin.png").write_bytes(png_of_size(1, 80_000_000))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    expected = {
        tmp_path / "truncated.jpg": "image_corrupt",
        tmp_path / "thin.png": "image_dimensions",
        tmp_path / "text.jpg": "image_format",
        tmp_path / "empty.jpg": "image_empty",
        tmp_path: "image_not_a_file",
        tmp_path / "absent.jpg": "image_not_found",
    }
    done = run("check", *expected, images / "china.jpg", "--json")
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["error"] for row in rows] == [*expected.values(), None]
    assert {row["action"] for row in rows[:-1]} == {"block"}
    assert {row["category"] for row in rows[:-1]} == {None}


def test_the_report(images, tmp_path):
    out = tmp_path / "report.html"
    done = run("check", *sorted(images.glob("*.jpg")), "--report", out)
    assert done.returncode == 10
    assert out.read_text(encoding="utf-8").count("<article") == len(list(images.glob("*.jpg")))


def test_a_policy_of_the_users_own(images, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = 1\nname = "strict"\nuncovered = "allow"\n'
        '[actions.privacy]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
    )
    done = run("check", images / "bank_card.jpg", "--policy", policy, "--json")
    assert json.loads(done.stdout)["action"] == "block"


def test_a_source_that_the_policy_does_not_have_is_said(images, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = 1\nname = "doors"\nuncovered = "allow"\non_error = "block"\n'
        '[actions.privacy]\nlow = "allow"\nmedium = "allow"\nhigh = "allow"\n'
        '[sources.door.actions.privacy]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
    )
    done = run("check", images / "bank_card.jpg", "--policy", policy, "--source", "door")
    assert (done.returncode, done.stderr) == (10, "")
    done = run("check", images / "bank_card.jpg", "--policy", policy, "--source", "dor")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the policy has no source 'dor' (it has door), so that its general rules")


def test_an_absent_bundle_is_one_line(tmp_path, images):
    done = run("check", images / "china.jpg", "--bundle", tmp_path / "absent")
    assert done.returncode == 1
    assert done.stderr.startswith("error: bundle_missing: ")
    assert done.stderr.count("\n") == 1


def test_a_provider_that_is_not_here_is_one_line(images):
    done = run("check", images / "china.jpg", "--provider", "cuda")
    assert done.returncode == 1
    assert done.stderr.startswith("error: provider_mismatch: ")


def test_verify_and_inspect():
    done = run("verify", starter_path())
    assert done.returncode == 0, done.stderr
    described = json.loads(run("inspect", starter_path(), "--json").stdout)
    assert described["manifest"]["digest"] in done.stdout
    refused = run("verify", starter_path(), "--digest", "sha256:" + "0" * 64)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: bundle_digest: ")


def test_inspect_says_in_few_lines_what_to_read_first(tmp_path):
    done = run("inspect", starter_path())
    assert done.returncode == 0, done.stderr
    said = {line.split(maxsplit=1)[0]: line for line in done.stdout.splitlines()}
    assert len(done.stdout.splitlines()) <= 25
    digest = json.loads(run("inspect", starter_path(), "--json").stdout)["manifest"]["digest"]
    assert said["digest"] == f"digest      {digest}"
    assert said["covers"].startswith("covers      privacy from 0.4479: Pictures that look like identity cards")
    assert "gate.fp32: fp32, onnxruntime, 3.1 MB; 0 of 290 proof images changed" in done.stdout
    assert said["proof"].startswith("proof       decisions, on ")
    assert said["signature"] == "signature   none"
    signed = tmp_path / "signed"
    shutil.copytree(starter_path(), signed)
    (signed / "SIGNATURE").write_text("{}")
    assert "signature   there, not verified" in run("inspect", signed).stdout


def test_the_starter_beside_a_bundle_of_ones_own(images, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(starter_path(), other)
    manifest = parse_manifest((other / MANIFEST_FILE).read_bytes())
    manifest = sealed(msgspec.structs.replace(manifest, name="other"))
    (other / MANIFEST_FILE).write_bytes(manifest_bytes(manifest))
    done = run("check", images / "bank_card.jpg", "--bundle", other, "--starter", "--json")
    starter = json.loads(run("inspect", starter_path(), "--json").stdout)["manifest"]["digest"]
    assert json.loads(done.stdout)["bundle_digests"] == [manifest.digest, starter]
    alone = run("check", images / "bank_card.jpg", "--starter", "--json")
    assert json.loads(alone.stdout)["bundle_digests"] == [starter]
    assert bundle_folders(None, False) == bundle_folders([], True) == (str(starter_path().absolute()),)
    assert bundle_folders([Path("a"), tmp_path], False) == (str(Path.cwd() / "a"), str(tmp_path))


def test_how_a_bundle_is_loaded_is_said(images):
    for option, value, said in (
        ("--precision", "int8", "error: bundle_invalid: bundle 'safevlm-starter-documents' has no gate graph"),
        ("--engine-seconds", "0", "error: option_invalid: engine_seconds is 0"),
        ("--key", "key.pub", "error: bundle_unsigned: "),
    ):
        done = run("check", images / "china.jpg", option, value)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
    done = run("check", images / "china.jpg", "--precision", "fp32", "--engine-seconds", "9", "--json")
    assert json.loads(done.stdout)["error"] is None


def test_a_folder_and_a_missing_file_are_told_with_what_to_type(images, tmp_path):
    done = run("check", tmp_path, tmp_path / "absent.jpg", images / "bank_card.jpg")
    assert done.returncode == 1  # and not 10, though something is blocked or cautioned
    assert "image_not_a_file: the path is a folder" in done.stdout
    assert "image_not_found: no file lies at the path; check its name" in done.stdout
    assert "pass bytes" not in done.stdout
    (hint,) = done.stderr.splitlines()
    assert f"({tmp_path}/*)" in hint
    assert f"safevlm audit {tmp_path} --out " in hint


def test_names_of_strangers_cannot_write_to_the_terminal(images, tmp_path):
    odd = tmp_path / "x\x1b[31mred\nnew.jpg"
    odd.write_bytes((images / "china.jpg").read_bytes())
    done = run("check", odd)
    assert done.returncode == 0
    assert "\x1b[31m" not in done.stdout
    assert "red\\nnew.jpg" in done.stdout


def test_a_name_that_is_no_text_is_judged(images, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(odd, "wb") as file:
        file.write((images / "china.jpg").read_bytes())
    for encoding in ("utf-8:strict", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        command = [Path(sys.executable).parent / "safevlm", "check", odd]
        shown = subprocess.run(command, capture_output=True, env=environment, check=True)
        assert b"allow" in shown.stdout
        row = subprocess.run([*command, "--json"], capture_output=True, env=environment, check=True)
        assert json.loads(row.stdout)["action"] == "allow"


def test_a_report_never_replaces_an_image(images, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes((images / "china.jpg").read_bytes())
    done = run("check", "--report", photo, images / "china.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("error: option_invalid: ")
    assert photo.read_bytes() == (images / "china.jpg").read_bytes()


def test_a_folder_that_is_no_bundle_is_said_to_be_none(images):
    for folder in ("/", images):
        done = run("check", images / "china.jpg", "--bundle", folder)
        assert done.returncode == 1
        assert "holds no manifest.json" in done.stderr


def test_several_bundles_can_be_pinned(images, tmp_path):
    digest = json.loads(run("inspect", starter_path(), "--json").stdout)["manifest"]["digest"]
    assert run("check", images / "china.jpg", "-b", starter_path(), "--digest", digest).returncode == 0
    assert run("check", images / "china.jpg", "--digest", digest).returncode == 0
    assert (
        "one per bundle" in run("check", images / "china.jpg", "-b", starter_path(), *["--digest", digest] * 2).stderr
    )


def test_a_full_disk_is_one_line(images):
    command = [Path(sys.executable).parent / "safevlm", "check", images / "china.jpg", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_narrow_terminals_still_name_the_image(images):
    environment = {**os.environ, "COLUMNS": "40"}
    command = [Path(sys.executable).parent / "safevlm", "check", images / "china.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "china.jpg" in done.stdout
