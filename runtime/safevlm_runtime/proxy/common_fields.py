"""Fields that both protocols take: how the model samples, and who asks. None of them can carry an image."""

from __future__ import annotations

from typing import Final

from safevlm_runtime.proxy.shapes import (
    Check,
    boolean,
    either,
    inert,
    integer,
    label,
    many,
    mapping,
    nullable,
    number,
    one_of,
    only,
    record,
    tagged,
    text,
)


def content(**parts: Check) -> Check:
    """What a message says: a text, or a list of parts of these types and no others."""
    return either(str, text, many(tagged("type", parts)))


MAX_CHOICES: Final = 16
COUNT: Final = nullable(integer(0, 2**31 - 1))
NUMBER: Final = nullable(number())
FLAG: Final = nullable(boolean)
TEXT: Final = nullable(text)
LABEL: Final = nullable(label)
SCHEMA: Final = nullable(inert)

DETAIL: Final = nullable(one_of("auto", "low", "high", "original"))
EFFORT: Final = nullable(one_of("none", "minimal", "low", "medium", "high", "xhigh"))
VERBOSITY: Final = nullable(one_of("low", "medium", "high"))

SAMPLING: Final[dict[str, Check]] = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": nullable(integer(-1, 2**31 - 1)),
    "min_p": NUMBER,
    "typical_p": NUMBER,
    "repetition_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "seed": nullable(integer(-(2**63), 2**63 - 1)),
    "stop": nullable(either(str, label, many(label, 64))),
    "logit_bias": nullable(mapping(number(), 1024)),
    "min_tokens": COUNT,
    "ignore_eos": FLAG,
    "skip_special_tokens": FLAG,
    "top_logprobs": nullable(integer(0, 128)),
}
ASKING: Final[dict[str, Check]] = {
    "user": LABEL,
    "metadata": nullable(mapping(label, 16)),
    "store": FLAG,
    "service_tier": LABEL,
    "safety_identifier": LABEL,
    "prompt_cache_key": LABEL,
    "prompt_cache_retention": LABEL,
    "parallel_tool_calls": FLAG,
    # Thinking on or off is all that a template may be told; anything else could change what it shows.
    "chat_template_kwargs": nullable(record({"enable_thinking": boolean, "thinking": boolean})),
    "background": nullable(only(False)),
}
