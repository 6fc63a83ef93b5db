"""Engines that this host built: only exactly those are ever loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.backends.trt.build import EngineRequest
from safevlm_runtime.backends.trt.host_cache import KEY_FILE, HostCache
from safevlm_runtime.backends.trt.opening import open_engine
from safevlm_runtime.backends.trt.profile import profile_of, sizes_of
from safevlm_runtime.backends.trt.sidecar import Here, sidecar
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.errors import EngineBuildError

DATA = b"engine" * 1000


@pytest.fixture
def entry_of():
    """Makes a sidecar for bytes of nothing in particular."""

    def make(bundle, data, **changes):
        graph = bundle.manifest.graphs[0]
        profile = profile_of(graph, sizes_of(bundle.manifest))
        request = EngineRequest(name=graph.id, onnx=bundle.graphs[graph.id], profile=profile)
        where = Here(flavor="tensorrt_rtx", version="1.7.1.116", host_os="Linux", capability="8.9")
        return msgspec.structs.replace(sidecar(graph, request, where, data), **changes)

    return make


@pytest.fixture
def kept(bundle, entry_of, tmp_path):
    """A cache with one engine: (folder, its file, its entry)."""
    folder = tmp_path / "engines"
    entry = entry_of(read_bundle(bundle), DATA)
    HostCache(folder).keep(entry, DATA)
    (file,) = folder.glob("*.engine")
    return folder, file, entry


def test_what_was_kept_is_found_by_the_next_process(kept):
    folder, _, entry = kept
    assert HostCache(folder).engine(entry) == DATA


def test_key_and_folder_are_for_their_owner(kept):
    folder, _, _ = kept
    key = folder / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = key.read_bytes()
    HostCache(folder)
    assert key.read_bytes() == before
    assert len(before) == 32
    assert {path.name for path in folder.iterdir()} == {KEY_FILE, kept[1].name}


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.8.0.1"},
        {"onnx_sha256": "sha256:" + "1" * 64},
        {"host_os": "Windows"},
        {"profile": {"pixel_values": ((1, 3, 16, 16), (1, 3, 16, 16), (1, 3, 16, 16))}},
        {"flavor": "tensorrt"},
        {"compute_capabilities": ("8.6",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_engine_is_never_given_out(kept, bundle, entry_of, change):
    folder, file, _ = kept
    wanted = entry_of(read_bundle(bundle), DATA, **change)
    cache = HostCache(folder)
    assert cache.engine(wanted) is None
    cache.keep(wanted, b"new")
    other = {path for path in folder.glob("*.engine")} - {file}
    if other:  # even under the name of the one that is wanted
        os.replace(file, other.pop())
        assert cache.engine(wanted) is None


def test_no_changed_bit_is_given_out(kept):
    folder, file, entry = kept
    whole = file.read_bytes()
    for at in [*range(0, 120), *range(120, len(whole), 397), len(whole) - 1]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert HostCache(folder).engine(entry) is None, at
    for size in (0, 1, 48, 49, 57, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert HostCache(folder).engine(entry) is None, size
    file.write_bytes(whole + b"\0")
    assert HostCache(folder).engine(entry) is None
    file.write_bytes(whole)
    assert HostCache(folder).engine(entry) == DATA


def test_an_entry_of_another_key_is_not_given_out(kept):
    folder, _, entry = kept
    (folder / KEY_FILE).unlink()
    assert HostCache(folder).engine(entry) is None


def test_what_was_measured_is_no_engine_and_the_other_way_round(kept):
    folder, file, entry = kept
    cache = HostCache(folder)
    cache.keep_timing("11.4", "8.9", b"times")
    assert cache.timing("11.4", "8.9") == b"times"
    assert cache.timing("11.5", "8.9") == cache.timing("11.4", "8.6") == b""
    os.replace(file, folder / "timing")
    assert cache.timing("11.4", "8.9") == b""
    cache.keep_timing("11.4", "8.9", b"times")
    os.replace(folder / "timing", file)
    assert cache.engine(entry) is None


def test_a_link_or_a_pipe_is_not_given_out(kept, tmp_path):
    folder, file, entry = kept
    aside = tmp_path / "aside"
    os.replace(file, aside)
    file.symlink_to(aside)
    assert HostCache(folder).engine(entry) is None
    file.unlink()
    os.mkfifo(file)
    assert HostCache(folder).engine(entry) is None


@pytest.mark.parametrize("name", [".", KEY_FILE])
def test_a_cache_that_is_open_to_others_is_refused(kept, name):
    folder, _, _ = kept
    (folder / name).chmod(0o770 if name == "." else 0o640)
    with pytest.raises(EngineBuildError, match="open to others"):
        HostCache(folder)


def test_a_key_that_is_a_link_or_cut_is_refused(kept, tmp_path):
    folder, _, _ = kept
    key = folder / KEY_FILE
    (tmp_path / "key").write_bytes(key.read_bytes())
    key.unlink()
    key.symlink_to(tmp_path / "key")
    with pytest.raises(EngineBuildError, match="is a link"):
        HostCache(folder)
    key.unlink()
    key.write_bytes(b"short")
    key.chmod(0o600)
    with pytest.raises(EngineBuildError, match="no key of 32 bytes"):
        HostCache(folder)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineBuildError, match="XDG_CACHE_HOME"):
        HostCache(tmp_path / "file" / "engines")


def test_an_engine_is_built_once_and_then_loaded(bundle, fake_trt):
    builds = fake_trt["tensorrt"].builds
    Runtime.load(bundle, provider="tensorrt").close()
    assert len(builds) == 1
    Runtime.load(bundle, provider="tensorrt").close()
    assert len(builds) == 1
    assert builds[0].config.profiles == [{"pixel_values": ((1, 3, 16, 16), (8, 3, 16, 16), (32, 3, 16, 16))}]
    assert builds[0].network.flags == 2  # strongly typed
    fake_trt["tensorrt"].__version__ = "11.5.0.1"
    Runtime.load(bundle, provider="tensorrt").close()
    assert len(builds) == 2


def test_a_damaged_engine_of_the_cache_is_built_anew(bundle, fake_trt, tmp_path):
    Runtime.load(bundle, provider="tensorrt").close()
    (file,) = Path(tmp_path, "cache").rglob("*.engine")
    file.write_bytes(file.read_bytes()[:-1])
    Runtime.load(bundle, provider="tensorrt").close()
    assert len(fake_trt["tensorrt"].builds) == 2
    assert len(fake_trt["tensorrt"].engines) == 2


def test_what_tensorrt_measured_is_used_for_the_next_graph(bundle, fake_trt):
    read = read_bundle(bundle)
    for graph in read.manifest.graphs:
        open_engine(read, graph, "tensorrt", 2.0).close()
    assert [build.config.caches for build in fake_trt["tensorrt"].builds] == [[b""], [b"t"]]


def test_what_was_measured_elsewhere_is_not_used_and_rtx_measures_nothing(bundle, fake_trt, driver):
    Runtime.load(bundle, provider="tensorrt").close()
    driver.capability = (8, 6)
    Runtime.load(bundle, provider="tensorrt").close()
    driver.capability = (8, 9)
    fake_trt["tensorrt"].__version__ = "11.4.0.107"
    Runtime.load(bundle, provider="tensorrt").close()
    assert [build.config.caches for build in fake_trt["tensorrt"].builds] == [[b""], [b""], [b""]]
    Runtime.load(bundle, provider="tensorrt-rtx").close()
    (build,) = fake_trt["tensorrt_rtx"].builds
    assert build.config.caches == []
    assert build.config.capabilities == {0: "CURRENT"}
