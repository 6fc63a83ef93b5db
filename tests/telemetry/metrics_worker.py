"""One of several workers: counts a verdict and prints what its `/metrics` would answer."""

from __future__ import annotations

import sys

from safevlm_runtime.telemetry.metrics import Metrics

metrics = Metrics(["privacy"])
metrics.describe(provider="cpu", bundles={"sha256:1": "starter"}, policies={"sha256:2": "old"})
metrics.describe(provider="cpu", bundles={"sha256:1": "starter"}, policies={"sha256:3": "new"})
metrics.refused("overloaded")
metrics.waiting(1)
print("counted", flush=True)
sys.stdin.readline()
print(metrics.exposition()[0].decode())
