"""A request ends, whatever the server does: at a deadline, after so many bytes, or at once when it is cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from campaigns.hostile_server import BEHAVIOURS, GOOD, HostileServer, body, gzipped, silent
from personaprobe.errors import TransferError
from personaprobe.web.transfer import HttpClient, HttpReply

MEASURE = """
import resource, sys
from personaprobe.errors import TransferError
from personaprobe.web.transfer import HttpClient
client = HttpClient(1_000_000, 30.0)
def send(url):
    try:
        client.send("POST", url, content=b'{"messages": [{"content": ""}]}')
    except TransferError as error:
        assert "1,000,000 bytes" in str(error) or "encoding" in str(error), error
    else:
        raise AssertionError("it was read")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import httpx, asyncio
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(max(map(send, sys.argv[1:])) - before)
"""


def send(url: str, seconds: float = 5.0, max_bytes: int = 100_000) -> HttpReply:
    return HttpClient(max_bytes, seconds).send("POST", url, content=b'{"messages": [{"content": ""}]}')


@pytest.mark.parametrize("name", [name for name, behaviour in BEHAVIOURS.items() if behaviour.waits])
def test_a_server_that_takes_its_time_is_left_at_the_deadline(name: str) -> None:
    with HostileServer(BEHAVIOURS[name]) as server:
        started = time.monotonic()
        with pytest.raises(TransferError, match=r"timed out: no whole reply within 0\.4 s") as error:
            send(server.url, seconds=0.4)
        assert time.monotonic() - started < 2.0
        assert error.value.temporary


def test_bodies_are_read_up_to_the_limit_before_and_after_decompression() -> None:
    whole = b"x" * 100_000
    for act in (body(whole), gzipped(whole)):
        with HostileServer(act) as server:
            assert send(server.url).body == whole
    for act in (body(whole + b"x"), gzipped(whole + b"x")):
        with HostileServer(act) as server, pytest.raises(TransferError, match="more than 100,000 bytes"):
            send(server.url)


def test_large_bodies_take_no_memory() -> None:
    names = ("endless body", "endless chunks", "gzip bomb", "gzip bomb in gzip")
    servers = [HostileServer(BEHAVIOURS[name]).__enter__() for name in names]
    try:
        command = [sys.executable, "-c", MEASURE, *(server.url for server in servers)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    finally:
        for server in servers:
            server.__exit__()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40_000, f"{done.stdout} kB"


def test_requests_of_other_threads_are_cancelled_at_once() -> None:
    client, errors = HttpClient(1000, 60.0), []

    def request(url: str) -> None:
        try:
            client.send("GET", url)
        except TransferError as error:
            errors.append(str(error))

    with HostileServer(silent) as server:
        threads = [threading.Thread(target=request, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(server.requests) < 4:
            time.sleep(0.01)
        started = time.monotonic()
        client.cancel()
        for thread in threads:
            thread.join(5)
    assert time.monotonic() - started < 1.0
    assert errors == ["it was interrupted"] * 4
    with HostileServer(body(b"ok")) as server:
        assert client.send("GET", server.url).body == b"ok", "a client can be used again"


def test_a_reply_that_nobody_requested_is_not_taken_for_the_next_one() -> None:
    client = HttpClient(100_000, 5.0)
    with HostileServer(BEHAVIOURS["a second reply"]) as server:
        for _ in range(5):
            reply = client.send("POST", server.url, content=b'{"messages": [{"content": ""}]}')
            assert json.loads(reply.body) == GOOD


@pytest.mark.parametrize(
    "url", ["http://[bad/", "http://a\x00b/", "http://.../", "https://", "http://u:p/w@host/"]
)
def test_an_address_that_leads_nowhere_is_an_error_of_one_line(url: str) -> None:
    with pytest.raises(TransferError) as error:
        send(url)
    assert "\n" not in str(error.value)
    assert "p/w" not in str(error.value)


def test_a_key_is_not_sent_on_to_another_host() -> None:
    with HostileServer(body(b"ok")) as target:
        elsewhere = target.url.replace("127.0.0.1", "localhost")
        with HostileServer(body(b"", "307 Elsewhere", location=elsewhere)) as server:
            client = HttpClient(1000, 5.0)
            assert client.send("POST", server.url, {"Authorization": "Bearer hush"}, b"{}").body == b"ok"
        assert "authorization" in server.requests[0].headers
        assert "authorization" not in target.requests[0].headers
