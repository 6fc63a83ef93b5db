"""docs/audit.md shows what comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safevlm_runtime.audit import Row, row_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_the_row_of_the_page_has_the_fields_of_a_row():
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert tuple(json.loads(shown)) == Row.__struct_fields__
    assert row_of(shown.encode()).path == "cats/1.jpg"
