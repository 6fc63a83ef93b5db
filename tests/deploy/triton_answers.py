"""What the example's client makes of images, as JSON: `python triton_answers.py BUNDLE SERVER MODEL IMAGE...`.

Runs in the environment of Triton; see `test_triton.py`.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy" / "triton_client.py"


def client_of_the_example():
    spec = importlib.util.spec_from_file_location("triton_client", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(decision):
    return [decision.action.value, decision.category, decision.score, decision.error, decision.reason]


def main(folder, server, model, *images):
    gate_of = client_of_the_example().RemoteGate
    bundle = read_bundle(folder)
    rasters = [decode(image, max_side=bundle.manifest.view_plan.raster_max_side) for image in images]
    tensors = np.stack([preprocess(raster.frames[0].pixels, bundle.manifest.preprocessing) for raster in rasters])
    found = {"served": None, "answers": {}}
    for kind, binary in (("binary", True), ("json", False)):
        gate = gate_of(bundle, model, server=server, binary=binary)
        found["served"] = gate.client.get_model_metadata(model)
        found["answers"][kind] = {
            "logits": [values.tolist() for values in gate.logits(tensors)],
            "decisions": [told(gate.check(image)) for image in images],
        }
    found["broken"] = told(gate.check(b"no image"))
    gate.model = "another"
    found["failed"] = told(gate.check(images[0]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
