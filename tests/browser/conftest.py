"""A real server with a real runtime, and a real Chromium driven by the plain HTTP of WebDriver."""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.proxy.app import make_app
from safevlm_runtime.proxy.server import listening, server_config, shared
from safevlm_runtime.proxy.settings import Settings

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which WebDriver names an element
_SECONDS = 30  # until a test gives up; nothing waits for it to pass
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,1000",
)  # fmt: skip


class Browser:
    """One window of Chromium."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._http = httpx.Client(base_url=driver, timeout=_SECONDS, trust_env=False)
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self._session = self._call("POST", "/session", {"capabilities": wanted})["sessionId"]
        self._call("POST", f"/session/{self._session}/timeouts", {"script": _SECONDS * 1000})

    def open(self, address: str) -> None:
        """Loads a page anew."""
        self._post("url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body in the page returns; a promise is waited for."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def until(self, condition: str, *arguments: Any) -> None:
        """Waits until an expression in the page is true, looked at again and again."""
        look = f"const given = arguments, look = done => ({condition}) ? done() : setTimeout(look, 5, done);"
        self.run(f"{look} return new Promise(look)", *arguments)

    def choose(self, path: Path) -> None:
        """Chooses a file in the page's field."""
        found = self._post("element", {"using": "css selector", "value": "#file"})
        self._post(f"element/{found[_ELEMENT]}/value", {"text": str(path)})

    def press(self, *keys: str) -> None:
        """Presses keys on whatever has the focus."""
        pressed = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": pressed}]})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors of the page and blocked content."""
        return [entry["message"] for entry in self._post("se/log", {"type": "browser"})]

    def text(self, css: str) -> str:
        """What an element shows; empty when it is hidden."""
        shown = "const at = document.querySelector(arguments[0]); return at.checkVisibility() ? at.innerText : ''"
        return self.run(shown, css)

    def close(self) -> None:
        """Closes the window."""
        self._call("DELETE", f"/session/{self._session}")
        self._http.close()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", f"/session/{self._session}/{path}", body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{path}: {answer['message']}")
        return answer


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, started once."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in driver.stdout if "successfully on port" in line)
        port = line.rstrip(".\n").rpartition(" ")[2]
        window = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        yield window
        window.close()
    finally:
        driver.terminate()
        driver.communicate()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serves a bundle with the real application; gives its address."""
    running = []

    def start(bundle: Path, policy: str | None = None) -> str:
        path = None
        if policy is not None:
            path = str(tmp_path / "policy.toml")
            Path(path).write_text(policy)
        settings = Settings(upstream="http://127.0.0.1:9", port=0, policy=path)
        runtime = Runtime.load(bundle, policy=path)
        listener = listening(settings)
        server = uvicorn.Server(server_config(settings, make_app(functools.partial(shared, settings, runtime))))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        running.append((server, thread, runtime, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread, runtime, listener in running:
        server.should_exit = True
        thread.join()
        runtime.close()
        listener.close()


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a picture of one colour."""

    def write(name: str, rgb: tuple[int, int, int], size: tuple[int, int] = (60, 40)) -> Path:
        path = tmp_path / name
        Image.fromarray(np.full((size[1], size[0], 3), rgb, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def window(browser: Browser) -> Browser:
    """The browser as a person has it at first: light, wide, online."""
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.devtools("Emulation.clearDeviceMetricsOverride")
    browser.devtools("Network.enable")
    browser.devtools(
        "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    browser.complaints()
    return browser


@pytest.fixture
def animation(tmp_path: Path) -> Path:
    """Four frames: safe, safe, privacy, safe."""
    colours = ((0, 250, 0), (0, 230, 0), (0, 0, 250), (0, 240, 9))
    frames = [Image.fromarray(np.full((40, 60, 3), rgb, np.uint8)) for rgb in colours]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "moving.gif"


@pytest.fixture
def page(window: Browser, serve: Callable[..., str], bundle: Path) -> Browser:
    """The page of a gate with the test bundle."""
    window.open(serve(bundle))
    return window
