"""HTTP requests that always end: at a deadline, after so many bytes, or at once when they are cancelled.

They run in an event loop of a thread of its own: only there can a request be ended that waits for a server, whatever it
waits for.
"""

from __future__ import annotations

import asyncio
import os
import threading
import zlib
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import cached_property, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from personaprobe.errors import TransferError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

MAX_REDIRECTS = 5

GZIP_OR_ZLIB = 47
"""The window of zlib at which it reads both formats."""


@dataclass(frozen=True)
class HttpReply:
    """A whole reply.

    Attributes:
        status: its number.
        headers: by names in lower case.
        body: decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def status_text(self) -> str:
        """The number with its meaning; the server's own words are left out."""
        known = {status.value: status.phrase for status in HTTPStatus}
        return f"{self.status} {known.get(self.status, '')}".strip()


class HttpClient:
    """Sends requests, each on a connection of its own: nothing that arrives there can be the reply to another request.

    Attributes:
        max_bytes: the largest body that is read, before and after decompression.
        seconds: from the start of a request to the last byte of its reply, redirects included.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.max_bytes = max_bytes
        self.seconds = seconds
        self._running: set[Future[Any]] = set()

    def send(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> HttpReply:
        """Send a request and read its reply. Credentials are not sent on where another host is redirected to.

        Raises:
            TransferError: no reply, or one that is broken, too large or too slow.
        """
        return self._wait_for(self._exchange(method, url, dict(headers or {}), content))

    def pause(self, seconds: float) -> None:
        """Wait, until the time is over or :meth:`cancel` is called.

        Raises:
            TransferError: it was cancelled.
        """
        self._wait_for(asyncio.sleep(seconds))

    def cancel(self) -> None:
        """End all requests and pauses under way: their callers get a TransferError at once."""
        for future in list(self._running):
            future.cancel()

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, _event_loop())
        self._running.add(future)
        try:
            return future.result()
        except CancelledError as error:
            raise TransferError("it was interrupted") from error
        finally:
            future.cancel()  # without effect unless the caller itself was interrupted
            self._running.discard(future)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> HttpReply:
        import httpx

        try:
            async with asyncio.timeout(self.seconds):
                request = self._client.build_request(method, url, headers=headers, content=content)
                return await self._follow(request)
        except TransferError:
            raise
        except TimeoutError as error:
            message = f"it timed out: no whole reply within {self.seconds:g} s"
            raise TransferError(message, temporary=True) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise TransferError("a broken reply", _reason(error), temporary=True, replied=True) from error
        except httpx.ConnectError as error:
            raise TransferError(
                f"the connection was refused or failed ({_reason(error)})", temporary=True
            ) from error
        except httpx.TransportError as error:
            raise TransferError(_reason(error), temporary=True) from error
        except httpx.InvalidURL as error:  # its message may hold a part of a password
            raise TransferError("the address cannot be read") from error
        except (httpx.HTTPError, ImportError, ValueError) as error:
            # httpx raises ImportError for a proxy that it cannot use, and ValueError for an invalid host
            raise TransferError(_reason(error)) from error

    async def _follow(self, request: httpx.Request) -> HttpReply:
        """Send a request, and again wherever it is redirected to. Bodies of redirects are not read."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            try:
                if response.next_request is None:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return HttpReply(response.status_code, headers, await self._body(response))
                request = response.next_request
            finally:
                await response.aclose()
        raise TransferError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _body(self, response: httpx.Response) -> bytes:
        inflater = _inflater(response.headers.get("content-encoding", ""))
        body = bytearray()
        try:
            async for part in response.aiter_raw():
                room = self.max_bytes + 1 - len(body)
                body += inflater.decompress(part, room) if inflater else part[:room]
                if len(body) > self.max_bytes:
                    raise TransferError(f"a reply of more than {self.max_bytes:,} bytes", replied=True)
        except zlib.error as error:
            raise TransferError("a reply that cannot be decompressed", str(error), replied=True) from error
        if inflater and not inflater.eof:
            raise TransferError("a reply that cannot be decompressed", "it is cut short", replied=True)
        return bytes(body)

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(
            headers={"User-Agent": "personaprobe", "Accept-Encoding": "identity"},
            timeout=None,  # the deadline of the whole exchange ends it
            limits=httpx.Limits(max_keepalive_connections=0),
        )


def _inflater(encoding: str) -> Any:
    """A decompressor that reads a body piece by piece, up to a limit; None for a plain body."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "deflate"):
        return zlib.decompressobj(wbits=GZIP_OR_ZLIB)
    raise TransferError("a reply in an encoding other than gzip and deflate", encoding[:20], replied=True)


def _reason(error: BaseException) -> str:
    """One line about an error: the operating system's words where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200] or type(error).__name__


_STARTING = threading.Lock()


def _event_loop() -> asyncio.AbstractEventLoop:
    with _STARTING:
        return _loop_of_process(os.getpid())


@lru_cache(maxsize=1)
def _loop_of_process(pid: int) -> asyncio.AbstractEventLoop:
    """An event loop in a thread that never keeps the process from ending; a forked process needs another."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="http", daemon=True).start()
    return loop
