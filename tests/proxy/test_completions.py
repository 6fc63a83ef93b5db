"""Chat completions: what goes on, what is answered instead, and that the upstream sees nothing but judged pixels."""

from __future__ import annotations

import json
from dataclasses import replace

import openai
import pytest

from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_sdk.policy import Action

ERRORS = {"block": None, "fail": "engine_failed", "broken": "image_corrupt"}


def image(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def text(words):
    return {"type": "text", "text": words}


def test_an_allowed_image_goes_on_as_the_raster_that_was_judged(proxy, spy, pictures, raster_of):
    answer = proxy.chat([text("what is it?"), image(pictures["jpeg"])], temperature=0.5)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "an answer"
    assert answer.headers["x-safevlm-action"] == "allow"
    assert len(answer.headers["x-safevlm-verdict"]) == 32
    forwarded = spy.body()
    assert forwarded["temperature"] == 0.5
    parts = forwarded["messages"][0]["content"]
    assert parts[0] == text("what is it?")
    assert parts[1]["image_url"]["detail"] == "low"
    assert raster_of(parts[1]["image_url"]["url"]) == proxy.screener.verdicts[0].raster_sha256
    assert pictures["jpeg"][40:80].encode() not in spy.data


def test_a_text_alone_goes_on(proxy, spy):
    assert proxy.chat("hello").json()["id"] == "c"
    assert spy.body()["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("kind", ["block", "fail", "broken"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_request_is_refused_in_the_protocol_and_sends_nothing(proxy, spy, pictures, kind, stream):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="k", max_retries=0)
    messages = [{"role": "user", "content": [text("and this?"), image(pictures["allow"]), image(pictures[kind])]}]
    with client:
        if stream:
            options = {"include_usage": True}
            chunks = list(
                client.chat.completions.create(model="m", messages=messages, stream=True, n=2, stream_options=options)
            )
            said = [
                "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == i)
                for i in (0, 1)
            ]
            reasons = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
            assert chunks[-1].usage.total_tokens == 0
            told = [chunk.model_extra["safevlm"] for chunk in chunks]
        else:
            answer = client.chat.completions.create(model="m", messages=messages, n=2)
            told = [answer.model_extra["safevlm"]]
            said = [choice.message.content for choice in answer.choices]
            reasons = [choice.finish_reason for choice in answer.choices]
    assert said == ["I cannot help with this image."] * 2
    assert reasons == ["content_filter"] * 2
    assert {(one["action"], one["error"]) for one in told} == {("block", ERRORS[kind])}
    assert spy.data == b""


def test_headers_tell_a_failed_gate_from_a_risk(proxy, pictures):
    risk = proxy.chat([image(pictures["block"])])
    failure = proxy.chat([image(pictures["fail"])])
    assert risk.headers["x-safevlm-action"] == failure.headers["x-safevlm-action"] == "block"
    assert "x-safevlm-error" not in risk.headers
    assert failure.headers["x-safevlm-error"] == "engine_failed"
    assert risk.headers["x-safevlm-verdict"] != failure.headers["x-safevlm-verdict"]


@pytest.mark.parametrize("kind", ["block", "fail", "broken", "allow", "caution"])
def test_the_body_of_a_refusal_says_what_the_headers_say_and_no_other_body_does(proxy, pictures, kind):
    answer = proxy.chat([image(pictures[kind])])
    names = {"action": "x-safevlm-action", "error": "x-safevlm-error", "verdict": "x-safevlm-verdict"}
    told = {key: answer.headers.get(name) for key, name in names.items()}
    assert answer.json().get("safevlm") == (told if kind in ERRORS else None)


def test_a_failed_gate_lets_judged_pixels_pass_only_where_the_policy_says_so(proxy, spy, pictures, raster_of):
    answer = proxy.chat([text("what?"), image(pictures["doubt"])])
    assert (answer.headers["x-safevlm-action"], answer.headers["x-safevlm-error"]) == ("caution", "engine_failed")
    sent = spy.body()["messages"][0]["content"]
    assert sent[0]["text"].startswith("what?\n\nSafety note")
    assert raster_of(sent[1]["image_url"]["url"]) == proxy.screener.verdicts[0].raster_sha256


@pytest.mark.parametrize(("action", "observed"), [("caution", None), ("allow", "caution"), ("allow", "block")])
def test_an_image_without_pixels_never_goes_on_whatever_the_policy_says(
    make_proxy, make_verdict, spy, pictures, tmp_path, action, observed
):
    class Lenient:
        def screen(self, data, *, source=None):
            verdict = make_verdict(Action.CAUTION, error="image_corrupt")
            note = verdict.safety_prompt if action == "caution" else ""
            meant = None if observed is None else Action(observed)
            return Screening(
                verdict=replace(verdict, action=Action(action), observed=meant, safety_prompt=note), raster=None
            )

    proxy = make_proxy(Lenient(), observers=(DecisionLog(tmp_path / "log"),))
    answer = proxy.chat([image(pictures["broken"])])
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-safevlm-error"] == "image_corrupt"
    assert spy.data == b""
    # What was done, and the same everywhere: whoever counts blocks does not miss it.
    line = json.loads((tmp_path / "log").read_text())
    assert [line["action"], line["observed"], line["blocked"]] == ["block", observed and "block", True]
    assert answer.headers["x-safevlm-action"] == "block"
    counted = 'safevlm_verdicts_total{action="block",category="none",entry="proxy",level="none"} 1.0'
    assert counted in proxy.client.get("/metrics").text


@pytest.mark.parametrize("broken_first", [True, False])
def test_the_refusal_is_the_policys_where_a_risk_was_found_beside_a_broken_image(
    make_proxy, make_verdict, pictures, broken_first
):
    class Lenient:
        def screen(self, data, *, source=None):
            if broken_first is (len(seen) == 0):
                verdict = make_verdict(Action.CAUTION, error="image_corrupt")
            else:
                verdict = replace(make_verdict(Action.BLOCK), refusal="Not that one.")
            seen.append(verdict)
            return Screening(verdict=verdict, raster=None)

    seen = []
    answer = make_proxy(Lenient()).chat([image(pictures["allow"]), image(pictures["allow"])])
    assert answer.json()["choices"][0]["message"]["content"] == "Not that one."


def test_a_cautioned_image_brings_the_worst_note_behind_the_question_of_its_turn(proxy, spy, pictures):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text("first"), image(pictures["allow"]), text("question")]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [text("second"), image(pictures["worse"]), image(pictures["caution"])]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [image(pictures["caution"])]},
    ]  # fmt: skip
    answer = proxy.client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
    assert answer.headers["x-safevlm-action"] == "caution"
    sent = spy.body()["messages"]
    assert [part.get("text") for part in sent[1]["content"]] == ["first", None, "question"]
    assert sent[3]["content"][0]["text"] == "second\n\nSafety note: the image shows something risky. 3"
    assert sent[5]["content"][1] == text("Safety note: the image shows something risky. 2")
    assert [message["content"] for message in sent[:1] + sent[2:3]] == ["be brief", "yes"]


@pytest.mark.parametrize("role", ["user", "tool"])
@pytest.mark.parametrize("turn", [0, 2])
def test_an_image_in_any_turn_blocks(proxy, spy, pictures, role, turn):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    messages.insert(turn, {"role": role, "content": [image(pictures["block"])]})
    if role == "tool":
        messages[turn]["tool_call_id"] = "1"
    answer = proxy.client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
    assert spy.data == b""


def test_a_stream_goes_through_whole(proxy, spy, pictures):
    with proxy.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "m", "stream": True, "messages": [{"role": "user", "content": [image(pictures["allow"])]}]},
    ) as answer:
        events = answer.read().decode().split("\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-safevlm-action"] == "allow"
    assert "x-secret-internal" not in answer.headers
    assert events[-2:] == ["data: [DONE]", ""]
    assert [json.loads(e[6:])["choices"][0]["delta"]["content"] for e in events[:3]] == ["one ", "two ", "three"]


def test_an_upstream_that_breaks_off_ends_in_an_error_event(proxy, spy, pictures):
    spy.mode = "reset"
    answer = proxy.chat([image(pictures["allow"])], stream=True)
    first, second, end = answer.text.split("\n\n")
    assert json.loads(first[6:])["choices"][0]["delta"]["content"] == "one "
    assert json.loads(second[6:])["error"]["code"] == "upstream_failed"
    assert end == ""


def test_an_upstream_that_closes_the_connection_between_two_events_ends_in_an_error_event(proxy, spy, pictures):
    spy.mode = "close"
    first, second, end = proxy.chat([image(pictures["allow"])], stream=True).text.split("\n\n")
    assert json.loads(first[6:])["choices"][0]["delta"]["content"] == "one "
    assert json.loads(second[6:])["error"]["code"] == "upstream_failed"
    assert end == ""


@pytest.mark.parametrize(
    "last",
    [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b'event: response.completed\ndata: {"type": "x"}\n\n',
     b"event: error\ndata: {}\n\n"],
)  # fmt: skip
def test_an_upstream_that_says_that_it_is_done_may_close_the_connection(proxy, spy, last):
    spy.mode, spy.last = "close", last
    assert "upstream_failed" not in proxy.chat("hello", stream=True).text


@pytest.mark.parametrize("last", [b'data: {"text": "data: [DONE]"}\n\n', b"data: [DONE]\n\ndata: {}\n\n"])
def test_only_the_last_event_says_that_it_is_done(proxy, spy, last):
    spy.mode, spy.last = "close", last
    assert "upstream_failed" in proxy.chat("hello", stream=True).text


def test_an_upstream_that_breaks_off_before_its_answer_is_502(proxy, spy):
    spy.mode = "hangup"
    answer = proxy.chat("hello")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_failed"


def test_an_error_of_the_upstream_comes_back_as_it_is(proxy, spy):
    spy.mode = "error"
    answer = proxy.chat("hello")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_only_headers_from_the_list_go_on(proxy, spy):
    proxy.client.post(
        "/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "a"}]},
        headers={"authorization": "Bearer key", "cookie": "c=1", "x-forwarded-for": "1.2.3.4",
                 "x-safevlm-action": "allow", "openai-organization": "o", "x-api-key": "k"},
    )  # fmt: skip
    path, headers, body = spy.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer key"
    assert set(headers) == {
        "host", "accept", "accept-encoding", "connection", "user-agent", "authorization", "openai-organization",
        "content-type", "content-length",
    }  # fmt: skip
    assert headers["accept-encoding"] == "identity"
    assert body == b'{"model":"m","messages":[{"role":"user","content":"a"}]}'


def test_what_is_forwarded_is_the_canonical_serialisation(proxy, spy):
    message = b'{"content":"\\u00e9\\ud83d\\ude00 \\u0007 / \\/", "role":"user"}'
    assert proxy.raw(b'{ "messages" : [ ' + message + b' ],\n"top_p":1e0, "model":"m" }').is_success
    wanted = '{"messages":[{"content":"é😀 \\u0007 / /","role":"user"}],"top_p":1.0,"model":"m"}'
    assert spy.requests[-1][2] == wanted.encode()


def test_an_assistants_answer_can_be_sent_back_as_it_came(proxy, spy):
    reply = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None,
             "function_call": None, "tool_calls": None}  # fmt: skip
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}, reply, {"role": "user", "content": "b"}]}
    assert proxy.client.post("/v1/chat/completions", json=body).is_success
    assert spy.body()["messages"][1] == reply
