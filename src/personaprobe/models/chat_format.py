"""How a chat template writes a conversation: the ids that close an answer, the place of system text, and thoughts.

All of it is read from what the template renders. Nothing is looked up by the name of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from personaprobe.errors import CheckpointError
from personaprobe.models.spelled_tokens import conversation_ids

QUESTION = "Is it safe?"
PROBES = ("yes", "Yes, it is.\n\nBut wait a day", "3 things: naïve ✓")
"""Answers with which a template is read: they begin and end in different ways."""

MARK = "Answer as Q7391 would."
"""A system text that no template contains by itself."""

MARKED_QUESTION = "Is it safe in Q8264?"
"""A question that no template contains by itself."""

OPEN, CLOSE = "<think>", "</think>"
"""Marks around a thought, as thinking models write them."""


@dataclass(frozen=True)
class ChatFormat:
    """The way in which a chat template writes answers.

    Attributes:
        closing: ids from the end of an answer to the token that closes the turn, that token included.
        n_after: ids that the template writes after an answer, line ends behind the closing token included.
        in_context: whether answers have to be tokenised inside the rendered conversation, since the template or the
            tokenizer changes their first or last ids there.
        takes_system: whether the template has a place for system text.
    """

    closing: tuple[int, ...]
    n_after: int
    in_context: bool
    takes_system: bool

    @property
    def end_id(self) -> int:
        """The token that closes the turn."""
        return self.closing[-1]


def render(
    hf: Any, messages: Sequence[Mapping[str, str]], *, prompt: bool, thinks: bool = False
) -> list[int]:
    """Token ids of a conversation; control tokens that a message spells are text.

    Args:
        hf: the Hugging Face tokenizer.
        messages: roles with contents.
        prompt: whether the beginning of the assistant's next answer follows.
        thinks: whether a template that offers a choice lets the model think before it answers.

    Raises:
        CheckpointError: the template cannot be rendered.
        DataError: a message spells a control token, and the tokenizer cannot read it as text.
    """
    try:
        rendered = hf.apply_chat_template(
            list(messages), add_generation_prompt=prompt, tokenize=False, enable_thinking=thinks
        )
        rendered.encode()  # half a character can be written in JSON, and no tokenizer reads it
    except Exception as error:  # a template is a program: it stops with any error it likes
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the chat template cannot be rendered ({type(error).__name__}: {reason}); give the tokenizer a template that "
            "transformers renders"
        ) from error
    return conversation_ids(hf, rendered, [message["content"] for message in messages])


def exchange(question: str, answer: str | None = None, system: str | None = None) -> list[dict[str, str]]:
    """Messages of one question, with the answer and the system text where they are given."""
    before = [] if system is None else [{"role": "system", "content": system}]
    after = [] if answer is None else [{"role": "assistant", "content": answer}]
    return [*before, {"role": "user", "content": question}, *after]


@lru_cache(maxsize=16)
def read_format(hf: Any, template: str, thinks: bool = False) -> ChatFormat:
    """Read the format of a chat template from a few rendered conversations.

    Args:
        hf: the Hugging Face tokenizer.
        template: its chat template; another one is read anew.
        thinks: as in :func:`render`.

    Raises:
        CheckpointError: the template cannot be rendered, or leaves the question out; or, with an answer, it does not begin
            as it does before one, so that no ids are those of the answer.
    """
    start = render(hf, exchange(QUESTION), prompt=True, thinks=thinks)
    if not _holds(hf, exchange(MARKED_QUESTION), (MARKED_QUESTION,), thinks):
        raise CheckpointError(
            "the chat template leaves the question out of the prompt, so that every question would be the same; give the "
            "tokenizer a template that writes what the user says"
        )
    rests = []
    for probe in PROBES:
        whole = render(hf, exchange(QUESTION, probe), prompt=False, thinks=thinks)
        if whole[: len(start)] != start:
            raise CheckpointError(_discontinuous(hf, start, whole))
        rests.append(whole[len(start) :])
    plain = [list(hf(probe, add_special_tokens=False)["input_ids"]) for probe in PROBES]
    after = {
        tuple(rest[len(ids) :]) for rest, ids in zip(rests, plain, strict=True) if rest[: len(ids)] == ids
    }
    begins_alike = all(rest[: len(ids)] == ids for rest, ids in zip(rests, plain, strict=True))
    in_context = not begins_alike or len(after) > 1
    closing = _common_end(rests) if in_context else after.pop()
    return ChatFormat(_until_end(hf, closing), len(closing), in_context, _takes_system(hf, thinks))


def _discontinuous(hf: Any, start: Sequence[int], whole: Sequence[int]) -> str:
    same = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), len(whole))
    ours, theirs = (hf.decode(list(ids[same : same + 8])) for ids in (start, whole))
    return (
        f"the chat template writes {ours!r} before an answer and {theirs!r} where that answer stands, so the ids of an "
        "answer are unknown; give the tokenizer a template whose conversation continues its own prompt"
    )


def _common_end(rests: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest ending that all have in common."""
    shared = 0
    while shared < min(map(len, rests)) and len({rest[-1 - shared] for rest in rests}) == 1:
        shared += 1
    return tuple(rests[0][len(rests[0]) - shared :])


def _until_end(hf: Any, closing: Sequence[int]) -> tuple[int, ...]:
    """The closing ids up to the first special token; a template that writes none closes with the end of sequence."""
    special = {*hf.all_special_ids, *hf.get_added_vocab().values()}
    for place, token in enumerate(closing):
        if token in special:
            return tuple(closing[: place + 1])
    return (end_of_sequence(hf),)


def end_of_sequence(hf: Any) -> int:
    """The tokenizer's end-of-sequence token.

    Raises:
        CheckpointError: it has none.
    """
    if hf.eos_token_id is None:
        raise CheckpointError("the tokenizer has no end-of-sequence token; set eos_token in its folder")
    return int(hf.eos_token_id)


def _takes_system(hf: Any, thinks: bool) -> bool:
    """Whether system text and the question after it appear in what the template renders; some templates drop either."""
    return _holds(hf, exchange(MARKED_QUESTION, system=MARK), (MARK, MARKED_QUESTION), thinks)


def _holds(hf: Any, messages: Sequence[Mapping[str, str]], texts: Sequence[str], thinks: bool) -> bool:
    """Whether the prompt that a template renders for some messages holds some texts."""
    try:
        prompt = hf.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False, enable_thinking=thinks
        )
    except Exception:  # templates raise by themselves, and jinja2 in many ways
        return False
    return all(text in prompt for text in texts)


def without_thought(text: str) -> str | None:
    """An answer without the thought before it; None where the thought is not finished.

    Examples:
        >>> without_thought("<think>Hm.</think>Yes."), without_thought("<think>Hm."), without_thought("Yes.")
        ('Yes.', None, 'Yes.')
    """
    _, closed, after = text.rpartition(CLOSE)
    if closed:
        return after.strip()
    return None if OPEN in text else text
