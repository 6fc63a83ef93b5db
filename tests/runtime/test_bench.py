"""The benchmark's pictures, samples, figures and comparisons, and the commands around them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from safevlm_runtime.bench import ceiling, images
from safevlm_runtime.bench.case import describe
from safevlm_runtime.bench.cold import ColdRun
from safevlm_runtime.bench.compare import compare, ratio_of
from safevlm_runtime.bench.figures import computed_rate, floors_ms, per_second, percentiles, share_of_ceiling
from safevlm_runtime.bench.measure import Plan, turn
from safevlm_runtime.bench.report import card_lines, comparison_lines, table_lines
from safevlm_runtime.bench.result import (
    STEPS,
    Card,
    Case,
    Ceiling,
    Cold,
    Operations,
    Picture,
    Result,
    Subject,
    load_result,
    to_line,
)
from safevlm_runtime.bench.subject import Setup
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import BenchmarkError, OptionError


def made(infer=(10.0, 20.0, 10.0), **changes) -> Result:
    """A result of three rounds: 10^9 operations in two views, on a machine of 400, 200 and 400 Gop/s."""
    steps = {"decode": (1.0,) * 3, "preprocess": (2.0,) * 3, "infer": infer, "decide": (0.0,) * 3}
    case = Case(picture="a.jpg", batch_size=1, threads=2, images=1, ms=tuple(one + 3.0 for one in infer), steps=steps)
    values = {
        "benchmark": "safevlm bench",
        "schema_version": 1,
        "card": Card(cpu=None, cores=2, load=0.5, gpus=(), system="Linux", python="3.11", packages={"numpy": "2.0"}),
        "subject": Subject(
            bundle="b", digest="sha256:0", provider="P", graph="gate.int8", precision="int8", file_bytes=10
        ),
        "rounds": 3,
        "pictures": (Picture(name="a.jpg", format="JPEG", width=10, height=10, file_bytes=5, sha256="0", views=2),),
        "left_out": (),
        "operations": Operations(
            graph="gate.int8", flops=10**9, weight_bytes=10**6, activation_bytes=10**6, not_counted=()
        ),
        "cases": (case,),
        "ceilings": (
            Ceiling(
                threads=2,
                provider="P",
                gemm={"fp32": (1.0,) * 3, "int8": (400.0, 200.0, 400.0), "bf16": None},
                copy=(10.0,) * 3,
            ),
        ),
        "cold": Cold(picture="a.jpg", threads=2, import_ms=(1.0,), load_ms=(2.0,), first_ms=(3.0,), peak_mib=(50.0,)),
    }
    return Result(**(values | changes))


def test_the_rate_counts_every_view_and_stands_beside_the_machine_of_the_same_round():
    result = made()
    (case,) = result.cases
    assert computed_rate(result, case) == pytest.approx(200.0)
    assert share_of_ceiling(result, case) == pytest.approx(0.5)  # 200/400, 100/200, 200/400
    assert floors_ms(result, 2) == pytest.approx((2.5, 0.2))
    assert per_second(case) == pytest.approx(1e3 / 13)
    assert percentiles(tuple(float(one) for one in range(101))) == (50.0, 95.0, 99.0)


def test_without_counts_or_without_a_kernel_there_is_no_share():
    uncounted, slower = made(operations=None), made()
    no_kernel = msgspec.structs.replace(slower, subject=msgspec.structs.replace(slower.subject, precision="bf16"))
    for result in (uncounted, no_kernel, made(ceilings=())):
        assert share_of_ceiling(result, result.cases[0]) is None
        assert floors_ms(result, 2) is None
        assert len(table_lines(result)) == 2
        assert card_lines(result)


def test_a_result_survives_its_json_and_another_file_does_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(to_line(made()) + "\n", encoding="utf-8")
    assert load_result(path) == made()
    for broken in ("{}", "", to_line(made()).replace('"rounds":3', '"rounds": 3'), "\xff"):
        path.write_text(broken, encoding="latin-1")
        with pytest.raises(BenchmarkError):
            load_result(path)
    with pytest.raises(BenchmarkError, match="cannot be read"):
        load_result(tmp_path / "nowhere.json")


def test_a_ratio_is_of_medians_and_has_an_interval_where_there_are_rounds_enough():
    first, second = (10.0, 10.0, 11.0, 9.0, 500.0), (5.0, 5.0, 5.5, 4.5, 5.0)
    one = ratio_of("x", first, second)
    assert one.ratio == 0.5
    low, high = one.interval
    assert low < 0.5 <= high
    assert ratio_of("x", first[:4], second).interval is None
    assert ratio_of("x", (0.0,) * 5, second).ratio is None
    assert ratio_of("x", (0.0,) * 5, second).interval is None
    same = ratio_of("x", (2.0,) * 5, (3.0,) * 5)
    assert same.interval == (1.5, 1.5)


def test_an_interval_is_as_wide_as_the_rounds_scatter():
    rng = np.random.default_rng(1)
    narrow, wide = (
        ratio_of("x", rng.normal(10, spread, 40), rng.normal(20, spread, 40)).interval for spread in (0.1, 2.0)
    )
    assert narrow[0] < 2.0 < narrow[1]
    assert wide[1] - wide[0] > 5 * (narrow[1] - narrow[0])


def test_a_comparison_pairs_cases_and_tells_what_else_differs():
    first = made()
    faster = made(infer=(5.0, 10.0, 5.0), card=msgspec.structs.replace(first.card, python="3.12"))
    other = msgspec.structs.replace(faster.cases[0], batch_size=8)
    second = msgspec.structs.replace(faster, cases=(*faster.cases, other))
    found = compare(first, second)
    ratios = {one.name: one.ratio for one in found.gate}
    assert ratios["a.jpg, batch 1, threads 2, infer ms"] == 0.5
    assert ratios["a.jpg, batch 1, threads 2, total ms"] == pytest.approx(8 / 13)
    assert ratios["a.jpg, batch 1, threads 2, decide ms"] is None
    assert ratios["cold: import to verdict, ms"] == 1.0
    assert [one.name for one in found.machine] == [
        "P, threads 2, fp32 GEMM, Gop/s", "P, threads 2, int8 GEMM, Gop/s", "P, threads 2, copy, GB/s",
    ]  # fmt: skip
    assert found.differences == ("python: 3.11 -> 3.12",)
    assert found.unmatched == ("a.jpg, batch 8, threads 2",)
    assert any("0.500" in line for line in comparison_lines(found))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_everything_has_its_turn_in_every_round_and_has_each_place_as_often(count):
    rows = [turn(count, lap) for lap in range(2 * count)]
    places = Counter((place, one) for row in rows for place, one in enumerate(row))
    assert places == dict.fromkeys(((place, one) for place in range(count) for one in range(count)), 2)


def test_drawn_pictures_are_the_same_every_time_and_weigh_what_photographs_weigh(tmp_path, monkeypatch):
    picture = images.draw_picture(320, 240)
    assert picture.tobytes() == images.draw_picture(320, 240).tobytes()
    light = np.asarray(images.draw_picture(640, 480).convert("L"), dtype=np.float64)
    power = (np.abs(np.fft.rfft((light - light.mean()) * np.hanning(640), axis=1)) ** 2).mean(axis=0)
    frequencies = np.arange(4, 80)
    slope = np.polyfit(np.log(frequencies), np.log(power[4:80]), 1)[0]
    assert -2.3 < slope < -1.3
    monkeypatch.setattr(images, "SIZES", {"0.3 MP": (640, 480)})
    paths = list(images.drawn_pictures(tmp_path))
    assert [path.name for path in paths] == ["drawn 0.3 MP.jpg", "drawn 0.3 MP.png", "drawn 0.3 MP.webp"]
    for path, kind in zip(paths, ("JPEG", "PNG", "WEBP"), strict=True):
        with Image.open(path) as drawn:
            assert (drawn.format, drawn.size) == (kind, (640, 480))
    assert 1.0 < 8 * paths[0].stat().st_size / (640 * 480) < 4.0  # bits per pixel


def test_every_view_of_a_picture_is_counted(maker, tmp_path, paint):
    maker.tile, maker.overlap, maker.max_views = 32, 0, 5
    path = tmp_path / "green.png"
    Image.fromarray(paint(0, 250, 0, 64)).save(path)
    folder = maker.write(tmp_path / "bundle")
    with Runtime.load(folder) as runtime:
        picture = describe(runtime, read_bundle(folder).manifest, "green.png", path)
    assert picture.views == 5  # the whole, and four tiles
    assert (picture.format, picture.width, picture.height) == ("PNG", 64, 64)
    assert picture.file_bytes == path.stat().st_size


def test_of_many_pictures_a_spread_is_taken_and_none_is_an_error(tmp_path):
    with pytest.raises(BenchmarkError, match="is no folder"):
        images.own_pictures(tmp_path / "nowhere")
    with pytest.raises(BenchmarkError, match="holds no"):
        images.own_pictures(tmp_path)
    for number in range(2 * images.MOST):
        (tmp_path / f"{number:03}.PNG").write_bytes(b"")
    found = images.own_pictures(tmp_path)
    assert len(found) == images.MOST
    assert (found[0].name, found[-1].name) == ("000.PNG", f"{2 * images.MOST - 2:03}.PNG")


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"batch_sizes": (1, 0)}, {"batch_sizes": ()}, {"threads": ()}])
def test_a_plan_that_measures_nothing_is_refused(tmp_path, wrong):
    with pytest.raises(OptionError):
        Plan(setup=Setup(bundle=tmp_path), **wrong)


def test_a_fresh_process_tells_its_own_memory_and_not_its_parents(bundle, tmp_path, paint):
    image = tmp_path / "green.png"
    Image.fromarray(paint(0, 250, 0)).save(image)
    run = ColdRun(Setup(bundle=bundle), image, "green.png", 1)
    ours = np.ones(2**29, dtype=np.uint8)
    run.measure()
    assert ours.all()
    found = run.result()
    assert len(found.import_ms) == len(found.load_ms) == len(found.first_ms) == 1
    if sys.platform == "linux":
        assert 20 < found.peak_mib[0] < 400


def test_a_fresh_process_that_cannot_judge_says_why(bundle, tmp_path):
    image = tmp_path / "not.png"
    image.write_bytes(b"nothing")
    with pytest.raises(BenchmarkError, match="image_format"):
        ColdRun(Setup(bundle=bundle), image, "not.png", 1).measure()
    (bundle / "policy.toml").write_bytes(b"changed")
    with pytest.raises(BenchmarkError, match="BundleTampered"):
        ColdRun(Setup(bundle=bundle), image, "not.png", 1).measure()


@pytest.fixture
def small_ceiling(monkeypatch) -> None:
    monkeypatch.setitem(ceiling.SIDES, ceiling.CPU, 32)
    monkeypatch.setitem(ceiling.COPIED, ceiling.CPU, 4096)


def bench(*arguments: str | Path):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.mark.usefixtures("small_ceiling")
def test_the_command_measures_prints_writes_and_compares(bundle, tmp_path, paint):
    folder, out, plot = tmp_path / "images", tmp_path / "a.json", tmp_path / "a.png"
    folder.mkdir()
    Image.fromarray(paint(0, 250, 0)).save(folder / "green $x$ 緑.png")
    Image.fromarray(paint(0, 0, 250)).save(folder / "blue.webp")
    (folder / "broken.jpg").write_bytes(b"nothing")
    done = bench(
        "--bundle", bundle, "--images", folder, "--rounds", 2, "--batch-size", 1, "--batch-size", 2,
        "--threads", 1, "--json", out, "--plot", plot,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = load_result(out)
    assert not any(line.startswith("{") for line in done.stdout.splitlines())
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1
    assert result.subject.provider == "CPUExecutionProvider"
    assert [case.batch_size for case in result.cases] == [1, 2, 1, 2]
    assert [case.images for case in result.cases] == [1, 4, 1, 4]
    for case in result.cases:
        assert len(case.ms) == result.rounds == 2
        assert set(case.steps) == set(STEPS)
        assert case.images > 1 or (np.sum(list(case.steps.values()), axis=0) <= np.add(case.ms, 0.001)).all()
    assert result.left_out[0].startswith("broken.jpg: image_format")
    assert len(result.cold.import_ms) == 2
    assert result.operations.flops == 2 * (3 * 3 + 3 * 4)
    assert result.ceilings[0].threads == 1
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"
    again = bench("compare", out, out)
    assert again.exit_code == 0, again.output
    assert "green $x$ 緑.png, batch 2, threads 1, total ms" in again.stdout
    assert "1.000" in again.stdout
    assert "differs" not in again.stdout


def test_the_command_refuses_before_it_measures(bundle, tmp_path):
    for wrong, said in (
        (["--bundle", bundle, "--starter"], "give one of them"),
        (["--bundle", bundle, "--json", tmp_path / "a.txt"], "ends in .json"),
        (["--bundle", bundle, "--plot", tmp_path / "nowhere" / "a.png"], "ends in .png"),
        (["--bundle", bundle, "--rounds", 0], "at least 1"),
        (["--bundle", bundle, "--digest", "sha256:" + "0" * 64], "pinned"),
        (["--bundle", bundle, "--images", tmp_path / "none"], "is no folder"),
    ):
        done = bench(*wrong)
        assert said in str(done.exception), (wrong, done.output)


def test_a_missing_matplotlib_is_told_before_anything_is_measured(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("safevlm_runtime.bench.plot.find_spec", lambda name: None)
    done = bench("--bundle", bundle, "--plot", tmp_path / "a.png")
    assert "safevlm-sdk[bench]" in str(done.exception)


def test_images_that_are_all_refused_are_an_error(bundle, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    done = bench("--bundle", bundle, "--images", tmp_path)
    assert isinstance(done.exception, BenchmarkError)
    assert "judges none of the images" in str(done.exception)


def test_one_line_is_json():
    line = to_line(made())
    assert "\n" not in line
    assert json.loads(line)["schema_version"] == 1
