"""What `safevlm serve` does before it serves: which gate it loads, what it says and warns of, its first picture."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.bundle.loading import starter_folder
from safevlm_runtime.judging import gate
from safevlm_runtime.proxy import server, warming
from safevlm_runtime.proxy.announcing import announce, warnings_of
from safevlm_runtime.proxy.gateway import coverage_of
from safevlm_runtime.proxy.reloading import read_policy_again
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.warming import transparent_picture, warm_up
from safevlm_sdk.command import main
from safevlm_sdk.errors import BundleDigest, EngineError

UPSTREAM = "http://127.0.0.1:9"
HEAD = 'schema = 1\nname = "doors"\nuncovered = "allow"\n'
PRIVACY = '[actions.privacy]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
RULES = 'low = "allow"\nmedium = "allow"\nhigh = "caution"\n'
DOORS = f"{HEAD}{PRIVACY}[sources.door.actions.privacy]\n{RULES}[sources.kiosk.actions.privacy]\n{RULES}"
EXPIRED = f"""{HEAD}{PRIVACY}
[[overrides]]
category = "privacy"
action = "allow"
until = 2020-01-01
reason = "a visit"
"""


@pytest.fixture
def policy(tmp_path):
    """Writes a policy file."""

    def write(text):
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def runtime(bundle):
    """Of the test bundle, decoding in this process."""
    with Runtime.load(bundle) as loaded:
        yield loaded


@pytest.fixture
def run(monkeypatch):
    """Runs the command in this process."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["safevlm", "serve", "--upstream", UPSTREAM, *map(str, options)])
        main()

    return run


def said(settings, runtime):
    lines = []
    announce(settings, runtime, 8787, lines.append)
    return lines


def test_the_options_reach_the_settings(run, monkeypatch, bundle):
    taken = []
    monkeypatch.setattr(server, "serve", lambda settings, **_: taken.append(settings))
    monkeypatch.chdir(bundle.parent)
    with pytest.raises(SystemExit, match="0"):
        run("--bundle", "bundle", "--starter", "--precision", "int8", "--engine-seconds", "7.5")
    (settings,) = taken
    folders = [path.rpartition("/")[2] for path in settings.bundles]
    assert (settings.bundles[0], folders) == (str(bundle), ["bundle", "starter"])
    assert (settings.precision, settings.engine_seconds) == ("int8", 7.5)


def test_precision_and_time_reach_the_runtime(monkeypatch):
    seen = {}
    monkeypatch.setattr(server.Runtime, "load", lambda *paths, **options: seen.update(options, paths=paths))
    server.load(Settings(upstream=UPSTREAM, bundles=("/a",), precision="w8", engine_seconds=9.0))
    assert (seen["paths"], seen["precision"], seen["engine_seconds"]) == (("/a",), "w8", 9.0)


def test_a_bundle_and_the_starter_judge_together(bundle):
    starter = str(starter_folder())
    settings = Settings(upstream=UPSTREAM, bundles=(str(bundle), starter))
    with server.load(settings) as runtime:
        assert len(set(runtime.bundles)) == 2
        lines = said(settings, runtime)
    assert len([line for line in lines if line.startswith("bundle: ")]) == 2
    with pytest.raises(BundleDigest, match="1 digests for 2 bundles"):
        server.load(Settings(upstream=UPSTREAM, bundles=(str(bundle), starter), digests=("sha256:" + "0" * 64,)))


def test_the_address_of_the_page_is_said(runtime):
    assert said(Settings(upstream=UPSTREAM), runtime)[:2] == [
        "gate: http://127.0.0.1:8787/v1 -> http://127.0.0.1:9/v1",
        "page: http://127.0.0.1:8787/",
    ]
    assert said(Settings(upstream=UPSTREAM, host="::1"), runtime)[1] == "page: http://[::1]:8787/"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, ["source: none (the policy has: door, kiosk)"]),
        ("door", ["source: door"]),
        ("lobby", [
            "source: none (the policy has: door, kiosk)",
            "warning: the policy has no source 'lobby' (it has door, kiosk), so that its general rules hold: look at "
            "--source",
        ]),
    ],
)  # fmt: skip
def test_the_source_in_force_is_said(runtime, policy, source, expected):
    runtime.reload_policy(policy(DOORS))
    lines = said(Settings(upstream=UPSTREAM, source=source), runtime)
    assert [line for line in lines if line.startswith(("source:", "warning:"))] == expected


def test_a_policy_without_sources_says_nothing_of_them(runtime):
    assert not any("source" in line for line in said(Settings(upstream=UPSTREAM), runtime))
    assert warnings_of(runtime, "door")[-1].startswith("the policy has no source 'door' (it has none)")


def test_warnings_of_the_runtime_are_said_at_the_start_and_at_a_reload(runtime, policy, caplog):
    path = policy(EXPIRED)
    runtime.reload_policy(path)
    (warning,) = [line for line in said(Settings(upstream=UPSTREAM), runtime) if line.startswith("warning: ")]
    assert "expired, and without effect" in warning
    gateway = SimpleNamespace(settings=Settings(upstream=UPSTREAM, source="door"), cover=lambda coverage: None)
    gateway.coverage = coverage_of(runtime)
    read_policy_again(str(path), runtime, gateway)
    logged = [record.getMessage() for record in caplog.records]
    assert logged[0].startswith(f"policy {path} is in force: doors sha256:")
    assert logged[1] == warning
    assert logged[2].startswith("warning: the policy has no source 'door'")


def test_after_the_first_picture_the_next_needs_no_new_process_and_no_proof(bundle, monkeypatch, encode):
    with Runtime.load(bundle, isolate_decoding=True) as runtime:
        warm_up(runtime, None)

        def refuse(*_, **__):
            raise AssertionError("it should have been ready")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        monkeypatch.setattr(gate, "self_test", refuse)
        opaque, transparent = runtime.check(encode((0, 250, 0))), runtime.check(transparent_picture())
    assert (opaque.error, transparent.error) == (None, None)
    assert transparent.views_judged == 4


def test_a_gate_that_fails_on_its_own_picture_is_named(bundle):
    runtime = Runtime.load(bundle)
    runtime.close()
    with pytest.raises(EngineError, match=r"\(engine_failed: the runtime is closed"):
        warm_up(runtime, None)


def test_a_view_that_fails_keeps_an_observing_gate_from_starting(runtime, policy, monkeypatch):
    runtime.reload_policy(policy(f'mode = "observe"\n{HEAD}{PRIVACY}'))
    monkeypatch.setattr(gate.Gate, "prove_batches", lambda self: (_ for _ in ()).throw(EngineError("no batches")))
    with pytest.raises(EngineError, match="engine_failed"):
        warm_up(runtime, None)


def test_a_gate_that_fails_on_its_own_picture_does_not_start(run, monkeypatch, bundle, capsys):
    monkeypatch.setattr(warming, "transparent_picture", lambda: b"no image")
    monkeypatch.setattr(server, "listening", lambda settings: pytest.fail("it must not listen"))
    with pytest.raises(SystemExit, match="1"):
        run("--bundle", bundle, "--no-isolate", "--no-upstream-check")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "engine_failed: the gate fails on a picture of its own" in lines[0]


def test_every_worker_judges_a_picture_first(monkeypatch, bundle):
    seen = []
    monkeypatch.setattr(server, "warm_up", lambda runtime, source: seen.append((runtime.covered, source)))
    settings = Settings(upstream=UPSTREAM, bundles=(str(bundle),), source="door")
    server.warm(settings).close()
    assert [source for _, source in seen] == ["door"]
    monkeypatch.setattr(server, "warm_up", lambda *_: (_ for _ in ()).throw(EngineError("cold")))
    with pytest.raises(EngineError, match="cold"):
        server.warm(settings)
