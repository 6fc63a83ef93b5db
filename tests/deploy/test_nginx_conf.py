"""The shipped file for nginx against the limits of the gates that it stands in front of."""

from __future__ import annotations

import re
from pathlib import Path

from safevlm_runtime.proxy.settings import ProxyLimits

TEXT = (Path(__file__).parents[2] / "examples" / "deploy" / "nginx.conf").read_text(encoding="utf-8")


def values(directive):
    """Every value of a directive, comments left out."""
    return re.findall(rf"^\s*{directive} ([^;]*);", TEXT, re.MULTILINE)


def test_its_limits_are_those_of_the_gates():
    limits = ProxyLimits()
    assert values("client_max_body_size") == values("client_body_buffer_size") == [f"{limits.body_bytes >> 20}m"]
    assert values("client_body_timeout") == [f"{limits.body_seconds:.0f}s"]
    assert int(values("proxy_read_timeout")[0].rstrip("s")) > limits.answer_seconds


def test_nothing_that_was_sent_is_sent_again():
    chat, ready = values("proxy_next_upstream")
    assert chat == "error timeout"
    assert "non_idempotent" not in ready
    assert values("proxy_buffering") == ["off"]
    assert values("proxy_http_version") == ["1.1", "1.1"]
    assert not values("keepalive")
