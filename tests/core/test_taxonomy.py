"""Categories are data; the shipped taxonomy is the paper's."""

from __future__ import annotations

import pytest

from safevlm_sdk.errors import TaxonomyError
from safevlm_sdk.taxonomy import RiskLevel, load_taxonomy


def test_the_shipped_taxonomy_is_the_papers():
    taxonomy = load_taxonomy()
    usual = {name: category.usual_level for name, category in taxonomy.categories.items()}
    assert usual == {
        "politics": 3,
        "illegal_risk": 3,
        "insults_bullying": 2,
        "fairness": 2,
        "privacy": 2,
        "misleading": 1,
    }
    assert [level.name for level in RiskLevel] == ["NONE", "LOW", "MEDIUM", "HIGH"]


def test_a_custom_taxonomy_from_a_file(tmp_path):
    path = tmp_path / "factory.toml"
    path.write_text('name = "factory"\n[categories.no_helmet]\nusual_level = 2\ndescription = "A bare head."\n')
    taxonomy = load_taxonomy(path)
    assert taxonomy.require("no_helmet", where="row 1").usual_level == 2
    with pytest.raises(TaxonomyError, match=r"row 7: 'helmet' is not in taxonomy 'factory', which has: no_helmet"):
        taxonomy.require("helmet", where="row 7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\ncategories = {}', "at least one"),
        ('name = "x"\n[categories.safe]\nusual_level = 1\ndescription = ""', "never `safe`"),
        ('name = "x"\n[categories.Bad]\nusual_level = 1\ndescription = ""', "lower-case"),
        ('name = "x"\n[categories.bad]\nusual_level = 0\ndescription = ""', "usual_level is 0"),
        ('name = "x"\n[categories.bad]\nusual_level = 1\ndescription = ""\nextra = 1', "extra"),
        ('categories = "x"', "categories"),
    ],
)
def test_what_is_not_a_taxonomy_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(path)


def test_an_absent_taxonomy(tmp_path):
    with pytest.raises(TaxonomyError, match="no shipped taxonomy 'nothing'"):
        load_taxonomy("nothing")
    with pytest.raises(TaxonomyError, match="cannot be read"):
        load_taxonomy(tmp_path / "absent.toml")
