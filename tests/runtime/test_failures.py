"""Whatever fails, the verdict blocks and names the failure."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.backends.watchdog import Watchdog
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.judging.gate import open_gate
from safevlm_sdk.errors import BundleGraph, BundleSelfTest, EngineTimeout, OutputShape
from safevlm_sdk.policy import Action

GREEN = (0, 250, 0)


def after(model, name, *nodes, constants=()):
    """The model with nodes between an output's old value, `raw`, and its name."""
    for node in model.graph.node:
        for at, output in enumerate(node.output):
            if output == name:
                node.output[at] = "raw"
        for at, wanted in enumerate(node.input):
            if wanted == name:
                node.input[at] = "raw"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    return model


def divided(model, divisor):
    """Type logits that are divided by zero where the mean red value is above 0.5: NaN or infinity."""
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    top = numpy_helper.from_array(np.array(divisor, np.float32), "top")
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    index = numpy_helper.from_array(np.array([0], np.int64), "first")
    return after(
        model, "type_logits",
        helper.make_node("Gather", ["pooled", "first"], ["red"], axis=1),
        helper.make_node("Greater", ["red", "half"], ["is_red"]),
        helper.make_node("Div", ["top", "zero"], ["bad"]),
        helper.make_node("Where", ["is_red", "bad", "raw"], ["type_logits"]),
        constants=[half, top, zero, index],
    )  # fmt: skip


@pytest.mark.parametrize("divisor", [0.0, 1.0, -1.0])
def test_outputs_that_are_not_finite_never_allow(maker, models, tmp_path, paint, divisor):
    maker.models["gate"] = divided(models["gate"](maker.labels), divisor)
    folder = maker.write(tmp_path / "bad")
    with pytest.raises(BundleSelfTest, match="finite"):
        Runtime.load(folder)
    bundle = read_bundle(folder)
    harmless = bundle.golden.images[1:]
    expected = {
        graph: {name: values[1:] if graph == "gate.fp32" else values for name, values in outputs.items()}
        for graph, outputs in bundle.golden.expected.items()
    }
    golden = type(bundle.golden)(
        images=harmless, features=bundle.golden.features, mask=bundle.golden.mask, expected=expected
    )
    rare = type(bundle)(**{name: getattr(bundle, name) for name in bundle.__slots__} | {"golden": golden})
    with Runtime([open_gate(rare)]) as runtime:
        assert runtime.check(paint(*GREEN)).action is Action.ALLOW
        found = runtime.check_many([paint(*GREEN), paint(250, 0, 0), paint(*GREEN)])
    assert [verdict.error for verdict in found] == [None, "output_not_finite", None]
    assert found[1].action is Action.BLOCK
    assert found[1].score is found[1].category is None


def test_a_backend_that_computes_something_else_is_refused(maker, tmp_path):
    maker.expected = lambda graph, name, values: values + (0.01 if name == "type_logits" else 0)
    with pytest.raises(BundleSelfTest, match=r"differs from its golden values by 0\.01"):
        Runtime.load(maker.write(tmp_path / "off"))


class Fake:
    """A backend around a real one that misbehaves once it is armed."""

    provider = "CPUExecutionProvider"

    def __init__(self, real):
        self.real, self.fault = real, None

    def run(self, inputs, outputs):
        if self.fault is not None:
            return self.fault(inputs, self.real.run(inputs, outputs))
        return self.real.run(inputs, outputs)

    def close(self):
        self.real.close()


@pytest.fixture
def faulty(bundle):
    fakes = []

    def opener(*args):
        fakes.append(Fake(OrtBackend.load(*args)))
        return fakes[-1]

    with Runtime([open_gate(read_bundle(bundle), opener=opener)]) as runtime:
        yield runtime, fakes[0]


def raising(problem):
    def fault(inputs, found):
        raise problem

    return fault


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (raising(RuntimeError("secret/path.png")), "internal_error"),
        (raising(MemoryError()), "internal_error"),
        (raising(RecursionError()), "internal_error"),
        (raising(EngineTimeout("slow")), "engine_timeout"),
        (raising(OutputShape("odd")), "output_shape"),
        (lambda inputs, found: found | {"type_logits": found["type_logits"][:, :1]}, "output_shape"),
        (lambda inputs, found: found | {"type_logits": found["type_logits"][:0]}, "output_shape"),
        (lambda inputs, found: found | {"type_logits": found["type_logits"].astype("float64")}, "output_shape"),
        (lambda inputs, found: {name: np.concatenate([rows, rows]) for name, rows in found.items()}, "output_shape"),
        (lambda inputs, found: {"type_logits": found["type_logits"]}, "output_shape"),
        (lambda inputs, found: found | {"level_logprobs": found["level_logprobs"] * np.nan}, "output_not_finite"),
        (lambda inputs, found: found | {"attention": found["attention"] * np.inf}, "output_not_finite"),
        (lambda inputs, found: {}, "output_shape"),
        (lambda inputs, found: None, "internal_error"),
    ],
)
def test_every_engine_fault_blocks(faulty, paint, fault, code):
    runtime, fake = faulty
    assert runtime.check(paint(*GREEN)).allowed
    fake.fault = fault
    for verdict in (runtime.check(paint(*GREEN)), *runtime.check_many([paint(*GREEN)] * 2)):
        assert (verdict.error, verdict.action, verdict.category) == (code, Action.BLOCK, None)
        assert "secret" not in verdict.reason
    fake.fault = None
    assert runtime.check(paint(*GREEN)).allowed


def test_one_image_that_kills_its_batch_harms_no_other(faulty, paint):
    runtime, fake = faulty

    def fault(inputs, found):
        if (inputs["pixel_values"][:, 0].mean(axis=(1, 2)) > 0.9).any():
            raise MemoryError
        return found

    fake.fault = fault
    errors = [v.error for v in runtime.check_many([paint(*GREEN), paint(250, 0, 0), paint(0, 0, 250)])]
    assert errors == [None, "internal_error", None]


def test_a_graph_that_is_wrong_in_batches_judges_one_by_one(faulty, paint):
    runtime, fake = faulty
    sizes = []

    def fault(inputs, found):
        sizes.append(len(inputs["pixel_values"]))
        return found if sizes[-1] == 1 else found | {"type_logits": found["type_logits"] + 9}

    fake.fault = fault
    verdicts = runtime.check_many([paint(*GREEN), paint(250, 0, 0)])
    alone = [runtime.check(image) for image in (paint(*GREEN), paint(250, 0, 0))]
    assert [(v.action, v.error, v.score) for v in verdicts] == [(v.action, v.error, v.score) for v in alone]
    assert sizes == [2, 1, 1, 1, 1]


def test_a_graph_proves_itself_in_batches_before_the_first_one_and_never_again(faulty, paint):
    runtime, fake = faulty
    sizes = []

    def look(inputs, found):
        sizes.append(len(inputs["pixel_values"]))
        return found

    fake.fault = look
    for _ in range(2):
        runtime.check_many([paint(*GREEN)] * 3)
    golden = len(sizes) - 2
    assert sizes[golden:] == [3, 3]
    assert max(sizes[:golden]) == 2


def test_stopping_a_program_is_not_a_verdict(faulty, paint):
    runtime, fake = faulty
    fake.fault = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runtime.check(paint(*GREEN))


def endless():
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("n", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("again", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    return helper.make_node("Loop", ["", "true", "raw"], ["type_logits"], body=body)


def looping(model):
    return after(model, "type_logits", endless(), constants=[numpy_helper.from_array(np.array(True), "true")])


def test_an_endless_graph_is_refused_and_would_be_stopped(bundle, models):
    read = read_bundle(bundle)
    graph = read.manifest.graphs[0]
    data = looping(models["gate"](read.manifest.labels)).SerializeToString()
    from safevlm_runtime.bundle.onnx_guard import check_onnx

    with pytest.raises(BundleGraph, match="Loop"):
        check_onnx(data, where="gate")
    backend = OrtBackend.load(data, graph, SessionOptions(engine_seconds=0.2))
    for _ in range(2):
        with pytest.raises(EngineTimeout, match=r"0\.2 s"):
            backend.run({"pixel_values": np.zeros((1, 3, 16, 16), np.float32)}, ["type_logits"])
    backend.close()


def test_the_watchdog_stops_each_of_many_runs_and_only_late_ones():
    class Options:
        terminate = False

    watchdog = Watchdog(0.1)
    for _ in range(50):
        with watchdog.watch(Options()) as ticket:
            pass
        assert not ticket.expired
    late = []

    def hang():
        options, waiting = Options(), threading.Event()
        with watchdog.watch(options) as ticket:
            while not options.terminate:
                waiting.wait(0.005)
        late.append(ticket.expired)

    threads = [threading.Thread(target=hang) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert late == [True] * 8
    watchdog.close()


def test_a_graph_with_other_outputs_than_stated_is_refused(bundle, models):
    read = read_bundle(bundle)
    gate, head = read.manifest.graphs
    with pytest.raises(BundleGraph, match="inputs are"):
        OrtBackend.load(read.graphs[head.id], gate, SessionOptions())
    wide = models["gate"](("privacy", "safe")).SerializeToString()
    with pytest.raises(BundleGraph, match="type_logits"):
        OrtBackend.load(wide, gate, SessionOptions())
    with pytest.raises(BundleGraph, match="refuses it"):
        OrtBackend.load(b"garbage", gate, SessionOptions())


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def wide_png():
    header = (1).to_bytes(4, "big") + (80_000_000).to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    import zlib

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: jpeg()[:-400], "image_corrupt"),
        (wide_png, "image_dimensions"),
        (lambda: b"just some text", "image_format"),
        (lambda: b"", "image_empty"),
        (lambda: b"\xff\xd8\xff" + b"0" * (11 * 2**20), "image_too_large"),
    ],
)
def test_bad_images_block_by_their_own_name(bundle, tmp_path, make, code):
    data = make()
    path = tmp_path / "canary-file-name.jpg"
    path.write_bytes(data)
    with Runtime.load(bundle) as runtime:
        for verdict in (runtime.check(path), runtime.check(data)):
            assert (verdict.error, verdict.action, verdict.provider) == (code, Action.BLOCK, None)
            assert "canary" not in verdict.reason


def test_paths_that_lead_nowhere_block_by_their_own_name(bundle, tmp_path):
    with Runtime.load(bundle) as runtime:
        found = [runtime.check(image) for image in (tmp_path, tmp_path / "canary", 7, np.zeros((4, 4)), None)]
    assert [verdict.error for verdict in found] == [
        "image_not_a_file", "image_not_found", "image_input", "image_input", "image_input",
    ]  # fmt: skip
    assert all(not verdict.allowed and "canary" not in verdict.reason for verdict in found)


def test_a_policy_may_call_a_failure_caution_but_never_soften_a_block(maker, tmp_path, paint):
    maker.policy = maker.policy.replace(
        b'uncovered = "allow"', b'uncovered = "allow"\non_error = "caution"\nframes = "all"'
    )
    fakes = []

    def opener(*args):
        fakes.append(Fake(OrtBackend.load(*args)))
        return fakes[-1]

    frames = [Image.fromarray(paint(*rgb)) for rgb in ((250, 0, 0), GREEN)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with Runtime([open_gate(read_bundle(maker.write(tmp_path / "b")), opener=opener)]) as runtime:
        assert runtime.check(b"x").action is Action.CAUTION
        assert runtime.check(buffer.getvalue()).action is Action.BLOCK  # the batch has proven itself
        rows = np.array([[1.0], [np.nan]], np.float32)
        fakes[0].fault = lambda inputs, found: found | {"type_logits": found["type_logits"] * rows}
        verdict = runtime.check(buffer.getvalue())
    assert (verdict.error, verdict.action) == ("output_not_finite", Action.BLOCK)
