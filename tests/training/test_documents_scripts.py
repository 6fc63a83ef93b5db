"""Text in other scripts: drawn with the right forms in the right order, and only by faces that have the letters."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from safevlm_training.documents.scripts import FROM_THE_RIGHT, SCRIPTS, in_script, sample_of, visual_order
from safevlm_training.documents.streams import stream
from safevlm_training.documents.text import Face, choose_faces, writes


@pytest.fixture(scope="module")
def dejavu():
    (home,) = importlib.util.find_spec("matplotlib").submodule_search_locations
    return Path(home) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_are_replaced_and_numbers_kept(script):
    text = in_script("Surname 4711 Given names", script)
    assert text == in_script("Surname 4711 Given names", script)
    assert "4711" in text
    assert ("Surname" in text) == (script == "latin")
    if script != "latin":
        assert not any(letter.isascii() and letter.isalpha() for letter in text)


def test_capitals_stay_capitals_where_a_script_has_them():
    assert in_script("Go", "cyrillic") == "Го"
    assert in_script("GO", "greek").isupper()


def test_lines_from_the_right_are_put_into_the_order_in_which_they_are_seen():
    words = {in_script(word, "hebrew") for word in ("alpha", "beta", "gamma")}
    line = in_script("alpha beta 12 gamma", "hebrew")
    seen = line.split()
    assert set(seen) == words | {"12"}
    assert seen[0] == in_script("gamma", "hebrew")
    assert seen[-1] == in_script("alpha", "hebrew")
    assert {"arabic", "hebrew"} == FROM_THE_RIGHT


def test_arabic_letters_take_the_form_that_their_neighbours_ask_for():
    meem_alone, alef_final, lam_medial, seen_initial = "\ufee1", "\ufe8e", "\ufee0", "\ufeb3"
    salam = "\u0633\u0644\u0627\u0645"
    assert visual_order(salam) == meem_alone + alef_final + lam_medial + seen_initial
    assert visual_order(f"{salam} 42") == f"42 {visual_order(salam)}"


def test_a_face_writes_what_it_has_letters_for(dejavu):
    able = {script for script in SCRIPTS if writes(dejavu, script)}
    assert {"latin", "cyrillic", "greek", "arabic", "hebrew"} <= able
    assert able.isdisjoint({"thai", "chinese", "japanese", "korean", "devanagari"})
    assert all(sample_of(script) for script in SCRIPTS)


def test_scripts_are_chosen_from_those_that_a_file_can_write(dejavu):
    chosen = [choose_faces(stream("faces", number), (dejavu,)) for number in range(200)]
    scripts = [faces.script for faces in chosen]
    assert set(scripts) == {"latin", "cyrillic", "greek", "arabic", "hebrew"}
    assert 0.25 < sum(script != "latin" for script in scripts) / 200 < 0.55
    assert {faces.body.native for faces in chosen if faces.script != "latin"} == {dejavu}


def test_a_line_is_divided_between_the_two_files_of_a_face():
    latin, native = Path("latin.ttf"), Path("native.ttf")
    runs = Face(latin, native).runs("No. 12 - Стонд")
    assert runs == [(latin, "No. 12 - "), (native, "Стонд")]
    assert Face(None, None).runs("") == []
