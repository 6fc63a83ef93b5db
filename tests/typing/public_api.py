"""Every public name of `safevlm_sdk` and `safevlm_runtime`, as an application uses it; pyright reads it strictly.

`assert_type` fails on `Any`, too: what an application gets has a type. Nothing here is run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

import safevlm_runtime
from safevlm_runtime.guard.guard import Guard
from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.judging.watch import Watch
from safevlm_sdk import (
    Action,
    Limits,
    Policy,
    RiskLevel,
    Runtime,
    SafeVLMError,
    Taxonomy,
    Verdict,
    VisionFeatures,
    __version__,
    load_engine,
    load_policy,
    load_taxonomy,
)
from safevlm_sdk.chat import Reply, Request
from safevlm_sdk.engine import Engine
from safevlm_sdk.errors import BundleDigest, BundleError, ImageError
from safevlm_sdk.raster import Raster


def load(policy: Policy) -> Runtime:
    with Runtime.load("bundle/", digest="sha256:0", policy=policy, limits=Limits(max_bytes=2**20)) as one:
        assert_type(one, Runtime)
    same: type[Runtime] = safevlm_runtime.Runtime
    pair = same.load(Path("a"), "b", digest=["sha256:0", "sha256:1"], provider=("cuda", "cpu"), public_key="key.pub")
    pair.close()
    return Runtime.starter(policy="policy.toml", threads=2, isolate_decoding=True)


def judge(runtime: Runtime, pixels: NDArray[np.uint8], picture: Image.Image) -> list[Verdict]:
    found = [
        runtime.check("photo.jpg"),
        runtime.check(Path("photo.jpg"), source="camera"),
        runtime.check(b"...", prompt="What is this?"),
        runtime.check(picture),
        runtime.check(pixels),
        runtime.check_frame(pixels),
        runtime.check_video("clip.mp4", every_seconds=0.5, max_frames=8),
        *runtime.check_many(["a.jpg", picture, pixels], batch_size=4),
    ]
    with open("photo.jpg", "rb") as file:
        found.append(runtime.check(file))
    assert_type(runtime.screen(pixels), Screening)
    assert_type(runtime.raster(pixels), Raster)
    assert_type(runtime.watch("door"), Watch)
    assert_type(runtime.covered, tuple[str, ...])
    assert_type(runtime.uncovered, tuple[str, ...])
    assert_type(runtime.digests, tuple[str, ...])
    assert_type(runtime.policies, tuple[Policy, ...])
    assert_type(runtime.warnings, tuple[str, ...])
    assert_type(runtime.limits, Limits)
    runtime.reload_policy(load_policy("policy.toml"))
    return found


async def judge_later(runtime: Runtime, image: bytes) -> Action:
    verdict = await runtime.acheck(image)
    screened = await runtime.ascreen(image, source="upload")
    assert_type(screened.verdict, Verdict)
    return verdict.action


def judge_features(runtime: Runtime, array: NDArray[np.float32], mask: NDArray[np.bool_]) -> Verdict:
    features = VisionFeatures(
        array=array, grid=(16, 16), tower_digest="sha256:0", tap="hidden:-2", raster_sha256="sha256:1"
    )
    return runtime.check_features(features, mask)


def tell(verdict: Verdict) -> str:
    assert_type(verdict.action, Action)
    assert_type(verdict.category, str | None)
    assert_type(verdict.level, RiskLevel | None)
    assert_type(verdict.score, float | None)
    assert_type(verdict.categories, Mapping[str, float])
    assert_type(verdict.covered, tuple[str, ...])
    assert_type(verdict.error, str | None)
    assert_type(verdict.timings_ms, Mapping[str, float])
    assert_type(verdict.region, tuple[int, int, int, int] | None)
    assert_type(verdict.observed, Action | None)
    assert_type(verdict.allowed, bool)
    if verdict.action is Action.ALLOW:
        return __version__
    if verdict.error is not None:
        return verdict.error
    if verdict.level is RiskLevel.HIGH and verdict.attention is not None:
        assert_type(verdict.heatmap(), NDArray[np.float32])
    return verdict.reason or verdict.refusal or verdict.safety_prompt


def describe(policy: Policy) -> Mapping[str, str]:
    taxonomy = load_taxonomy("safevlm")
    assert_type(taxonomy, Taxonomy)
    assert_type(policy.digest, str)
    assert_type(policy.uncovered_by(["privacy"]), tuple[str, ...])
    return {name: category.description for name, category in taxonomy.categories.items()}


def ask(runtime: Runtime) -> str:
    engine = load_engine("openai", "http://127.0.0.1:8000/v1", model="a-model")
    assert_type(engine, Engine)
    guard = runtime.guard(engine, on_block=lambda verdict: print(verdict.reason), max_images=4)
    assert_type(guard, Guard)
    reply = guard.generate("What is this?", images=["photo.jpg"], source="upload", max_tokens=64)
    assert_type(reply, Reply)
    assert_type(reply.verdicts, tuple[Verdict, ...])
    with guard.stream("What is this?", images=["photo.jpg"]) as pieces:
        return reply.text + "".join(pieces)


def catch(runtime: Runtime) -> str:
    try:
        runtime.raster("photo.jpg")
    except ImageError as error:
        return error.code
    except BundleDigest as error:
        assert_type(error.code, str)
        return error.code
    except (BundleError, SafeVLMError) as error:
        return f"{error.code}: {error}"
    return ""


class Echo:
    """An engine of one's own: the protocol asks for nothing more."""

    def generate(self, request: Request) -> Reply:
        return Reply(text=str(len(request.messages)), finish_reason="stop")

    def stream(self, request: Request) -> Iterator[str]:
        yield self.generate(request).text

    async def agenerate(self, request: Request) -> Reply:
        return self.generate(request)

    async def astream(self, request: Request) -> AsyncIterator[str]:
        yield self.generate(request).text

    def close(self) -> None:
        """Holds nothing."""

    async def aclose(self) -> None:
        """Likewise."""


def ask_ones_own(runtime: Runtime) -> Reply:
    engine: Engine = Echo()
    return runtime.guard(engine).generate(messages=[{"role": "user", "content": "Hello"}])
