"""A chat endpoint on this machine that misbehaves in one named way, on every request or on chosen ones.

::

    with HostileServer(BEHAVIOURS["half a body"], when=poisoned) as server:
        run("judge", file, "--judge", f"openai:served@{server.url}")

Campaigns and tests choose a behaviour by name from :data:`BEHAVIOURS`; each says how a run must end that meets it.
"""

from __future__ import annotations

import gzip
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from serving import completion

NUMBER = {"80": 0.7, "90": 0.2, "The": 0.1}
GOOD = completion("80", NUMBER)
POISON = "poisoned well"
"""Text of an answer at which :func:`poisoned` makes the server misbehave."""

Outcome = Literal["scored", "unscored", "refused"]


@dataclass(frozen=True)
class Received:
    """A request as it came, and the connection on which to reply.

    Attributes:
        body: the JSON that was sent.
        headers: lower-case names with values.
        connection: a socket; behaviours write raw bytes to it.
    """

    body: dict[str, Any]
    headers: dict[str, str]
    connection: socket.socket = field(repr=False, compare=False)

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])

    def send(self, content: bytes) -> None:
        """Write raw bytes."""
        self.connection.sendall(content)

    def reply(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """Write a whole response; headers are spelled with underscores, and None leaves one out."""
        lines = {"content_type": "application/json", "content_length": str(len(body)), **headers}
        shown = [f"{name.replace('_', '-')}: {value}" for name, value in lines.items() if value != "-"]
        self.send("\r\n".join([f"HTTP/1.1 {status}", *shown, "", ""]).encode("latin-1") + body)


Act = Callable[[Received], None]


@dataclass(frozen=True)
class Behaviour:
    """A way in which an endpoint misbehaves, and how a run of several answers must end.

    Attributes:
        act: replies to a request.
        once: the outcome for an answer whose requests alone meet the behaviour: it is ``scored`` or ``unscored``, and the
            run ends well; or the run is ``refused``.
        always: the outcome where every request meets it.
        waits: whether the run has to wait for the deadline of a request, again with every attempt.
    """

    act: Act
    once: Outcome
    always: Literal["scored", "refused"] = "refused"
    waits: bool = False


def poisoned(request: Received) -> bool:
    """Whether the request is about the poisoned answer."""
    return POISON in request.prompt


def always(request: Received) -> bool:
    """Whether to misbehave: yes."""
    return True


class HostileServer:
    """A server of its own that gives good scores, and misbehaves where it is meant to.

    Attributes:
        requests: all that were received, in order.
    """

    def __init__(
        self, behaviour: Behaviour | Act, when: Callable[[Received], bool] = always, good: Any = GOOD
    ) -> None:
        act = behaviour.act if isinstance(behaviour, Behaviour) else behaviour
        self.requests: list[Received] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(handler) -> None:  # self is the server
                with suppress(OSError):
                    for request in _received(handler.request):
                        self.requests.append(request)
                        if when(request):
                            act(request)
                            return
                        request.reply(json.dumps(good).encode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """The base URL of the endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _received(connection: socket.socket) -> Iterator[Received]:
    """Requests on one connection, as long as the client keeps it open."""
    pending = b""
    while True:
        while b"\r\n\r\n" not in pending:
            part = connection.recv(65536)
            if not part:
                return
            pending += part
        head, _, pending = pending.partition(b"\r\n\r\n")
        _, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers.get("content-length", "0"))
        while len(pending) < length:
            part = connection.recv(65536)
            if not part:  # the client is gone, and a loop would go on for ever
                return
            pending += part
        body, pending = pending[:length], pending[length:]
        yield Received(json.loads(body or b'{"messages": [{"content": ""}]}'), headers, connection)


# --- acts ---------------------------------------------------------------------------------------------------


def body(content: bytes | str, status: str = "200 OK", **headers: str) -> Act:
    """Reply with these bytes."""
    encoded = content.encode() if isinstance(content, str) else content
    return lambda request: request.reply(encoded, status, **headers)


def plain(value: Any) -> Act:
    """Reply with a value as JSON; NaN and infinities are written as Python writes them."""
    return body(json.dumps(value))


def choice(**changes: Any) -> Act:
    """Reply with a good completion, in which fields of its choice are others."""
    return plain(GOOD | {"choices": [GOOD["choices"][0] | changes]})


def message(content: Any) -> Act:
    """Reply without log-probabilities, and with this content."""
    return choice(message={"role": "assistant", "content": content}, logprobs=None)


def first_token(**changes: Any) -> Act:
    """Reply with a good completion, in which fields of the first token are others."""
    return choice(logprobs={"content": [GOOD["choices"][0]["logprobs"]["content"][0] | changes]})


def top(*entries: Any) -> Act:
    """Reply with these log-probabilities of the likeliest first tokens."""
    return first_token(top_logprobs=list(entries))


def failing(
    status: str, text: str = '{"error": {"message": "the model was unloaded"}}', **headers: str
) -> Act:
    """Reply with an error; the client may try again after a millisecond."""
    return body(text, status, **({"retry_after_ms": "1"} | headers))


def raw(content: bytes) -> Act:
    """Write bytes that need not be HTTP, and close."""
    return lambda request: request.send(content)


def silent(request: Received) -> None:
    """Accept the request and never reply."""
    with suppress(OSError):
        request.connection.settimeout(60)
        request.connection.recv(1)


def reset(request: Received) -> None:
    """Close the connection with a reset."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def drip(start: bytes, again: bytes) -> Act:
    """Write a beginning, and then a little every tenth of a second, for a minute."""

    def act(request: Received) -> None:
        request.send(start)
        for _ in range(600):
            time.sleep(0.1)
            request.send(again)

    return act


def flood(start: bytes, again: bytes, times: int = 4000) -> Act:
    """Write a beginning, and then a lot as fast as it is read."""

    def act(request: Received) -> None:
        request.send(start)
        for _ in range(times):
            request.send(again)

    return act


def echo(status: str, as_content: bool = False) -> Act:
    """Reply with the key that was sent."""

    def act(request: Received) -> None:
        sent = f"you sent {request.headers.get('authorization', 'no key')}"
        if as_content:
            message(sent)(request)
        else:
            failing(status, json.dumps({"error": {"message": sent}}))(request)

    return act


def twice(request: Received) -> None:
    """Reply, and go on with another reply that nobody requested, as for the next request."""
    good = json.dumps(GOOD).encode()
    other = json.dumps(completion("3", {"3": 1.0})).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    request.send(head.format(len(good)).encode() + good + head.format(len(other)).encode() + other)


def redirect_loop(request: Received) -> None:
    """Redirect to the same place, for ever."""
    request.reply(b"", "307 Temporary Redirect", location="/v1/chat/completions")


def gzipped(content: bytes, times: int = 1) -> Act:
    """Reply with a compressed body."""
    for _ in range(times):
        content = gzip.compress(content)
    return body(content, content_encoding=", ".join(["gzip"] * times))


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_GOOD = json.dumps(GOOD).encode()
_DEEP = b"[" * 200_000

BEHAVIOURS: dict[str, Behaviour] = {
    # bodies that are no JSON object
    "empty body": Behaviour(body(b""), "unscored"),
    "no content (204)": Behaviour(raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "unscored"),
    "null": Behaviour(plain(None), "unscored"),
    "empty list": Behaviour(plain([]), "unscored"),
    "list of an object": Behaviour(plain([{}]), "unscored"),
    "text as JSON": Behaviour(plain("80"), "unscored"),
    "number as JSON": Behaviour(plain(80), "unscored"),
    "cut JSON": Behaviour(body(_GOOD[:60]), "unscored"),
    "JSON and more": Behaviour(body(_GOOD + b"]"), "unscored"),
    "page with 200": Behaviour(
        body("<html><p>Sign in: please</p></html>", content_type="text/html"), "unscored"
    ),
    "plain text": Behaviour(body("80", content_type="text/plain"), "unscored"),
    "event stream": Behaviour(
        body(b"data: " + _GOOD + b"\n\n", content_type="text/event-stream"), "unscored"
    ),
    "not UTF-8": Behaviour(body(b'{"choices": "\xff\xfe"}'), "unscored"),
    "deep nesting": Behaviour(body(_DEEP), "unscored"),
    "deep nesting of objects": Behaviour(body(b'{"choices":' * 100_000), "unscored"),
    "number of many digits": Behaviour(body(b'{"created": ' + b"9" * 5000 + b"}"), "unscored"),
    # objects of another shape
    "empty object": Behaviour(plain({}), "unscored"),
    "error with 200": Behaviour(plain({"error": {"message": "overloaded"}}), "unscored"),
    "another object": Behaviour(plain(GOOD | {"object": "embedding"}), "unscored"),
    "chunk of a stream": Behaviour(plain(GOOD | {"object": "chat.completion.chunk"}), "unscored"),
    "choices null": Behaviour(plain(GOOD | {"choices": None}), "unscored"),
    "choices empty": Behaviour(plain(GOOD | {"choices": []}), "unscored"),
    "choices as text": Behaviour(plain(GOOD | {"choices": "80"}), "unscored"),
    "choices an object": Behaviour(plain(GOOD | {"choices": {"0": {}}}), "unscored"),
    "choice null": Behaviour(plain(GOOD | {"choices": [None]}), "unscored"),
    "choice a list": Behaviour(plain(GOOD | {"choices": [[]]}), "unscored"),
    "choice as text": Behaviour(plain(GOOD | {"choices": ["80"]}), "unscored"),
    "choice empty": Behaviour(plain(GOOD | {"choices": [{}]}), "unscored"),
    "message null": Behaviour(choice(message=None), "unscored"),
    "message as text": Behaviour(choice(message="80"), "unscored"),
    "message a list": Behaviour(choice(message=["80"]), "unscored"),
    "content a list": Behaviour(message([{"type": "text", "text": "80"}]), "unscored"),
    "content a number": Behaviour(message(80), "unscored"),
    "content an object": Behaviour(message({"text": "80"}), "unscored"),
    # log-probabilities
    "logprobs as text": Behaviour(choice(logprobs="x"), "unscored"),
    "logprobs a list": Behaviour(choice(logprobs=[1]), "unscored"),
    "logprobs of text": Behaviour(choice(logprobs={"content": "x"}), "unscored"),
    "logprobs of null": Behaviour(choice(logprobs={"content": [None]}), "unscored"),
    "logprobs of nothing": Behaviour(choice(logprobs={"content": []}), "scored", "scored"),
    "top_logprobs null": Behaviour(first_token(top_logprobs=None), "scored", "scored"),
    "top_logprobs as text": Behaviour(first_token(top_logprobs="x"), "unscored"),
    "top_logprobs of null": Behaviour(top(None), "unscored"),
    "top_logprobs of text": Behaviour(top("80"), "unscored"),
    "token null": Behaviour(top({"token": None, "logprob": -0.1}), "unscored"),
    "token a number": Behaviour(top({"token": 80, "logprob": -0.1}), "unscored"),
    "token missing": Behaviour(top({"logprob": -0.1}), "unscored"),
    "logprob null": Behaviour(top({"token": "80", "logprob": None}), "unscored"),
    "logprob as text": Behaviour(top({"token": "80", "logprob": "x"}), "unscored"),
    "logprob true": Behaviour(top({"token": "80", "logprob": True}), "unscored"),
    "logprob huge": Behaviour(top({"token": "80", "logprob": 1e9}), "unscored"),
    "logprob a long integer": Behaviour(top({"token": "80", "logprob": -(10**400)}), "unscored", "scored"),
    "logprob NaN": Behaviour(top({"token": "80", "logprob": float("nan")}), "unscored"),
    "logprob infinite": Behaviour(top({"token": "80", "logprob": float("inf")}), "unscored"),
    "probabilities above one": Behaviour(
        top(*({"token": str(n), "logprob": 0.0} for n in range(20))), "unscored"
    ),
    "logprob minus infinity": Behaviour(
        top({"token": "80", "logprob": -0.1}, {"token": "7", "logprob": float("-inf")}), "scored", "scored"
    ),
    # texts that are hard to keep
    "lone surrogate": Behaviour(body(json.dumps(GOOD).replace("The", "\\ud800")), "scored", "scored"),
    "NUL and escapes": Behaviour(
        body(json.dumps(GOOD).replace("The", "\\u0000\\u001b[2J")), "scored", "scored"
    ),
    # other content types and encodings of a good reply
    "JSON as an image": Behaviour(body(_GOOD, content_type="image/png"), "scored", "scored"),
    "JSON without a type": Behaviour(body(_GOOD, content_type="-"), "scored", "scored"),
    "JSON in UTF-16": Behaviour(body(json.dumps(GOOD).encode("utf-16")), "scored", "scored"),
    "gzip": Behaviour(gzipped(_GOOD), "scored", "scored"),
    "gzip twice": Behaviour(gzipped(_GOOD, 2), "unscored"),
    "gzip that is none": Behaviour(body(_GOOD, content_encoding="gzip"), "unscored"),
    "gzip cut short": Behaviour(body(gzip.compress(_GOOD)[:-9], content_encoding="gzip"), "unscored"),
    "unknown encoding": Behaviour(body(_GOOD, content_encoding="x-zip"), "unscored"),
    # sizes
    "endless body": Behaviour(flood(_HEAD + b"\r\n", b" " * 65536), "unscored"),
    "endless chunks": Behaviour(
        flood(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        "unscored",
    ),
    "gzip bomb": Behaviour(gzipped(b" " * 50_000_000), "unscored"),
    "gzip bomb in gzip": Behaviour(gzipped(b" " * 50_000_000, 2), "unscored"),
    "endless headers": Behaviour(flood(_HEAD, b"X-More: " + b"x" * 65000 + b"\r\n"), "unscored"),
    # broken HTTP
    "no HTTP": Behaviour(raw(b"80\r\n"), "unscored"),
    "bad status line": Behaviour(raw(b"HTTP/9.9 two hundred\r\n\r\n"), "unscored"),
    "closes at once": Behaviour(raw(b""), "unscored"),
    "resets": Behaviour(reset, "unscored"),
    "half a body": Behaviour(body(_GOOD[:50], content_length=str(len(_GOOD))), "unscored"),
    "negative length": Behaviour(body(_GOOD, content_length="-5"), "unscored"),
    "length too short": Behaviour(body(_GOOD, content_length="40"), "unscored"),
    "bad chunk": Behaviour(raw(_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "unscored"),
    "a second reply": Behaviour(twice, "scored", "scored"),
    # redirects
    "redirects for ever": Behaviour(redirect_loop, "refused"),
    "redirect to nowhere": Behaviour(body(b"", "302 Elsewhere"), "refused"),
    "redirect to a file": Behaviour(body(b"", "307 Elsewhere", location="file:///etc/passwd"), "refused"),
    "redirect to no address": Behaviour(body(b"", "307 Elsewhere", location="http://[bad/"), "refused"),
    # errors
    "400": Behaviour(failing("400 Bad Request"), "unscored"),
    "400 of a page": Behaviour(failing("400 Bad Request", "<html>\x1b[2Jno"), "unscored"),
    "413": Behaviour(failing("413 Too Large", ""), "unscored"),
    "422": Behaviour(failing("422 Unprocessable", "[[1]]"), "unscored"),
    "500": Behaviour(failing("500 Oops", "<html>oops</html>", content_type="text/html"), "unscored"),
    "401": Behaviour(failing("401 Unauthorized"), "refused"),
    "403": Behaviour(failing("403 Forbidden", "null"), "refused"),
    "404": Behaviour(failing("404 Nothing", '{"error": "no such model"}'), "refused"),
    "418": Behaviour(failing("418 I'm a teapot"), "refused"),
    "429": Behaviour(failing("429 Too Many"), "refused"),
    "429 for an hour": Behaviour(failing("429 Too Many", retry_after_ms="-", retry_after="3600"), "refused"),
    "429 for ever": Behaviour(failing("429 Too Many", retry_after_ms="-", retry_after="1e308"), "refused"),
    "502": Behaviour(failing("502 Bad Gateway"), "refused"),
    "503": Behaviour(failing("503 Unavailable", "later"), "refused"),
    "status 999": Behaviour(failing("999 Odd"), "refused"),
    "echoes the key in a 401": Behaviour(echo("401 Unauthorized"), "refused"),
    "echoes the key in a 400": Behaviour(echo("400 Bad Request"), "unscored"),
    "echoes the key as an answer": Behaviour(echo("200 OK", as_content=True), "unscored", "scored"),
    # time
    "never answers": Behaviour(silent, "refused", waits=True),
    "drips its body": Behaviour(drip(_HEAD + b"\r\n", b" "), "refused", waits=True),
    "drips its headers": Behaviour(drip(_HEAD, b"X-More: x\r\n"), "refused", waits=True),
    "continues for ever": Behaviour(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "refused", waits=True),
}
"""The behaviours by name."""
