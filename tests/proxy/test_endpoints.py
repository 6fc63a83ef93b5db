"""Verdicts over HTTP, and the endpoints that an operator looks at."""

from __future__ import annotations

import io

import openai
import pytest
from PIL import Image

from safevlm_runtime import Runtime


def moderated(proxy, *urls, **fields):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return proxy.client.post("/v1/moderations", json={"input": parts, **fields})


def test_moderations_are_in_openais_form_with_one_result_per_image(proxy, spy, pictures):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="k", max_retries=0)
    parts = [{"type": "image_url", "image_url": {"url": pictures[name]}} for name in ("allow", "caution", "block")]
    with client:
        answer = client.moderations.create(model="any", input=parts)
    assert [result.flagged for result in answer.results] == [False, True, True]
    assert answer.model == "colours"
    assert answer.results[1].category_scores.privacy == 0.9
    assert answer.results[1].categories.privacy is True
    assert answer.results[1].categories.fairness is False
    assert answer.results[0].categories.privacy is False
    assert answer.results[0].category_applied_input_types.privacy == ["image"]
    assert spy.data == b""


@pytest.mark.parametrize("given", ["a text", ["a text"], [{"type": "text", "text": "a"}]])
def test_a_text_is_not_passed_over_in_silence(proxy, given):
    answer = proxy.client.post("/v1/moderations", json={"input": given})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_part"


def test_a_failed_gate_has_no_scores(proxy, pictures):
    answer = moderated(proxy, pictures["fail"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "gate_failed")
    assert "engine_failed" in answer.json()["error"]["message"]


def test_moderations_take_no_address_and_not_too_many(proxy, pictures):
    assert moderated(proxy, "https://a.example/b.png").json()["error"]["code"] == "remote_image_forbidden"
    assert moderated(proxy, *[pictures["allow"]] * 9).json()["error"]["code"] == "too_many_images"
    assert moderated(proxy).json()["error"]["code"] == "bad_request"


def test_check_gives_the_verdict_on_a_data_url(proxy, spy, pictures):
    answer = proxy.client.post("/v1/check", json={"image": pictures["block"], "heatmap": True}).json()
    assert (answer["action"], answer["category"], answer["level"], answer["schema"]) == ("block", "privacy", 2, 1)
    assert answer["heatmap"] == [[0.25, 0.25], [0.25, 0.25]]
    assert spy.data == b""


def test_check_tells_what_every_frame_calls_for_in_the_form_that_is_described(make_proxy, maker, tmp_path, paint):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\nframes = "all"')
    frames, buffer = [Image.fromarray(paint(*rgb)) for rgb in ((0, 250, 0), (0, 0, 250))], io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with Runtime.load(maker.write(tmp_path / "all")) as runtime:
        proxy = make_proxy(runtime)
        answer = proxy.raw(buffer.getvalue(), "/v1/check", **{"content-type": "image/gif"}).json()
        described = proxy.client.get("/openapi.json").json()["paths"]["/v1/check"]["post"]["responses"]["200"]
    shape = described["content"]["application/json"]["schema"]["properties"]["views"]
    assert answer["views_judged"] == len(answer["views"]) == 2 <= shape["maxItems"]
    assert all(set(view) == set(shape["items"]["required"]) for view in answer["views"])
    told = [(view["frame"], view["action"], view["category"], view["decides"]) for view in answer["views"]]
    assert told == [(1, "allow", "safe", False), (2, "block", "privacy", True)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_check_takes_an_image_as_it_is(proxy, encode, kind):
    data = encode((0, 250, 0), kind=kind)
    answer = proxy.raw(data, "/v1/check", **{"content-type": f"image/{kind.lower()}"})
    assert answer.json()["action"] == "allow"
    assert "heatmap" not in answer.json()
    wrong = proxy.raw(data, "/v1/check", **{"content-type": "image/gif" if kind == "PNG" else "image/png"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "image_type_mismatch")


def test_check_says_what_failed(proxy, pictures):
    answer = proxy.client.post("/v1/check", json={"image": pictures["broken"], "heatmap": True}).json()
    assert (answer["action"], answer["error"], answer["heatmap"]) == ("block", "image_corrupt", None)


def test_models_are_the_upstreams(proxy, spy):
    answer = proxy.client.get("/v1/models", headers={"authorization": "Bearer key"})
    assert answer.json()["data"][0]["id"] == "m"
    assert b"GET /v1/models HTTP/1.1" in spy.data
    assert b"Bearer key" in spy.data


def test_health_and_readiness_say_what_is_covered(proxy, make_proxy):
    assert proxy.client.get("/healthz").json() == {"status": "ok"}
    ready = proxy.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready", "upstream": "reachable", "covered": ["privacy", "fairness"], "uncovered": ["politics"],
        "bundles": {"sha256:0": "colours"}, "policies": {"sha256:1": "test"}, "provider": "cpu",
    }  # fmt: skip


def test_without_its_upstream_it_is_not_ready_and_says_503(make_proxy, pictures):
    proxy = make_proxy(upstream="http://127.0.0.1:9")
    assert proxy.client.get("/readyz").status_code == 503
    assert proxy.client.get("/healthz").status_code == 200
    answer = proxy.chat("hello")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert proxy.client.get("/v1/models").status_code == 503
    refused = proxy.chat([{"type": "image_url", "image_url": {"url": pictures["block"]}}])
    assert refused.json()["choices"][0]["finish_reason"] == "content_filter"


def test_metrics_count_verdicts_and_refusals(make_proxy, pictures):
    proxy = make_proxy()
    proxy.chat([{"type": "image_url", "image_url": {"url": pictures["block"]}}])
    proxy.chat([{"type": "video_url"}])
    text = proxy.client.get("/metrics").text
    assert 'safevlm_verdicts_total{action="block",category="privacy",entry="proxy",level="medium"} 1.0' in text
    assert 'safevlm_requests_refused_total{code="unsupported_part"} 1.0' in text
    assert "safevlm_requests_judging 0.0" in text
    assert "safevlm_requests_waiting 0.0" in text


def test_the_description_names_every_endpoint(proxy):
    described = proxy.client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    for path, methods in described["paths"].items():
        for method in methods:
            assert proxy.client.request(method, path).status_code not in (404, 405), (method, path)


def test_an_observer_that_fails_lets_nothing_go_on(make_proxy, spy, pictures):
    class Broken:
        def judged(self, verdict, event):
            raise RuntimeError("secret detail")

    proxy = make_proxy(observers=(Broken(),))
    answer = proxy.chat([{"type": "image_url", "image_url": {"url": pictures["allow"]}}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "observer_failed")
    assert "secret" not in answer.text
    assert spy.data == b""


def test_a_screener_that_raises_lets_nothing_go_on_and_leaks_nothing(make_proxy, spy, pictures, caplog):
    class Broken:
        def screen(self, image, *, source=None):
            raise RuntimeError("secret detail")

    proxy = make_proxy(Broken())
    answer = proxy.chat([{"type": "image_url", "image_url": {"url": pictures["allow"]}}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "RuntimeError" in caplog.text
    assert "secret" not in answer.text + caplog.text
    assert spy.data == b""


def test_no_key_question_or_picture_is_in_logs_metrics_or_errors(proxy, pictures, caplog):
    caplog.set_level("INFO")
    key, question = "Bearer canary-of-the-key", "canary-of-the-question"
    for kind in ("allow", "block", "fail", "broken"):
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": pictures[kind]}}]
        body = {"model": "m", "messages": [{"role": "user", "content": content}]}
        answer = proxy.client.post("/v1/chat/completions", json=body, headers={"authorization": key})
        assert "canary" not in answer.text
    body["messages"][0]["canary-of-a-field"] = question
    assert question not in proxy.client.post("/v1/chat/completions", json=body, headers={"authorization": key}).text
    told = caplog.text + proxy.client.get("/metrics").text + proxy.client.get("/readyz").text
    assert "canary" not in told
    assert pictures["allow"][30:60] not in told


def test_observers_are_told_of_every_image_before_anything_goes_on(make_proxy, spy, pictures):
    told = []

    class Noting:
        def judged(self, verdict, event):
            told.append((verdict.action.value, event.entry, event.blocked, event.prompt_mixed, len(spy.data)))

    proxy = make_proxy(observers=(Noting(),))
    parts = [{"type": "image_url", "image_url": {"url": pictures[name]}} for name in ("allow", "caution")]
    proxy.chat(parts)
    blocked = {"type": "image_url", "image_url": {"url": pictures["block"]}}
    spy.clear()
    proxy.chat([*parts, blocked])
    assert told == [
        ("allow", "proxy", False, False, 0), ("caution", "proxy", False, True, 0),
        ("allow", "proxy", True, False, 0), ("caution", "proxy", True, False, 0), ("block", "proxy", True, False, 0),
    ]  # fmt: skip
