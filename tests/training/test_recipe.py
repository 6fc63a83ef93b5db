from __future__ import annotations

from pathlib import Path

import pytest

from safevlm_sdk.errors import RecipeError, TaxonomyError
from safevlm_training.plan import plan_recipe
from safevlm_training.recipe import load_recipe

MINIMAL = """
schema = 1
[model]
tower = "efficientnet-lite0"
tap = "hidden:-2"
[model.coverage]
privacy = "Documents that look like ID cards."
[[data]]
name = "photos"
kind = "folder"
path = "images"
license = "CC0-1.0"
[output]
path = "runs/out"
name = "Documents"
license = "Apache-2.0"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL)
    return path


def test_paths_start_at_the_recipe(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    plan = plan_recipe(recipe)
    assert plan.sources == (tmp_path / "images",)
    assert (plan.output, plan.work) == (tmp_path / "runs/out", tmp_path / "runs/out.work")
    assert plan.cache == plan.work / "features"
    assert plan.bad_rows == tmp_path / "runs/out.bad_rows.jsonl"
    assert plan.tower == "efficientnet-lite0"
    (tmp_path / "towers").mkdir()
    text = MINIMAL.replace('tower = "efficientnet-lite0"', 'tower = "towers"') + '[cache]\npath = "shared"\n'
    recipe.write_text(text)
    plan = plan_recipe(recipe)
    assert (plan.tower, plan.cache) == (str(tmp_path / "towers"), tmp_path / "shared")


def test_only_given_sizes_change_the_preset(recipe: Path) -> None:
    assert load_recipe(recipe).model.changes == {}
    recipe.write_text(MINIMAL.replace("[model]", "[model]\nwidth = 64\nraster_max_side = 512"))
    assert load_recipe(recipe).model.changes == {"width": 64, "raster_max_side": 512}


WRONG = [
    ("schema = 1", "schema = 2", "schema"),
    ("schema = 1", 'schema = 1\nbad_rows = "ignore"', "bad_rows"),
    ("[model]", "[model]\nwidht = 3", "widht"),
    ("[model]", "[model]\nwidth = 0", "width is 0"),
    ('tap = "hidden:-2"', 'tap = "middle"', "tap is 'middle'"),
    ('tap = "hidden:-2"', "", "tap"),
    ("privacy =", "privcy =", "[model.coverage] names privcy; taxonomy 'safevlm' has: politics, "),
    ("privacy =", "spam =", 'name it in [model], as taxonomy = "own.toml" (docs/data.md, "Your own categories")'),
    ("privacy =", "safe =", "never `safe`"),
    ('kind = "folder"', 'kind = "zip"', "zip"),
    ('path = "images"', 'path = "picturs"', "has no folder at"),
    ('kind = "folder"', 'kind = "jsonl"', "has no jsonl at"),
    ('license = "CC0-1.0"', 'license = " "', "the licence of the images"),
    ('name = "photos"', 'name = "a/b"', "without a slash"),
    ('license = "CC0-1.0"', 'license = "x"\nsplits = {train = 0.5}', "must add up to 1"),
    ("[output]", "[train]\nepochs = 0\n[output]", "at least 1"),
    ("[output]", "[train]\nlr = nan\n[output]", "lr"),
    ("[output]", f"[train]\nseed = {2**63}\n[output]", "below 2**63"),
    ("[output]", "[train]\nsplit_seed = -1\n[output]", "split_seed"),
    ("[output]", "[train]\nunfreeze_last = -1\n[output]", "unfreeze_last"),
    ("[output]", "[train]\ntower_lr = 0\n[output]", "tower_lr"),
    ('license = "CC0-1.0"', 'license = "x"\nvariants = -1', "variants must lie in 0 to 100"),
    ('license = "CC0-1.0"', 'license = "x"\nweight = 0.0', "weight above 0"),
    ('path = "runs/out"', 'path = "images"', "lies in source 'photos'"),
    ('path = "runs/out"', 'path = "images/out"', "lies in source 'photos'"),
    ("[output]", '[cache]\npath = "images/cache"\n[output]', "[cache] path"),
    ("[output]", "[train]\nwarmup = 1.0\n[output]", "warmup"),
    ("[output]", '[train]\nobjective = "chat"\n[output]', "chat"),
    ("[output]", "[calibration]\nflag_at_most = 1.5\n[output]", "flag_at_most is 1.5"),
    ("[output]", '[calibration]\nsources = ["fotos"]\n[output]', "fotos"),
    ("[output]", '[cache]\ndtype = "bfloat16"\n[output]', "bfloat16"),
    ("[output]", "[[output]]", "output"),
    ("schema = 1", "schema = 1 1", "line 2"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_what_is_wrong_is_said(recipe: Path, old: str, new: str, said: str) -> None:
    assert old in MINIMAL
    recipe.write_text(MINIMAL.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        plan_recipe(recipe)
    assert said in str(caught.value)
    assert str(recipe) in str(caught.value)


def test_seed_and_output_may_be_given_beside_the_recipe(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = plan_recipe(recipe)
    plan = plan_recipe(recipe, seed=7, out="elsewhere/seven")
    assert (plan.recipe.train.seed, plan.recipe.train.split_seed) == (7, 0)
    assert plan.recipe.output == written.recipe.output
    assert plan.output == tmp_path / "elsewhere/seven"
    assert plan.work == tmp_path / "elsewhere/seven.work"
    assert plan.bad_rows == tmp_path / "elsewhere/seven.bad_rows.jsonl"
    assert plan.cache == written.cache == tmp_path / "runs/out.work/features"
    with pytest.raises(RecipeError, match=r"seed -1: .*at least 0"):
        plan_recipe(recipe, seed=-1)
    with pytest.raises(RecipeError, match="lies in source 'photos'"):
        plan_recipe(recipe, out=tmp_path / "images" / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="holds other files"):
        plan_recipe(recipe, out=tmp_path / "thesis")


def test_two_sources_need_two_names(recipe: Path) -> None:
    block = MINIMAL[MINIMAL.index("[[data]]") : MINIMAL.index("[output]")]
    recipe.write_text(MINIMAL.replace("[output]", f"{block}\n[output]"))
    with pytest.raises(RecipeError, match="each its own name"):
        plan_recipe(recipe)


def test_files_that_are_not_there(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        plan_recipe(tmp_path / "none.toml")
    recipe.write_text(MINIMAL.replace("[model]", '[model]\ntaxonomy = "own.toml"'))
    with pytest.raises(TaxonomyError, match=r"own\.toml"):
        plan_recipe(recipe)


def test_only_a_checkpoint_may_be_replaced(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs/out"
    out.mkdir(parents=True)
    plan_recipe(recipe)
    (out / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match="holds other files"):
        plan_recipe(recipe)
    (out / "training.json").write_text("{}")
    plan_recipe(recipe)


@pytest.mark.parametrize("name", ["notes.txt", "bundle", "tower.safetensors"])
def test_a_checkpoint_with_something_of_the_users_in_it_stays(recipe: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "runs/out"
    (out / name).mkdir(parents=True)
    for file in ("config.json", "training.json", "README.md"):
        (out / file).write_text("{}")
    with pytest.raises(RecipeError, match="holds other files"):
        plan_recipe(recipe)


def test_images_are_never_replaced_or_mixed_with_what_is_written(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "runs/out").mkdir(parents=True)
    (tmp_path / "shortcut").symlink_to(tmp_path / "images")
    (tmp_path / "rows.jsonl").write_text("")
    for old, new, said in [
        ('path = "images"', 'path = "runs"', "lies in source"),
        ('path = "runs/out"', 'path = "shortcut/out"', "lies in source"),
        ('path = "runs/out"', 'path = "."', "which holds source 'photos'"),
    ]:
        recipe.write_text(MINIMAL.replace(old, new))
        with pytest.raises(RecipeError, match=said):
            plan_recipe(recipe)
    out = tmp_path / "runs/out"
    for file in ("config.json", "training.json"):
        (out / file).write_text("{}")
    text = MINIMAL.replace('kind = "folder"', 'kind = "jsonl"')
    recipe.write_text(text.replace('path = "images"', 'path = "runs/out/training.json"'))
    with pytest.raises(RecipeError, match=r"runs/out, which holds source 'photos'"):
        plan_recipe(recipe)
    recipe.write_text(text.replace('path = "images"', 'path = "rows.jsonl"'))
    plan_recipe(recipe)
