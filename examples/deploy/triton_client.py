"""Judges images by a bundle whose graph runs in Triton Inference Server, and prints action and reason of each.

    pip install "safevlm-sdk" "tritonclient[http]"
    python examples/deploy/triton_client.py bundle/ photo.jpg --server 127.0.0.1:8000

Decoding, preprocessing and the decision happen here, by the bundle's folder; the server gives logits. For bundles
whose gate takes float pixels and looks at the overview alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_sdk.decision import Decision, decide, failed, fuse
from safevlm_sdk.errors import EngineError, ImageError
from safevlm_sdk.manifest import DECISION_OUTPUTS
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode


class RemoteGate:
    """A bundle here, and the server that runs its graph.

    Args:
        bundle: Read and checked.
        model: The graph's name in the repository.
        server: Host and port, without a scheme.
        binary: Whether tensors travel as bytes; as JSON otherwise, which every server of the protocol takes.

    Raises:
        EngineError: The server does not serve this bundle, or the bundle wants what this client does not do.
    """

    def __init__(self, bundle: Bundle, model: str, *, server: str, binary: bool = True) -> None:
        manifest, policy = bundle.manifest, bundle.policy
        if manifest.view_plan.tile is not None:
            raise EngineError("the bundle looks at tiles; this client judges the overview alone")
        if policy.uncovered != "allow" and policy.uncovered_by(manifest.rule.covered):
            raise EngineError(
                "the policy asks for what the bundle does not cover; this client cannot answer for that"
            )
        self.bundle, self.model, self.binary = bundle, model, binary
        self.client = triton.InferenceServerClient(server, connection_timeout=5.0, network_timeout=30.0)
        stated = self.client.get_model_config(model)["parameters"]["safevlm_bundle_digest"]["string_value"]
        if stated != manifest.digest:
            raise EngineError(
                f"the server serves {stated}, but the bundle is {manifest.digest}; export it there again"
            )

    def check(self, image: str | bytes) -> Decision:
        """The decision on an image; whatever goes wrong is the policy's `on_error`, never ALLOW."""
        policy = self.bundle.policy
        try:
            raster = decode(image, max_side=self.bundle.manifest.view_plan.raster_max_side)
            views = [pixels for frame in raster.frames for pixels in (frame.pixels, *(v for _, v in frame.variants))]
            types, levels = self.logits(np.stack([preprocess(v, self.bundle.manifest.preprocessing) for v in views]))
            rows = zip(types, levels, strict=True)
            decisions = [decide(*row, self.bundle.manifest.rule, policy) for row in rows]
            if len(decisions) != len(views):
                raise EngineError(f"the server gave {len(decisions)} rows for {len(views)} views")
        except ImageError as problem:
            return failed(problem.code, str(problem), policy)
        except Exception as problem:  # of the client, the network or the server, all alike: nothing was judged
            return failed(EngineError.code, f"the server gave no logits: {problem}", policy)
        return fuse(decisions)[1]

    def logits(self, tensors: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Type logits [N, labels] and level log-probabilities [N, 4] of `tensors` [N, 3, H, W]."""
        sent = triton.InferInput("pixel_values", list(tensors.shape), np_to_triton_dtype(tensors.dtype))
        sent.set_data_from_numpy(tensors, binary_data=self.binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=self.binary) for name in DECISION_OUTPUTS]
        answer = self.client.infer(self.model, [sent], outputs=wanted)
        return [answer.as_numpy(name) for name in DECISION_OUTPUTS]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument(
        "--model", help="the graph's name in the repository; the bundle's name and -gate-fp32 by default"
    )
    parser.add_argument("--digest", help="sha256:… that the bundle must have")
    given = parser.parse_args()
    bundle = read_bundle(given.bundle, digest=given.digest)
    gate = RemoteGate(bundle, given.model or f"{bundle.manifest.name}-gate-fp32", server=given.server)
    for image in given.images:
        decision = gate.check(image)
        print(image, decision.action.value, decision.category, decision.error, decision.reason, sep="\t")


if __name__ == "__main__":
    main()
