"""Ray's workers give the rows of this process, whoever dies meanwhile, and leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from types import SimpleNamespace

import psutil
import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.audit import JudgeSettings, open_source
from safevlm_runtime.audit.ray_pool import TASK_ITEMS, RayPool
from safevlm_runtime.audit.ray_start import RaySettings
from safevlm_sdk.errors import AuditError, MissingExtra, OptionError
from safevlm_sdk.no_telemetry import RAY_SWITCH, import_ray

COUNT = 5 * TASK_ITEMS
HELD = 2 * TASK_ITEMS + 3  # an image of the third task, at which a worker waits for whatever is to happen to it
SECONDS = 300  # until a test gives up; nothing waits for it to pass

DRIVER = "from safevlm_sdk.command import main\n\nmain()\n"
HOOK = """
import os, pathlib, time

HERE = pathlib.Path(__file__).parent

def look(digest, data):
    if digest == "{listed}":
        return "listed"
    if digest == "{held}":
        (HERE / "waiting").write_text(str(os.getpid()))
        while not (HERE / "go").exists():
            time.sleep(0.01)
"""
FOREIGN = "import pathlib; pathlib.Path(__file__).with_name('imported').touch()\nraise ImportError('foreign')\n"


@pytest.fixture
def images(tmp_path, encoded):
    """Risky and safe images, copies far apart, broken ones, and two that the hook knows."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number in range(COUNT):
        colours = ((0, 250, 0), (250, 0, 0), (0, 0, 250))[number % 3]
        data = encoded(*colours, mark=number % 200 if number != HELD else 999)
        broken = data[: len(data) // 2] if number % 50 == 7 else data
        (folder / f"{number:03}.png").write_bytes(broken)
    (folder / "more" / "copy.png").write_bytes((folder / "000.png").read_bytes())
    return folder


@pytest.fixture
def hook(images, tmp_path, monkeypatch):
    """The folder of a module with a hook, which goes on once there is a file `go`."""
    folder = tmp_path / "hook"
    folder.mkdir()
    listed, held = (sha256((images / f"{number:03}.png").read_bytes()).hexdigest() for number in (12, HELD))
    (folder / "ray_hook.py").write_text(HOOK.format(listed=listed, held=held))
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def expected(images, hook, audited, tmp_path):
    """The lines of an audit in this process."""
    (hook / "go").touch()
    lines = (audited(images, tmp_path / "local", hash_hook="ray_hook:look") / "verdicts.jsonl").read_bytes()
    (hook / "go").unlink()
    (hook / "waiting").unlink()
    assert b'"hook":"listed"' in lines
    assert b'"error":"image_corrupt"' in lines
    assert b'"duplicate_of":"000.png"' in lines
    return lines


@pytest.fixture
def start(images, bundle, hook, tmp_path):
    """Starts `safevlm audit --ray` in the folder of the images, where modules lie that a worker must not import."""
    (tmp_path / "home").mkdir()
    for name in ("msgspec.py", "safevlm_runtime.py", "numpy.py"):
        (images / name).write_text(FOREIGN)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "XDG_"))}
    environment |= {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(hook), *(path for path in sys.path if path)]),
    }
    options = ["--bundle", bundle, "--hash-hook", "ray_hook:look", "--ray", "--jobs", "2"]
    started = []

    def start(out):
        command = [sys.executable, driver, "audit", images, "--out", out, *options]
        process = subprocess.Popen(
            list(map(str, command)), cwd=images, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process, condition):
    """Waits until something is so, while a process lives."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.01)


def size_of(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_neither_a_killed_driver_nor_a_killed_worker_changes_a_row(start, hook, expected, images, tmp_path):
    out, home = tmp_path / "out", tmp_path / "home"

    driver = start(out)
    until(driver, lambda: size_of(hook / "waiting") > 0 and size_of(out / "verdicts.jsonl") > 0)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(family) > 2
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert psutil.wait_procs(family, timeout=SECONDS)[1] == []
    done = (out / "verdicts.jsonl").read_bytes()
    whole = done.count(b"\n")
    assert 0 < whole < COUNT
    assert expected.startswith(done)

    (hook / "waiting").unlink()
    driver = start(out)
    until(driver, lambda: size_of(hook / "waiting") > 0)
    family = psutil.Process(driver.pid).children(recursive=True)
    worker = psutil.Process(int((hook / "waiting").read_text()))
    assert "_Worker" in worker.cmdline()[0]
    worker.kill()
    (hook / "go").touch()
    _, said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 1, said  # items failed
    assert said == f"goes on after {whole} items that are done\n"
    assert (out / "verdicts.jsonl").read_bytes() == expected
    assert psutil.wait_procs(family, timeout=SECONDS)[1] == []

    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert not (images / "imported").exists()


class Disorderly:
    """In the place of Ray: what is asked of workers is done in this process, in an order that chance makes."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, seed, room=3):
        self.draw, self.asked, self.room, self.started = random.Random(seed), 0, room, 0

    def remote(self, **options):
        def made(kind):
            return SimpleNamespace(remote=lambda *given: self.actor(kind(*given)))

        return made

    def actor(self, worker):
        self.started += 1
        starts = self.started <= self.room

        def later(method):
            return SimpleNamespace(remote=lambda *given: self.task(method, given, starts))

        return SimpleNamespace(problem=later(worker.problem), lines=later(worker.lines))

    def task(self, method, given, starts):
        self.asked += 1
        return (self.asked, method, given and tuple(given[0]), starts)

    def wait(self, tasks, num_returns):
        able = [task for task in tasks if task[3]]
        assert able, "waits for workers that have no room, for ever"
        return [self.draw.choice(able)], None

    def get(self, task):
        return task[1](*([list(task[2])] if task[2] else []))

    def cluster_resources(self):
        return {"CPU": 3.0}


@pytest.fixture
def disorderly(images, bundle, monkeypatch):
    """Makes a pool of three workers whose tasks, of five items each, end in any order; and the items."""
    items = list(open_source(str(images)).items())
    with Runtime.load(bundle) as runtime:
        digests = runtime.digests
    monkeypatch.setattr("safevlm_runtime.audit.ray_pool.TASK_ITEMS", 5)

    def make(seed, room=3):
        monkeypatch.setattr("safevlm_runtime.audit.ray_pool.start_ray", lambda settings: Disorderly(seed, room))
        return RayPool(JudgeSettings(bundles=(str(bundle),), digests=digests), RaySettings()), items

    return make


@pytest.mark.parametrize("seed", range(3))
def test_rows_come_in_order_whatever_is_done_first_and_few_items_are_taken_ahead(disorderly, seed):
    pool, items = disorderly(seed)
    taken, given = [], []

    def watched():
        for item in items:
            taken.append(item.name)
            yield item

    for row in pool.rows(watched()):
        given.append(row.path)
        assert len(taken) - len(given) <= 3 * 4 * 5  # workers, tasks ahead for each, items of a task
    assert given == taken == [item.name for item in items]


@pytest.mark.parametrize("room", [1, 2])
def test_workers_that_a_cluster_has_no_room_for_are_not_waited_for(disorderly, room):
    pool, items = disorderly(0, room)
    assert [row.path for row in pool.rows(iter(items))] == [item.name for item in items]
    assert list(disorderly(0, room)[0].rows(iter(()))) == []


def test_no_items_are_no_rows(disorderly):
    assert list(disorderly(0)[0].rows(iter(()))) == []


def test_a_worker_that_cannot_load_the_bundle_ends_the_audit(disorderly, tmp_path, bundle):
    bundle.rename(tmp_path / "elsewhere")
    pool, items = disorderly(0)
    with pytest.raises(AuditError, match=r"a worker cannot judge: bundle_missing: .*every machine needs"):
        next(pool.rows(iter(items)))


def test_ray_is_told_to_report_nothing_unless_the_operator_wants_it(monkeypatch):
    monkeypatch.delenv(RAY_SWITCH, raising=False)
    import_ray()
    assert os.environ[RAY_SWITCH] == "0"
    monkeypatch.setenv(RAY_SWITCH, "1")
    import_ray()
    assert os.environ[RAY_SWITCH] == "1"


def test_without_ray_one_line_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    settings = JudgeSettings(bundles=(str(bundle),), digests=("sha256:" + "0" * 64,))
    with pytest.raises(MissingExtra, match=r"^ray is not installed; run: pip install 'safevlm-sdk\[ray\]'$"):
        RayPool(settings, RaySettings())


@pytest.mark.parametrize(
    ("settings", "ray", "said"),
    [
        ({"digests": None}, {}, "digests are not known"),
        ({"provider": "cuda"}, {}, "Ray's workers judge on the CPU"),
        ({}, {"workers": 0}, "workers is 0; give at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_ray_starts(settings, ray, said):
    pinned = {"bundles": ("bundle",), "digests": ("sha256:" + "0" * 64,)}
    with pytest.raises(OptionError, match=said):
        RayPool(JudgeSettings(**pinned | settings), RaySettings(**ray))
