"""/v1/responses: the same gate in another protocol."""

from __future__ import annotations

import openai
import pytest


def image(url):
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def ask(proxy, items, **fields):
    return proxy.client.post("/v1/responses", json={"model": "m", "input": items, **fields})


def test_images_of_turns_and_tools_go_on_as_their_rasters(proxy, spy, pictures, raster_of):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, image(pictures["jpeg"])]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b", "annotations": []}],
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": [image(pictures["caution"])]},
        {"type": "function_call_output", "call_id": "2", "output": "a text"},
    ]
    answer = ask(proxy, items, instructions="be brief")
    assert answer.headers["x-safevlm-action"] == "caution"
    assert spy.requests[-1][0] == "/v1/responses"
    sent = spy.body()["input"]
    urls = [sent[0]["content"][1]["image_url"], sent[4]["output"][0]["image_url"]]
    assert [raster_of(url) for url in urls] == [verdict.raster_sha256 for verdict in proxy.screener.verdicts]
    assert sent[4]["output"][1]["type"] == "input_text"
    assert sent[4]["output"][1]["text"].startswith("Safety note")
    assert [sent[at] for at in (1, 2, 3, 5)] == [items[at] for at in (1, 2, 3, 5)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["block", "fail", "broken"])
def test_a_blocked_request_is_refused_in_the_protocol_and_sends_nothing(proxy, spy, pictures, stream, kind):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="k", max_retries=0)
    items = [{"role": "user", "content": [image(pictures[kind])]}]
    with client:
        if stream:
            events = list(client.responses.create(model="m", input=items, stream=True))
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[0].type == "response.created"
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta")
            assert events[-1].type == "response.incomplete"
            answer = events[-1].response
        else:
            answer = client.responses.create(model="m", input=items)
    assert answer.output_text == "I cannot help with this image."
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "content_filter"
    told = {"block": None, "fail": "engine_failed", "broken": "image_corrupt"}
    assert (answer.model_extra["safevlm"]["action"], answer.model_extra["safevlm"]["error"]) == ("block", told[kind])
    assert spy.data == b""


REFUSED = {
    "an earlier response": ({"previous_response_id": "resp_1"}, "bad_request"),
    "a conversation": ({"conversation": "conv_1"}, "bad_request"),
    "a stored prompt": ({"prompt": {"id": "p", "variables": {"x": {"type": "input_image"}}}}, "bad_request"),
    "a tool that searches": ({"tools": [{"type": "web_search_preview"}]}, "unsupported_part"),
    "a tool that makes images": ({"tools": [{"type": "image_generation"}]}, "unsupported_part"),
    "a remote tool": ({"tools": [{"type": "mcp", "server_url": "https://a"}]}, "unsupported_part"),
    "a background job": ({"background": True}, "bad_request"),
    "an item by reference": ({"input": [{"type": "item_reference", "id": "1"}]}, "unsupported_part"),
    "a screenshot": (
        {"input": [{"type": "computer_call_output", "call_id": "1", "output": {"type": "computer_screenshot"}}]},
        "unsupported_part",
    ),
    "a generated image": ({"input": [{"type": "image_generation_call", "result": "AAAA"}]}, "unsupported_part"),
    "an image by its file": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "bad_request",
    ),
    "a file": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "A"}]}]},
        "unsupported_part",
    ),
    "a part of the other protocol": (
        {"input": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "unsupported_part",
    ),
    "an image of an assistant": (
        {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "data:"}]}]},
        "unsupported_part",
    ),
    "a tool role": ({"input": [{"role": "tool", "content": "a"}]}, "unsupported_part"),
    "an address": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a.example/x"}]}]},
        "remote_image_forbidden",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_gate_cannot_see_is_refused(proxy, spy, name):
    fields, code = REFUSED[name]
    answer = ask(proxy, **{"items": "a", **fields}) if "input" not in fields else ask(proxy, fields["input"])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert spy.data == b""
