"""An exported repository in NVIDIA's tritonserver, asked over the KServe v2 protocol by NVIDIA's client.

The server is the one inside `nvidia-pytriton`, in an environment of its own that `make test-deploy` makes; that
package has no ONNX Runtime backend, so `onnxruntime_in_triton` stands in for it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest

from safevlm_export.model_repository import write_model_repository
from safevlm_runtime import Runtime
from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode
from safevlm_training.documents import examples

pytestmark = pytest.mark.deploy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
MODEL = "safevlm-starter-documents-gate-fp32"
WHERE = """
import json, sys, sysconfig
print(json.dumps([sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR"), "%d.%d" % sys.version_info[:2]]))
"""


@pytest.fixture(scope="module")
def packages():
    """(site-packages, folder of libpython, version) of the environment of Triton."""
    done = subprocess.run([PYTHON, "-c", WHERE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def backends(packages, tmp_path_factory):
    """A backend directory: Triton's own Python backend for this version of Python, and ours on top of it."""
    folder = tmp_path_factory.mktemp("backends")
    triton = Path(packages[0]) / "pytriton" / "tritonserver"
    shutil.copytree(triton / "backends" / "python", folder / "python")
    shutil.copy(triton / "python_backend_stubs" / packages[2] / "triton_python_backend_stub", folder / "python")
    shutil.copytree(HERE / "onnxruntime_in_triton", folder / "onnxruntime")
    return folder


@pytest.fixture(scope="module")
def server(packages, backends, tmp_path_factory):
    """Address of a Triton that serves the starter's graphs."""
    repository = tmp_path_factory.mktemp("repository")
    write_model_repository(read_bundle(starter_path()), repository)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    triton = Path(packages[0]) / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    arguments = [
        triton, f"--model-repository={repository}", f"--backend-directory={backends}", "--http-address=127.0.0.1",
        f"--http-port={address.rpartition(':')[2]}", "--allow-grpc=false", "--allow-metrics=false",
        "--exit-timeout-secs=5", "--disable-auto-complete-config",
    ]  # fmt: skip
    libraries = os.pathsep.join([packages[1], str(Path(packages[0]) / "nvidia_pytriton.libs")])
    environment = {**os.environ, "TRITON_BACKEND_PACKAGES": packages[0], "LD_LIBRARY_PATH": libraries}
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with log.open("wb") as file, subprocess.Popen(arguments, env=environment, stdout=file, stderr=file) as process:
        try:
            wait_until_ready(process, address, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(process, address, log):
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"http://{address}/v2/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-4000:])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Some that the starter flags, some that it does not."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number, _ in enumerate(examples())]
    for path, (_, sample) in zip(paths, examples(), strict=True):
        sample.image.convert("RGB").save(path)
    return paths[:12]


@pytest.fixture(scope="module")
def answers(server, pictures):
    """What the example's client got and decided."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")])}
    arguments = [PYTHON, HERE / "triton_answers.py", starter_path(), server, MODEL, *pictures]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_server_states_the_shapes_of_the_graph(answers):
    bundle = read_bundle(starter_path())
    graph = next(graph for graph in bundle.manifest.graphs if graph.id == "gate.fp32")
    served = answers["served"]
    assert (served["name"], served["platform"]) == (MODEL, "onnxruntime_onnx")
    for stated, specs in ((served["inputs"], graph.inputs), (served["outputs"], graph.outputs)):
        shapes = {spec.name: [size if isinstance(size, int) else -1 for size in spec.shape] for spec in specs}
        assert {tensor["name"]: tensor["shape"] for tensor in stated} == shapes


@pytest.mark.parametrize("kind", ["binary", "json"])
def test_the_logits_are_those_of_onnx_runtime(answers, pictures, kind):
    bundle = read_bundle(starter_path())
    side = bundle.manifest.view_plan.raster_max_side
    frames = [decode(path, max_side=side).frames[0] for path in pictures]
    tensors = np.stack([preprocess(frame.pixels, bundle.manifest.preprocessing) for frame in frames])
    session = onnxruntime.InferenceSession(bundle.graphs["gate.fp32"], providers=["CPUExecutionProvider"])
    expected = session.run(["type_logits", "level_logprobs"], {"pixel_values": tensors})
    for found, wanted in zip(answers["answers"][kind]["logits"], expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "json"])
def test_the_decisions_are_the_runtimes(answers, pictures, kind):
    with Runtime.starter() as runtime:
        verdicts = [runtime.check(path) for path in pictures]
    decisions = answers["answers"][kind]["decisions"]
    assert {verdict.action.value for verdict in verdicts} >= {"allow"}
    assert len({verdict.action for verdict in verdicts}) > 1
    for (action, category, score, error, _), verdict in zip(decisions, verdicts, strict=True):
        assert (action, category, error) == (verdict.action.value, verdict.category, None)
        assert score == pytest.approx(verdict.score, abs=1e-4)


def test_what_cannot_be_judged_is_not_allowed(answers):
    for name, error in (("broken", "image_format"), ("failed", "engine_failed")):
        action, category, score, found, _ = answers[name]
        assert (action, category, score, found) == ("block", None, None, error)


def test_any_client_of_the_protocol_asks_for_a_head_of_any_number_of_tokens(server):
    model = MODEL.replace("gate", "safety_head")
    for tokens in (1, 361):
        features = {"shape": [1, tokens, 112], "datatype": "FP32", "data": [0.1] * 112 * tokens}
        mask = {"shape": [1, tokens], "datatype": "BOOL", "data": [True] * tokens}
        body = {"inputs": [{"name": "features", **features}, {"name": "mask", **mask}]}
        answer = httpx.post(f"http://{server}/v2/models/{model}/infer", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        shapes = {tensor["name"]: tensor["shape"] for tensor in answer.json()["outputs"]}
        assert shapes == {"type_logits": [1, 2], "level_logprobs": [1, 4], "attention": [1, tokens]}
