"""A SafeVLM as an engine: the answers are SafeVLM's own, and the tower runs once for the gate and for them."""

from __future__ import annotations

import asyncio
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from safevlm_export import proof_images
from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_runtime import Runtime
from safevlm_runtime.guard.engines import load_engine
from safevlm_runtime.guard.engines.openai_engine import OpenAIEngine
from safevlm_sdk import Action, Policy
from safevlm_sdk.chat import Image, Message, Request, Text, ToolCall
from safevlm_sdk.engine import SeeingEngine
from safevlm_sdk.errors import ChatEngineError, ConversationError, ImageNotJudged, OptionError
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.policy import LevelActions
from safevlm_sdk.raster import from_array
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.engine import TransformersEngine
from safevlm_training.quiet import quiet
from safevlm_training.towers.load import describe_tower
from safevlm_training.vlm.proof_model import proof_model
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.tiny import tiny_vlm

TOKENS = 6
NOTHING_IS_FLAGGED = CheckpointCalibration(
    calibration=Calibration(method="none", temperature=1.0, risky_groups=0, safe_groups=0, note="By hand."),
    thresholds=Thresholds(categories={"privacy": 1.0, "illegal_risk": 1.0}, any=1.0),
)
HALF = "\N{REPLACEMENT CHARACTER}"  # of a character whose last bytes never came: a stream may leave it out
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": TOKENS}


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def judged(seed: int = 0) -> Image:
    return Image(judged=from_array(pixels(seed)))


def asked(*parts: Any, **changes: Any) -> Request:
    return Request(messages=(Message(role="user", parts=parts),), **changes)


def talk(images: int, text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}]


class Counted:
    """How often the vision tower and the language model ran."""

    def __init__(self, model: SafeVLM) -> None:
        self.tower = self.language = 0
        model.adapter.parts.encoder.register_forward_hook(self._tower)
        model.vlm.get_decoder().register_forward_hook(self._language)

    def _tower(self, *_: Any) -> None:
        self.tower += 1

    def _language(self, *_: Any) -> None:
        self.language += 1


def shown(**changes: Any) -> SafeVLM:
    with quiet():
        return proof_model(*tiny_vlm("llava"), "llava", **changes)


@pytest.fixture(scope="module")
def kept() -> SafeVLM:
    """One model, which no test may change."""
    return shown()


@pytest.fixture
def engine(kept):
    return TransformersEngine(kept, options={"max_tokens": TOKENS})


@pytest.fixture(scope="module")
def checkpoint(llava, tmp_path_factory):
    """Of a gate that was never trained, around the tiny LLaVA, without tokens for its language model."""
    folder = tmp_path_factory.mktemp("engine") / "checkpoint"
    with quiet():
        tower, _, preprocessing = describe_tower(str(llava), "hidden:-2")
        parts = tiny_vlm("llava")
        model = proof_model(
            *parts, str(llava), grid=tower.grid, preprocessing=preprocessing, llm_tokens_trained=False
        )
        model.save_pretrained(folder, calibration=NOTHING_IS_FLAGGED)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "bundle"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proof_images, "examples", list)  # patterns prove enough here, and are drawn at once
        export_checkpoint(checkpoint, folder, ExportOptions())
    return folder


@pytest.fixture
def own_gate(exported):
    """The bundle of the checkpoint."""
    with Runtime.load(exported) as runtime:
        yield runtime


def everything_is_flagged() -> Policy:
    strict = LevelActions(low=Action.BLOCK, medium=Action.BLOCK, high=Action.BLOCK)
    actions = dict.fromkeys(("privacy", "illegal_risk"), strict)
    return Policy(schema=1, name="p", uncovered="allow", actions=actions, any_threshold=1e-6)


def test_it_answers_as_safevlm_does(engine, kept):
    images = [PilImage.fromarray(pixels(seed)) for seed in (0, 1)]
    (expected,) = kept.generate([talk(2, "Which?")], [images], **GREEDY)
    (bare,) = kept.generate([talk(2, "Which?")], [images], safety_tokens=False, **GREEDY)
    reply = engine.generate(asked(judged(0), judged(1), Text(text="Which?")))
    assert reply.text == expected != bare  # the safety tokens are shown
    assert (reply.finish_reason, reply.usage.completion_tokens) == ("length", TOKENS)
    assert isinstance(engine, SeeingEngine)


def test_the_conditional_prompt_and_adapters_are_safevlms_own():
    model = shown()
    model.add_lora(r=2)
    for name, weight in model.vlm.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.5)
    model.eval()
    image = PilImage.fromarray(pixels())
    answers = {
        prompt: TransformersEngine(model, prompt=prompt, options={"max_tokens": TOKENS})
        .generate(asked(judged(), Text(text="What?")))
        .text
        for prompt in ("none", "tiered")
    }
    for prompt, answer in answers.items():
        assert model.generate([talk(1, "What?")], [[image]], prompt=prompt, **GREEDY) == [answer]
    assert answers["none"] != answers["tiered"]
    assert answers["none"] != shown().generate([talk(1, "What?")], [[image]], **GREEDY)[0]


def test_text_alone_and_turns_of_every_role_are_answered(engine, kept):
    assert engine.generate(asked(Text(text="Hello."))).text == kept.generate([talk(0, "Hello.")], [[]], **GREEDY)[0]
    call = ToolCall(id="1", name="look", arguments='{"at": [1, 2]}')
    messages = (
        Message(role="system", parts=(Text(text="Be brief."),)),
        Message(role="user", parts=(judged(0), Text(text="First?"))),
        Message(role="assistant", parts=(), tool_calls=(call,)),
        Message(role="tool", parts=(judged(1),), tool_call_id="1"),
    )
    assert engine.generate(Request(messages=messages)).usage.prompt_tokens > 60
    broken = Message(role="assistant", parts=(), tool_calls=(ToolCall(id="1", name="f", arguments="{"),))
    with pytest.raises(ConversationError, match="no JSON"):
        engine.generate(Request(messages=(*messages[:2], broken)))


@pytest.mark.parametrize("text", ["<safety>", "see <image> here", "</s>", "a<pad>b", "<s>"])
def test_nobody_types_the_models_own_marks(engine, text):
    request = asked(judged(), Text(text=text))
    for ask in (engine.generate, engine.look, lambda one: list(engine.stream(one))):
        with pytest.raises(ConversationError, match="nobody's to type"):
            ask(request)


def test_only_judged_images_are_shown(engine):
    with pytest.raises(ImageNotJudged):
        engine.generate(asked(Image(source=pixels()), Text(text="x")))


def test_what_was_seen_is_not_seen_again_and_belongs_to_its_images(checkpoint):
    model = SafeVLM.from_pretrained(checkpoint)
    engine, counted = TransformersEngine(model, options={"max_tokens": TOKENS}), Counted(model)
    request = asked(judged(0), judged(1), Text(text="Which?"))
    seen = engine.look(request)
    assert (counted.tower, counted.language) == (1, 0)
    expected = engine.generate(request).text
    assert counted.tower == 2
    later = asked(judged(0), judged(1), Text(text="Which?"), seen=seen)
    assert engine.generate(later).text == "".join(engine.stream(later)) == expected
    assert counted.tower == 2
    with pytest.raises(ConversationError, match="not of this request's images"):
        engine.generate(asked(judged(1), judged(0), Text(text="Which?"), seen=seen))


def test_pieces_are_the_answer_and_leaving_ends_the_generation(checkpoint):
    model = SafeVLM.from_pretrained(checkpoint)
    engine, counted = TransformersEngine(model), Counted(model)
    request = asked(judged(), Text(text="What?"), options={"max_tokens": 40})
    whole = engine.generate(request).text
    assert "".join(engine.stream(request)) == whole

    async def asynchronously():
        assert (await engine.agenerate(request)).text == whole
        assert "".join([piece async for piece in engine.astream(request)]) == whole

    asyncio.run(asynchronously())
    before = counted.language
    torch.manual_seed(0)  # pieces end with a space, which chance brings among some hundred bytes
    left = engine.stream(asked(judged(), Text(text="What?"), options={"max_tokens": 4000, "temperature": 2}))
    next(left)
    left.close()
    engine.generate(asked(Text(text="x"), options={"max_tokens": 1}))  # waits for its turn
    assert counted.language - before < 2000


def test_threads_take_turns(engine):
    def ask(number):
        request = asked(judged(number % 3), Text(text=f"Question {number % 3}?"))
        return "".join(engine.stream(request)) if number % 2 else engine.generate(request).text

    expected = [ask(number) for number in range(3)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(12))) == expected * 4


def test_a_failing_model_has_a_name(engine, kept, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(kept.vlm, "generate", fail)
    request = asked(Text(text="x"))
    for ask in (
        engine.generate,
        lambda one: list(engine.stream(one)),
        lambda one: asyncio.run(engine.agenerate(one)),
    ):
        with pytest.raises(ChatEngineError, match="RuntimeError"):
            ask(request)


@pytest.mark.parametrize(
    "options",
    [{"top_k": 1}, {"max_tokens": 0}, {"max_tokens": True}, {"temperature": 3}, {"top_p": 0}, {"temperature": "hot"}],
)
def test_options_that_cannot_be_meant_are_refused(engine, kept, options):
    with pytest.raises(OptionError):
        engine.generate(asked(Text(text="x"), options=options))
    with pytest.raises(OptionError):
        TransformersEngine(kept, options=options)


def test_one_run_of_the_tower_gives_verdict_and_answer(checkpoint, own_gate):
    model = SafeVLM.from_pretrained(checkpoint)
    counted = Counted(model)
    guard = own_gate.guard(TransformersEngine(model, options={"max_tokens": TOKENS}))
    assert guard.shares_tower
    reply = guard.generate("Which?", [pixels(0), pixels(1)])
    assert (reply.refused, counted.tower) == (False, 1)
    for seed, verdict in enumerate(reply.verdicts):
        own = own_gate.check(pixels(seed))
        assert (verdict.action, verdict.raster_sha256) == (own.action, own.raster_sha256)
        assert verdict.score == pytest.approx(own.score, abs=0.02)  # two ways to scale a picture
    with guard.stream("Which?", [pixels(0), pixels(1)]) as stream:
        assert counted.language == TOKENS
        assert "".join(stream) == reply.text
    assert counted.tower == 2


def test_a_verdict_that_blocks_keeps_the_language_model_out(checkpoint, own_gate):
    model = SafeVLM.from_pretrained(checkpoint)
    counted = Counted(model)
    own_gate.reload_policy(everything_is_flagged())
    reply = own_gate.guard(TransformersEngine(model)).generate("Which?", [pixels()])
    assert (reply.refused, reply.verdicts[0].action) == (True, Action.BLOCK)
    assert (counted.tower, counted.language) == (1, 0)


def test_a_bundle_of_another_tower_judges_pixels_and_the_models_tower_runs_once(checkpoint, bundle, paint):
    model = SafeVLM.from_pretrained(checkpoint)
    counted = Counted(model)
    with Runtime.load(bundle) as runtime:
        guard = runtime.guard(TransformersEngine(model, options={"max_tokens": TOKENS}))
        assert not guard.shares_tower
        assert not guard.generate("What?", [paint(0, 250, 0)]).refused
        assert counted.tower == 1
        assert guard.generate("What?", [paint(250, 0, 0)]).refused
        assert counted.tower == 1


def test_the_example_of_the_page_runs(checkpoint, exported, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).resolve().parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "checkpoint/" in one]
    shutil.copytree(exported, tmp_path / "bundle")
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    PilImage.fromarray(pixels()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("200", "4"), "gate.md", "exec"), {})
    assert capsys.readouterr().out.startswith("True\n")


@pytest.mark.slow
def test_a_server_of_transformers_and_this_process_answer_alike(llava, address, checkpoint, own_gate):
    talked = [
        {"role": "system", "content": "Be brief."},
        Message(role="user", parts=(Image(source=pixels(0)), Text(text="What is this?"))),
        {"role": "assistant", "content": "A thing."},
        Message(role="user", parts=(Image(source=pixels(1)), Text(text="And this?"))),
    ]
    served = OpenAIEngine(address, str(llava), timeout=300)
    options = {"max_tokens": TOKENS, "temperature": 0}
    guard = own_gate.guard(served)
    reply = guard.generate(messages=talked, **options)
    assert len(reply.verdicts) == 2
    with guard.stream(messages=talked, **options) as stream:
        assert "".join(stream).rstrip(HALF) == reply.text.rstrip(HALF) != ""
    here = own_gate.guard(load_engine("transformers", checkpoint)).generate(messages=talked, **options)
    assert here.text == reply.text
    own_gate.reload_policy(everything_is_flagged())
    assert guard.generate(messages=talked, **options).refused
    served.close()
