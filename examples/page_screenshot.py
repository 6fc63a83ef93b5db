"""Photographs the page of `safevlm serve` with a verdict on it, in a headless Chromium.

    python examples/page_screenshot.py IMAGE.jpg docs/images/page.png [dark]

Needs chromium and chromedriver on the PATH; the verdict is the starter's.
"""

from __future__ import annotations

import base64
import functools
import io
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import uvicorn
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.proxy.app import make_app
from safevlm_runtime.proxy.server import listening, server_config, shared
from safevlm_runtime.proxy.settings import Settings

WIDTH, HEIGHT, COLOURS = 1180, 1120, 256


@contextmanager
def server() -> Iterator[str]:
    """The application with the starter; gives its address."""
    settings = Settings(upstream="http://127.0.0.1:9", port=0)  # nobody is asked: only /v1/check is used
    with Runtime.starter() as runtime, listening(settings) as listener:
        app = make_app(functools.partial(shared, settings, runtime))
        server = uvicorn.Server(server_config(settings, app))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def photograph(address: str, image: Path, dark: bool) -> bytes:
    """A PNG of the page once it has judged the image."""
    driver = subprocess.Popen(  # noqa: S603 - the driver that is installed
        [shutil.which("chromedriver") or "chromedriver", "--port=0"], stdout=PIPE, text=True
    )
    try:
        started = next(line for line in driver.stdout or () if "successfully on port" in line)
        port = started.rstrip(".\n").rpartition(" ")[2]
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http,
            tempfile.TemporaryDirectory() as profile,
        ):
            options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]}
            session = _ask(http, "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})[
                "sessionId"
            ]
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            for command, parameters in (("EmulatedMedia", {"features": [scheme]}), ("DeviceMetricsOverride", size)):
                body = {"cmd": f"Emulation.set{command}", "params": parameters}
                _ask(http, f"/session/{session}/goog/cdp/execute", body)
            _ask(http, f"/session/{session}/url", {"url": address})
            field = _ask(http, f"/session/{session}/element", {"using": "css selector", "value": "#file"})
            _ask(
                http, f"/session/{session}/element/{next(iter(field.values()))}/value", {"text": str(image.resolve())}
            )
            wait = (
                "const look = done => document.querySelector('#result').hidden ? setTimeout(look, 20, done) : done();"
            )
            _ask(http, f"/session/{session}/execute/sync", {"script": f"{wait} return new Promise(look)", "args": []})
            shot = {"cmd": "Page.captureScreenshot", "params": {}}
            picture = _ask(http, f"/session/{session}/goog/cdp/execute", shot)["data"]
            http.delete(f"/session/{session}")
            return base64.b64decode(picture)
    finally:
        driver.terminate()
        driver.communicate()


def _ask(http: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = http.post(path, json=body)
    answer.raise_for_status()
    return answer.json()["value"]


def main(image: str, out: str, scheme: str = "light") -> None:
    """Photographs, with few colours so that the file stays small."""
    with server() as address:
        for _ in range(5):  # the first checks of a process take longer
            httpx.post(f"{address}v1/check", content=Path(image).read_bytes(), headers={"content-type": "image/jpeg"})
        shot = photograph(address, Path(image), scheme == "dark")
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
