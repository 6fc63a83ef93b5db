"""The vectors as files: JSON, and the same as words between white space, for languages that read no JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from safevlm_export.conformance.cases import Case, cases
from safevlm_export.conformance.images import ImageVector, image_vectors, tiny_rgb_gate

NOTHING = "-"
GRAPH_FILE = "rgb_gate.onnx"


def conformance_files() -> dict[str, bytes]:
    """Name to bytes of every file of vectors."""
    graph = tiny_rgb_gate()
    decided, seen = cases(), image_vectors(graph)
    return {
        "decisions.json": _json({"schema": 1, "cases": [_case_json(case) for case in decided]}),
        "decisions.txt": _text(line for case in decided for line in _case_text(case)),
        "images.json": _json({"schema": 1, "graph": GRAPH_FILE, "images": [_image_json(image) for image in seen]}),
        "images.txt": _text(line for image in seen for line in _image_text(image)),
        GRAPH_FILE: graph,
    }


def _case_json(case: Case) -> dict[str, Any]:
    rule, policy, decision = case.rule, case.policy, case.decided()
    return {
        "name": case.name,
        "type_logits": [_number(value) for value in case.type_logits],
        "level_logprobs": [_number(value) for value in case.level_logprobs],
        "rule": {
            "labels": list(rule.labels),
            "activation": rule.activation,
            "temperature": rule.temperature,
            "thresholds": dict(rule.thresholds),
            "any_threshold": rule.any_threshold,
        },
        "policy": {
            "actions": {
                name: [action.value for action in (found.low, found.medium, found.high)]
                for name, found in policy.actions.items()
            },
            "thresholds": dict(policy.thresholds),
            "any_threshold": policy.any_threshold,
            "on_error": policy.on_error,
        },
        "expected": {
            "error": decision.error,
            "action": decision.action.value,
            "category": decision.category,
            "level": None if decision.level is None else int(decision.level),
            "score": decision.score,
            "categories": dict(decision.categories),
        },
    }


def _case_text(case: Case) -> Iterable[str]:
    rule, policy, decision = case.rule, case.policy, case.decided()
    yield f"case {case.name}"
    yield _row("type_logits", len(case.type_logits), *case.type_logits)
    yield _row("level_logprobs", len(case.level_logprobs), *case.level_logprobs)
    yield _row("labels", len(rule.labels), *rule.labels)
    yield _row("activation", rule.activation)
    yield _row("temperature", rule.temperature)
    yield _row("any_threshold", rule.any_threshold)
    for name, threshold in rule.thresholds.items():
        yield _row("threshold", name, threshold)
    for name, found in policy.actions.items():
        yield _row("actions", name, found.low.value, found.medium.value, found.high.value)
    for name, threshold in policy.thresholds.items():
        yield _row("policy_threshold", name, threshold)
    if policy.any_threshold is not None:
        yield _row("policy_any_threshold", policy.any_threshold)
    yield _row("on_error", policy.on_error)
    level = None if decision.level is None else int(decision.level)
    yield _row("expect", decision.error, decision.action.value, decision.category, level, decision.score)
    yield ""


def _image_json(image: ImageVector) -> dict[str, Any]:
    height, width = image.pixels.shape[:2]
    return {
        "name": image.name,
        "height": height,
        "width": width,
        "rgb": image.pixels.tobytes().hex(),
        "type_logits": list(image.type_logits),
        "level_logprobs": list(image.level_logprobs),
    }


def _image_text(image: ImageVector) -> Iterable[str]:
    height, width = image.pixels.shape[:2]
    yield _row("image", height, width, image.pixels.tobytes().hex())
    yield _row("type_logits", len(image.type_logits), *image.type_logits)
    yield _row("level_logprobs", len(image.level_logprobs), *image.level_logprobs)
    yield ""


def _row(*words: str | float | None) -> str:
    return " ".join(NOTHING if word is None else str(_number(word)) for word in words)


def _number(value: str | float) -> str | float:
    """JSON has no number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _text(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()
