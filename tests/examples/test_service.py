"""examples/service.py: judged before anything else, failures told from risks, bodies bounded."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import subprocess
import sys
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.judging.screening import Screening
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import decode, raster_digest

PICTURES = "/pictures"


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def service(load):
    return load("service.py")


@pytest.fixture
def ask(service, tmp_path):
    """Starts the application, has a coroutine function talk to it, and ends it."""

    def run(talk, open_runtime=Runtime.starter):
        async def whole():
            app = service.make_app(open_runtime, tmp_path)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
            ):
                return await talk(client)

        return asyncio.run(whole())

    return run


def test_a_harmless_picture_is_kept_as_it_was_judged(ask, pictures, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a secret in the metadata"
    sent = encoded(pictures["scene_hills"], "JPEG", exif=exif)

    async def talk(client):
        return await client.post(PICTURES, content=sent), await client.get("/healthz")

    answer, health = ask(talk)
    assert (answer.status_code, answer.json()["verdict"]["action"]) == (201, "allow")
    (kept,) = tmp_path.iterdir()
    assert kept.name == answer.json()["kept"] == f"{raster_digest(decode(sent).frames[0].pixels)}.png"
    assert b"secret" in sent
    assert b"secret" not in kept.read_bytes()
    assert np.array_equal(np.asarray(Image.open(kept)), decode(sent).frames[0].pixels)
    assert health.json() == {"covered": ["privacy"]}


def test_a_risk_and_a_picture_that_cannot_be_judged_have_their_own_status(ask, pictures, tmp_path):
    async def talk(client):
        bodies = (encoded(pictures["passport"]), encoded(pictures["scene_hills"])[:-30], b"no picture")
        return [await client.post(PICTURES, content=body) for body in bodies]

    risk, cut, other = ask(talk)
    assert (risk.status_code, risk.json()["detail"]["category"]) == (403, "privacy")
    assert (cut.status_code, cut.json()["detail"]["error"]) == (422, "image_corrupt")
    assert (other.status_code, other.json()["detail"]["error"]) == (422, "image_format")
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_fails_is_no_risk_whatever_the_policy_lets_pass(ask, pictures, tmp_path):
    class Failing(Runtime):
        """Its engine fails, and its policy lets such pictures pass with caution."""

        async def ascreen(self, image, prompt=None, *, source=None):
            found = await super().ascreen(image)
            failed = {"error": "engine_timeout", "category": None, "level": None, "score": None, "categories": {}}
            verdict = replace(found.verdict, action=Action.CAUTION, **failed)
            return Screening(verdict=verdict, raster=found.raster)

    async def talk(client):
        return await client.post(PICTURES, content=encoded(pictures["scene_hills"]))

    answer = ask(talk, Failing.starter)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"]["error"] == "engine_timeout"
    assert list(tmp_path.iterdir()) == []


def test_bodies_are_bounded_in_size_and_time(ask, service, monkeypatch):
    taken = []

    async def endless():
        while True:
            taken.append(len(taken))
            yield bytes(1000)

    async def silent():
        yield b"\x89PNG"
        await asyncio.Event().wait()

    async def talk(client):
        monkeypatch.setattr(service, "MOST_BYTES", 10_000)
        large = await client.post(PICTURES, content=endless())
        monkeypatch.setattr(service, "BODY_SECONDS", 0.05)
        return large, await client.post(PICTURES, content=silent()), await client.post(PICTURES)

    large, slow, empty = ask(talk)
    assert (large.status_code, len(taken)) == (413, 11)
    assert (slow.status_code, empty.status_code) == (408, 400)


def test_one_runtime_is_loaded_and_closed_and_judges_a_few_at_a_time(ask, service, pictures):
    loaded, inside, most = [], 0, 0

    class Counted(Runtime):
        async def ascreen(self, image, prompt=None, *, source=None):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            try:
                return await super().ascreen(image)
            finally:
                inside -= 1

    def opened():
        loaded.append(Counted.starter())
        return loaded[-1]

    async def talk(client):
        body = encoded(pictures["scene_hills"].resize((64, 48)))
        return await asyncio.gather(*(client.post(PICTURES, content=body) for _ in range(6)))

    assert {answer.status_code for answer in ask(talk, opened)} == {201}
    assert (len(loaded), most) == (1, service.JUDGED_AT_A_TIME)
    assert loaded[0].check(pictures["scene_hills"]).error == "engine_failed"  # closed


@pytest.mark.parametrize("missing", ["uvicorn", "fastapi"])
def test_without_what_it_needs_it_ends_in_one_line(load, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=rf"{missing} is not here; run: pip install .*safevlm-sdk\[cpu,serve\]"):
        load("service.py")


def test_the_command_serves(folder, pictures, tmp_path):
    command = [sys.executable, str(folder / "service.py"), "--keep", str(tmp_path / "kept"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            running = (re.search(r"running on (http://\S+)", line) for line in process.stderr)
            address = next(found[1] for found in running if found)
            body = encoded(pictures["scene_hills"])
            answer = httpx.post(address + PICTURES, content=body, timeout=60, trust_env=False)
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
    assert answer.status_code == 201
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [answer.json()["kept"]]
