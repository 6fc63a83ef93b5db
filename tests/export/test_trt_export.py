"""`safevlm-export --trt`: engines in the bundle, the kit beside it, and what is said of what was not built."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.trt import targets
from safevlm_export.trt.build_kit import is_kit, kit_files, write_build_kit
from safevlm_export.trt.commands import command
from safevlm_export.trt.engines import build_engines
from safevlm_export.trt.targets import Plan, TrtOptions, parse_target, plan
from safevlm_runtime import Runtime
from safevlm_runtime.backends.trt.flavor import load_flavor
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.bundle.verify import verify_bundle
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import DeviceMissing, ExportError, MissingExtra, OptionError
from safevlm_sdk.strict import digest

ENTERPRISE = Plan(name="tensorrt", flavor=None, capabilities=("9.0",), why_not="no GPU is here")


@pytest.fixture(scope="module")
def exported(case_of, drawn, tmp_path_factory):
    """(folder, digest, what was printed) of an export with fp16 and int8, for two targets."""
    out = tmp_path_factory.mktemp("trt") / "bundle"
    arguments = ["export", str(case_of("clip-edge").checkpoint), str(out), "--precision", "fp16,int8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safevlm_export.proof_images.examples", lambda: drawn)
        done = CliRunner().invoke(app, [*arguments, "--trt", "--trt-flavor", "rtx", "--trt-target", "sm86,sm120"])
    assert done.exit_code == 0, done.output
    return out, read_bundle(out).manifest.digest, done


def test_engines_lie_in_the_bundle_with_their_sidecars(exported):
    out, pin, _ = exported
    bundle = read_bundle(out, digest=pin)
    by_id = {one.id: one for one in bundle.manifest.engines}
    assert set(by_id) == {
        "gate.fp16.tensorrt_rtx.engine",
        "gate.int8.tensorrt_rtx.engine",
        "safety_head.fp32.tensorrt_rtx.engine",
    }
    for engine in by_id.values():
        source = next(graph for graph in bundle.manifest.graphs if graph.id == engine.graph)
        assert engine.onnx_sha256 == bundle.manifest.files[source.file] == digest(bundle.graphs[source.id])
        assert engine.compute_capabilities == ("8.6", "12.0")
        assert bundle.manifest.files[engine.file] == digest(bundle.engines[engine.id])
        assert bundle.engines[engine.id].startswith(b"vtrt")
        assert set(engine.profile) == {spec.name for spec in source.inputs}
    int8 = next(graph for graph in bundle.manifest.graphs if graph.id == by_id["gate.int8.tensorrt_rtx.engine"].graph)
    assert int8.target == "tensorrt"


def test_the_report_says_what_was_built_and_not_run(exported):
    out, _, done = exported
    said, version = done.stdout, load_flavor("tensorrt_rtx").version
    assert f"built gate.fp16.tensorrt_rtx.engine with TensorRT-RTX {version} for 8.6, 12.0" in said
    assert "not run" in said
    assert "building gate.fp16.tensorrt_rtx.engine" in done.stderr
    card = (out / "README.md").read_text()
    assert f"| `gate.fp16.tensorrt_rtx.engine` | `gate.fp16` | tensorrt_rtx {version} | 8.6, 12.0 |" in card
    assert "built of these graphs and not run" in card
    assert f"wrote {out}-trt-kit" in said
    assert "no engine of gate.int8" in said


def test_the_bundle_still_runs_on_its_graphs_and_its_engines_want_a_gpu(exported, drawn):
    out, pin, _ = exported
    assert "gate.fp16.tensorrt_rtx.engine: hashed" in verify_bundle(out, digest=pin).render()
    with Runtime.load(out, digest=pin) as runtime:
        assert runtime.check(drawn[0][1].image).provider == "CPUExecutionProvider"
    with pytest.raises(DeviceMissing):
        Runtime.load(out, digest=pin, provider="tensorrt-rtx")


def test_the_kit_builds_its_engines_by_itself(exported):
    out, _, _ = exported
    kit = out.with_name("bundle-trt-kit")
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=kit, capture_output=True, text=True)
    assert sums.returncode == 0, sums.stdout
    done = subprocess.run([sys.executable, "build.py", "safety_head.fp32"], cwd=kit, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = "safety_head.fp32.tensorrt_rtx.engine"
    built = (kit / "engines" / name).read_bytes()
    assert len(built) == len(read_bundle(out).engines[name])
    assert is_kit(kit)
    changed = kit / "graphs" / "safety_head.fp32.onnx"
    data = changed.read_bytes()
    changed.write_bytes(data + b"\0")
    done = subprocess.run([sys.executable, "build.py", "safety_head.fp32"], cwd=kit, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not the graph that was exported" in done.stderr
    changed.write_bytes(data)
    (kit / "mine.txt").write_text("x")
    assert not is_kit(kit)


def test_the_kit_of_the_other_flavour_has_its_commands_and_says_why_nothing_was_built(exported, tmp_path):
    out, pin, _ = exported
    bundle = read_bundle(out)
    data = {graph.file: bundle.graphs[graph.id] for graph in bundle.manifest.graphs}
    engines = build_engines(bundle.manifest, data, ENTERPRISE, (1, 4, 16))
    assert engines.entries == ()
    assert engines.lines()[0] == "built no engine here: no GPU is here"
    files = kit_files(bundle.manifest, engines)
    script = files["build.sh"].decode()
    assert "trtexec \\\n  --onnx=graphs/gate.fp16.onnx" in script
    assert "--minShapes=pixel_values:1x3x48x48" in script
    assert "--maxShapes=pixel_values:16x3x48x48" in script
    assert "--stronglyTyped" in script
    assert "--maxShapes=features:16x36x16,mask:16x36" in script
    told = json.loads(files["kit.json"])
    assert (told["flavor"], told["bundle"]) == ("tensorrt", pin)
    assert "No engine was built by the export: no GPU is here." in files["README.md"].decode()
    kit = write_build_kit(tmp_path / "b", bundle.manifest, engines)
    assert write_build_kit(tmp_path / "b", bundle.manifest, engines) == kit  # an older kit is exchanged


def test_commands_are_those_of_each_tool():
    rtx = Plan(name="tensorrt_rtx", flavor=None, capabilities=("8.6", "12.0"))
    profile = {"x": ((1, 4), (2, 4), (8, 4))}
    assert command(rtx, "g.onnx", "g.engine", profile) == (
        "tensorrt_rtx \\\n  --onnx=g.onnx \\\n  --saveEngine=g.engine \\\n  --minShapes=x:1x4 \\\n"
        "  --optShapes=x:2x4 \\\n  --maxShapes=x:8x4 \\\n  --computeCapabilities=86,120 \\\n  --skipInference"
    )
    ampere = Plan(name="tensorrt", flavor=None, capabilities=(), compatibility="ampere_plus")
    assert "--hardwareCompatibilityLevel=ampere+" in command(ampere, "g.onnx", "g.engine", {})
    assert "Shapes" not in command(ampere, "g.onnx", "g.engine", {})
    assert "--useGpu" in command(Plan(name="tensorrt_rtx", flavor=None, capabilities=()), "a", "b", {})


def test_targets_are_read_strictly():
    assert parse_target("sm86, SM89,sm120,sm86") == (("8.6", "8.9", "12.0"), "none")
    assert parse_target("current") == ((), "none")
    assert parse_target("ampere+") == ((), "ampere_plus")
    assert parse_target(None) == ((), "none")
    for text in ("", "86", "sm86,current", "sm", "sm8", "sm86;sm89"):
        with pytest.raises(OptionError, match="--trt-target"):
            parse_target(text)
    with pytest.raises(OptionError, match="--trt-flavor"):
        TrtOptions(flavor="fast")
    with pytest.raises(OptionError, match="batches"):
        TrtOptions(batches=(4, 2, 8))


def test_auto_is_rtx_unless_enterprise_and_a_gpu_are_here(monkeypatch):
    found = plan(TrtOptions())
    assert (found.name, found.capabilities) == ("tensorrt_rtx", ("8.6", "8.9", "12.0"))
    monkeypatch.setitem(sys.modules, "tensorrt", types.SimpleNamespace(__version__="11.4"))
    assert plan(TrtOptions()).name == "tensorrt_rtx"  # no GPU
    monkeypatch.setattr(targets, "open_device", lambda flavor: types.SimpleNamespace(capability="9.0"))
    found = plan(TrtOptions())
    assert (found.name, found.capability, found.why_not) == ("tensorrt", "9.0", None)
    assert plan(TrtOptions(target="ampere+")).compatibility == "ampere_plus"
    assert plan(TrtOptions(flavor="rtx")).name == "tensorrt_rtx"
    assert plan(TrtOptions(target="sm90")).name == "tensorrt"
    assert plan(TrtOptions(target="sm89")).name == "tensorrt_rtx"
    refused = plan(TrtOptions(flavor="enterprise", target="sm89"))
    assert refused.flavor is None
    assert refused.capabilities == ("8.9",)
    assert "TensorRT builds for no other, and --trt-target names 8.9" in str(refused.why_not)


def test_enterprise_without_itself_or_a_gpu_makes_the_kit_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = plan(TrtOptions(flavor="enterprise", target="sm90"))
    assert (found.name, found.flavor, found.capabilities) == ("tensorrt", None, ("9.0",))
    assert "pip install 'safevlm-sdk[trt]'" in str(found.why_not)


def test_what_rtx_needs_is_named(monkeypatch):
    with pytest.raises(DeviceMissing, match="--trt-target current means the GPU here"):
        plan(TrtOptions(flavor="rtx", target="current"))
    with pytest.raises(OptionError, match="enterprise"):
        plan(TrtOptions(flavor="rtx", target="ampere+"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[trt-rtx\]"):
        plan(TrtOptions())


def test_something_else_in_the_place_of_the_kit_stops_the_export_before_it_begins(case_of, tmp_path):
    (tmp_path / "b-trt-kit").mkdir()
    (tmp_path / "b-trt-kit" / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="b-trt-kit: holds other files"):
        export_checkpoint(case_of("clip-edge").checkpoint, tmp_path / "b", ExportOptions(trt=TrtOptions()))
    assert not (tmp_path / "b").exists()


def test_the_options_of_trt_belong_to_trt():
    done = CliRunner().invoke(app, ["export", "a", "b", "--trt-target", "sm86"])
    assert done.exit_code == 2
    assert "belong to --trt" in done.output
