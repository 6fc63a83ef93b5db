"""What the proxy costs: latency beside the bare upstream, memory, slow connections, and four times too much load.

    python benchmarks/proxy_overhead.py [--requests 200] [--soak 60] [--clients 64] [--slow 1000] [--overload 10]

The upstream is a server of this script that answers at once; the gate is the starter. Each of them is a process of
its own, and asks and answers go through real sockets. The gate has the upper half of the cores for itself, so that no
client takes its time; on one core all share it.

What the gate adds is told in parts: `judging_ms` is the verdict's own time, `bare_with_judged_pixels` what the
upstream takes by itself when it is sent the body that the gate forwards, whose pixels are lossless and so larger.
Times are of this machine at this moment; compare only what stands in one run. Linux, for the memory of another
process is read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from proxy_world import (
    GATE,
    UPSTREAM,
    as_forwarded,
    ask,
    body,
    client_of,
    free_port,
    halves,
    own_picture,
    picture_in,
    process,
)

from safevlm_runtime.bench.card import machine_card
from safevlm_runtime.guard.forwarded import data_url_of
from safevlm_runtime.proxy.data_url import decode_data_url
from safevlm_runtime.proxy.strict_json import dumps, loads
from safevlm_sdk.raster import decode

LEAST = 300  # requests of an overload: far more than may wait


def judging(port: int, data: bytes, count: int) -> list[float]:
    """Seconds that a verdict on the picture says it took, without an upstream."""
    found = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
        for _ in range(count):
            answer = client.post("/v1/check", content=picture_in(data), headers={"content-type": "image/jpeg"})
            found.append(answer.raise_for_status().json()["timings_ms"]["total"] / 1e3)
    return found


def parts_ms(data: bytes, count: int) -> dict[str, float]:
    """Medians of what the gate does with a body beside judging, in this process."""
    request = loads(data)
    url = request["messages"][0]["content"][1]["image_url"]["url"]
    pixels, forwarded = decode(picture_in(data)).frames[0].pixels, loads(as_forwarded(data))
    work: dict[str, Callable[[], object]] = {
        "reading its JSON": lambda: loads(data),
        "reading its base64": lambda: decode_data_url(url, max_bytes=len(data), param="url"),
        "the judged pixels as PNG in base64": lambda: data_url_of(pixels),
        "writing JSON": lambda: dumps(forwarded),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(count):
        for name, go in work.items():
            start = time.perf_counter()
            go()
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(float(np.median(times)), 2) for name, times in found.items()}


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return float("nan")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def percentiles(seconds: list[float]) -> list[float] | None:
    """p50, p95 and p99 in milliseconds."""
    return [round(float(one), 2) for one in np.percentile(np.array(seconds) * 1e3, (50, 95, 99))] if seconds else None


async def one_by_one(port: int, data: bytes, count: int) -> list[float]:
    async with client_of(port) as client:
        for _ in range(min(10, count)):
            await ask(client, data)
        found = [await ask(client, data) for _ in range(count)]
    wrong = [status for status, _ in found if status != 200]
    if wrong:
        raise RuntimeError(f"answers other than 200: {Counter(wrong)}")
    return [seconds for _, seconds in found]


async def capacity(port: int, data: bytes, count: int) -> float:
    """Requests a second that two clients get answered, each asking again as soon as it has its answer."""
    async with client_of(port, 2) as client:

        async def again_and_again() -> None:
            for _ in range(count // 2):
                if (await ask(client, data))[0] != 200:
                    raise RuntimeError("two clients were too many")

        start = time.perf_counter()
        await asyncio.gather(again_and_again(), again_and_again())
        return count // 2 * 2 / (time.perf_counter() - start)


async def soak(port: int, pid: int, clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask for verdicts on pictures of their own for a while; those who are refused come again.

    A verdict on another picture than the client's ends the benchmark. Memory and descriptors are read after a fifth
    of the time and at the end.
    """
    count, begin = Counter[int | str](), time.monotonic()
    before: list[tuple[float, int]] = []

    async def one(client: httpx.AsyncClient, number: int) -> None:
        data, digest = own_picture(number)
        while (now := time.monotonic()) < begin + seconds:
            if now > begin + seconds / 5 and not before:
                before.append((rss_mib(pid), descriptors(pid)))
            answer = await client.post("/v1/check", content=data, headers={"content-type": "image/png"})
            count[answer.status_code] += 1
            if answer.status_code == 429:
                await asyncio.sleep(0.1)
            elif answer.status_code != 200 or answer.json()["raster_sha256"] != digest:
                raise RuntimeError(f"client {number} got {answer.status_code} and {answer.text[:200]}")

    async with client_of(port, clients) as client:
        await asyncio.gather(*(one(client, number) for number in range(clients)))
    after = rss_mib(pid), descriptors(pid)
    return {
        "clients": clients, "seconds": seconds, "statuses": statuses(count), "verdicts_on_another_picture": 0,
        "rss_mib_before_after": [before[0][0], after[0]], "descriptors_before_after": [before[0][1], after[1]],
    }  # fmt: skip


async def beside_slow(port: int, data: bytes, connections: int, count: int) -> dict[str, Any]:
    """Requests one by one while other connections send a byte a second."""
    writers = []
    for number in range(connections):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
        if number % 2:
            lines += b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n{"
        writer.write(lines)
        writers.append(writer)

    async def trickle() -> None:
        while True:
            await asyncio.sleep(1)
            for writer in writers:
                if not writer.is_closing():
                    writer.write(b" ")

    task = asyncio.ensure_future(trickle())
    try:
        found = await one_by_one(port, data, count)
    finally:
        task.cancel()
        cut = sum(writer.is_closing() for writer in writers)
        for writer in writers:
            writer.close()
    return {"connections": connections, "cut_meanwhile": cut, "ms_p50_p95_p99": percentiles(found)}


async def overload(port: int, data: bytes, seconds: float, per_second: float) -> dict[str, Any]:
    """Requests that begin at a steady rate, whether or not the earlier ones have ended.

    Those of the first second are told apart: the gate cannot know yet that they are no burst, which may wait.
    """
    found: list[tuple[int | str, float]] = []
    first: list[tuple[int | str, float]] = []
    async with client_of(port, 4096) as client:

        async def one() -> None:
            told = first if time.monotonic() < start + 1 else found
            told.append(await ask(client, data))

        start, tasks = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(max(round(seconds * per_second), LEAST) + round(per_second)):
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            tasks.add(asyncio.ensure_future(one()))
        await asyncio.gather(*tasks)
    count = Counter(status for status, _ in found)
    return {
        "per_second": round(per_second, 2),
        "requests": len(found),
        "statuses": statuses(count),
        "shares": {name: round(number / len(found), 3) for name, number in statuses(count).items()},
        "accepted_ms_p50_p95_p99": percentiles([taken for status, taken in found if status == 200]),
        "refused_ms_p50_p95_p99": percentiles([taken for status, taken in found if status in (429, 503)]),
        "first_second": statuses(Counter(status for status, _ in first)),
        "first_second_accepted_ms_p50_p95_p99": percentiles([taken for status, taken in first if status == 200]),
    }


def statuses(count: Counter[int | str]) -> dict[str, int]:
    return {str(status): number for status, number in sorted(count.items(), key=str)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    data, upstream, gate = body(), free_port(), free_port()
    others, own = halves()
    os.sched_setaffinity(0, others)
    served = ["serve", "--upstream", f"http://127.0.0.1:{upstream}", "--port", str(gate), *options.serve]
    with (
        process(UPSTREAM, upstream, "/v1/models", str(upstream)),
        process(GATE, gate, "/healthz", *served, cores=own) as pid,
    ):
        bare = asyncio.run(one_by_one(upstream, data, options.requests))
        forwarded = as_forwarded(data)
        larger = asyncio.run(one_by_one(upstream, forwarded, options.requests))
        judged = judging(gate, data, options.requests)
        gated = asyncio.run(one_by_one(gate, data, options.requests))
        middle, alone = float(np.median(gated)), float(np.median(bare))
        result = {
            "requests": options.requests,
            "cores_of_the_gate": len(own),
            "body_bytes": len(data),
            "forwarded_bytes": len(forwarded),
            "bare_ms_p50_p95_p99": percentiles(bare),
            "bare_with_judged_pixels_ms_p50_p95_p99": percentiles(larger),
            "judging_ms_p50_p95_p99": percentiles(judged),
            "gated_ms_p50_p95_p99": percentiles(gated),
            "added_ms_at_the_median": round((middle - alone) * 1e3, 2),
            "parts_ms": parts_ms(data, options.requests),
            "added_beyond_judging_ms": round((middle - alone - float(np.median(judged))) * 1e3, 2),
            "soak": asyncio.run(soak(gate, pid, options.clients, options.soak)),
            "beside_slow_connections": asyncio.run(beside_slow(gate, data, options.slow, options.requests // 4)),
        }
        time.sleep(1)  # until the gate has forgotten how much was asked for before
        able = asyncio.run(capacity(gate, data, options.requests))
        loaded = asyncio.run(overload(gate, data, options.overload, 4 * able))
        result |= {"able_per_second": round(able, 2), "overload": loaded}
        if loaded["accepted_ms_p50_p95_p99"] is not None:
            result["overload_p99_over_p99_alone"] = round(
                loaded["accepted_ms_p50_p95_p99"][2] / result["gated_ms_p50_p95_p99"][2], 2
            )
        result["rss_mib_at_the_end"] = rss_mib(pid)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--soak", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64, help="of the soak")
    parser.add_argument("--slow", type=int, default=1000)
    parser.add_argument("--overload", type=float, default=10.0)
    parser.add_argument("--loaded", default="", help="what else ran on the machine; kept in the result")
    parser.add_argument(
        "serve", nargs="*", default=["--starter"], help="what `safevlm serve` is told, behind -- (--starter)"
    )
    options = parser.parse_args()
    card = msgspec.to_builtins(machine_card()) | {"beside": options.loaded or None}
    for name, value in card.items():
        print(f"{name}: {value}")
    result = measure(options)
    for name, value in result.items():
        print(f"{name}: {value}")
    print(json.dumps({"benchmark": "proxy_overhead", "card": card, "result": result}))


if __name__ == "__main__":
    main()
