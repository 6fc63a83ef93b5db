"""`safevlm calibrate BUNDLE`, on a bundle that sees colours and images whose colours are drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_runtime.bundle.verify import describe, verify_bundle
from safevlm_runtime.calibrate.bundle import COUNTED_AT, _proof, calibrate_bundle
from safevlm_runtime.calibrate.golden import still_clear
from safevlm_runtime.judging.gate import open_gate
from safevlm_sdk.calibration.choose import Demand
from safevlm_sdk.calibration.page import Written, render, than_before
from safevlm_sdk.calibration.request import Request, Tiling
from safevlm_sdk.command.calibrate import _print
from safevlm_sdk.errors import BoundsContradict, BoundUnsupported, CalibrationError, DataError, OptionError
from safevlm_sdk.manifest import parse_manifest
from safevlm_sdk.policy import Action
from safevlm_sdk.view_plan import ViewPlan

SAFE, RISKY = 130, 240


def textured(rng: np.random.Generator, colour: tuple[float, float, float]) -> Image.Image:
    """64 x 64 pixels of blotches around a colour."""
    blotches = rng.uniform(-60, 60, (6, 6, 1)) + rng.uniform(-20, 20, (6, 6, 3))
    pixels = np.clip(np.array(colour) + blotches, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def safe(tmp_path_factory) -> Path:
    """Greenish images of all shades, one with a name that is HTML."""
    folder, rng = tmp_path_factory.mktemp("safe"), np.random.default_rng(0)
    for number in range(SAFE):
        name = "<b>&.png" if number == 0 else f"{number:03d}.png"
        blue = 120 if number == 0 else 60 + 50 * rng.beta(1, 5)
        textured(rng, (60, 130, blue)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def risky(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("risky"), np.random.default_rng(1)
    for category, channel in (("privacy", 2), ("illegal_risk", 0)):
        (folder / category).mkdir()
        for number in range(RISKY // 2):
            colour = [60.0, 60.0, 60.0]
            colour[channel] = 150 - 20 * rng.beta(1, 5)
            textured(rng, tuple(colour)).save(folder / category / f"{number:03d}.png")
    return folder


def request(out: Path, safe: Path, risky: Path | None = None, **changes: Any) -> Request:
    bounds = {key: changes.pop(key) for key in ("flag_at_most", "miss_at_most", "confidence") if key in changes}
    return Request(safe=safe, risky=risky, demand=Demand(**(bounds or {"flag_at_most": 0.05})), out=out, **changes)


@pytest.fixture
def calibrated(bundle: Path, tmp_path: Path, safe: Path) -> Written:
    return calibrate_bundle(bundle, request(tmp_path / "new", safe))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flagged_by(bundle: Path, images: Path) -> set[str]:
    with Runtime.load(bundle) as runtime:
        return {path.name for path in images.iterdir() if runtime.check(path).action is not Action.ALLOW}


def test_the_new_bundle_flags_as_many_as_its_record_says(calibrated: Written, bundle: Path, safe: Path) -> None:
    manifest = read_bundle(calibrated.out).manifest
    (rate,) = manifest.calibration.record.rates
    assert (rate.images, rate.groups, rate.allowed) == (SAFE, SAFE, 2)
    assert flagged_by(calibrated.out, safe) == set(calibrated.outcome.flagged)
    assert len(calibrated.outcome.flagged) == rate.errors <= rate.allowed
    assert rate.upper_bound <= 0.05
    assert manifest.digest == calibrated.digest != read_bundle(bundle).manifest.digest


def test_everything_but_thresholds_and_words_stays(calibrated: Written, bundle: Path) -> None:
    old, new = files(bundle), files(calibrated.out)
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    assert changed == {"manifest.json", "README.md"}
    before, after = (parse_manifest(found["manifest.json"]) for found in (old, new))
    assert after.proof.graphs == before.proof.graphs
    assert after.proof.source.startswith("colours; flips and images near a threshold were counted at the thresholds")
    assert after.calibration.record.came_from == before.digest
    assert after.calibration.temperature == before.calibration.temperature
    card = new["README.md"].decode()
    assert "no longer hold" in card
    assert f"{after.thresholds.any:.4g}" in card
    (rate,) = after.calibration.record.rates
    seen = f"{rate.errors} of {rate.groups} groups ({rate.images} images)"
    assert f"| groups of harmless images flagged | at most 0.05 | {seen} |" in card


def test_it_says_whether_more_is_flagged_than_before(calibrated: Written, bundle: Path, safe: Path) -> None:
    found = calibrated.outcome
    assert found.flagged_before == len(flagged_by(bundle, safe)) < len(found.flagged) == 2
    assert found.thresholds.any < found.subject.rule.any_threshold
    more = than_before(found)
    assert more.startswith(
        f"The gate flags more than before: 2 of {SAFE} groups of harmless images, before: 0, at low"
    )
    assert "ask for a smaller one" in more
    assert more in calibrated.page.read_text()
    assert calibrated.to_dict()["flagged_groups_before"] == 0
    fewer = than_before(replace(found, flagged_before=9))
    assert fewer == f"The gate flags fewer than before: 2 of {SAFE} groups of harmless images, before: 9."
    stricter = than_before(replace(found, flagged_before=2))
    assert stricter.startswith(f"The gate flags as many as before: 2 of {SAFE} groups of harmless images, at lower")
    same = replace(found, flagged_before=2, present=found.step)
    assert than_before(same) == f"The gate flags as many as before: 2 of {SAFE} groups of harmless images."


def test_the_page_says_what_changed_and_escapes_names(calibrated: Written) -> None:
    page = calibrated.page.read_text()
    assert calibrated.page == calibrated.out.with_name("new.html")
    assert "&lt;b&gt;&amp;.png" in page
    assert "<b>&" not in page
    assert "<svg" in page
    assert "No risky image was judged" in page
    assert "script" not in page
    count = len(calibrated.outcome.flagged)
    assert f"{count} of {SAFE} single harmless images are flagged." in page
    for value in (0.6, calibrated.outcome.thresholds.any):
        assert f"<td>{value:.6g}</td>" in page
    assert "http:" not in page
    assert "https:" not in page


def test_thresholds_that_hardly_anything_reaches_come_with_a_warning(calibrated: Written, capsys) -> None:
    for threshold in (0.9, 0.995):
        thresholds = msgspec.structs.replace(calibrated.outcome.thresholds, any=threshold)
        written = replace(calibrated, outcome=replace(calibrated.outcome, thresholds=thresholds))
        _print(written)
        shown = (render(written), " ".join(capsys.readouterr().out.split()), *written.to_dict()["notes"])
        warned = ["Warning: the threshold on any risk is 0.995." in text for text in shown]
        assert warned == ([False, False] if threshold == 0.9 else [True, True, True])


def test_a_bundle_can_be_calibrated_again_and_replaces_only_a_bundle(
    calibrated: Written, bundle: Path, tmp_path: Path, safe: Path
) -> None:
    again = calibrate_bundle(calibrated.out, request(tmp_path / "third", safe))
    assert again.outcome.thresholds.any == pytest.approx(calibrated.outcome.thresholds.any, abs=1e-3)
    assert read_bundle(again.out).manifest.proof == read_bundle(calibrated.out).manifest.proof
    looser = calibrate_bundle(bundle, request(calibrated.out, safe, flag_at_most=0.2))
    assert looser.outcome.thresholds.any < calibrated.outcome.thresholds.any
    assert read_bundle(calibrated.out).manifest.digest == looser.digest
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(CalibrationError, match="holds other files"):
        calibrate_bundle(bundle, request(tmp_path / "mine", safe))


def test_the_bundle_itself_and_places_around_it_are_no_destination(bundle: Path, safe: Path, tmp_path: Path) -> None:
    before = files(bundle)
    for out in (bundle, bundle / "inside", bundle.parent, safe):
        with pytest.raises(CalibrationError, match="name a"):
            calibrate_bundle(bundle, request(out, safe))
    for page in (tmp_path / "page.txt", tmp_path / "new" / "page.html", tmp_path / "nowhere" / "page.html"):
        with pytest.raises(OptionError, match="page"):
            calibrate_bundle(bundle, request(tmp_path / "new", safe, page=page))
    for page in (bundle / "page.html", bundle / "graphs" / "page.html", safe / "page.html"):
        with pytest.raises(OptionError, match="is to stay as it is"):
            calibrate_bundle(bundle, request(tmp_path / "new", safe, page=page))
    assert files(bundle) == before
    assert not (tmp_path / "new").exists()


def test_the_proof_says_once_at_which_thresholds_flips_were_counted(calibrated: Written) -> None:
    """A bundle of a calibrated checkpoint has a record, too, and a proof at its own thresholds."""
    manifest = read_bundle(calibrated.out).manifest
    assert _proof(manifest) == manifest.proof
    assert manifest.proof.source.count(COUNTED_AT) == 1
    exported = msgspec.structs.replace(
        manifest, proof=msgspec.structs.replace(manifest.proof, source="photos of the operator")
    )
    assert _proof(exported).source.startswith(f"photos of the operator; {COUNTED_AT} (")


def test_a_refusal_writes_nothing(bundle: Path, safe: Path, tmp_path: Path) -> None:
    with pytest.raises(BoundUnsupported, match=r"takes 2995 groups.*there are 130 \(of 130 images\)"):
        calibrate_bundle(bundle, request(tmp_path / "new", safe, flag_at_most=0.001))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.html").exists()


def test_failures_count_as_flagged_and_copies_as_one(bundle: Path, safe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in safe.iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    (mine / "broken.png").write_bytes((mine / "007.png").read_bytes()[:-40])
    with Image.open(mine / "010.png") as image:
        image.resize((48, 48)).save(mine / "010-small.png")
        image.save(mine / "010.jpg", quality=80)
    frames = [textured(np.random.default_rng(n), (60, 130, 60)) for n in (500, 501)]
    frames[0].save(mine / "two.gif", save_all=True, append_images=frames[1:])
    found = calibrate_bundle(bundle, request(tmp_path / "new", mine)).to_dict()
    (rate,) = found["calibration"]["record"]["rates"]
    assert (rate["images"], rate["groups"]) == (SAFE + 4, SAFE + 2)
    errors = {one["image"]: one["error"] for one in found["failures"]}
    assert errors == {"broken.png": "image_corrupt", "two.gif": "image_multi_frame"}
    assert set(found["flagged"]) == {"broken.png", "two.gif"}
    assert ["010-small.png", "010.jpg"] in found["near_duplicates"]


def test_every_view_of_an_image_counts(bundle: Path, safe: Path, tmp_path: Path) -> None:
    """A picture that is harmless over white, and risky without its transparency, has its worst reading's number."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in safe.iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    pixels = np.full((64, 64, 4), (0, 255, 0, 255), np.uint8)
    pixels[:, 32:] = (0, 0, 255, 0)
    Image.fromarray(pixels).save(mine / "hidden.png")
    written = calibrate_bundle(bundle, request(tmp_path / "new", mine))
    assert "hidden.png" in written.outcome.flagged
    assert flagged_by(written.out, mine) == set(written.outcome.flagged)


def test_risky_images_set_the_temperature_and_both_bounds_hold(
    bundle: Path, safe: Path, risky: Path, tmp_path: Path
) -> None:
    bounds = {"flag_at_most": 0.1, "miss_at_most": 0.1}
    written = calibrate_bundle(bundle, request(tmp_path / "new", safe, risky, **bounds))
    manifest = read_bundle(written.out).manifest
    record = manifest.calibration.record
    assert record.temperature_groups > 30
    assert manifest.calibration.temperature != 1.0
    bounded = [(rate.kind, rate.category) for rate in record.rates]
    assert bounded == [("flag", None), ("miss", "illegal_risk"), ("miss", "privacy")]
    assert all(rate.upper_bound <= 0.1 for rate in record.rates)
    assert all(rate.confidence == pytest.approx(1 - 0.05 / 3) for rate in record.rates)
    counted = sum(rate.images for rate in record.rates)
    assert counted + record.temperature_groups == SAFE + RISKY
    assert flagged_by(written.out, risky / "privacy") >= {f"{number:03d}.png" for number in range(0, 120, 40)}


def test_bounds_that_no_threshold_keeps_are_a_contradiction(bundle: Path, safe: Path, tmp_path: Path) -> None:
    """Half of the images called risky are as harmless as the others."""
    mine = tmp_path / "risky" / "privacy"
    mine.mkdir(parents=True)
    rng = np.random.default_rng(9)
    for number in range(120):
        textured(rng, (60, 130, 60 + 50 * rng.beta(1, 5))).save(mine / f"{number}.png")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = 1\nname = "only"\nuncovered = "allow"\n'
        '[actions.privacy]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
    )
    wanted = request(tmp_path / "new", safe, mine.parent, flag_at_most=0.1, miss_at_most=0.1, policy=policy)
    with pytest.raises(BoundsContradict, match="it takes a flag bound of about"):
        calibrate_bundle(bundle, wanted)


def test_a_signature_is_dropped_with_a_word(bundle: Path, safe: Path, tmp_path: Path) -> None:
    (bundle / "SIGNATURE").write_bytes(b"signed")
    written = calibrate_bundle(bundle, request(tmp_path / "new", safe))
    assert not (written.out / "SIGNATURE").exists()
    assert "signature of the bundle is not carried over" in written.page.read_text()


def test_bounds_under_another_policy_say_so(bundle: Path, safe: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes((bundle / "policy.toml").read_bytes().replace(b'name = "test"', b'name = "kiosk"'))
    written = calibrate_bundle(bundle, request(tmp_path / "new", safe, policy=policy))
    assert "'kiosk' is not the bundle's own" in written.notes[0]
    assert (written.out / "policy.toml").read_bytes() == (bundle / "policy.toml").read_bytes()
    found = read_bundle(written.out)
    assert written.outcome.record.policy != found.policy.digest
    said = f"were calibrated under another policy ({written.outcome.record.policy}) than the bundle's own, 'test'"
    assert said in found.card
    assert said in verify_bundle(written.out).render().splitlines()[-1]
    assert [said in warning for warning in describe(found)["warnings"]] == [True]
    assert said in json.loads(run("inspect", written.out, "--json").stdout)["warnings"][0]


def test_bounds_under_the_bundle_s_own_policy_need_no_word(calibrated: Written, bundle: Path) -> None:
    for path in (calibrated.out, bundle):
        found = read_bundle(path)
        assert "another policy" not in found.card
        assert "warning" not in verify_bundle(path).render()
        assert describe(found)["warnings"] == []


def test_a_folder_of_another_risk_is_not_judged_as_the_covered_one(maker: Any, safe: Path, tmp_path: Path) -> None:
    maker.labels = ("privacy", "safe")
    (tmp_path / "risky" / "illegal_risk").mkdir(parents=True)
    textured(np.random.default_rng(0), (150, 60, 60)).save(tmp_path / "risky" / "illegal_risk" / "a.png")
    wanted = request(tmp_path / "new", safe, tmp_path / "risky")
    with pytest.raises(DataError, match="named after a risk that the gate does not cover"):
        calibrate_bundle(maker.write(tmp_path / "one-risk"), wanted)


def old_mark(written: Written) -> bool:
    page = written.page.read_text()
    assert "class='new'" in page
    return "class='old'" in page


def test_the_page_marks_the_old_thresholds_only_where_they_have_a_place(
    calibrated: Written, maker: Any, safe: Path, risky: Path, tmp_path: Path
) -> None:
    both = calibrate_bundle(
        maker.write(tmp_path / "several"), request(tmp_path / "both", safe, risky, flag_at_most=0.1)
    )
    maker.labels = ("privacy", "safe")
    alone = request(tmp_path / "alone", safe, risky / "privacy", flag_at_most=0.1)
    one = calibrate_bundle(maker.write(tmp_path / "one"), alone)
    for written in (both, one):
        assert written.outcome.calibration.temperature != 1.0
    assert [old_mark(written) for written in (calibrated, both, one)] == [True, False, True]
    said = [written.page.read_text() for written in (calibrated, both, one)]
    assert ["The old thresholds are not marked" in page for page in said] == [False, True, False]
    assert ["flag the same images at the new temperature" in page for page in said] == [False, False, True]


def test_weights_whose_decisions_were_never_proven_are_refused(maker: Any, safe: Path, tmp_path: Path) -> None:
    maker.proof = "numeric"
    with pytest.raises(CalibrationError, match="calibrate the checkpoint"):
        calibrate_bundle(maker.write(tmp_path / "raw"), request(tmp_path / "new", safe))


def test_a_policy_with_thresholds_is_refused_before_any_image(bundle: Path, safe: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes((bundle / "policy.toml").read_bytes() + b"[thresholds]\nprivacy = 0.9\n")
    with pytest.raises(CalibrationError, match="thresholds of its own"):
        calibrate_bundle(bundle, request(tmp_path / "new", safe / "nowhere", policy=policy))


def test_golden_images_near_a_new_threshold_leave_the_self_test(
    maker: Any, safe: Path, tmp_path: Path, paint: Callable[..., np.ndarray]
) -> None:
    bundle = read_bundle(maker.write(tmp_path / "bundle"))
    rule = bundle.manifest.rule
    kept = still_clear(bundle.golden, bundle.manifest.graphs, rule, bundle.policy)
    assert len(kept.images) == 3
    p = 1 / (1 + 2 * np.exp(-8 * 250 / 255))  # of each golden image's colour
    near = replace(rule, thresholds={**rule.thresholds, "privacy": p - 1e-4})
    kept = still_clear(bundle.golden, bundle.manifest.graphs, near, bundle.policy)
    assert [int(image[0, 0, 2]) for image in kept.images] == [0, 0]
    assert [len(kept.features), len(kept.expected["safety_head.fp32"]["type_logits"])] == [2, 2]
    all_near = replace(near, thresholds=dict.fromkeys(near.thresholds, p - 1e-4), any_threshold=1 - p + 1e-4)
    assert len(still_clear(bundle.golden, bundle.manifest.graphs, all_near, bundle.policy).images) == 1


def test_tiles_come_with_thresholds_that_were_set_on_the_worst_view(bundle: Path, safe: Path, tmp_path: Path) -> None:
    tiling = Tiling(tile=32, overlap=8, max_views=10)
    whole = calibrate_bundle(bundle, request(tmp_path / "whole", safe))
    tiled = calibrate_bundle(bundle, request(tmp_path / "tiled", safe, tiling=tiling))
    before, manifest = read_bundle(bundle).manifest, read_bundle(tiled.out).manifest
    plan = manifest.view_plan
    assert (plan.tile, plan.overlap, plan.max_views) == (32, 8, 10)
    assert plan.raster_max_side == before.view_plan.raster_max_side
    assert manifest.calibration.record.view_plan == plan
    assert read_bundle(whole.out).manifest.calibration.record.view_plan == before.view_plan
    assert tiled.outcome.thresholds.any > whole.outcome.thresholds.any
    (rate,) = manifest.calibration.record.rates
    assert flagged_by(tiled.out, safe) == set(tiled.outcome.flagged)
    assert len(tiled.outcome.flagged) == rate.errors <= rate.allowed
    assert "tiles of 32 pixels that overlap by 8" in tiled.notes[-1]
    assert "tiles of 32 pixels that overlap by 8" in read_bundle(tiled.out).card
    stays = calibrate_bundle(tiled.out, request(tmp_path / "again", safe))
    assert read_bundle(stays.out).manifest.view_plan == plan
    assert not any("view plan" in note for note in stays.notes)


def test_the_old_thresholds_would_flag_more_with_tiles(bundle: Path, safe: Path, tmp_path: Path) -> None:
    """What a view plan without thresholds of its own would do; a manifest that admits it is refused."""
    whole = read_bundle(calibrate_bundle(bundle, request(tmp_path / "whole", safe)).out)
    plan = ViewPlan(raster_max_side=64, tile=32, overlap=8, max_views=10)
    with pytest.raises(ValueError, match="view_plan is not the one that the thresholds were set under"):
        msgspec.structs.replace(whole.manifest, view_plan=plan)
    calibration = whole.manifest.calibration
    record = msgspec.structs.replace(calibration.record, view_plan=plan)
    calibration = msgspec.structs.replace(calibration, record=record)
    forced = replace(whole, manifest=msgspec.structs.replace(whole.manifest, view_plan=plan, calibration=calibration))
    with Runtime([open_gate(forced)]) as runtime:
        flagged = sum(runtime.check(path).action is not Action.ALLOW for path in safe.iterdir())
    assert flagged > 0.05 * SAFE


@pytest.mark.parametrize(("tile", "overlap", "max_views"), [(0, 0, 9), (32, 32, 9), (32, -1, 9), (32, 8, 1)])
def test_tiles_that_mean_nothing_are_refused_before_any_image(
    bundle: Path, safe: Path, tmp_path: Path, tile: int, overlap: int, max_views: int
) -> None:
    tiling = Tiling(tile=tile, overlap=overlap, max_views=max_views)
    with pytest.raises(CalibrationError, match="cannot look at these tiles: view_plan"):
        calibrate_bundle(bundle, request(tmp_path / "new", safe / "nowhere", tiling=tiling))


def test_images_that_take_too_many_views_count_as_flagged(bundle: Path, safe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in safe.iterdir():
        with Image.open(path) as image:
            image.crop((0, 0, 32, 32)).save(mine / path.name)
    (mine / "large.png").write_bytes((safe / "001.png").read_bytes())
    tiling = Tiling(tile=32, overlap=0, max_views=4)
    written = calibrate_bundle(bundle, request(tmp_path / "new", mine, tiling=tiling))
    assert {one["image"]: one["error"] for one in written.to_dict()["failures"]} == {
        "large.png": "image_too_many_views"
    }
    assert "large.png" in written.outcome.flagged


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).parent / "safevlm"
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_prints_one_json_document(bundle: Path, safe: Path, tmp_path: Path) -> None:
    tiles = ("--tile", 48, "--overlap", 8, "--max-views", 10)
    done = run(
        "calibrate", bundle, "--safe", safe, "--flag-at-most", 0.05, "--out", tmp_path / "new", "--json", *tiles
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["digest"] == read_bundle(tmp_path / "new").manifest.digest
    assert found["before"]["thresholds"]["any"] == 0.6
    assert found["calibration"]["record"]["view_plan"]["tile"] == 48
    assert found["thresholds"]["any"] == read_bundle(tmp_path / "new").manifest.thresholds.any
    assert Path(found["page"]).is_file()
    assert run("verify", tmp_path / "new").returncode == 0


def test_the_command_refuses_with_1_and_wrong_usage_with_2(bundle: Path, safe: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "new")
    refused = run("calibrate", bundle, "--safe", safe, "--flag-at-most", 0.001, *out)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: bound_unsupported: a flag bound of 0.1 % at 95 % confidence takes 2995")
    assert refused.stderr.count("\n") == 1
    assert run("calibrate", safe, "--safe", safe, "--flag-at-most", 0.1, *out).returncode == 1
    some_tiles = ("--flag-at-most", 0.1, "--tile", 32)
    for wrong in ((), ("--miss-at-most", 0.1), ("--flag-at-most", "few"), some_tiles):
        assert run("calibrate", bundle, "--safe", safe, *wrong, *out).returncode == 2
    assert not (tmp_path / "new").exists()


def test_no_torch_is_needed_and_scipy_only_here(bundle: Path, safe: Path, tmp_path: Path) -> None:
    bounds = ["--flag-at-most", "0.05"]
    command = ["calibrate", str(bundle), "--safe", str(safe), *bounds, "--out", str(tmp_path / "new")]
    code = f"""
import sys, safevlm_sdk
from safevlm_sdk import Runtime
from safevlm_sdk import manifest, bundle_card
assert "scipy" not in sys.modules
sys.argv = ["safevlm", *{command!r}]
from safevlm_sdk.command import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "scipy" in sys.modules
print([name for name in ("torch", "transformers", "onnx", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert f"of {SAFE} single harmless images are flagged." in done.stdout
    assert f"The gate flags more than before: 2 of {SAFE} groups" in done.stdout


def test_the_starter_is_read_as_before() -> None:
    manifest = read_bundle(starter_path()).manifest
    assert manifest.calibration.record is None
    assert b"record" not in (starter_path() / "manifest.json").read_bytes()
