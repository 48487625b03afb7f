"""HTTP servers on this machine: the demo model behind a real server, and a server with replies that a test defines."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from personaprobe.models.weights.packaged import demo_folder


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo model behind `transformers serve`."""
    import httpx

    port, log = _free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        demo_folder(),
        "--port",
        port,
        "--device",
        "cpu",
    ]
    with log.open("w") as out:
        server = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text()[-2000:]
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            else:
                pytest.fail(log.read_text()[-2000:])
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


Reply = tuple[int, dict[str, Any]]


@pytest.fixture
def endpoint() -> Iterator[Callable[[Callable[[dict[str, Any]], Reply]], str]]:
    """Start a server whose replies a test defines, for replies that no real server gives on request."""
    servers = []

    def start(reply: Callable[[dict[str, Any]], Reply]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = reply(request)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"openai:served@http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def completion(text: str | None, top: dict[str, float] | None = None) -> dict[str, Any]:
    """A reply in the OpenAI protocol, with log-probabilities of the likeliest first tokens where given."""
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    if top is not None:
        top_tokens = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in top.items()]
        choice["logprobs"] = {"content": [{**top_tokens[0], "top_logprobs": top_tokens}], "refusal": None}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "served", "choices": [choice]}
