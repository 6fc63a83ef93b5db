"""examples/app.py in a process of its own, before a server of this process."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Some hills."}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}  # fmt: skip


@pytest.fixture
def server():
    """A server that keeps what it is asked, as (authorization, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked.append((self.headers["Authorization"], json.loads(body)))
            answer = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def ask(folder, monkeypatch):
    """Runs the app on a picture."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key")

    def run(picture, port):
        arguments = [str(picture), "What is this?", f"http://127.0.0.1:{port}/v1", "m"]
        command = [sys.executable, str(folder / "app.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_a_harmless_picture_goes_to_the_model_and_a_document_does_not(ask, server, pictures, tmp_path):
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    hills = ask(tmp_path / "scene_hills.png", server.server_port)
    assert (hills.returncode, hills.stdout) == (0, "Some hills.\n")
    assert hills.stderr.startswith("gate: allow")
    passport = ask(tmp_path / "passport.png", server.server_port)
    assert (passport.returncode, passport.stdout) == (0, "I cannot help with this image.\n")
    assert passport.stderr.startswith("gate: block privacy")
    ((key, body),) = server.asked
    assert key == "Bearer sk-a-key"
    image, text = body["messages"][0]["content"]
    assert text["text"] == "What is this?"
    sent = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
    assert sent.size == pictures["scene_hills"].size


def test_a_picture_that_cannot_be_judged_and_a_server_that_is_not_there_are_told(ask, server, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = ask(tmp_path / "broken.png", server.server_port)
    assert broken.returncode == 1
    assert broken.stderr.startswith("gate: failed, image_format: the bytes are of no known image format; ")
    absent = ask(tmp_path / "absent.png", server.server_port)
    assert (absent.returncode, absent.stdout) == (1, "I cannot help with this image.\n")
    assert absent.stderr.startswith("gate: failed, image_not_found: no file lies at the path; ")
    assert server.asked == []
    pictures["scene_hills"].save(tmp_path / "hills.png")
    gone = ask(tmp_path / "hills.png", 9)
    assert gone.returncode == 1
    assert gone.stderr.startswith("no answer: ")
    assert "Traceback" not in gone.stderr


def test_it_has_twenty_lines(folder):
    assert len((folder / "app.py").read_text(encoding="utf-8").splitlines()) <= 20
