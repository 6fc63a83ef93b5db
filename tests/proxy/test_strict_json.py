"""JSON with one reading, at its borders."""

from __future__ import annotations

import pytest

from safevlm_runtime.proxy.strict_json import MAX_DEPTH, MAX_VALUES, dumps, loads
from safevlm_sdk.errors import BadRequest


def test_the_depth_is_exact():
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert loads(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
    with pytest.raises(BadRequest, match="levels deep"):
        loads(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_the_number_of_values_is_exact():
    assert len(loads(b"[" + b"1," * (MAX_VALUES - 1) + b"1]")) == MAX_VALUES
    with pytest.raises(BadRequest, match="commas and brackets"):
        loads(b"[" + b"1," * MAX_VALUES + b"1]")


def test_a_body_without_structure_may_be_large():
    text = "é" * 500_000
    assert loads(dumps({"text": text})) == {"text": text}


@pytest.mark.parametrize(
    "text", ['{"a":"\\u0000\\ud83d\\ude00"}', '{"a":-0.0,"b":1e-7,"c":9007199254740993}', '""', "[]"]
)
def test_what_is_read_is_written_with_the_same_meaning(text):
    assert loads(dumps(loads(text.encode()))) == loads(text.encode())


def test_the_message_names_the_key_without_its_control_characters():
    with pytest.raises(BadRequest, match=r"'a\\x1b\[31m\\n'") as caught:
        loads(b'{"a\\u001b[31m\\n":1,"a\\u001b[31m\\n":2}')
    assert caught.value.status == 400


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_never_written(number):
    with pytest.raises(ValueError, match="not finite"):
        dumps({"a": [{"score": number}]})


@pytest.mark.parametrize("value", [b"bytes", {"set"}, object()])
def test_what_json_has_no_value_for_is_never_written(value):
    with pytest.raises(TypeError, match="no value of JSON"):
        dumps({"a": (value,)})
