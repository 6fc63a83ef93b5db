"""What docs/gate.md shows of the wire is what the proxy says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown():
    """The JSON of the section: a cautioned turn, a blocked answer, an error."""
    section = PAGE.split("### On the wire")[1].split("\n## ")[0]
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]


def asked(url):
    return [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]


def test_a_cautioned_turn(proxy, spy, pictures, shown):
    answer = proxy.chat(asked(pictures["caution"]))
    assert answer.headers["x-safevlm-action"] == "caution"
    (turn,) = spy.body()["messages"]
    address = turn["content"][1]["image_url"]
    address["url"] = address["url"].split(",")[0] + ",…"
    assert turn == shown[0]


def test_a_blocked_answer(proxy, pictures, shown):
    answer = proxy.chat(asked(pictures["block"]))
    assert (answer.status_code, answer.headers["x-safevlm-action"]) == (200, "block")
    told = answer.json()["safevlm"]
    assert told["verdict"] == answer.headers["x-safevlm-verdict"]
    masked = {"id": "chatcmpl-…", "created": 0, "safevlm": told | {"verdict": "…"}}
    assert answer.json() | masked == shown[1]
    assert proxy.chat(asked(pictures["block"]), stream=True).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("kind", "said"), [("fail", "engine_failed"), ("block", None), ("allow", None)])
def test_the_library_of_openai_shows_a_failed_gate(proxy, pictures, capsys, kind, said):
    (block,) = re.findall(r"^```python\n(# needs: the gate at that address\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = {"messages": [{"role": "user", "content": asked(pictures[kind])}]}
    exec(compile(block.replace("127.0.0.1:8787", f"127.0.0.1:{proxy.port}"), "gate.md", "exec"), names)
    names["client"].close()
    assert capsys.readouterr().out == (f"the gate failed, which is no risk that was found: {said}\n" if said else "")


def test_a_refused_request(proxy, pictures, shown):
    answer = proxy.chat(asked(pictures["allow"].replace("image/png", "image/jpeg")))
    assert answer.status_code == 400
    assert answer.json() == shown[2]
