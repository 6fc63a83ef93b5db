"""The comparison with other libraries: statistics, what its workers speak, and that failures are told, not timed."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORKER = """
import sys
from line_protocol import NoAnswer, number_of_threads, serve

def answer(path):
    print("chatter of a library")
    if path.endswith("bad.png"):
        raise ValueError("no picture")
    if path.endswith("deadly.png"):
        print("RuntimeError: out of memory", file=sys.stderr)
        raise SystemExit(3)
    return path

def read(found):
    if found.endswith("empty.png"):
        raise NoAnswer("it returned nothing")
    return found.endswith("risky.png"), found

serve(answer, read, {"provider": "fake", "threads": number_of_threads()})
"""


def module(monkeypatch, name) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)


@pytest.fixture
def paired(monkeypatch) -> ModuleType:
    return module(monkeypatch, "paired")


@pytest.fixture
def peers(monkeypatch) -> ModuleType:
    return module(monkeypatch, "peers")


@pytest.fixture
def environments(monkeypatch) -> ModuleType:
    return module(monkeypatch, "environments")


@pytest.fixture
def worker(peers, tmp_path):
    """Starts the fake worker in this interpreter, and ends all that were started."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    variables = {**peers.variables(1), "PYTHONPATH": str(BENCHMARKS / "workers")}
    with ExitStack() as stack:

        def start(code=script):
            started = peers.WorkerProcess([sys.executable, str(code), "1"], variables, tmp_path / "worker.log")
            stack.callback(started.close)
            return started

        yield start


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


def test_a_worker_answers_line_by_line_whatever_its_library_prints(worker, tmp_path):
    one = worker()
    assert one.facts == {"provider": "fake", "threads": 1}
    first, again, risky = (one.ask(tmp_path / name) for name in ("a\nb ü.png", "a\nb ü.png", "risky.png"))
    assert first.ms > 0
    assert (first.flagged, risky.flagged) == (False, True)
    assert first.digest == again.digest != risky.digest
    assert "chatter of a library" in (tmp_path / "worker.log").read_text(encoding="utf-8")


def test_a_worker_that_has_no_answer_says_why_and_goes_on(peers, worker, tmp_path):
    one = worker()
    for name, reason in (("bad.png", "ValueError: no picture"), ("empty.png", "NoAnswer: it returned nothing")):
        with pytest.raises(peers.NoAnswer, match=reason):
            one.ask(tmp_path / name)
    assert one.ask(tmp_path / "good.png").flagged is False
    for _ in range(2):
        with pytest.raises(peers.NoAnswer, match="it ended: RuntimeError: out of memory"):
            one.ask(tmp_path / "deadly.png")


def test_a_worker_that_does_not_start_is_quoted(peers, worker, tmp_path):
    code = tmp_path / "broken.py"
    code.write_text("import no_such_package_at_all", encoding="utf-8")
    with pytest.raises(peers.NoAnswer, match="ModuleNotFoundError: No module named 'no_such_package_at_all'"):
        worker(code)


def test_a_worker_that_hangs_is_stopped(peers, worker, monkeypatch, tmp_path):
    code = tmp_path / "hanging.py"
    code.write_text("import sys; sys.stdin.read()", encoding="utf-8")
    monkeypatch.setattr("worker_process.START_SECONDS", 0.1)
    with pytest.raises(peers.NoAnswer, match=r"it said nothing for 0\.1 s and was stopped"):
        worker(code)


def test_workers_take_turns_and_what_one_does_not_answer_is_left_out_and_named(peers, worker, photo):
    images = [photo, photo.with_name("risky.png"), photo.with_name("bad.png")]
    workers, missing = {"a": worker(), "b": worker()}, {}
    peers.wake(workers, photo, missing)
    kept, answers, left_out = peers.answered(workers, images)
    assert (missing, kept) == ({}, images[:2])
    assert left_out == [f"bad.png: {name}: ValueError: no picture" for name in "ab"]
    assert {name: peers.flagged(found) for name, found in answers.items()} == {"a": 1, "b": 1}
    times, digests = peers.time_all(workers, kept, 2)
    assert times["a"].shape == times["b"].shape == (2, 2)
    assert all((one > 0).all() for one in times.values())
    assert {name: peers.changed(answers[name], digests[name]) for name in workers} == {"a": 0, "b": 0}
    assert peers.changed(answers["a"], ["another", *digests["a"][1:]]) == 1
    with pytest.raises(SystemExit, match="a no longer answers"):
        peers.time_all(workers, images[2:], 1)
    with pytest.raises(SystemExit, match="no image was answered by all"):
        peers.answered(workers, images[2:])


def test_who_answers_nothing_is_named_and_does_not_take_part(peers, worker, photo):
    workers, missing = {"a": worker()}, {}
    with pytest.raises(SystemExit, match="no contender answers"):
        peers.wake(workers, photo.with_name("bad.png"), missing)
    assert missing == {"a": "ValueError: no picture"}


def test_ratios_are_within_a_group_and_claimed_of_those_that_ran(peers):
    contenders = [one for one in peers.catalogue([]) if one.name in ("starter", "starter, bare", "NudeNet")]
    others = [one for one in peers.catalogue([]) if one.name in ("ViT, SafeVLM fp32", "ViT, transformers")]
    times = {"starter": np.full((2, 4), 5.0), "starter, bare": np.full((2, 4), 4.0), "NudeNet": np.full((2, 4), 10.0)}
    times |= {one.name: np.full((2, 4), 100.0) for one in others}
    found = peers.compare([*contenders, *others], times)
    assert found["starter"]["ratios"].keys() == {"starter, bare", "NudeNet"}
    assert found["starter"]["ratios"]["starter, bare"] == {"ratio": 1.25, "low": 1.25, "high": 1.25, "ms_more": 1.0}
    claims = [entry["below 0.8 of every peer that ran"] for entry in found.values()]
    assert claims == [True, False]
    alone = peers.compare(contenders[:2], times)["starter"]
    assert alone["below 0.8 of every peer that ran"] is None


def test_a_peer_that_cannot_be_set_up_is_named_with_the_reason(peers, monkeypatch, tmp_path):
    def make(environment, folder):
        raise peers.NotMade("pip: ERROR: No matching distribution found")

    monkeypatch.setattr(peers, "make", make)
    with ExitStack() as stack:
        workers, versions, missing = peers.start(peers.catalogue([]), tmp_path, 1, stack)
    assert (workers, versions) == ({}, {})
    assert missing == dict.fromkeys(
        (one.name for one in peers.catalogue([])), "pip: ERROR: No matching distribution found"
    )


def test_every_contender_has_a_worker_and_names_of_its_own(peers):
    found = peers.catalogue([])
    assert len({one.name for one in found}) == len(found)
    assert {one.worker for one in found} <= {path.name for path in (BENCHMARKS / "workers").iterdir()}
    assert [one.words(2, Path("vit")) for one in found if one.name == "ViT, SafeVLM int8"] == [
        ["2", str(Path("vit/bundle")), "int8"]
    ]
    assert {one.group for one in found if one.needs_vit} == {"ViT-B/16"}


def test_only_chooses_by_the_beginning_of_a_name_or_an_environment(peers):
    names = [one.name for one in peers.chosen(peers.catalogue([]), ["nude", "openvino"])]
    assert names == ["NudeNet", "ViT, OpenVINO fp32", "ViT, OpenVINO default"]
    with pytest.raises(SystemExit, match="--only names none of: starter"):
        peers.chosen(peers.catalogue([]), ["nothing"])
    with pytest.raises(SystemExit, match="folders of one name"):
        peers.catalogue([Path("a/bundle"), Path("b/bundle")])


def test_pictures_are_spread_over_a_folder(peers, tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.stem for path in peers.pictures([tmp_path], 3)] == ["0", "3", "6"]
    assert len(peers.pictures([tmp_path], 60)) == 10
    with pytest.raises(SystemExit, match="holds no"):
        peers.pictures([tmp_path / "nowhere"], 3)


def test_an_environment_is_made_once_until_its_packages_change(environments, monkeypatch, tmp_path):
    asked = []

    def run(words, *, place, what):
        asked.append([what, *words[1:]])
        return '[{"name": "NudeNet", "version": "3.4.2"}]'

    monkeypatch.setattr(environments, "run", run)
    one = environments.Environment(name="one", packages=("nudenet==3.4.2",))
    assert environments.make(one, tmp_path) == {"nudenet": "3.4.2"}
    assert [(words[0], words[-1]) for words in asked] == [
        ("venv", str(tmp_path / "one")),
        ("pip", "nudenet==3.4.2"),
        ("pip", "--disable-pip-version-check"),
    ]
    kept = tmp_path / "one" / "kept"
    kept.touch()
    environments.make(one, tmp_path)
    assert (len(asked), kept.exists()) == (4, True)  # only the versions were asked for again
    environments.make(environments.Environment(name="one", packages=("nudenet==3.4.1",)), tmp_path)
    assert not kept.exists()


def test_an_environment_that_was_not_finished_is_made_again(environments, monkeypatch, tmp_path):
    def run(words, *, place, what):
        raise environments.NotMade("npm: ERROR: no such package")

    monkeypatch.setattr(environments, "run", run)
    one = environments.Environment(name="one", packages=("nsfwjs@4.4.0",), kind="node")
    for _ in range(2):
        with pytest.raises(environments.NotMade, match="npm: ERROR"):
            environments.make(one, tmp_path)
    assert not (tmp_path / "one" / environments.STAMP).exists()


def test_a_failed_command_is_quoted_in_one_line(environments, tmp_path):
    code = "import sys; sys.exit('Collecting x\\nERROR: No matching distribution found for x\\nnotice: bye')"
    with pytest.raises(environments.NotMade, match=r"^pip: ERROR: No matching distribution found for x$"):
        environments.run([sys.executable, "-c", code], place=tmp_path, what="pip")
    with pytest.raises(environments.NotMade, match="npm: no_such_program_at_all cannot be run"):
        environments.run(["no_such_program_at_all"], place=tmp_path, what="npm")
    npm = "npm error code 1\nnpm error Error: getaddrinfo ENOTFOUND host\nnpm error     at x\nnpm error a log"
    assert environments.last_words(npm) == "npm error Error: getaddrinfo ENOTFOUND host"
    assert environments.last_words("\n") == "it said nothing"


def test_threads_are_the_same_for_all_or_left_alone(environments, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONPATH", "of another environment")
    assert "PYTHONPATH" not in environments.variables(2)
    assert {environments.variables(2)[name] for name in environments.THREADS} == {"2"}
    assert not environments.variables(0).keys() & set(environments.THREADS)


def test_the_starter_is_timed_by_the_worker_that_ships(peers, photo, tmp_path, capsys, monkeypatch):
    """In this interpreter, for making an environment takes a network."""
    monkeypatch.setattr(peers, "make", lambda environment, folder: {"safevlm-sdk": "0"})
    monkeypatch.setattr(
        peers, "command", lambda environment, folder, name: [sys.executable, str(BENCHMARKS / "workers" / name)]
    )
    words = ["--images", str(photo.parent), "--rounds", "2", "--threads", "0", "--only", "starter"]
    written = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", ["peers.py", *words, "--json", str(written), "--environments", str(tmp_path)])
    peers.main()
    found = json.loads(written.read_text(encoding="utf-8"))
    assert capsys.readouterr().out.splitlines()[-1] == written.read_text(encoding="utf-8").strip()
    starter, bare = (found["result"]["contenders"][name] for name in ("starter", "starter, bare"))
    assert starter["provider"] == "CPUExecutionProvider"
    assert starter["bundle"] == bare["bundle"]
    assert (starter["flagged"], bare["flagged"]) == (0, None)
    assert (starter["answers_that_changed"], found["result"]["left_out"], found["result"]["not_run"]) == (0, [], {})
    assert found["result"]["compared"]["starter"]["ratios"].keys() == {"starter, bare"}
