"""`safevlm policy check` and what `safevlm check` says of a policy, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_sdk.calibration.note import policy_warnings
from safevlm_sdk.calibration.record import CalibrationRecord
from safevlm_sdk.policy import default_policy_text, parse_policy

POLICY = """
schema = 1
name = "gate"
uncovered = "allow"
mode = "observe"
refusal = "Not here."
[actions.privacy]
low = "caution"
medium = "caution"
high = "block"
[actions.fairness]
low = "allow"
medium = "caution"
high = "block"
[prompts]
medium = "Careful: {subject} of kind {category}. {hint}"
[hints]
privacy = "Name nobody."
[sources.camera-1]
thresholds = { privacy = 0.25 }
[hysteresis]
k = 3
n = 5
[[overrides]]
category = "fairness"
action = "caution"
until = 2026-01-31
reason = "long ago"
[[overrides]]
category = "fairness"
action = "caution"
until = 2999-12-31
reason = "for long"
"""


def run(*arguments):
    command = [Path(sys.executable).parent / "safevlm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


def test_policy_check_says_what_a_policy_does(file):
    done = run("policy", "check", file, "--starter")
    assert done.returncode == 0, done.stderr
    policy = parse_policy(POLICY)
    for line in (
        "mode: observe",
        "hysteresis: 3 of the last 5 frames",
        "source camera-1: privacy from 0.25",
        "until 2026-01-31 (long ago): expired",
        "until 2999-12-31 (for long): active",
        "told at privacy medium: Careful: personal data of kind privacy. Name nobody.",
        "told at fairness high: ",  # under the override alone
        "answered in the place of the model: Not here.",
        policy.digest,
        "looked for: privacy; for nothing else",
        "wanted but not covered: fairness",
        "warning: policy 'gate' sets thresholds of its own (privacy for source camera-1)",
        "warning: policy 'gate': expired",
    ):
        assert line in done.stdout, done.stdout
    assert f"the bundle's: {read_bundle(starter_path()).manifest.thresholds.categories['privacy']:g}" in done.stdout


def test_policy_check_refuses_what_would_not_load(file):
    file.write_text(POLICY.replace('uncovered = "allow"', 'uncovered = "refuse"'))
    assert run("policy", "check", file).returncode == 0
    done = run("policy", "check", file, "--bundle", starter_path())
    assert done.returncode == 1
    assert done.stderr.startswith("error: policy_uncovered: ")
    assert run("policy", "check", file, "--starter", "--taxonomy", "safevlm").returncode == 2


def test_the_default_one_is_printed_to_begin_with(tmp_path):
    done = run("policy", "default")
    assert done.stdout == default_policy_text().decode()
    (tmp_path / "policy.toml").write_text(done.stdout)
    assert run("policy", "check", tmp_path / "policy.toml", "--starter").returncode == 0


def test_the_default_for_a_taxonomy_a_checkpoint_or_a_bundle(tmp_path):
    taxonomy = tmp_path / "factory.toml"
    taxonomy.write_text('name = "factory"\n[categories.no_helmet]\nusual_level = 2\ndescription = "A bare head."\n')
    done = run("policy", "default", "--for", taxonomy)
    assert done.returncode == 0, done.stderr
    assert tuple(parse_policy(done.stdout).actions) == ("no_helmet",)
    (tmp_path / "policy.toml").write_text(done.stdout)
    assert run("policy", "check", tmp_path / "policy.toml", "--taxonomy", taxonomy).returncode == 0
    for folder in (starter_path(), Path(__file__).parents[2] / "starter" / "checkpoint"):
        assert run("policy", "default", "--for", folder).stdout == default_policy_text().decode()
    refused = run("policy", "default", "--for", tmp_path)
    assert refused.returncode == 1
    assert "is no taxonomy (.toml), no checkpoint (config.json) and no bundle" in refused.stderr


def test_a_category_of_no_bundle_is_refused_with_what_to_do(file):
    file.write_text(POLICY.replace("[actions.fairness]", "[actions.spam]").split("[[overrides")[0])
    done = run("policy", "check", file, "--starter")
    assert done.returncode == 1
    assert "policy 'gate' names spam, and no taxonomy here has that" in done.stderr
    assert "load the bundle whose taxonomy has it as well, or take [actions.spam] out of the policy" in done.stderr
    assert "['" not in done.stderr


def test_check_takes_a_source_and_warns_of_the_policy(file, tmp_path):
    photo = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(photo)
    done = run("check", photo, "--policy", file, "--source", "camera-1", "--json")
    row = json.loads(done.stdout)
    assert (done.returncode, row["action"], row["observed"]) == (0, "allow", "allow")
    assert "rules of source camera-1" in row["reason"]
    assert "warning: policy 'gate' sets thresholds of its own" in done.stderr
    failed = run("check", tmp_path / "absent.png", "--policy", file)
    assert failed.returncode == 1  # a failure is one, observed or not
    assert "allow (observed: block)" in failed.stdout
    assert "image_not_found" in failed.stdout


def test_what_was_calibrated_under_another_policy_is_said(bundle):
    manifest = read_bundle(bundle).manifest
    policy = parse_policy(POLICY.split("[sources")[0].replace('mode = "observe"\n', ""))
    assert policy_warnings(manifest, policy) == ()  # nothing was calibrated

    def calibrated(digest):
        record = CalibrationRecord(
            came_from="sha256:0", policy=digest, images="sha256:1", rates=(), confidence=0.95, temperature_groups=0,
            failed=0, near_threshold=0, undecided=0,
        )  # fmt: skip
        return msgspec.structs.replace(
            manifest, calibration=msgspec.structs.replace(manifest.calibration, record=record)
        )

    observing = msgspec.structs.replace(policy, mode="observe", refusal="Other words.")
    for digest in (policy.digest, policy.deciding_digest):
        assert policy_warnings(calibrated(digest), policy) == ()
    assert policy_warnings(calibrated(policy.deciding_digest), observing) == ()
    stricter = msgspec.structs.replace(policy, any_threshold=0.5)
    other, own = policy_warnings(calibrated(policy.deciding_digest), stricter)
    assert "calibrated under another policy" in other
    assert "'gate'" in other
    assert "(any risk)" in own
