"""A model behind an OpenAI-compatible address, as of vLLM, llama.cpp, Ollama, TensorRT-LLM, `transformers serve`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from safevlm_runtime.guard.engines.openai_form import check_options, message_form, reply_of, text_of
from safevlm_sdk.chat import Reply, Request
from safevlm_sdk.errors import (
    ChatEngineError,
    ChatEngineRefused,
    ChatEngineTimeout,
    ChatEngineUnreachable,
    MissingExtra,
    OptionError,
    SafeVLMError,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"
_MAY_PASS = (408, 409, 429)


class OpenAIEngine:
    """Asks a server for chat completions; safe to use from several threads and event loops.

    Messages of its errors hold neither key nor prompt nor what the server said, for servers repeat what they got.

    Args:
        base_url: As "http://127.0.0.1:8000/v1".
        model: Name that the model has there.
        api_key: None where the server wants none; no environment variable is read.
        timeout: Of one attempt, in seconds.
        retries: Further attempts after 408, 409, 429, 5xx, a timeout or a broken connection.
        options: For every request, such as `{"temperature": 0}`; what a request says itself wins.

    Raises:
        MissingExtra: `openai` is not installed.
        OptionError: An argument cannot be meant.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        retries: int = 2,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._origin = _origin(base_url)
        if not timeout > 0 or retries < 0:
            raise OptionError(f"timeout is {timeout} and retries is {retries}; give above 0, and no less than 0")
        self._model = model
        self._options = check_options(options or {})
        self._settings: dict[str, Any] = {
            "base_url": base_url, "api_key": api_key or NO_KEY, "timeout": timeout, "max_retries": retries,
        }  # fmt: skip
        self._client = self._new("OpenAI")
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    def generate(self, request: Request) -> Reply:
        """The whole answer.

        Raises:
            ChatEngineError: There is none; subclasses say whether the server refuses, is silent or cannot be reached.
            OptionError: An option of the request is not known.
        """
        body = self._body(request)
        try:
            return reply_of(self._client.chat.completions.create(**body))
        except SafeVLMError:
            raise
        except Exception as problem:
            raise self._named(problem) from None  # the cause repeats the prompt, and tracebacks are logged

    def stream(self, request: Request) -> Iterator[str]:
        """The answer's text in pieces.

        Raises:
            ChatEngineError: As for `generate`, also after some pieces.
            OptionError: An option of the request is not known, or is `tools`.
        """
        body = self._streamed_body(request)
        finished = False
        try:
            with closing(self._client.chat.completions.create(**body)) as chunks:
                for chunk in chunks:
                    finished = finished or _finishes(chunk)
                    if text := text_of(chunk):
                        yield text
        except SafeVLMError:
            raise
        except Exception as problem:
            raise self._named(problem) from None
        self._check_finished(finished)

    async def agenerate(self, request: Request) -> Reply:
        """As `generate`."""
        body = self._body(request)
        try:
            return reply_of(await self._of_this_loop().chat.completions.create(**body))
        except SafeVLMError:
            raise
        except Exception as problem:
            raise self._named(problem) from None

    async def astream(self, request: Request) -> AsyncIterator[str]:
        """As `stream`."""
        body = self._streamed_body(request)
        finished = False
        try:
            chunks = await self._of_this_loop().chat.completions.create(**body)
            async with chunks:
                async for chunk in chunks:
                    finished = finished or _finishes(chunk)
                    if text := text_of(chunk):
                        yield text
        except SafeVLMError:
            raise
        except Exception as problem:
            raise self._named(problem) from None
        self._check_finished(finished)

    def close(self) -> None:
        """Closes the connections that were not opened in an event loop."""
        self._client.close()

    async def aclose(self) -> None:
        """Closes all connections but those of other event loops."""
        self.close()
        client = self._of_loops.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        options = {**self._options, **check_options(request.options)}
        return {"model": self._model, "messages": [message_form(one) for one in request.messages], **options}

    def _streamed_body(self, request: Request) -> dict[str, Any]:
        body = self._body(request)
        if "tools" in body:
            raise OptionError("a stream gives text alone, and would lose calls of tools; use generate for them")
        return body | {"stream": True}

    def _of_this_loop(self) -> AsyncOpenAI:
        """A client of its own for each event loop: connections belong to the loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = self._new("AsyncOpenAI")
        return self._of_loops[loop]

    def _new(self, kind: str) -> Any:
        try:
            import openai
        except ModuleNotFoundError as problem:
            raise MissingExtra("openai", "serve") from problem
        client = getattr(openai, kind)(**self._settings)
        client.organization = client.project = None  # of the environment, and not for this server
        return client

    def _check_finished(self, finished: bool) -> None:
        if not finished:
            raise ChatEngineError(f"the answer of {self._origin} broke off before its end; ask again")

    def _named(self, problem: Exception) -> ChatEngineError:
        import openai

        if isinstance(problem, openai.APIStatusError):
            code = problem.status_code
            passing = code in _MAY_PASS or code >= 500
            kind = ChatEngineError if passing else ChatEngineRefused
            advice = "try again later" if passing else "look at the address, the key, the model and the options"
            return kind(f"{self._origin} answered with status {code}; {advice}, and at the server's own log")
        if isinstance(problem, openai.APITimeoutError) or "Timeout" in type(problem).__name__:
            return ChatEngineTimeout(f"{self._origin} did not answer in time; look at its load, or raise timeout")
        if isinstance(problem, openai.APIConnectionError):
            return ChatEngineUnreachable(f"{self._origin} cannot be reached; is the server running, and there?")
        name = type(problem).__name__
        return ChatEngineError(f"{self._origin} gave no usable answer ({name}); look at the server's own log")


def _origin(base_url: object) -> str:
    """Scheme, host and port: what a message may show of an address."""
    try:
        parts = urlsplit(base_url) if isinstance(base_url, str) else urlsplit("")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        usable = False
    if not usable:
        raise OptionError(
            "base_url is no usable address; it begins with http:// or https://, and holds no user name or password: "
            "give a key as api_key"
        )
    return f"{parts.scheme}://{parts.hostname}{port}"


def _finishes(chunk: Any) -> bool:
    return any(getattr(choice, "finish_reason", None) for choice in getattr(chunk, "choices", None) or ())
