"""What is refused before anything is judged: by name, with the place, and without a byte to the upstream."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

REFUSED_PARTS = {
    "image_embeds": {"type": "image_embeds", "image_embeds": "AAAA"},
    "audio_embeds": {"type": "audio_embeds", "audio_embeds": "AAAA"},
    "video_embeds": {"type": "video_embeds", "video_embeds": "AAAA"},
    "prompt_embeds": {"type": "prompt_embeds", "prompt_embeds": "AAAA"},
    "image_pil": {"type": "image_pil", "image_pil": "AAAA"},
    "audio_url": {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AAAA"}},
    "input_audio": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    "video_url": {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,AAAA"}},
    "thinking": {"type": "thinking", "thinking": "…"},
    "file": {"type": "file", "file": {"file_data": "AAAA"}},
    "input_file": {"type": "input_file", "file_id": "f"},
    "input_image": {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
    "input_text": {"type": "input_text", "text": "a"},
    "output_text": {"type": "output_text", "text": "a"},
    "refusal": {"type": "refusal", "refusal": "no"},
    "image": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    "upper case": {"type": "TEXT", "text": "a"},
    "no type": {"text": "a"},
    "type is a list": {"type": ["text"], "text": "a"},
    "type is null": {"type": None, "text": "a"},
    "a string": "a",
    "a list": [{"type": "text", "text": "a"}],
    "null": None,
}
REFUSED_FIELDS = {
    "image beside a text": ([{"type": "text", "text": "a", "image_url": {"url": "data:"}}], "unknown_field"),
    "uuid of a cached image": ([{"type": "image_url", "image_url": {"url": "data:"}, "uuid": "1"}], "unknown_field"),
    "format of an image": ([{"type": "image_url", "image_url": {"url": "data:", "format": "x"}}], "unknown_field"),
    "image_url is a string": ([{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}], "bad_request"),
    "image_url is null": ([{"type": "image_url", "image_url": None}], "bad_request"),
    "no image_url": ([{"type": "image_url"}], "bad_request"),
    "url is a list": ([{"type": "image_url", "image_url": {"url": ["data:"]}}], "bad_request"),
    "text is a number": ([{"type": "text", "text": 1}], "bad_request"),
    "content is an object": ({"type": "text", "text": "a"}, "bad_request"),
    "content is a number": (1, "bad_request"),
    "content is null": (None, "bad_request"),
}
REFUSED_BODIES = {
    "media_io_kwargs": {"media_io_kwargs": {"video": {"num_frames": -1}}},
    "mm_processor_kwargs": {"mm_processor_kwargs": {}},
    "prompt_embeds": {"prompt_embeds": "AAAA"},
    "chat_template": {"chat_template": "{{ messages }}"},
    "chat_template_kwargs": {"chat_template_kwargs": {"template": "x"}},
    "documents": {"documents": []},
    "modalities": {"modalities": ["audio"]},
    "n is huge": {"n": 1_000_000_000},
    "n is true": {"n": True},
    "n is a float": {"n": 1.0},
    "stream is a string": {"stream": "yes"},
    "a policy": {"policy": "allow"},
    "safevlm": {"safevlm": {"action": "allow"}},
    "a server's tool": {"tools": [{"type": "web_search"}]},
    "a background job": {"background": True},
    "a function role": {"messages": [{"role": "function", "name": "f", "content": "a"}]},
    "an image of an assistant": {
        "messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
    },
    "an image of the system": {
        "messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
    },
    "an assistant's audio": {"messages": [{"role": "assistant", "content": "a", "audio": {"id": "1"}}]},
    "a message is a string": {"messages": ["a"]},
    "messages is an object": {"messages": {"role": "user", "content": "a"}},
    "no messages": {"messages": None},
    "model is null": {"model": None},
}
JSON_TEXTS = {
    "a key twice": b'{"model":"m","messages":[],"messages":[{"role":"user","content":"a"}]}',
    "a key twice by an escape": b'{"model":"m","messages":[],"\\u006dessages":[]}',
    "a key twice inside": b'{"model":"m","messages":[{"role":"user","role":"system","content":"a"}]}',
    "NaN": b'{"model":"m","messages":[],"temperature":NaN}',
    "Infinity": b'{"model":"m","messages":[],"temperature":Infinity}',
    "minus Infinity": b'{"model":"m","messages":[],"temperature":-Infinity}',
    "overflow": b'{"model":"m","messages":[],"temperature":1e999}',
    "a long number": b'{"model":"m","messages":[],"seed":' + b"9" * 5000 + b"}",
    "a long fraction": b'{"model":"m","messages":[],"temperature":0.' + b"1" * 5000 + b"}",
    "byte order mark": b'\xef\xbb\xbf{"model":"m","messages":[]}',
    "UTF-16": '{"model":"m","messages":[]}'.encode("utf-16"),
    "UTF-16 without a mark": '{"model":"m","messages":[]}'.encode("utf-16-le"),
    "invalid UTF-8": b'{"model":"\xff","messages":[]}',
    "an overlong form": b'{"model":"\xc0\xaf","messages":[]}',
    "a surrogate in UTF-8": b'{"model":"\xed\xa0\x80","messages":[]}',
    "half a pair": b'{"model":"\\ud800","messages":[]}',
    "half a pair as a key": b'{"model":"m","messages":[],"\\udc00":1}',
    "trailing data": b'{"model":"m","messages":[]} {}',
    "trailing comma": b'{"model":"m","messages":[],}',
    "a comment": b'{"model":"m",/* */"messages":[]}',
    "single quotes": b"{'model':'m','messages':[]}",
    "a control character": b'{"model":"a\nb","messages":[]}',
    "a form feed": b'\x0c{"model":"m","messages":[]}',
    "cut short": b'{"model":"m","messages":[',
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "too deep": b'{"model":"m","messages":' + b"[" * 40 + b"]" * 40 + b"}",
    "far too deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "many values": b"[" + b"[]," * 200_000 + b"[]]",
    "leading zero": b'{"model":"m","messages":[],"seed":01}',
    "plus sign": b'{"model":"m","messages":[],"seed":+1}',
    "hexadecimal": b'{"model":"m","messages":[],"seed":0x10}',
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(32))).decode()
URLS = {
    "url-safe alphabet": "data:image/png;base64," + PNG.replace("/", "_").replace("+", "-") + "-_-_",
    "a line break": f"data:image/png;base64,{PNG[:8]}\n{PNG[8:]}",
    "a blank": f"data:image/png;base64,{PNG[:8]} {PNG[8:]}",
    "leading blank": f"data:image/png;base64, {PNG}",
    "trailing blank": f"data:image/png;base64,{PNG} ",
    "no padding": "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n12").decode().rstrip("="),
    "too much padding": f"data:image/png;base64,{PNG}====",
    "two in one": "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n12").decode() * 2,
    "stray bits": "data:image/png;base64,iVBORw0KGgp=",
    "junk inside": f"data:image/png;base64,{PNG[:8]}*{PNG[8:]}",
    "percent encoding": f"data:image/png;base64,%69{PNG[1:]}",
    "not ASCII": f"data:image/png;base64,{PNG[:-1]}\u00e9",
    "full-width": f"data:image/png;base64,\uff21{PNG[1:]}",
    "empty": "data:image/png;base64,",
    "upper case scheme": f"DATA:image/png;base64,{PNG}",
    "upper case base64": f"data:image/png;BASE64,{PNG}",
    "upper case type": f"data:image/PNG;base64,{PNG}",
    "a parameter": f"data:image/png;charset=utf-8;base64,{PNG}",
    "a blank before base64": f"data:image/png; base64,{PNG}",
    "no base64": f"data:image/png,{PNG}",
    "no comma": f"data:image/png;base64{PNG}",
    "image/jpg": f"data:image/jpg;base64,{PNG}",
    "svg": f"data:image/svg+xml;base64,{PNG}",
    "tiff": f"data:image/tiff;base64,{PNG}",
    "video": f"data:video/jpeg;base64,{PNG}",
    "no type": f"data:;base64,{PNG}",
    "octet stream": f"data:application/octet-stream;base64,{PNG}",
    "frames in one": f"data:image/png;base64,{PNG},{PNG}",
}


def content(body):
    return json.dumps(body).encode()


def refused(answer, spy, code, status=400):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert spy.data == b""
    return error


@pytest.mark.parametrize("name", REFUSED_PARTS)
def test_a_part_of_another_kind_is_refused_by_name(proxy, spy, name):
    answer = proxy.chat([{"type": "text", "text": "a"}, REFUSED_PARTS[name]])
    kind = "bad_request" if name in ("a string", "a list", "null") else "unsupported_part"
    error = refused(answer, spy, kind)
    assert error["param"].startswith("messages[0].content[1]")


@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_an_unknown_or_wrong_field_of_a_part_is_refused(proxy, spy, name):
    given, code = REFUSED_FIELDS[name]
    assert refused(proxy.chat(given), spy, code)["param"].startswith("messages[0].content")


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_an_unknown_or_wrong_field_of_the_body_is_refused(proxy, spy, name):
    answer = proxy.chat("a", **REFUSED_BODIES[name])
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["code"] in ("unknown_field", "unsupported_part", "bad_request")
    assert error["param"].startswith(next(iter(REFUSED_BODIES[name])))
    assert spy.data == b""


@pytest.mark.parametrize("name", JSON_TEXTS)
def test_json_with_two_readings_is_refused(proxy, spy, name):
    refused(proxy.raw(JSON_TEXTS[name]), spy, "bad_request")


@pytest.mark.parametrize("name", URLS)
def test_base64_and_data_urls_with_two_readings_are_refused(proxy, spy, name):
    answer = proxy.chat([{"type": "image_url", "image_url": {"url": URLS[name]}}])
    assert refused(answer, spy, "image_encoding")["param"] == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(("stated", "kind"), [("jpeg", "PNG"), ("png", "JPEG"), ("gif", "WEBP"), ("png", "BMP")])
def test_another_type_than_stated_is_refused(proxy, spy, encode, stated, kind):
    url = f"data:image/{stated};base64,{base64.b64encode(encode((0, 250, 0), kind=kind)).decode()}"
    error = refused(proxy.chat([{"type": "image_url", "image_url": {"url": url}}]), spy, "image_type_mismatch")
    assert ("state what it is" in error["message"]) is (kind != "BMP")


def test_what_is_no_image_is_told_what_is_read(proxy, spy):
    url = f"data:image/png;base64,{base64.b64encode(b'a shopping list').decode()}"
    error = refused(proxy.chat([{"type": "image_url", "image_url": {"url": url}}]), spy, "image_type_mismatch")
    assert "none of PNG, JPEG, WebP, GIF, which are all that is read" in error["message"]


@pytest.mark.parametrize(
    "url", ["https://example.org/a.png", "http://127.0.0.1/", "file:///etc/passwd", "//host/a", "", "a"]
)
def test_an_address_is_not_fetched(proxy, spy, url):
    answer = proxy.chat([{"type": "image_url", "image_url": {"url": url}}])
    refused(answer, spy, "remote_image_forbidden")


def test_too_many_images_are_refused(proxy, spy, pictures):
    part = {"type": "image_url", "image_url": {"url": pictures["allow"]}}
    assert proxy.chat([part] * 8).is_success
    spy.clear()
    assert refused(proxy.chat([part] * 9), spy, "too_many_images")["param"] == "messages[0].content[8].image_url.url"
    assert refused(proxy.chat([part] * 500), spy, "too_many_images")


def test_an_image_of_too_many_bytes_is_refused(proxy, spy):
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(10 * 2**20 - 7)).decode()
    error = refused(proxy.chat([{"type": "image_url", "image_url": {"url": url}}]), spy, "image_too_large")
    assert error["param"] == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_of_the_body_is_exact(make_proxy, spy, extra, chunked):
    from safevlm_runtime.proxy.settings import ProxyLimits

    proxy = make_proxy(limits=ProxyLimits(body_bytes=4096))
    body = content({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    body += b" " * (4096 + extra - len(body))
    sent = iter([body[:1000], body[1000:]]) if chunked else body
    answer = proxy.client.post("/v1/chat/completions", content=sent, headers={"content-type": "application/json"})
    if extra:
        refused(answer, spy, "body_too_large", 413)
    else:
        assert answer.is_success


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_refused(proxy, spy, encoding):
    body = zlib.compress(content({"model": "m", "messages": []}))
    refused(proxy.raw(body, **{"content-encoding": encoding}), spy, "body_encoding", 415)


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
              "application/json; charset=utf-16", "application/json; charset=utf-7", "image/png"],
)  # fmt: skip
def test_another_media_type_is_refused(proxy, spy, media):
    body = content({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    refused(proxy.raw(body, **{"content-type": media}), spy, "body_encoding", 415)


@pytest.mark.parametrize("name", ["authorization", "content-type", "content-encoding"])
def test_a_header_that_comes_twice_is_refused(proxy, spy, name):
    body = content({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    values = {"content-type": "application/json", "content-encoding": "identity"}
    headers = [*values.items(), (name, values.get(name, "Bearer a")), (name, values.get(name, "Bearer b"))]
    answer = proxy.client.post("/v1/chat/completions", content=body, headers=headers)
    refused(answer, spy, "bad_request")


@pytest.mark.parametrize(
    "path",
    ["/v1/completions", "/v1/embeddings", "/v1/messages", "/tokenize", "/v1/batches", "/v1/files", "/v1/audio/speech",
     "/v1/images/generations", "/v1/chat/completions/", "/V1/chat/completions", "//v1/chat/completions", "/v1",
     "/v1/responses/resp_1", "/docs", "/metrics/x"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_other_endpoint_is_404(proxy, spy, path, method):
    refused(proxy.client.request(method, path, json={}), spy, "endpoint_unknown", 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_every_other_method_is_405(proxy, spy, method):
    answer = proxy.client.request(method, "/v1/chat/completions")
    refused(answer, spy, "method_not_allowed", 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/healthz"])
def test_a_query_is_refused(proxy, spy, path):
    method = "POST" if path.endswith("completions") else "GET"
    refused(proxy.client.request(method, f"{path}?policy=allow", json={}), spy, "bad_request")
