"""A service that takes pictures and keeps those that the gate lets through.

    pip install "safevlm-sdk[cpu,serve]" fastapi
    python examples/service.py --keep kept/ --port 8100
    curl --data-binary @photo.jpg http://127.0.0.1:8100/pictures

Nothing is done with a picture before its verdict is there, and what is kept are the judged pixels, never the bytes
that came in. It asks nobody who they are: put what does in front of it.

    201  allowed, or allowed with caution: kept        403  a risk was found; the body names it
    400, 408, 413  no body, too slow, too large        422  this picture cannot be judged: send another
    503  the gate failed, which is no risk that was found: send it again later
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not here; run: pip install 'safevlm-sdk[cpu,serve]' fastapi") from missing

from safevlm_runtime.judging.screening import Screening
from safevlm_sdk import Action, Runtime
from safevlm_sdk.raster import Frame, encode_png

MOST_BYTES = 10 * 2**20
BODY_SECONDS = 30.0
JUDGED_AT_A_TIME = 2  # each has a picture in memory; more than there are cores would be no faster
CONNECTIONS = 32  # beyond them the server itself answers 503: no more bodies than these are in memory


def make_app(open_runtime: Callable[[], Runtime], keep: Path) -> FastAPI:
    """The application.

    Args:
        open_runtime: Loads the gate; called once in a process, when it starts.
        keep: An existing folder for pictures that may be kept.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with await run_in_threadpool(open_runtime) as runtime:
            app.state.runtime, app.state.places = runtime, asyncio.Semaphore(JUDGED_AT_A_TIME)
            yield

    app = FastAPI(lifespan=lifespan, title="Pictures, judged")

    @app.post("/pictures", status_code=201)
    async def take(request: Request) -> dict[str, Any]:
        """Judges the picture in the body, and keeps it if it may be."""
        body = await whole_body(request)
        async with app.state.places:
            screening = await app.state.runtime.ascreen(body)
        frame = frame_to_keep(screening)
        name = f"{frame.sha256}.png"
        await run_in_threadpool(write, keep / name, frame)
        return {"kept": name, "verdict": screening.verdict.to_dict()}

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Says that a gate is loaded, and what it looks for."""
        return {"covered": app.state.runtime.covered}

    return app


async def whole_body(request: Request) -> bytes:
    """The body, of which no more than `MOST_BYTES` is ever held.

    Raises:
        HTTPException: It is empty, too large or too slow, or its sender is gone.
    """

    async def read() -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"the body has more than {MOST_BYTES} bytes; send a smaller picture")
        return bytes(body)

    try:
        body = await asyncio.wait_for(read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the body took more than {BODY_SECONDS:g} s; send it again, faster") from None
    except ClientDisconnect:
        raise HTTPException(400, "the sender is gone") from None
    if not body:
        raise HTTPException(400, "there is no body; send the bytes of a picture")
    return body


def frame_to_keep(screening: Screening) -> Frame:
    """The judged pixels, where they may be kept.

    Raises:
        HTTPException: Nothing of the picture may go on; the status says whether a risk was found or the gate failed.
    """
    verdict = screening.verdict
    if screening.raster is None:
        raise HTTPException(422, {"error": verdict.error, "message": "this picture cannot be judged; send another"})
    if verdict.error is not None:  # also where a policy would let such pictures pass with caution
        message = "the gate failed and found nothing; send it again later"
        raise HTTPException(503, {"error": verdict.error, "message": message}, headers={"retry-after": "5"})
    if verdict.action is Action.BLOCK:
        raise HTTPException(403, {"category": verdict.category, "message": verdict.refusal})
    return screening.raster.frames[0]


def write(path: Path, frame: Frame) -> None:
    """Writes judged pixels as a PNG, without anything else that came with them."""
    path.write_bytes(encode_png(frame.pixels))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder for pictures; made if missing")
    parser.add_argument("--bundle", type=Path, help="instead of the starter")
    parser.add_argument("--digest", help="sha256:… that the bundle must have")
    parser.add_argument("--policy", type=Path, help="instead of the bundle's own")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    given = parser.parse_args(arguments)
    given.keep.mkdir(parents=True, exist_ok=True)
    options = {"policy": given.policy, "digest": given.digest, "isolate_decoding": os.name == "posix"}

    def open_runtime() -> Runtime:
        return Runtime.load(given.bundle, **options) if given.bundle else Runtime.starter(**options)

    uvicorn.run(make_app(open_runtime, given.keep), host=given.host, port=given.port, limit_concurrency=CONNECTIONS)


if __name__ == "__main__":
    main()
