"""Control tokens that a text spells, such as ``<|im_end|>`` in an answer: they stay text.

A tokenizer would read them as the tokens themselves: the text could end its own turn and speak as somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from personaprobe.errors import DataError, shortened


def text_ids(hf: Any, text: str, *, add_special_tokens: bool = True) -> list[int]:
    """Token ids of a text; control tokens that it spells are text.

    Args:
        hf: the Hugging Face tokenizer.
        text: any text.
        add_special_tokens: whether the tokenizer puts its own control tokens around the text.

    Raises:
        DataError: the text spells a control token, and the tokenizer cannot read it as text.
    """
    if not (spelled := spelled_tokens(hf, [text])):
        return list(hf(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"])
    _split(hf, text, spelled)
    options = {"add_special_tokens": add_special_tokens, "split_special_tokens": True, "verbose": False}
    return list(hf(text, **options)["input_ids"])


def conversation_ids(hf: Any, rendered: str, contents: Sequence[str]) -> list[int]:
    """Token ids of a rendered conversation; control tokens are those that the template wrote, and no others.

    Args:
        hf: the Hugging Face tokenizer.
        rendered: what its chat template makes of the messages.
        contents: of the messages, in order.

    Raises:
        DataError: a message spells a control token, and the tokenizer cannot tell it from one of the template.
    """
    spelled = spelled_tokens(hf, contents)
    if not spelled:
        return list(hf(rendered, add_special_tokens=False, verbose=False)["input_ids"])
    if not getattr(hf, "is_fast", False):
        raise _refusal(spelled)
    spans = list(_spans(rendered, contents, spelled))
    encoded = hf(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    special = _ids_of(hf, _control_tokens(hf))
    ids: list[int] = []
    for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        is_text = token in special and any(first <= start and end <= last for first, last in spans)
        ids += _split(hf, rendered[start:end], spelled) if is_text else [token]
    return ids


def spelled_tokens(hf: Any, texts: Sequence[str]) -> list[str]:
    """The control tokens of a tokenizer that some texts spell."""
    return [mark for mark in _control_tokens(hf) if any(mark in text for text in texts)]


def _control_tokens(hf: Any) -> list[str]:
    """The spellings of all control tokens, looked up again where the tokenizer has grown."""
    size = len(hf)
    known = _KNOWN.get(hf)
    if known is None or known[0] != size:
        known = _KNOWN[hf] = size, _look_up(hf)
    return known[1]


_KNOWN: WeakKeyDictionary[Any, tuple[int, list[str]]] = WeakKeyDictionary()
"""Size and control tokens of every tokenizer that was asked: a look-up takes longer than tokenising a sentence."""


def _look_up(hf: Any) -> list[str]:
    added = getattr(hf, "added_tokens_decoder", {}).values()
    spelled = dict.fromkeys([*hf.all_special_tokens, *(token.content for token in added if token.special)])
    return [mark for mark in spelled if mark]


def _ids_of(hf: Any, spelled: Sequence[str]) -> set[int]:
    return set(hf.convert_tokens_to_ids(list(spelled)))


def _split(hf: Any, text: str, spelled: Sequence[str]) -> list[int]:
    """Ids of a text as text, none of them a control token."""
    ids = list(hf(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    if _ids_of(hf, spelled) & set(ids):
        raise _refusal(spelled)
    return ids


def _spans(rendered: str, contents: Sequence[str], spelled: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last place of every message in a rendered conversation; templates may trim blanks around it."""
    place = 0
    for content in contents:
        text = content.strip()
        start = rendered.find(text, place)
        if start < 0:
            raise _refusal(spelled)
        place = start + len(text)
        yield start, place


def _refusal(spelled: Sequence[str]) -> DataError:
    return DataError(
        f"a text spells {', '.join(map(shortened, spelled[:3]))}, which this tokenizer reads as a control token; remove it "
        "from the text"
    )
