"""Bodies at the edge of JSON: one reading, which is the one that goes on, or a refusal."""

from __future__ import annotations

import json

import pytest

from safevlm_runtime.proxy.strict_json import dumps, loads
from safevlm_sdk.errors import BadRequest

REFUSED = {
    "nothing but a blank": b" ",
    "nothing but a mark": b"\xef\xbb\xbf",
    "a mark inside": b'{"a":\xef\xbb\xbf1}',
    "a mark behind": b"{}\xef\xbb\xbf",
    "UTF-32": "{}".encode("utf-32"),
    "UTF-16, big end first": '{"a":"é"}'.encode("utf-16-be"),
    "Latin-1": '{"a":"é"}'.encode("latin-1"),
    "six bytes for one character": b'{"a":"\xfc\x83\xbf\xbf\xbf\xbf"}',
    "a code point past the last": b'{"a":"\xf4\xbf\xbf\xbf"}',
    "a character cut short": b'{"a":"\xe2\x82"}',
    "a lone continuation": b'{"a":"\x81"}',
    "the high half of a pair": b'{"a":"\\uD83D"}',
    "the low half of a pair": b'{"a":"\\uDE00"}',
    "a pair the wrong way round": b'{"a":"\\uDE00\\uD83D"}',
    "half a pair and a letter": b'{"a":"\\uD83Dz"}',
    "half a pair deep inside": b'{"a":[{"b":["\\uD800"]}]}',
    "half a pair as a key deep inside": b'[[[{"\\uD800":0}]]]',
    "an escape cut short": b'{"a":"\\u12"}',
    "an escape in capitals": b'{"a":"\\U0041"}',
    "an escape of C": b'{"a":"\\x41"}',
    "an escaped apostrophe": b'{"a":"\\\'"}',
    "an escape at the end": b'{"a":"\\"}',
    "a tab in a string": b'{"a":"\t"}',
    "a NUL in a string": b'{"a":"\x00"}',
    "a NUL behind": b"{}\x00",
    "a NUL before": b"\x00{}",
    "a no-break space": b'{"a":\xc2\xa01}',
    "a vertical tab": b'{"a":\x0b1}',
    "a line separator between": b'{"a":\xe2\x80\xa81}',
    "a key twice": b'{"a":1,"a":1}',
    "an empty key twice": b'{"":1,"":2}',
    "a key twice in a list": b'[[{"a":{},"a":{}}]]',
    "a key twice, once escaped": b'{"url":1,"\\u0075rl":2}',
    "a key twice, with another between": b'{"a":1,"b":2,"a":3}',
    "no value": b'{"a":}',
    "no key": b"{:1}",
    "a number as a key": b"{1:1}",
    "null as a key": b"{null:1}",
    "a word as a key": b"{a:1}",
    "two colons": b'{"a"::1}',
    "a comma for a colon": b'{"a",1}',
    "two commas": b'{"a":1,,"b":2}',
    "a comma first": b'{,"a":1}',
    "a comma last in a list": b"[1,]",
    "a semicolon": b'{"a":1;"b":2}',
    "the wrong bracket": b'{"a":[1}]',
    "one bracket too many": b"{}}",
    "two values": b"{}{}",
    "two values on two lines": b"{}\n{}",
    "a comment behind": b"{}//",
    "a comment with a hash": b"{}#",
    "True": b'{"a":True}',
    "None": b'{"a":None}',
    "nan": b'{"a":nan}',
    "undefined": b'{"a":undefined}',
    "minus NaN": b'{"a":-NaN}',
    "a point first": b'{"a":.5}',
    "a point last": b'{"a":1.}',
    "no exponent": b'{"a":1e}',
    "a minus alone": b'{"a":-}',
    "two minuses": b'{"a":--1}',
    "minus and a leading zero": b'{"a":-01}',
    "an octal number": b'{"a":0o7}',
    "an underscore": b'{"a":1_000}',
    "Arabic digits": '{"a":\u0661}'.encode(),
    "full-width digits": '{"a":\uff11}'.encode(),
    "a huge exponent": b'{"a":1e400}',
    "a huge negative number": b'{"a":-1e400}',
    "an exponent of many digits": b'{"a":1e' + b"0" * 500 + b"1}",
    "401 digits": b'{"a":' + b"1" * 401 + b"}",
    "33 levels": b"[" * 33 + b"]" * 33,
    "33 levels, mixed": b'{"a":[' * 17 + b"]}" * 17,
    "depth without an end": b'[{"":' * 50_000,
}
READ = {
    "blanks of all kinds": b' \t\r\n{ "a" :\n[ 1 , 2 ] } \r\n',
    "an empty key": b'{"":0}',
    "keys that look alike": '{"a":1,"а":2}'.encode(),  # noqa: RUF001 - Latin and Cyrillic
    "keys in two normal forms": '{"é":1,"e\u0301":2}'.encode(),
    "keys in two cases": b'{"url":1,"URL":2}',
    "keys with a blank": b'{"url":1,"url ":2}',
    "__proto__": b'{"__proto__":{"a":1},"constructor":1}',
    "a pair": b'{"a":"\\uD83D\\uDE00"}',
    "a pair as it is": '{"a":"😀"}'.encode(),
    "an escaped slash": b'{"a":"data:image\\/png"}',
    "an escaped NUL": b'{"a":"\\u0000"}',
    "a code point that is no character": b'{"a":"\\uFFFF"}',
    "line separators in a string": '{"a":"\u2028\u2029"}'.encode(),
    "text against the reading direction": '{"a":"\u202e"}'.encode(),
    "400 digits": b'{"a":' + b"1" * 400 + b"}",
    "minus zero": b'{"a":-0}',
    "a tiny number": b'{"a":1e-400}',
    "a double at its border": b'{"a":1.7976931348623157e308}',
    "a number past 2^53": b'{"a":9007199254740993}',
    "an exponent in capitals": b'{"a":1E+2}',
    "32 levels": b"[" * 32 + b"]" * 32,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_reading_or_two_is_refused(name):
    with pytest.raises(BadRequest):
        loads(REFUSED[name])


@pytest.mark.parametrize("name", READ)
def test_what_has_one_reading_goes_on_in_one_form(name):
    value = loads(READ[name])
    written = dumps(value)
    assert value == json.loads(READ[name])
    assert (loads(written), dumps(loads(written))) == (value, written)


@pytest.mark.parametrize("name", REFUSED)
def test_no_byte_of_a_refused_body_reaches_the_upstream(proxy, spy, name):
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/check", "/v1/moderations"):
        answer = proxy.raw(REFUSED[name], path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
    assert spy.data == b""
