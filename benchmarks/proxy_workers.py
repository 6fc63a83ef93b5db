"""Requests a second that the proxy answers with one worker process, and with more, in turns.

    python benchmarks/proxy_workers.py [--workers 1 2] [--rounds 5] [--seconds 8] [--json FILE]

The gate is the starter. Every number of workers has a server of its own, all at the same time, and one is asked at a
time, by two clients per worker: each asks again as soon as it has its answer, or 20 ms after it was told to come
again. All cores are shared by the gate, the clients and an upstream that answers at once. The graph of one worker
runs on all cores, those of several on an equal share of them each. Only figures of one run can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from paired import median_interval, turn
from proxy_world import GATE, UPSTREAM, ask, body, client_of, free_port, process

from safevlm_runtime.bench.card import machine_card


async def answered(port: int, data: bytes, clients: int, seconds: float) -> float:
    """Answers a second."""
    end = time.monotonic() + seconds
    async with client_of(port, clients) as client:

        async def again_and_again() -> int:
            count = 0
            while time.monotonic() < end:
                status, _ = await ask(client, data)
                if status not in (200, 429):
                    raise RuntimeError(f"an answer was {status}")
                count += status == 200
                if status == 429:
                    await asyncio.sleep(0.02)
            return count

        start = time.perf_counter()
        counts = await asyncio.gather(*(again_and_again() for _ in range(clients)))
        return sum(counts) / (time.perf_counter() - start)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    data, upstream = body(), free_port()
    numbers: list[int] = options.workers
    rates = np.zeros((options.rounds, len(numbers)))
    with ExitStack() as stack:
        stack.enter_context(process(UPSTREAM, upstream, "/v1/models", str(upstream)))
        ports = [free_port() for _ in numbers]
        for port, workers in zip(ports, numbers, strict=True):
            told = ["--upstream", f"http://127.0.0.1:{upstream}", "--port", str(port), "--workers", str(workers)]
            stack.enter_context(process(GATE, port, "/healthz", "serve", "--starter", *told))
            asyncio.run(answered(port, data, 2 * workers, 2.0))
        for lap in range(options.rounds):
            for index in turn(len(numbers), lap):
                workers = numbers[index]
                rates[lap, index] = asyncio.run(answered(ports[index], data, 2 * workers, options.seconds))
    return {
        "answers_per_second": {str(one): round(float(np.median(rates[:, i])), 2) for i, one in enumerate(numbers)},
        f"over_{numbers[0]}": {
            str(one): [round(value, 3) for value in median_interval(rates[:, i] / rates[:, 0])]
            for i, one in enumerate(numbers[1:], start=1)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path, default=None, help="write the JSON line here, too")
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card()) | {"command": shlex.join(["python", *sys.argv])}
    result = measure(options)
    for name, value in {**card, **result}.items():
        print(f"{name}: {value}")
    line = json.dumps({"benchmark": "proxy_workers", "card": card, "result": result})
    print(line)
    if options.json is not None:
        options.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
