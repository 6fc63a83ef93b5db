"""Another policy is put in force between two checks, and never within one."""

from __future__ import annotations

import io
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_sdk.errors import PolicyError
from safevlm_sdk.policy import Action, parse_policy

ALLOW, CAUTION, BLOCK = Action
RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
BASE = """
schema = 1
name = "base"
uncovered = "allow"
{top}
[actions.privacy]
low = "allow"
medium = "caution"
high = "block"
[actions.illegal_risk]
low = "block"
medium = "block"
high = "block"
{rest}
"""


def policy(top="", rest=""):
    return parse_policy(BASE.format(top=top, rest=rest))


def test_a_reload_takes_effect_and_a_bad_one_changes_nothing(bundle, paint, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(BASE.format(top="", rest="").replace('medium = "caution"', 'medium = "block"'))
    with Runtime.load(bundle, policy=policy()) as runtime:
        assert runtime.check(paint(*BLUE)).action is CAUTION
        runtime.reload_policy(path)
        assert runtime.check(paint(*BLUE)).action is BLOCK
        before = runtime.policies
        unfit = parse_policy(BASE.format(top="", rest="").replace("privacy", "privcy"))
        path.write_text("schema = 1")
        for bad in (path, unfit, tmp_path / "absent.toml"):
            with pytest.raises(PolicyError):
                runtime.reload_policy(bad)
            assert runtime.policies == before
            assert runtime.check(paint(*BLUE)).action is BLOCK


def test_a_reload_changes_what_may_be_decoded(bundle, paint):
    buffer = io.BytesIO()
    frames = [Image.fromarray(paint(*rgb)) for rgb in (GREEN, RED)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with Runtime.load(bundle, policy=policy()) as runtime:
        assert runtime.check(buffer.getvalue()).error == "image_multi_frame"
        runtime.reload_policy(policy('frames = "all"'))
        assert runtime.check(buffer.getvalue()).category == "illegal_risk"


def test_a_check_ends_under_the_policy_that_it_began_with(bundle, paint, monkeypatch):
    first, second = policy(), policy(rest="[thresholds]\nprivacy = 0.25\n[hysteresis]\nk = 2\nn = 2\n")
    blue = paint(*BLUE)
    with Runtime.load(bundle, policy=first) as runtime:
        real = {name: getattr(runtime._checker, name) for name in ("decoded", "pixels", "prepared")}

        def reloading(name):
            """The step, and right behind it a reload, as another thread would do it."""

            def step(*given, **options):
                found = real[name](*given, **options)
                runtime.reload_policy(second)
                return found

            return step

        for name in real:
            monkeypatch.setattr(runtime._checker, name, reloading(name))
        for check in (
            runtime.check,
            lambda image: runtime.check_many([image])[0],
            runtime.check_frame,
            lambda image: runtime.watch().check_frame(image),
        ):
            runtime.reload_policy(first)
            verdict = check(blue)
            assert verdict.policy_digests == (first.digest,)
            assert (verdict.action, ">= 0.600" in verdict.reason) == (CAUTION, True)
            assert runtime.policies == (second,)


def test_no_check_stands_between_two_policies(bundle, paint):
    """Two policies that differ in everything; each verdict must be wholly of the one that it names."""
    soft = policy('refusal = "soft"')
    text = BASE.format(top='refusal = "strict"', rest="[thresholds]\nprivacy = 0.25\n")
    strict = parse_policy(text.replace('medium = "caution"', 'medium = "block"'))
    wanted = {
        soft.digest: (CAUTION, "0.600", ""),
        strict.digest: (BLOCK, "0.250", "strict"),
    }
    blue = paint(*BLUE)
    stop = threading.Event()
    with Runtime.load(bundle, policy=soft) as runtime:

        def reload():
            for number in range(10**6):
                runtime.reload_policy((strict, soft)[number % 2])
                if stop.is_set():
                    return

        def judge(number):
            if number % 4 == 0:
                return runtime.check_many([blue, blue, blue], batch_size=2)
            return [runtime.check(blue) if number % 4 == 1 else runtime.watch().check_frame(blue)]

        reloader = threading.Thread(target=reload)
        reloader.start()
        try:
            with ThreadPoolExecutor(32) as pool:
                verdicts = [one for found in pool.map(judge, range(640)) for one in found]
        finally:
            stop.set()
            reloader.join()
    seen = Counter()
    for verdict in verdicts:
        (digest,) = verdict.policy_digests
        action, threshold, refusal = wanted[digest]
        assert (verdict.action, verdict.refusal) == (action, refusal)
        assert f">= {threshold}" in verdict.reason
        seen[digest] += 1
    assert set(seen) == set(wanted)
