"""`OpenAIEngine` against a server of this process that says whatever a test wants."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from safevlm_runtime.guard.engines import engine_names, load_engine
from safevlm_runtime.guard.engines.openai_engine import OpenAIEngine
from safevlm_sdk.chat import Image, Message, Request, Text, ToolCall, Usage
from safevlm_sdk.engine import Engine
from safevlm_sdk.errors import (
    ChatEngineError,
    ChatEngineRefused,
    ChatEngineTimeout,
    ChatEngineUnknown,
    ChatEngineUnreachable,
    MissingExtra,
    OptionError,
)
from safevlm_sdk.raster import decode, from_array

KEY, QUESTION = "sk-a-canary-of-a-key", "a canary of a question"
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "An answer."}}
HEAD = {"id": "1", "created": 1, "model": "m"}


def completion(**changes):
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return {**HEAD, "object": "chat.completion", "choices": [CHOICE], "usage": usage} | changes


def chunk(text=None, finish=None, **changes):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]} | changes


def events(*chunks, end=True):
    lines = [f"data: {json.dumps(one)}\n\n" for one in chunks] + (["data: [DONE]\n\n"] if end else [])
    return "".join(lines).encode()


class Server:
    """Keeps what it got; `reply` is (status, body), or an exception of a server that hangs up."""

    def __init__(self):
        self.bodies, self.headers = [], []
        self.reply = 200, json.dumps(completion()).encode()
        self.go_on = threading.Event()
        self.go_on.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.headers.append(dict(self.headers))
                server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                server.go_on.wait(30)
                status, body = server.reply
                if status == 0:
                    self.close_connection = True
                    return
                streams = body.startswith(b"data:")
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
                self.send_header("Content-Length", str(len(body) + 10 * body.endswith(b"BROKEN")))
                self.end_headers()
                self.wfile.write(body.removesuffix(b"BROKEN"))
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.go_on.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def engine(server):
    made = OpenAIEngine(server.url, "m", KEY, retries=0)
    yield made
    made.close()


def request(*parts, **options):
    return Request(messages=(Message(role="user", parts=parts or (Text(text=QUESTION),)),), options=options)


def test_the_answer_comes_with_its_usage(engine, server):
    reply = engine.generate(request(max_tokens=4))
    assert (reply.text, reply.finish_reason, reply.refused, reply.verdicts) == ("An answer.", "stop", False, ())
    assert reply.usage == Usage(prompt_tokens=5, completion_tokens=2)
    message = {"role": "user", "content": QUESTION}
    assert server.bodies == [{"model": "m", "messages": [message], "max_tokens": 4}]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_an_image_goes_as_a_png_of_its_pixels(engine, server):
    frame = from_array(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    engine.generate(request(Text(text="x"), Image(judged=frame)))
    text, image = server.bodies[0]["messages"][0]["content"]
    assert (text, image["type"]) == ({"type": "text", "text": "x"}, "image_url")
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert decode(b64decode(data)).frames[0].sha256 == frame.sha256


def test_tools_go_and_come(engine, server):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    server.reply = 200, json.dumps(completion(choices=[CHOICE | {"message": message}], usage=None)).encode()
    reply = engine.generate(request(tools=[]))
    assert (reply.text, reply.usage) == ("", None)
    assert reply.tool_calls == (ToolCall(id="1", name="look", arguments='{"at": 1}'),)
    said = Message(role="assistant", parts=(), tool_calls=reply.tool_calls)
    told = Message(role="tool", parts=(Text(text="seen"),), tool_call_id="1")
    engine.generate(Request(messages=(said, told)))
    assert server.bodies[1]["messages"] == [message, {"role": "tool", "content": "seen", "tool_call_id": "1"}]


def test_a_stream_is_read_to_its_end(engine, server):
    server.reply = 200, events(chunk("An "), chunk(None), chunk("answer."), chunk(None, "stop"), chunk(choices=[]))
    assert list(engine.stream(request())) == ["An ", "answer."]
    assert server.bodies[0]["stream"] is True


def test_the_asynchronous_twins_work_in_one_event_loop_after_another(engine, server):
    async def twice():
        server.reply = 200, json.dumps(completion()).encode()
        assert (await engine.agenerate(request())).text == "An answer."
        server.reply = 200, events(chunk("An "), chunk("answer.", "stop"))
        assert [piece async for piece in engine.astream(request())] == ["An ", "answer."]
        await engine.aclose()

    asyncio.run(twice())
    asyncio.run(twice())


def test_options_of_every_request_give_way_to_its_own(server):
    engine = OpenAIEngine(server.url, "m", retries=0, options={"temperature": 0, "seed": 1})
    engine.generate(request(seed=2))
    assert (server.bodies[0]["temperature"], server.bodies[0]["seed"]) == (0, 2)
    engine.close()


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "mm_processor_kwargs", "extra_body", "top_k"])
def test_options_that_are_not_known_are_refused(engine, server, name):
    for ask in (engine.generate, lambda one: list(engine.stream(one))):
        with pytest.raises(OptionError, match=name):
            ask(request(**{name: "x"}))
    with pytest.raises(OptionError):
        OpenAIEngine(server.url, "m", options={name: 1})
    assert server.bodies == []


def test_a_stream_would_lose_calls_of_tools(engine):
    with pytest.raises(OptionError, match="use generate"):
        list(engine.stream(request(tools=[])))


FAILURES = {
    "refused": ((400, json.dumps({"error": {"message": f"{QUESTION} {KEY}"}}).encode()), ChatEngineRefused, "400"),
    "unknown model": ((404, b"{}"), ChatEngineRefused, "404"),
    "no access": ((401, b"{}"), ChatEngineRefused, "401"),
    "busy": ((429, b"{}"), ChatEngineError, "429"),
    "broken": ((500, f"{QUESTION} {KEY}".encode()), ChatEngineError, "500"),
    "hung up": ((0, b""), ChatEngineUnreachable, "cannot be reached"),
    "no choice": ((200, json.dumps(completion(choices=[])).encode()), ChatEngineError, "no chat completion"),
    "another shape": ((200, f'{{"said": "{QUESTION}"}}'.encode()), ChatEngineError, None),
    "a list": ((200, b"[1]"), ChatEngineError, None),
    "no JSON": ((200, f"<html>{QUESTION}".encode()), ChatEngineError, None),
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("case", FAILURES)
def test_failures_have_names_and_repeat_nothing(engine, server, case, asynchronous):
    server.reply, kind, told = FAILURES[case]

    async def ask():
        try:
            await engine.agenerate(request())
        finally:
            await engine.aclose()

    with pytest.raises(ChatEngineError, match=told) as caught:
        asyncio.run(ask()) if asynchronous else engine.generate(request())
    assert type(caught.value) is kind
    assert not any(one in f"{caught.value!r} {caught.value.__cause__!r}" for one in (QUESTION, KEY))
    assert caught.value.__suppress_context__  # no traceback shows what the server said


BROKEN = {
    "an error": events(chunk("An "), {"error": {"message": QUESTION}}),
    "no end": events(chunk("An "), end=False),
    "cut": events(chunk("An "), end=False) + b"BROKEN",
    "no JSON": events(chunk("An "), end=False) + b"data: {\n\n",
    "another shape": events(chunk("An "), {**HEAD, "choices": [{"delta": {"content": [QUESTION]}}]}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_stream_that_breaks_off_says_so_behind_its_pieces(engine, server, case):
    server.reply = 200, BROKEN[case]

    async def asynchronously():
        made = OpenAIEngine(server.url, "m", KEY, retries=0)
        found = []
        try:
            async for piece in made.astream(request()):
                found.append(piece)
        except ChatEngineError as problem:
            return found, problem
        finally:
            await made.aclose()

    pieces = engine.stream(request())
    assert next(pieces) == "An "
    with pytest.raises(ChatEngineError) as caught:
        next(pieces)
    found, problem = asyncio.run(asynchronously())
    assert found == ["An "]
    for one in (caught.value, problem):
        assert QUESTION not in f"{one!r} {one.__cause__!r}"


def test_silence_is_a_timeout(server):
    server.go_on.clear()
    engine = OpenAIEngine(server.url, "m", timeout=0.05, retries=0)
    for ask in (engine.generate, lambda one: next(engine.stream(one))):
        with pytest.raises(ChatEngineTimeout):
            ask(request())
    engine.close()


def test_nobody_there_is_unreachable(server):
    server.close()
    engine = OpenAIEngine(server.url, "m", retries=0)
    with pytest.raises(ChatEngineUnreachable, match="is the server running"):
        engine.generate(request())
    engine.close()


def test_what_failed_once_is_tried_again(server):
    server.reply = 503, b"{}"
    engine = OpenAIEngine(server.url, "m", retries=1)
    with pytest.raises(ChatEngineError):
        engine.generate(request())
    assert len(server.bodies) == 2
    engine.close()


def test_the_environment_is_not_sent(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, f"{KEY}-{name}")
    engine = OpenAIEngine(server.url, "m", retries=0)
    engine.generate(request())
    assert KEY not in str(server.headers)
    engine.close()


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "file:///v1", f"http://user:{KEY}@h/v1", "http://", "http://h:port/v1", None]
)
def test_addresses_that_cannot_be_meant_are_refused(url):
    with pytest.raises(OptionError) as caught:
        OpenAIEngine(url, "m")
    assert KEY not in str(caught.value)


def test_without_its_package_it_names_the_command(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[serve\]"):
        OpenAIEngine(server.url, "m")


def test_engines_are_found_by_name(server):
    assert {"openai", "transformers"} <= set(engine_names())
    engine = load_engine("openai", server.url, "m", retries=0)
    assert isinstance(engine, OpenAIEngine)
    assert isinstance(engine, Engine)
    assert engine.generate(request()).text == "An answer."
    engine.close()
    with pytest.raises(ChatEngineUnknown, match=r"installed are .*openai.*transformers"):
        load_engine("ollama")


def test_an_engine_that_is_none_or_cannot_be_loaded_is_named(monkeypatch):
    def points(values):
        found = [EntryPoint(name="x", value=value, group="safevlm_sdk.engines") for value in values]
        monkeypatch.setattr("safevlm_runtime.guard.engines.find.entry_points", lambda group, name=None: found)

    for values, told in (
        (["no_such_module:Engine"], "ModuleNotFoundError"),
        (["json:Engine"], "AttributeError"),
        (["builtins:object"], "which is no engine"),
        (["a:b", "c:d"], "2 packages offer"),
    ):
        points(values)
        with pytest.raises(ChatEngineUnknown, match=told):
            load_engine("x")


def test_the_examples_of_the_page_run(server, paint, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).resolve().parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    PilImage.fromarray(paint(90, 140, 60, 256)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        if "checkpoint/" in block or block.startswith("# needs: "):
            continue  # it takes torch, and runs among the tests of training; or the gate, among those of the proxy
        streams = "chat.stream" in block
        server.reply = 200, events(chunk("An answer.", "stop")) if streams else json.dumps(completion()).encode()
        exec(compile(block.replace("http://127.0.0.1:8000/v1", server.url), "gate.md", "exec"), names)
    assert capsys.readouterr().out.count("An answer.") == 2
    assert len(server.bodies) == 3
    names["engine"].close()
    names["runtime"].close()
