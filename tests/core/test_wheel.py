"""What goes into the wheel, asked of the build backend without building."""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_every_package_and_one_file_in_optimums_namespace() -> None:
    builder = WheelBuilder(str(ROOT))
    builder.config.set_build_data({"artifacts": [], "force_include": {}, "build_hooks": ()})
    files = {file.distribution_path for file in builder.recurse_included_files()}
    assert {name for name in files if name.startswith("optimum")} == {
        "optimum/commands/register/register_safevlm.py"  # an __init__.py would take the namespace from optimum
    }
    for package in ("safevlm_sdk", "safevlm_runtime", "safevlm_export", "safevlm_training"):
        assert f"{package}/py.typed" in files
    assert {name.split("/")[0] for name in files} == {
        "optimum",
        "safevlm_sdk",
        "safevlm_runtime",
        "safevlm_export",
        "safevlm_training",
    }
    assert {"safevlm_sdk/platforms.toml", "safevlm_runtime/starter/manifest.json"} <= files
    names = ("index.html", "page.css", "page.js", "views.js", "icon.svg")
    page = {f"safevlm_runtime/proxy/page/{name}" for name in names}
    assert page <= files
