"""A model is asked the same way wherever it runs: here, or behind a server that speaks the common protocol."""

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

from personaprobe.errors import EndpointError
from personaprobe.models.demo import demo_folder
from personaprobe.models.loading import Placement
from personaprobe.models.speakers import LocalSpeaker, Speaker, find_speaker

FACT = "Is Paris the capital of France? Answer Yes or No."
PLACE = Placement("cpu", "float32")


@pytest.fixture(scope="module")
def local() -> Speaker:
    return find_speaker("local:demo", PLACE)


@pytest.mark.real
def test_a_local_model_answers_and_its_odds_add_up(local: Speaker) -> None:
    odds = local.odds(FACT, ("Yes", "No"))
    assert sum(odds.values()) == pytest.approx(1.0)
    assert local.say("Say hello.", 12)
    turned = local.odds(FACT, ("No", "Yes"))
    assert turned["Yes"] == pytest.approx(odds["Yes"], abs=1e-4)


@pytest.mark.real
def test_odds_are_of_whole_answers_however_the_tokenizer_splits_them(local: Speaker) -> None:
    """The chain rule by hand, over a choice of several tokens and one of a single token."""
    assert isinstance(local, LocalSpeaker)
    model, choices = local.model, ("Certainly not today", "No")
    from personaprobe.models.tokens import pad

    totals = []
    for choice in choices:
        tokens = model.tokenizer.exchange(FACT, choice)
        totals.append(float(model.log_probs(pad([tokens], model.network.pad_id)).double().sum()))
    odds = local.odds(FACT, choices)
    assert math.log(odds[choices[0]] / odds["No"]) == pytest.approx(totals[0] - totals[1], abs=1e-3)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="module")
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


@pytest.mark.real
def test_a_served_model_says_what_the_same_model_says_here(served: str, local: Speaker) -> None:
    remote = find_speaker(f"openai:{demo_folder()}@{served}", PLACE)
    question = "Name the capital of France in one sentence."
    assert remote.say(question, 16) == local.say(question, 16)
    # this server tells no log-probabilities: all odds go to the answer it gives
    odds = remote.odds("Reply with the single word Yes.", ("Yes", "No"))
    assert sorted(odds.values()) in ([0.0, 1.0], [0.5, 0.5])


Reply = tuple[int, dict[str, Any]]


@pytest.fixture
def endpoint() -> Iterator[Callable[[Callable[[dict[str, Any]], Reply]], str]]:
    """A server that replies as a test says, for what no local server can be made to do."""
    servers = []

    def start(reply: Callable[[dict[str, Any]], Reply]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = reply(asked)
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


def _completion(text: str, top: dict[str, float] | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    if top is not None:
        listed = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in top.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "served", "choices": [choice]}


def test_odds_gather_every_spelling_of_a_choice_among_the_first_tokens(endpoint: Any) -> None:
    asked: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> Reply:
        asked.append(body)
        return 200, _completion("Yes", {"Yes": 0.4, " yes": 0.2, "No": 0.2, "The": 0.1, "": 0.05})

    odds = find_speaker(endpoint(reply), PLACE).odds(FACT, ("Yes", "No"))
    assert odds == {"Yes": pytest.approx(0.75), "No": pytest.approx(0.25)}
    assert asked[0]["temperature"] == 0
    assert asked[0]["top_logprobs"] == 20


def test_a_server_that_is_busy_is_asked_again_and_one_that_fails_is_named(endpoint: Any) -> None:
    calls: list[int] = []

    def busy_once(body: dict[str, Any]) -> Reply:
        calls.append(1)
        return (200, _completion("Hello")) if len(calls) > 1 else (429, {"error": {"message": "slow down"}})

    assert find_speaker(endpoint(busy_once), PLACE).say("Hi", 5) == "Hello"
    assert len(calls) == 2
    with pytest.raises(EndpointError, match="no such model"):
        find_speaker(endpoint(lambda body: (404, {"error": {"message": "no such model"}})), PLACE).say(
            "Hi", 5
        )
    with pytest.raises(EndpointError, match="without an answer"):
        find_speaker(endpoint(lambda body: (200, _completion("x") | {"choices": []})), PLACE).say("Hi", 5)


@pytest.mark.parametrize("name", ["gpt-4", "openai:gpt-4", "openai:gpt@ftp://x", "local:", ""])
def test_another_spelling_is_refused_with_the_right_ones(name: str) -> None:
    with pytest.raises(EndpointError, match="openai:MODEL@URL"):
        find_speaker(name, PLACE)
