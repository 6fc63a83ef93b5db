"""The parent's end of the decoding child: start it, talk to it against a deadline, end it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Final

from safevlm_sdk.errors import DecoderDied, DecodeTimeout
from safevlm_sdk.raster import wire

_START_SECONDS: Final = 60.0
_BOOT: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main()"
_IMAGES: Final = "safevlm_sdk.raster.child"
_KEPT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH")


class ChildProcess:
    """One decoding child, with the limit on memory that it was started with.

    Args:
        memory: See below.
        module: Whose `main` serves in the child; it takes the arguments that this class passes.

    Attributes:
        memory: Bytes of address space that it may use beyond its own.
        deadline: When every exchange must be over, on the monotonic clock.

    Raises:
        DecoderDied: It does not start.
    """

    def __init__(self, memory: int, module: str = _IMAGES) -> None:
        self.memory = memory
        self.deadline = time.monotonic() + _START_SECONDS
        # The interpreter starts isolated from the environment and the working directory, and finds
        # this package where its parent found it. No secret of the parent's environment is passed on.
        paths = [os.path.abspath(path) for path in sys.path]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and our own code)
                [sys.executable, "-I", "-c", _BOOT.format(module), json.dumps(paths), str(memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DecoderDied("the decoding process could not be started; check memory and limits") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise DecoderDied("the decoding process has no pipes")
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        try:
            self.receive_header()
        except DecodeTimeout as error:
            self.end()
            raise DecoderDied("the decoding process does not start; check the load of the machine") from error
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def send(self, header: dict[str, Any], data: bytes) -> None:
        """Send a header and the bytes that follow it.

        Raises:
            DecodeTimeout, DecoderDied: It does not take them in.
        """
        for part in (wire.pack(header), data):
            view = memoryview(part)
            while view:
                self._wait(self._to, select.POLLOUT)
                try:
                    view = view[os.write(self._to, view) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError as error:
                    raise self._death() from error

    def receive_header(self) -> dict[str, Any]:
        """Receive one header.

        Raises:
            DecodeTimeout, DecoderDied: There is none, or it is none.
        """
        prefix = bytearray(wire.LENGTH.size)
        self.receive_into(memoryview(prefix))
        (length,) = wire.LENGTH.unpack(prefix)
        if length > wire.MAX_HEADER:
            raise DecoderDied("the decoding process gave an answer that cannot be; the image is not judged")
        text = bytearray(length)
        self.receive_into(memoryview(text))
        try:
            return wire.unpack(bytes(text))
        except ValueError as error:
            raise DecoderDied(
                "the decoding process gave an answer that cannot be; the image is not judged"
            ) from error

    def receive_into(self, view: memoryview) -> None:
        """Fill a buffer.

        Raises:
            DecodeTimeout, DecoderDied: The bytes do not come.
        """
        while view:
            self._wait(self._from, select.POLLIN)
            try:
                count = os.readv(self._from, [view])
            except BlockingIOError:
                continue
            if not count:
                raise self._death()
            view = view[count:]

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            raise DecodeTimeout("decoding took longer than decode_seconds and was stopped; resize the image")

    def _death(self) -> DecoderDied | DecodeTimeout:
        """The error for a child that closed its pipe."""
        self.end()
        status = self._process.returncode
        if status == -signal.SIGXCPU:
            return DecodeTimeout("decoding used more than decode_cpu_seconds and was stopped; resize the image")
        return DecoderDied(
            f"the decoding process ended with status {status}; "
            "the image needs more memory than decode_memory_bytes, or is an attack"
        )
