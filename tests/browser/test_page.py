"""The page in a real Chromium, against the real application."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

BLUE, GREEN, RED = (0, 0, 250), (0, 250, 0), (250, 0, 0)  # privacy, safe, illegal_risk
CHECKS = Path(__file__).with_name("page_checks.js").read_text()
TAB, SPACE = "\ue004", " "
JUDGED = "!document.querySelector('#result').hidden"
FAILED = "!document.querySelector('#problem').hidden"
CAUTIOUS = """schema = 1
name = "lobby"
uncovered = "allow"
on_error = "caution"
[actions.privacy]
low = "caution"
medium = "caution"
high = "block"
[actions.fairness]
low = "block"
medium = "block"
high = "block"
"""
MOVING = CAUTIOUS.replace('on_error = "caution"', 'on_error = "caution"\nframes = "all"')
PIXEL = """
const [x, y] = arguments, canvas = document.querySelector('#canvas');
return [...canvas.getContext('2d').getImageData(canvas.width * x, canvas.height * y, 1, 1).data];
"""
GIVE = """
const [kind, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], 'CANARY.png'));
const event = kind === 'paste'
  ? new ClipboardEvent('paste', { clipboardData: data, bubbles: true })
  : new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
document.querySelector('#drop').dispatchEvent(event);
"""


def test_a_risky_picture_is_blocked_with_all_that_belongs_to_it(page, picture):
    assert page.text("#idle") == "Nothing was judged yet."
    page.choose(picture("CANARY.png", BLUE))
    page.until(JUDGED)
    assert page.text("#said") == "Blocked: privacy"
    assert page.text("#meaning") == "The picture must not reach the model."
    assert page.text("#level [aria-current]") == "medium"
    assert page.text("#policy") == "test"
    assert page.text("#prompt") == "Nothing: it would not be asked."
    assert "privacy" in page.text("#reason")
    rows = page.run("return [...document.querySelectorAll('#categories li')].map(row => row.innerText.split('\\n'))")
    assert {name for name, _ in rows} == {"privacy", "illegal risk"}
    assert all(percent.endswith(" %") for _, percent in rows)
    assert page.text("#status").startswith("Blocked: privacy. Level medium.")
    steps = page.run("return [...document.querySelectorAll('#times dt')].map(node => node.innerText)")
    assert steps == ["decode", "preprocess", "infer", "decide", "total"]
    assert page.text("#size") == "60 \u00d7 40 pixels, as judged"
    assert json.loads(page.run("return document.querySelector('#json').textContent"))["action"] == "block"
    assert "CANARY" not in page.run("return document.documentElement.innerText")
    assert page.complaints() == []


def test_a_harmless_picture_is_allowed(page, picture):
    page.choose(picture("a.png", GREEN))
    page.until(JUDGED)
    assert page.text("#said") == "Allowed"
    assert page.text("#prompt") == "Nothing beyond the question itself."
    assert page.text("#level [aria-current]") == "none"


def test_caution_shows_the_prompt_the_policy_and_what_nobody_looks_for(window, serve, bundle, picture):
    window.open(serve(bundle, CAUTIOUS))
    window.choose(picture("a.png", BLUE))
    window.until(JUDGED)
    assert window.text("#said") == "Caution: privacy"
    assert window.text("#prompt").startswith("Safety note:")
    assert window.text("#policy") == "lobby"
    assert "fairness. No loaded bundle looks for that." in window.text("#uncovered")


def test_a_policy_that_only_observes_says_so(window, serve, bundle, picture):
    window.open(serve(bundle, 'mode = "observe"\n' + CAUTIOUS))
    window.choose(picture("a.png", BLUE))
    window.until(JUDGED)
    assert window.text("#said") == "Allowed: privacy"
    assert window.text("#observes") == "The policy only observes. Were it enforced, it would say: caution."


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(page, picture, way):
    page.run(GIVE, way, base64.b64encode(picture("a.png", RED).read_bytes()).decode())
    page.until(JUDGED)
    assert page.text("#said") == "Blocked: illegal risk"


def test_the_same_file_can_be_chosen_again(page, picture):
    for _ in range(2):
        page.choose(picture("a.png", GREEN))
        page.until(JUDGED)
        page.run("document.querySelector('#result').hidden = true")
    page.choose(picture("a.png", BLUE))
    page.until(JUDGED)
    assert page.text("#said") == "Blocked: privacy"


def test_the_heatmap_lies_over_the_picture_and_can_be_hidden(page, tmp_path):
    pixels = np.full((40, 60, 3), 10, np.uint8)
    pixels[:, 30:] = BLUE  # the head of the test bundle looks where it is bright
    path = tmp_path / "half.png"
    Image.fromarray(pixels).save(path)
    page.choose(path)
    page.until(JUDGED)
    dark, looked = page.run(PIXEL, 0.1, 0.5), page.run(PIXEL, 0.9, 0.5)
    assert looked[0] > dark[0] + 20  # its logits are small, so it looks a little everywhere
    assert "with where the gate looked" in page.run("return document.querySelector('#canvas').ariaLabel")
    page.run("document.querySelector('#heat').click()")
    assert page.run(PIXEL, 0.9, 0.5)[:3] == list(BLUE)
    assert "looked" not in page.run("return document.querySelector('#canvas').ariaLabel")


def test_the_region_that_decided_is_framed_and_alone_has_the_heatmap(page, picture):
    page.run("""
        const real = window.fetch;
        window.fetch = async (...asked) => {
            const said = await (await real(...asked)).json();
            return new Response(JSON.stringify({...said, region: [30, 0, 60, 40], heatmap: [[1]]}));
        };
    """)
    page.choose(picture("a.png", GREEN))
    page.until(JUDGED)
    assert page.run(PIXEL, 0.25, 0.5)[:3] == list(GREEN)
    assert page.run(PIXEL, 0.75, 0.5)[0] > 100
    assert page.run(PIXEL, 0.5, 0.5)[:3] != page.run(PIXEL, 0.75, 0.5)[:3]


def test_a_transparent_picture_is_shown_over_white_as_it_would_go_on(page, tmp_path):
    path = tmp_path / "clear.png"
    Image.fromarray(np.zeros((40, 60, 4), np.uint8)).save(path)
    page.choose(path)
    page.until(JUDGED)
    page.run("document.querySelector('#heat').click()")
    assert page.run(PIXEL, 0.5, 0.5) == [255] * 4


def test_a_damaged_picture_is_explained_in_plain_words(page, picture, tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(picture("a.png", BLUE).read_bytes()[:60])
    page.choose(path)
    page.until(JUDGED)
    assert page.text("#said") == "The gate failed"
    assert page.text("#meaning") == "The file is damaged or cut off. What cannot be judged is blocked."
    assert page.text("#no-picture") == "This browser cannot show the picture."
    assert page.text("#level-block") == page.text("#category-block") == ""


def test_what_is_no_picture_is_not_sent(page, tmp_path):
    path = tmp_path / "CANARY.png"
    path.write_text("no picture")
    page.choose(path)
    page.until(FAILED)
    assert page.text("#problem-text") == "This is no JPEG, PNG, WebP or GIF picture."
    assert page.text("#status").startswith("Not judged.")
    assert (
        page.run("return performance.getEntriesByType('resource').some(entry => entry.name.includes('check'))")
        is False
    )


def test_a_server_that_is_gone_is_said(page, picture):
    page.devtools(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    page.choose(picture("a.png", BLUE))
    page.until(FAILED)
    assert "could not be reached" in page.text("#problem-text")


@pytest.mark.parametrize(
    ("status", "said"),
    [(413, "The file is larger than the server takes."), (503, "The server is busy; try again in a moment."),
     (418, "The server answered with status 418.")],
)  # fmt: skip
def test_a_refusal_is_explained(page, picture, status, said):
    page.run("""
        const status = arguments[0];
        window.fetch = async () => new Response('{"error": {"message": "<b>as the server says</b>"}}', {status});
    """, status)  # fmt: skip
    page.choose(picture("a.png", BLUE))
    page.until(FAILED)
    assert page.text("#problem-text") == said
    assert page.text("#problem-detail") == "<b>as the server says</b>"


def test_the_last_of_several_pictures_wins(page, picture):
    page.run("""
        const real = window.fetch;
        window.held = [];
        window.fetch = async (...asked) => {
            const answer = await real(...asked);
            await new Promise(go => window.held.push(go));
            return answer;
        };
    """)
    for count, rgb in enumerate((BLUE, GREEN), start=1):
        page.choose(picture(f"{count}.png", rgb))
        page.until("window.held.length === given[0]", count)
    page.run("window.held[1]()")
    page.until(JUDGED)
    page.run("window.held[0](); return new Promise(done => setTimeout(done))")
    assert page.text("#said") == "Allowed"


def test_everything_can_be_reached_and_worked_with_the_keyboard(page, picture):
    page.choose(picture("a.png", BLUE))
    page.until(JUDGED)
    page.run("document.activeElement.blur(); getSelection().collapse(document.body, 0)")
    order, outlined = [], []
    for _ in range(3):
        page.press(TAB)
        order.append(page.run("return document.activeElement.id || document.activeElement.tagName"))
        outlined.append(
            page.run("""
            const at = document.activeElement;
            return getComputedStyle(at.id === 'file' ? at.parentElement : at).outlineStyle;
        """)
        )
    assert order == ["file", "heat", "SUMMARY"]
    assert outlined == ["solid"] * 3
    page.press(SPACE)
    assert page.run("return document.querySelector('details').open") is True
    page.press(TAB)
    assert page.run("return document.activeElement.id") == "json"
    page.run("document.querySelector('#file').focus()")
    page.run("""
        document.querySelector('#file').addEventListener('click', event => {
            event.preventDefault();  // a real dialogue cannot be closed from here
            window.opened = true;
        });
    """)
    page.press(SPACE)
    assert page.run("return window.opened") is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_keeps_people_from_seeing_reading_or_operating_it(
    window, serve, bundle, picture, animation, scheme, width
):
    window.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    window.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    window.open(serve(bundle, MOVING))
    assert window.run(CHECKS) == []
    for path in (picture("blue.png", BLUE), picture("green.png", GREEN), animation):
        window.choose(path)
        window.until(JUDGED)
        window.run("document.querySelector('details').open = true")
        assert window.run(CHECKS) == []
        window.run("document.querySelector('#result').hidden = true")
    dark = window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(22, 23, 21)"
    assert dark is (scheme == "dark")


def test_the_page_is_whole_without_any_other_site(serve, bundle):
    address = serve(bundle)
    with httpx.Client(base_url=address, trust_env=False) as client:
        answer = client.get("/")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        for path in ("/page/page.css", "/page/page.js", "/page/views.js", "/page/icon.svg"):
            assert client.get(path).status_code == 200
            assert path[1:] in answer.text
        texts = answer.text + "".join(
            client.get(f"/page/{name}").text for name in ("page.css", "page.js", "views.js")
        )
    assert "://" not in texts
    assert not any(
        word in texts for word in ("localStorage", "sessionStorage", "indexedDB", "cookie", "innerHTML", "eval(")
    )
