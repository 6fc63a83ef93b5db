"""Gates behind nginx: the verdicts of one, and what a gate that is killed takes with it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.proxy.settings import ProxyLimits

pytestmark = pytest.mark.deploy

ANSWER = "one two three"


def ask(url, body):
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)


def bytes_of(url):
    return base64.b64decode(url.partition(",")[2])


def bare(answer):
    """A verdict without what differs from request to request."""
    return {name: value for name, value in answer.json().items() if name not in ("id", "timings_ms")}


@pytest.fixture
def allowed(drawn, policy):
    """A picture that the starter allows."""
    with Runtime.starter(policy=policy) as runtime:
        return next(url for url in drawn["safe"] if runtime.check(bytes_of(url)).action == "allow")


def test_every_gate_gives_the_verdict_of_one_runtime(nginx, gates, drawn, policy):
    with Runtime.starter(policy=policy) as runtime:
        for url in [*drawn["privacy"][:4], *drawn["safe"][:4]]:
            verdict = runtime.check(bytes_of(url))
            answers = [httpx.post(f"{at}/v1/check", json={"image": url}, timeout=60) for at in
                       (gates[0].url, gates[1].url, nginx, nginx)]  # fmt: skip
            assert all(bare(answer) == bare(answers[0]) for answer in answers)
            found = answers[0].json()
            assert (found["action"], found["category"]) == (verdict.action.value, verdict.category)
            assert (found["raster_sha256"], found["score"]) == (verdict.raster_sha256, verdict.score)


def test_a_stream_arrives_as_it_is_written(nginx, seen, body_of, allowed):
    seen.answer.clear()
    body = body_of("stream", allowed, stream=True)
    with httpx.stream("POST", f"{nginx}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert '"one "' in next(lines)  # while the upstream waits with the second piece
        seen.answer.set()
        rest = list(lines)
    assert ['"two "' in rest[0], '"three"' in rest[1], rest[2:]] == [True, True, ["data: [DONE]"]]


def test_a_gate_that_is_away_loses_nothing(nginx, gates, seen, body_of, allowed):
    gates[0].kill()
    assert httpx.get(f"{nginx}/readyz").status_code == 200
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda number: ask(nginx, body_of(str(number), allowed)), range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12
    assert sorted(seen.requests) == sorted((1, str(number)) for number in range(12))


def test_a_killed_gate_takes_its_own_requests_with_it_and_none_is_sent_twice(nginx, gates, seen, body_of, allowed):
    seen.answer.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = []
        for number in range(8):  # all of them are with the upstreams when the gate is killed
            asked.append(pool.submit(ask, nginx, body_of(str(number), allowed)))
            seen.wait_for(number + 1)
        gates[0].kill()
        lost = {number: answer.result(60) for number, answer in enumerate(asked) if seen.gate_of(str(number)) == 0}
        seen.answer.set()
        answers = {number: answer.result(60) for number, answer in enumerate(asked)}
    assert 0 < len(lost) < 8
    for number, answer in answers.items():
        if number in lost:
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "gate_lost")
        else:
            assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    assert sorted(asked for _, asked in seen.requests) == [str(number) for number in range(8)]


def test_a_stream_whose_gate_is_killed_does_not_look_whole(nginx, gates, seen, body_of, allowed):
    seen.answer.clear()
    with httpx.Client(base_url=nginx, timeout=60) as client:
        bodies = [body_of(name, allowed, stream=True) for name in ("a", "b")]
        with (
            client.stream("POST", "/v1/chat/completions", json=bodies[0]) as first,
            client.stream("POST", "/v1/chat/completions", json=bodies[1]) as second,
        ):
            lines = {"a": first.iter_lines(), "b": second.iter_lines()}
            assert all('"one "' in next(stream) for stream in lines.values())
            at = {seen.gate_of(name): name for name in lines}
            assert set(at) == {0, 1}  # least_conn: one each
            gates[0].kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines[at[0]])
            seen.answer.set()
            assert "data: [DONE]" in list(lines[at[1]])
    assert len(seen.requests) == 2


def test_clients_that_ask_again_all_get_their_answer(nginx, gates, seen, body_of, allowed, drawn):
    """The `openai` client repeats what failed: every question is answered, and cards still reach no model."""
    attempts = Counter()

    def count(request):
        attempts[json.loads(request.content)["messages"][0]["content"][0]["text"]] += 1

    def one_client(name):
        hooks = httpx.Client(event_hooks={"request": [count]}, timeout=120)
        found = []
        with openai.OpenAI(base_url=f"{nginx}/v1", api_key="none", http_client=hooks, max_retries=8) as client:
            for number in range(6):
                image = drawn["privacy"][0] if number == 3 else allowed
                body = body_of(f"{name}{number}", image)
                found.append(client.chat.completions.create(**body).choices[0])
                if (name, number) == ("a", 1):
                    gates[1].kill()
        return found

    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(one_client, "abcd"))
    for choices in clients:
        expected = ["stop"] * 6
        expected[3] = "content_filter"
        assert [choice.finish_reason for choice in choices] == expected
        assert [choice.message.content for number, choice in enumerate(choices) if number != 3] == [ANSWER] * 5
    asked = Counter(question for _, question in seen.requests)
    wanted = {f"{name}{number}" for name in "abcd" for number in range(6) if number != 3}
    assert set(asked) == wanted
    assert all(asked[question] <= attempts[question] for question in wanted)


def test_a_body_that_is_too_large_is_refused_and_one_that_is_not_reaches_a_gate(nginx):
    limit = ProxyLimits().body_bytes
    headers = {"content-type": "application/json"}
    found = []
    for size in (limit + 1, limit):
        answer = httpx.post(f"{nginx}/v1/chat/completions", content=b" " * size, headers=headers, timeout=60)
        found.append((answer.status_code, answer.json()["error"]["code"]))
    assert found == [(413, "body_too_large"), (400, "bad_request")]


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/openapi.json", "/v1/../metrics", "/readyz/x"])
def test_nothing_else_is_passed_on(nginx, path):
    with httpx.Client(base_url=nginx) as client:
        request = client.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code == 404
