"""An engine whose own tower the bundle was made for: it looks once, and the gate judges what it saw."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PilImage

from safevlm_runtime import Runtime
from safevlm_runtime.judging.gate import Gate
from safevlm_sdk import VisionFeatures
from safevlm_sdk.chat import Reply, Seen, images_of
from safevlm_sdk.engine import Engine, SeeingEngine
from safevlm_sdk.errors import ChatEngineError

RED, GREEN = (250, 0, 0), (0, 250, 0)


class Tower:
    """The bundle's own tower: the mean colour of each of 4 x 4 patches."""

    tower_digest, tap = "sha256:" + "0" * 64, "hidden:-1"

    def __init__(self, *, grid=(4, 4), turned=False):
        self.grid, self.turned = grid, turned
        self.looked, self.asked = [], []

    def look(self, request):
        assert not self.asked
        pixels = [image.pixels for image in images_of(request.messages)]
        self.looked.append(len(pixels))
        shown = [255 - one for one in pixels] if self.turned else pixels
        features = map(self.features, shown, images_of(request.messages))
        return Seen(features=tuple(features), state="a state")

    def features(self, pixels, image):
        rows, columns = self.grid
        patches = np.asarray(PilImage.fromarray(pixels).resize((columns, rows), PilImage.Resampling.BOX), np.float32)
        return VisionFeatures(
            array=patches.reshape(-1, 3) / 255,
            grid=self.grid,
            tower_digest=self.tower_digest,
            tap=self.tap,
            raster_sha256="0" * 64 if self.turned else image.sha256,
        )

    def generate(self, request):
        self.asked.append(request)
        return Reply(text="An answer.", finish_reason="stop")

    def stream(self, request):
        yield self.generate(request).text

    async def agenerate(self, request):
        return self.generate(request)

    async def astream(self, request):
        yield self.generate(request).text

    def close(self):
        pass

    async def aclose(self):
        pass


def png(colour, mode="RGB"):
    buffer = io.BytesIO()
    PilImage.new(mode, (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def runtime(bundle):
    with Runtime.load(bundle) as loaded:
        yield loaded


@pytest.fixture
def blind(monkeypatch):
    """The bundle's own graph for pixels must not run."""

    def fail(*_):
        raise AssertionError("the gate's own tower ran")

    monkeypatch.setattr(Gate, "judge", fail)


def test_the_protocols_tell_engines_apart():
    assert isinstance(Tower(), SeeingEngine)
    assert isinstance(Tower(), Engine)
    assert not isinstance(object(), Engine)


@pytest.mark.usefixtures("blind")
def test_one_look_serves_the_verdict_and_the_answer(runtime):
    tower = Tower()
    guard = runtime.guard(tower)
    assert guard.shares_tower
    reply = guard.generate("x", [png(GREEN), png(GREEN)])
    assert (reply.text, tower.looked, len(tower.asked)) == ("An answer.", [2], 1)
    assert tower.asked[0].seen.state == "a state"
    frames = [image.sha256 for image in images_of(tower.asked[0].messages)]
    assert [verdict.raster_sha256 for verdict in reply.verdicts] == frames
    assert [verdict.source_sha256 is None for verdict in reply.verdicts] == [False, False]


@pytest.mark.usefixtures("blind")
def test_what_the_tower_saw_can_block_before_the_language_model(runtime):
    tower = Tower()
    reply = runtime.guard(tower).generate("x", [png(GREEN), io.BytesIO(png(RED))])
    assert (reply.refused, tower.looked, tower.asked) == (True, [2], [])
    assert reply.verdicts[1].category == "illegal_risk"


def test_it_judges_as_the_pixels_are_judged(runtime, paint):
    for colour in (RED, GREEN, (0, 0, 250), (10, 200, 40)):
        own, shared = (
            runtime.check(paint(*colour)),
            runtime.guard(Tower()).generate("x", [paint(*colour)]).verdicts[0],
        )
        assert (shared.action, shared.category, shared.level) == (own.action, own.category, own.level)
        assert shared.score == pytest.approx(own.score, abs=1e-4)


def test_images_that_are_more_than_one_opaque_picture_are_judged_by_their_pixels(runtime):
    tower = Tower()
    hidden = PilImage.new("RGBA", (32, 32), (*RED, 0))  # red once the alpha is dropped
    hidden.paste((*GREEN, 255), (0, 0, 32, 8))
    buffer = io.BytesIO()
    hidden.save(buffer, "PNG")
    reply = runtime.guard(tower).generate("x", [png(GREEN), buffer.getvalue()])
    assert (reply.refused, tower.looked, tower.asked) == (True, [], [])
    assert "alpha dropped" in reply.verdicts[1].reason


def test_an_image_that_cannot_be_decoded_is_refused_without_a_look(runtime):
    tower = Tower()
    for bad in (b"no image", io.BytesIO(b""), None, "no/such/file.png"):
        reply = runtime.guard(tower).generate("x", [png(GREEN), bad])
        assert (reply.refused, reply.verdicts[0].error) == (True, None)
        assert reply.verdicts[1].error.startswith("image_")
    assert (tower.looked, tower.asked) == ([], [])


def test_another_grid_is_judged_by_its_pixels_and_still_seen_once(runtime):
    tower = Tower(grid=(2, 8))
    assert runtime.guard(tower).generate("x", [png(RED)]).refused
    assert tower.asked == []
    reply = runtime.guard(tower).generate("x", [png(GREEN)])
    assert (reply.refused, tower.looked) == (False, [1, 1])
    assert tower.asked[0].seen.state == "a state"
    assert images_of(tower.asked[0].messages)[0].sha256 == reply.verdicts[0].raster_sha256


def test_a_tower_that_looked_at_something_else_gets_no_verdict(runtime):
    tower = Tower(turned=True)
    with pytest.raises(ChatEngineError, match="other pictures"):
        runtime.guard(tower).generate("x", [png(GREEN)])
    assert tower.asked == []


def test_another_tower_tap_or_plan_is_not_shared(runtime, maker, tmp_path):
    for change in ({"tower_digest": "sha256:" + "1" * 64}, {"tap": "projected"}):
        tower = Tower()
        vars(tower).update(change)
        guard = runtime.guard(tower)
        assert not guard.shares_tower
        assert not guard.generate("x", [png(GREEN)]).refused
        assert (tower.looked, tower.asked[0].seen) == ([], None)
    maker.tile, maker.max_views = 16, 32
    with Runtime.load(maker.write(tmp_path / "tiled")) as tiled:
        assert not tiled.guard(Tower()).shares_tower


def test_text_alone_needs_no_look(runtime):
    tower = Tower()
    assert runtime.guard(tower).generate("Hello.").text == "An answer."
    assert (tower.looked, tower.asked[0].seen) == ([], None)
