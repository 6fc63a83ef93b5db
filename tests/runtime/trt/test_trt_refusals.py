"""Engines that are not loaded, each for a reason with a name; providers that are not there; the caller's order."""

from __future__ import annotations

import json
import sys
import types

import msgspec
import pytest
from typer.testing import CliRunner

from safevlm_runtime import Runtime
from safevlm_runtime.backends.trt.engine import deserialise
from safevlm_runtime.backends.trt.flavor import load_flavor
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.bundle.verify import verify_bundle
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import (
    BundleGraph,
    BundleTampered,
    DeviceMissing,
    EngineBuildError,
    EngineMismatch,
    EngineUnreadable,
    EngineUntrusted,
    MissingExtra,
    OptionError,
    ProviderError,
)


def test_an_engine_of_a_pinned_bundle_is_loaded_and_none_is_built(bundle, fake_trt, with_engines, paint):
    digest = with_engines(bundle)
    with Runtime.load(bundle, provider="tensorrt", digest=digest) as runtime:
        assert runtime.check(paint(250, 0, 0)).provider == "TensorRT"
    assert fake_trt["tensorrt"].builds == []
    assert len(fake_trt["tensorrt"].engines) == 1


def test_an_engine_of_an_unsigned_and_unpinned_bundle_is_refused(bundle, fake_trt, with_engines):
    digest = with_engines(bundle)
    with pytest.raises(EngineUntrusted, match=digest):
        Runtime.load(bundle, provider="tensorrt")
    assert fake_trt["tensorrt"].engines == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "11.3.0.99"}, "was built with TensorRT 11.3.0.99, and 11.4.0.106 is installed"),
        ({"host_os": "Windows"}, "was built on Windows"),
        ({"compute_capabilities": ("8.6",)}, None),
    ],
    ids=["version", "system", "gpu"],
)
def test_an_engine_that_does_not_fit_is_built_anew_or_refused(bundle, fake_trt, driver, with_engines, change, why):
    digest = with_engines(bundle, **change)
    Runtime.load(bundle, provider="tensorrt", digest=digest).close()
    assert len(fake_trt["tensorrt"].builds) == 1
    driver.gpus = 0
    with pytest.raises(EngineMismatch if why else DeviceMissing, match=why or "shows 0 GPUs"):
        Runtime.load(bundle, provider="tensorrt", digest=digest)


def test_a_cut_engine_is_refused_and_not_built_anew(bundle, fake_trt, with_engines):
    digest = with_engines(bundle, size=10)
    with pytest.raises(EngineUnreadable, match="but 10 were built"):
        Runtime.load(bundle, provider="tensorrt", digest=digest)
    digest = with_engines(bundle, engine=lambda onnx: b"garbage")
    with pytest.raises(EngineUnreadable, match="kEXPECTED_MAGIC_TAG"):
        Runtime.load(bundle, provider="tensorrt", digest=digest)
    assert fake_trt["tensorrt"].builds == []


def test_an_engine_with_a_changed_bit_is_refused_by_its_hash(bundle, with_engines):
    digest = with_engines(bundle)
    file = bundle / read_bundle(bundle).manifest.engines[0].file
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleTampered, match="engine"):
        Runtime.load(bundle, provider="cpu", digest=digest)


def test_the_real_library_refuses_what_is_cut_or_garbage(bundle, with_engines):
    flavor = load_flavor("tensorrt_rtx")
    with_engines(bundle, flavor="tensorrt_rtx", version=flavor.version)
    entry = read_bundle(bundle).manifest.engines[0]
    for data in (b"", b"garbage" * 100):
        with pytest.raises(EngineUnreadable, match=r"TensorRT-RTX 1\.\d.* refuses it"):
            deserialise(flavor, entry, data)


def test_without_a_gpu_the_error_says_what_is_missing(bundle, with_engines):
    digest = with_engines(bundle, flavor="tensorrt_rtx", version=load_flavor("tensorrt_rtx").version)
    with pytest.raises(DeviceMissing, match="TensorRT-RTX needs an NVIDIA GPU and its driver"):
        Runtime.load(bundle, provider="tensorrt-rtx", digest=digest)


def test_an_engine_of_another_version_is_refused_without_a_gpu_to_build_one(bundle, with_engines):
    digest = with_engines(bundle, flavor="tensorrt_rtx", version="1.0.0.1")
    with pytest.raises(EngineMismatch, match=r"was built with TensorRT-RTX 1\.0\.0\.1"):
        Runtime.load(bundle, provider="tensorrt-rtx", digest=digest)


def test_a_graph_that_cannot_be_built_here_is_an_error_with_its_reason(bundle, fake_trt, driver):
    fake_trt["tensorrt"].layers = ["CONSTANT", "PLUGIN_V3"]
    with pytest.raises(BundleGraph, match="'l' for a plugin, which is foreign code"):
        Runtime.load(bundle, provider="tensorrt")
    fake_trt["tensorrt"].parsed = False
    with pytest.raises(
        EngineBuildError, match=r"gate\.fp32: TensorRT cannot read the graph: Foo n: it does not want"
    ):
        Runtime.load(bundle, provider="tensorrt")
    del fake_trt["tensorrt"].Builder
    with pytest.raises(EngineBuildError, match="has no builder here"):
        Runtime.load(bundle, provider="tensorrt")


def test_what_is_not_installed_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[trt\]"):
        Runtime.load(bundle, provider="tensorrt")
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingExtra, match=r"cuda-bindings is not installed.*safevlm-sdk\[trt-rtx\]"):
        Runtime.load(bundle, provider="tensorrt-rtx")


def test_a_broken_installation_is_no_missing_one(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("import libnvinfer_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(ProviderError, match="is installed but does not load"):
        load_flavor("tensorrt")


def test_one_provider_never_falls_back_and_several_do_so_aloud(bundle, with_engines, paint):
    digest = with_engines(bundle, flavor="tensorrt_rtx", version=load_flavor("tensorrt_rtx").version)
    order = ("tensorrt-rtx", "cpu")
    with pytest.warns(RuntimeWarning, match="provider tensorrt-rtx is not used: device_missing: TensorRT-RTX needs"):
        runtime = Runtime.load(bundle, provider=order, digest=digest)
    assert runtime.check(paint(250, 0, 0)).provider == runtime.provider == "CPUExecutionProvider"
    runtime.close()
    with pytest.warns(RuntimeWarning, match="engine_untrusted"):
        Runtime.load(bundle, provider=list(order)).close()
    with pytest.warns(RuntimeWarning, match="cuda is not used"), pytest.raises(DeviceMissing):
        Runtime.load(bundle, provider=("cuda", "tensorrt-rtx"), digest=digest)


def test_the_first_provider_that_works_is_used_without_a_word(bundle, fake_trt, paint):
    with Runtime.load(bundle, provider=("tensorrt", "cpu")) as runtime:
        assert runtime.check(paint(250, 0, 0)).provider == "TensorRT"


def test_orders_that_mean_nothing_are_refused(bundle):
    with pytest.raises(OptionError, match="no provider"):
        Runtime.load(bundle, provider=())
    with pytest.raises(ProviderError, match="'tpu' is unknown"):
        Runtime.load(bundle, provider=("cpu", "tpu"))


def test_check_demands_a_provider(bundle, tmp_path, paint):
    from PIL import Image

    image = tmp_path / "red.png"
    Image.fromarray(paint(250, 0, 0)).save(image)
    done = CliRunner().invoke(app, ["check", str(image), "--bundle", str(bundle), "--provider", "tensorrt-rtx"])
    assert isinstance(done.exception, DeviceMissing)


def test_verify_lists_engines_as_not_run(bundle, with_engines):
    digest = with_engines(bundle)
    report = verify_bundle(bundle, digest=digest)
    assert "engine    gate.fp32.tensorrt.engine: hashed; TensorRT 11.4.0.106 for 8.9; not run here" in report.render()


class Plugin(types.ModuleType):
    """The module of ONNX Runtime's plugin, whose library is not one."""

    def get_ep_name(self):
        return "NvTensorRTRTXExecutionProvider"

    def get_library_path(self):
        return "/nonexistent/libplugin.so"


def test_the_plugin_of_onnx_runtime_fails_by_name(bundle, monkeypatch):
    with pytest.raises(MissingExtra, match=r"onnxruntime-ep-nv-tensorrt-rtx.*safevlm-sdk\[trt-rtx\]"):
        Runtime.load(bundle, provider="ort-tensorrt-rtx")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", Plugin("onnxruntime_ep_nv_tensorrt_rtx"))
    with pytest.raises(ProviderError, match=r"does not load .*libplugin\.so"):
        Runtime.load(bundle, provider="ort-tensorrt-rtx")
    with pytest.raises(ProviderError, match=r"TensorrtExecutionProvider is not available.*safevlm-sdk\[gpu\]"):
        Runtime.load(bundle, provider="ort-tensorrt")


def test_sidecars_survive_the_manifest(bundle, with_engines):
    with_engines(bundle)
    written = json.loads((bundle / "manifest.json").read_bytes())["engines"]
    assert [one["id"] for one in written] == ["gate.fp32.tensorrt.engine", "safety_head.fp32.tensorrt.engine"]
    assert msgspec.to_builtins(read_bundle(bundle).manifest.engines[0])["graph"] == "gate.fp32"
    assert written[1]["profile"]["mask"] == [[1, 1], [8, 16], [32, 16]]
