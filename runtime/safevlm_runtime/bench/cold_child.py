"""A fresh process: import, load, first verdict. Only the standard library is imported before the clock runs."""

from __future__ import annotations

import json
import sys
from time import perf_counter


def main() -> None:
    """Prints {import_ms, load_ms, first_ms, peak_mib, problem} for (bundle, image, options) as JSON in argv[2]."""
    start = perf_counter()
    from safevlm_runtime.runtime import Runtime
    from safevlm_sdk.raster import Limits

    imported = perf_counter()
    bundle, image, max_bytes, options = json.loads(sys.argv[2])
    runtime = Runtime.load(bundle, limits=Limits(max_bytes=max_bytes), **options)
    loaded = perf_counter()
    verdict = runtime.check(image)
    first = perf_counter()
    found = {
        "import_ms": (imported - start) * 1e3,
        "load_ms": (loaded - imported) * 1e3,
        "first_ms": (first - loaded) * 1e3,
        "peak_mib": peak_mib(),
        "problem": None if verdict.error is None else f"{verdict.error}: {verdict.reason}",
    }
    runtime.close()
    print(json.dumps(found))


def peak_mib() -> float | None:
    """The largest resident memory of this process so far; None where the system does not tell."""
    try:
        # Linux's getrusage counts the parent's memory at the fork, too; this does not.
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
