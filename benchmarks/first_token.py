"""The time to the first streamed token: the engine itself, behind a guard, and behind `safevlm serve`."""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from paired import median_interval, percentiles, turn
from proxy_world import GATE, free_port, process

from safevlm_runtime.bench.subject import ENGINE_SECONDS
from safevlm_runtime.guard.engines.openai_engine import OpenAIEngine
from safevlm_sdk import Runtime

QUESTION = "What is this?"
OPTIONS = {"max_tokens": 8, "temperature": 0}
WARM_UPS = 3
WAYS = ("engine", "guard", "proxy")
TRANSFORMERS = """
import os, sys
os.environ |= {"HF_HOME": sys.argv.pop(1), "HF_HUB_OFFLINE": "1"}
from transformers.cli.transformers import main
sys.exit(main())
"""

Ask = Callable[[], "tuple[float, str]"]


def tiny_llava(folder: Path) -> None:
    """Writes a LLaVA with random weights below a million parameters, and its processor."""
    from safevlm_training.quiet import quiet
    from safevlm_training.vlm.tiny import tiny_vlm

    with quiet():
        model, processor = tiny_vlm("llava")
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


@contextmanager
def transformers_serve(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Address without /v1, name of the model, and process id of `transformers serve` with a tiny LLaVA."""
    model, home, port = folder / "llava", folder / "home", free_port()
    (home / "hub").mkdir(parents=True)  # its list of models fails without
    tiny_llava(model)
    words = [str(home), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with process(TRANSFORMERS, port, "/health", *words) as pid:
        yield f"http://127.0.0.1:{port}", str(model), pid


def measure_first_token(options: argparse.Namespace, image: Path, folder: Path) -> dict[str, Any]:
    """Starts what is not there, and asks each way in turns."""
    with ExitStack() as stack:
        if options.engine_url is None:
            address, model, engine = stack.enter_context(transformers_serve(folder))
        else:
            address, model, engine = options.engine_url.rstrip("/"), options.engine_model, None
        runtime = stack.enter_context(
            Runtime.load(
                options.bundle,
                digest=options.digest,
                provider=options.provider,
                threads=options.threads,
                allow_uncalibrated=True,
                engine_seconds=ENGINE_SECONDS,
            )
        )
        verdict = runtime.check(image)
        if not verdict.allowed:
            raise SystemExit(f"the gate does not allow {image} ({verdict.action.value}); give --image one it allows")
        port = free_port()
        served = ["serve", "--bundle", str(options.bundle), "--provider", options.provider, "--allow-uncalibrated"]
        served += ["--upstream", address, "--port", str(port)]
        served += [] if options.digest is None else ["--digest", options.digest]
        proxy = stack.enter_context(process(GATE, port, "/healthz", *served))
        asked = OpenAIEngine(f"{address}/v1", model, timeout=600, retries=0)
        stack.callback(asked.close)
        ways = {
            "engine": direct(stack, f"{address}/v1", model, image),
            "guard": guarded(runtime, asked, image),
            "proxy": direct(stack, f"http://127.0.0.1:{port}/v1", model, image),
        }
        found = {"engine": "transformers serve, tiny LLaVA" if engine else f"{address}, {model}"}
        found |= in_turns(ways, options.asks)
        found["peak_mib"] = {
            "proxy": peaks(proxy),
            "engine": None if engine is None else peaks(engine),
        }
        return found


def in_turns(ways: dict[str, Ask], asks: int) -> dict[str, Any]:
    """Each way so often, in turns; what is added is paired by turn."""
    for ask in ways.values():
        for _ in range(WARM_UPS):
            ask()
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for visit in range(asks):
        for place in turn(len(names), visit):
            times[names[place]].append(ways[names[place]]()[0])
    bare = np.asarray(times[names[0]])
    return {
        "asks": asks,
        "ms_p50_p95_p99": {name: rounded(percentiles(np.asarray(ms))) for name, ms in times.items()},
        "added_ms_median_and_interval": {
            name: rounded(median_interval(np.asarray(times[name]) - bare)) for name in names[1:]
        },
    }


def direct(stack: ExitStack, address: str, model: str, image: Path) -> Ask:
    """Asks an address with the file as it is."""
    from openai import OpenAI

    client = OpenAI(base_url=address, api_key="none", timeout=600, max_retries=0)
    stack.callback(client.close)
    kind = "jpeg" if image.suffix.lower() in (".jpg", ".jpeg") else image.suffix.lower().lstrip(".")

    def ask() -> tuple[float, str]:
        begun = perf_counter()
        url = f"data:image/{kind};base64,{base64.b64encode(image.read_bytes()).decode()}"
        # The image first, as a guard puts it.
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
        said = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], stream=True, **OPTIONS
        )
        pieces = (chunk.choices[0].delta.content for chunk in said if chunk.choices)
        return first(begun, pieces)

    return ask


def guarded(runtime: Runtime, engine: OpenAIEngine, image: Path) -> Ask:
    """Asks by `runtime.guard(engine)`."""
    guard = runtime.guard(engine)

    def ask() -> tuple[float, str]:
        begun = perf_counter()
        with guard.stream(QUESTION, [image], **OPTIONS) as pieces:
            if pieces.refused:
                raise SystemExit("the gate refused an image that it allowed before")
            return first(begun, pieces)

    return ask


def first(begun: float, pieces: Iterator[str | None]) -> tuple[float, str]:
    """Milliseconds until the first piece with text, and the whole text; the rest is read, so that nothing is left."""
    taken, said = None, []
    for piece in pieces:
        if piece:
            taken = (perf_counter() - begun) * 1e3 if taken is None else taken
            said.append(piece)
    if taken is None:
        raise SystemExit("the engine streamed no text; give --engine-model another one")
    return taken, "".join(said)


def peaks(pid: int) -> dict[str, float]:
    """VmHWM of a process and of all that it started and that still run, in MiB; they share some of it."""
    found = {}
    for number, one in enumerate(family(pid)):
        for line in Path(f"/proc/{one}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                found["itself" if number == 0 else f"child {number}"] = round(int(line.split()[1]) / 1024, 1)
    return found


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            after = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:
            continue  # it has ended meanwhile
        parents[int(name)] = int(after.split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 2) for value in values]
