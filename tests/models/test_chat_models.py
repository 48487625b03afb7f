"""A chat model has one interface, whether it is loaded here or served by an OpenAI-compatible API."""

from __future__ import annotations

import math
from typing import Any

import pytest

from personaprobe.errors import EndpointError
from personaprobe.models.chat_models import ChatModel, LocalChatModel, find_chat_model
from personaprobe.models.loading import Placement
from personaprobe.models.weights.packaged import demo_folder
from serving import Reply, completion

FACT = "Is Paris the capital of France? Answer Yes or No."
PLACE = Placement("cpu", "float32")


@pytest.fixture(scope="module")
def local() -> ChatModel:
    return find_chat_model("local:demo", PLACE)


@pytest.mark.real
def test_a_local_model_answers_and_its_probabilities_sum_to_one(local: ChatModel) -> None:
    odds = local.choice_probabilities(FACT, ("Yes", "No"))
    assert sum(odds.values()) == pytest.approx(1.0)
    assert local.complete("Say hello.", 12)
    turned = local.choice_probabilities(FACT, ("No", "Yes"))
    assert turned["Yes"] == pytest.approx(odds["Yes"], abs=1e-4)


@pytest.mark.real
def test_probabilities_are_of_whole_answers_however_they_are_tokenised(local: ChatModel) -> None:
    """The chain rule by hand, over a choice of several tokens and one of a single token."""
    assert isinstance(local, LocalChatModel)
    model, choices = local.model, ("Certainly not today", "No")
    from personaprobe.models.tokens import pad

    totals = []
    for choice in choices:
        tokens = model.tokenizer.exchange(FACT, choice)
        totals.append(float(model.log_probs(pad([tokens], model.network.pad_id)).double().sum()))
    odds = local.choice_probabilities(FACT, choices)
    assert math.log(odds[choices[0]] / odds["No"]) == pytest.approx(totals[0] - totals[1], abs=1e-3)


@pytest.mark.real
def test_a_served_model_answers_as_the_same_model_does_here(served: str, local: ChatModel) -> None:
    remote = find_chat_model(f"openai:{demo_folder()}@{served}", PLACE)
    question = "Name the capital of France in one sentence."
    assert remote.complete(question, 16) == local.complete(question, 16)
    # this server returns no log-probabilities: all probability goes to the answer it gives
    odds = remote.choice_probabilities("Reply with the single word Yes.", ("Yes", "No"))
    assert sorted(odds.values()) in ([0.0, 1.0], [0.5, 0.5])


def test_first_tokens_that_may_begin_a_choice_count_for_it(endpoint: Any) -> None:
    requests: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> Reply:
        requests.append(body)
        return 200, completion("Yes", {"Yes": 0.4, " yes": 0.2, "No": 0.2, "The": 0.1, "": 0.05})

    odds = find_chat_model(endpoint(reply), PLACE).choice_probabilities(FACT, ("Yes", "No"))
    assert odds == {"Yes": pytest.approx(0.75), "No": pytest.approx(0.25)}
    assert requests[0]["temperature"] == 0
    assert requests[0]["top_logprobs"] == 20


def test_a_busy_server_is_retried_and_a_failing_one_is_named(endpoint: Any) -> None:
    calls: list[int] = []

    def busy_once(body: dict[str, Any]) -> Reply:
        calls.append(1)
        return (200, completion("Hello")) if len(calls) > 1 else (429, {"error": {"message": "slow down"}})

    assert find_chat_model(endpoint(busy_once), PLACE).complete("Hi", 5) == "Hello"
    assert len(calls) == 2
    with pytest.raises(EndpointError, match="no such model"):
        find_chat_model(
            endpoint(lambda body: (404, {"error": {"message": "no such model"}})), PLACE
        ).complete("Hi", 5)
    with pytest.raises(EndpointError, match="without an answer"):
        find_chat_model(endpoint(lambda body: (200, completion("x") | {"choices": []})), PLACE).complete(
            "Hi", 5
        )


@pytest.mark.parametrize("name", ["gpt-4", "openai:gpt-4", "openai:gpt@ftp://x", "local:", ""])
def test_another_spelling_is_refused_with_the_right_ones(name: str) -> None:
    with pytest.raises(EndpointError, match="openai:MODEL@URL"):
        find_chat_model(name, PLACE)
