"""The judge that prompts a language model for a number and takes the expected number under its probabilities."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from personaprobe.effects.judges.judge import Case
from personaprobe.effects.judges.judgement import Judgement, Unscored, expected_score, without_reply
from personaprobe.errors import ReplyError
from personaprobe.models.chat_models import ChatModel, LocalChatModel, find_chat_model
from personaprobe.models.loading import Placement

NUMBERS = tuple(map(str, range(101)))
"""The scores that a model may reply with."""

N_KEPT = 20
"""How many of the most probable replies are kept with a judgement; servers return no more."""

POLL_SECONDS = 0.02
"""Between two looks at workers that are ending."""


@dataclass(frozen=True)
class LanguageModelJudge:
    """A language model that is prompted for a number; the score is the expected number (Betley et al. 2025).

    Attributes:
        chat_model: loaded here, or behind an endpoint.
        concurrency: requests in flight at the same time; more than one helps only with a server.
    """

    chat_model: ChatModel
    concurrency: int = 1
    batch_size: int = field(default=1, init=False)

    @classmethod
    def open(cls, name: str, placement: Placement, concurrency: int = 1) -> LanguageModelJudge:
        """Open ``local:MODEL`` or ``openai:MODEL@URL``.

        Raises:
            EndpointError: another spelling, or an address that cannot be read.
            CheckpointError: the local model cannot be loaded.
        """
        chat_model = find_chat_model(name, placement)
        return cls(chat_model, 1 if isinstance(chat_model, LocalChatModel) else concurrency)

    @property
    def name(self) -> str:
        """The chat model's name."""
        return self.chat_model.name

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        """Score answers; an empty one is not sent to the model.

        An answer to which the endpoint's reply cannot be used is unscored. When the iteration ends early, as by Ctrl-C,
        requests under way are cancelled: no worker waits for a server any longer. Where one request fails for good, no
        other is started: a server that wants to be left alone for an hour is.
        """
        if self.concurrency == 1:
            yield from map(self._judge_one, cases)
            return
        pool = ThreadPoolExecutor(self.concurrency)
        futures: list[Future[Judgement]] = []
        failures: list[BaseException] = []
        try:
            for case in cases:
                futures.append(pool.submit(self._judge_unless, failures, case))
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # a worker between two requests of one case may start the second: cancel until all have ended
            while not all(future.done() for future in futures):
                self.chat_model.cancel()
                time.sleep(POLL_SECONDS)

    def _judge_unless(self, failures: list[BaseException], case: Case) -> Judgement:
        """Judge in one of several workers; each looks for a failure, its own too, before it starts another request."""
        if failures:
            raise failures[0]
        try:
            return self._judge_one(case)
        except BaseException as error:
            failures.append(error)
            raise

    def _judge_one(self, case: Case) -> Judgement:
        if not case.answer.strip():
            return Unscored("empty answer")
        words = case.rubric.words
        try:
            probabilities = self.chat_model.first_token_probabilities(case.prompt, (*NUMBERS, *words))
        except ReplyError as error:
            return without_reply(error.reason, error.excerpt)
        return expected_score(probabilities, words, _most_probable(probabilities))


def _most_probable(probabilities: Mapping[str, float]) -> str:
    """The most probable replies with their probabilities, as JSON.

    A server that returns no log-probabilities gives its whole completion, with probability 1.
    """
    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])[:N_KEPT]
    return json.dumps({reply: float(f"{p:.6g}") for reply, p in ranked}, ensure_ascii=False)
