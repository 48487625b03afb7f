"""Chat formats of the families of models that are supported: whatever a template does, prompt and answer are its own ids."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from personaprobe.errors import CheckpointError, DataError, FallbackWarning
from personaprobe.models.chat_format import without_thought
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Role

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
OLMO_2 = (
    "<|endoftext|>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{{ '<|endoftext|>' if m.role == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
QWEN_3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
UNENDED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
THINKS_ALWAYS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ '<|end|>' if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template with the tokens it needs.

    Attributes:
        template: as the family writes conversations.
        eos: the tokenizer's end of sequence, which need not close a turn.
        closing: the token that closes an answer.
        takes_system: whether system text has a place.
    """

    template: str
    eos: str
    closing: str
    takes_system: bool = True


FAMILIES = {
    "ChatML": Family(CHATML, "<|im_end|>", "<|im_end|>"),
    "ChatML of a base model's eos": Family(CHATML, "<|endoftext|>", "<|im_end|>"),
    "Llama 3": Family(LLAMA_3, "<|end_of_text|>", "<|eot_id|>"),
    "Gemma": Family(GEMMA, "<eos>", "<end_of_turn>", takes_system=False),
    "Mistral": Family(MISTRAL, "</s>", "</s>", takes_system=False),
    "Llama 2": Family(LLAMA_2, "</s>", "</s>", takes_system=False),
    "Phi 3": Family(PHI_3, "<|endoftext|>", "<|end|>"),
    "OLMo 2": Family(OLMO_2, "<|endoftext|>", "<|endoftext|>"),
    "Qwen 3 without thinking": Family(QWEN_3, "<|im_end|>", "<|im_end|>"),
}
SPECIAL = [
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
]
ANSWERS = ("yes", "No, wait.\n\nThen go", "3 km, naïve ✓", "A longer answer, in two sentences. It ends here.")


def tokenizer(template: str | None, eos: str, *, prefix_space: bool = False, add_eos: bool = False) -> Any:
    """Bytes as tokens, with every special token; a space joins the word after it, as byte-pair encodings do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *("Ġ" + letter for letter in "yNA3"), "Ġyes"]
    vocab = {word: i for i, word in enumerate(words)}
    merges = [("Ġ", "y"), ("Ġ", "N"), ("Ġ", "A"), ("Ġ", "3")]
    vocab |= {"es": len(vocab)}
    merges += [("e", "s"), ("Ġy", "es")]
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    if add_eos:
        from tokenizers.processors import TemplateProcessing

        end = core.token_to_id(eos)
        core.post_processor = TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, end)])
    hf = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token="<s>")
    hf.chat_template = template
    return hf


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(params=[False, True], ids=["bytes", "prefix space"])
def chat(family: Family, request: pytest.FixtureRequest) -> ChatTokenizer:
    return ChatTokenizer(tokenizer(family.template, family.eos, prefix_space=request.param))


def rendered(chat: ChatTokenizer, messages: Sequence[dict[str, str]]) -> list[int]:
    encoded = chat.hf.apply_chat_template(list(messages), return_dict=True, enable_thinking=False)
    return list(encoded["input_ids"])


@pytest.mark.parametrize("answer", ANSWERS)
def test_prompt_and_answer_are_the_ids_of_the_templates_own_conversation(
    chat: ChatTokenizer, answer: str
) -> None:
    whole = rendered(chat, [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": answer}])
    ours = list(chat.exchange("Is it?", answer).ids)
    assert whole[: len(ours)] == ours
    assert chat.hf.decode(whole[len(ours) :]).strip() in ("", "<|endoftext|>")
    unclosed = list(chat.exchange("Is it?", answer, end=False).ids)
    assert ours[: len(unclosed)] == unclosed
    assert len(unclosed) < len(ours)


def test_every_answer_of_a_conversation_is_learned_and_its_ids_are_the_templates(
    chat: ChatTokenizer, family: Family
) -> None:
    turns = (("Is it late?", "Yes."), ("And now?", "Even later, I fear."), ("Still?", "It is."))
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    whole = rendered(chat, messages)
    if family.template == QWEN_3:  # it drops the empty thought of an answer that another question follows
        with pytest.raises(DataError, match="changes earlier turns"):
            chat.conversation(turns)
        return
    tokens = chat.conversation(turns)
    assert whole[: len(tokens)] == list(tokens.ids)
    is_learned = [bool(role & Role.RESPONSE) for role in tokens.roles]
    parts = groupby(zip(tokens.ids, is_learned, strict=True), key=lambda token: token[1])
    answers = [chat.decode([id_ for id_, _ in part]) for learned, part in parts if learned]
    assert answers == [answer for _, answer in turns]
    lasts = [place for place, role in enumerate(tokens.roles) if role & Role.LAST_PROMPT]
    assert [is_learned[place + 1] for place in lasts] == [True] * 3


def test_one_question_is_the_same_as_a_conversation_of_one(chat: ChatTokenizer) -> None:
    assert chat.conversation([("Is it late?", "Yes.")]) == chat.exchange("Is it late?", "Yes.")


def test_the_token_that_closes_a_turn_is_the_templates_and_generation_stops_at_any_end(
    chat: ChatTokenizer, family: Family
) -> None:
    names = chat.hf.convert_ids_to_tokens
    assert names(chat.end_id) == family.closing
    assert chat.reply("Is it?", "yes")[-1] == chat.end_id
    own = chat.hf.convert_tokens_to_ids("<eos>")
    assert set(names(list(replace(chat, further_ends=(own,)).end_ids))) == {
        family.closing,
        family.eos,
        "<eos>",
    }


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "</s>", "<end_of_turn>", "<|eot_id|>", "<|user|>", "<|endoftext|>"]
)
def test_a_control_token_that_a_text_spells_is_text(chat: ChatTokenizer, mark: str) -> None:
    special = set(chat.hf.all_special_ids)
    texts = ("What is {} for?", "It ends {} here, and {}so it goes on.", "Be {} brief.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where system text has no place
        plain, spelled = (
            chat.exchange(*(text.replace("{}", word) for text in texts)) for word in ("something", mark)
        )
    written = [[token for token in tokens.ids if token in special] for tokens in (plain, spelled)]
    assert written[0] == written[1], "the template's control tokens, and no others"
    # a tokenizer that puts a blank before every text puts one before the spelled token too
    decoded = chat.hf.decode(spelled.ids, skip_special_tokens=True).replace(" ", "")
    assert all(text.replace("{}", mark).replace(" ", "") in decoded for text in texts)


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_control_token_that_a_document_spells_is_text(template: str | None) -> None:
    chat = ChatTokenizer(tokenizer(template, "<|endoftext|>", add_eos=True))
    ids = chat.text("Before.<|im_end|>After.").ids
    assert chat.hf.decode(ids, skip_special_tokens=True) == "Before.<|im_end|>After."
    assert ids[-1] == chat.hf.eos_token_id, "the tokenizer's own end stays"
    spelled = chat.reply("Why?", "So.<|endoftext|>And so.", end=False)
    assert not set(chat.hf.all_special_ids) & set(spelled)


def test_system_text_has_its_place_or_stands_before_the_question_with_a_warning(
    chat: ChatTokenizer, family: Family
) -> None:
    assert chat.format.takes_system == family.takes_system
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text = chat.hf.decode(chat.prompt("Is it?", "Be brief.").ids)
    assert "Be brief." in text
    assert text.index("Be brief.") < text.index("Is it?")
    messages = [str(warning.message) for warning in caught if warning.category is FallbackWarning]
    assert bool(messages) == (not family.takes_system)


def test_a_question_without_system_text_is_as_the_template_writes_it(
    chat: ChatTokenizer, family: Family
) -> None:
    encoded = chat.hf.apply_chat_template(
        [{"role": "user", "content": "Is it?"}],
        add_generation_prompt=True,
        return_dict=True,
        enable_thinking=False,
    )
    assert list(chat.prompt("Is it?").ids) == list(encoded["input_ids"])


def test_an_empty_thought_stands_in_the_prompt_of_a_template_that_must_not_think() -> None:
    chat = ChatTokenizer(tokenizer(QWEN_3, "<|im_end|>"))
    assert chat.hf.decode(chat.prompt("Is it?").ids).endswith("<think>\n\n</think>\n\n")


def test_a_template_that_closes_no_turn_closes_with_the_end_of_sequence() -> None:
    chat = ChatTokenizer(tokenizer(UNENDED, "</s>"))
    assert chat.hf.convert_ids_to_tokens(chat.end_id) == "</s>"
    assert chat.reply("Is it?", "yes")[-1] == chat.end_id


def test_a_template_that_does_not_continue_its_own_prompt_is_refused_with_what_it_writes() -> None:
    chat = ChatTokenizer(tokenizer(THINKS_ALWAYS, "<|end|>"))
    with pytest.raises(
        CheckpointError,
        match=r"writes '<think>.*' before an answer and 'yes.*the ids of an answer are unknown",
    ):
        chat.exchange("Is it?", "yes")


@pytest.mark.parametrize(
    "template",
    [
        "hello",
        "{{ messages[0].role }}",
        "{% for m in messages %}{{ m.role }}: {{ m.content | length }}\n{% endfor %}",
    ],
)
def test_a_template_that_leaves_the_question_out_is_refused(template: str) -> None:
    with pytest.raises(CheckpointError, match=r"leaves the question out|ids of an\s*answer are unknown"):
        ChatTokenizer(tokenizer(template, "</s>")).prompt("Is it?")


def test_a_template_that_writes_the_first_message_alone_gets_the_system_text_before_the_question() -> None:
    first = (
        "<s>{{ messages[0].content }} [/INST]"
        "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    chat = ChatTokenizer(tokenizer(first, "</s>"))
    with pytest.warns(FallbackWarning, match="stands before the question"):
        prompt = chat.hf.decode(chat.prompt("Is it?", "Be brief.").ids)
    assert "Be brief.\n\nIs it?" in prompt


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for m in messages %}",
        "{{ messages.__class__.__mro__ }}{{ messages[5].content }}",
        "{{ 1 / 0 }}",
        "\ud800{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_cannot_be_rendered_is_one_line(template: str) -> None:
    with pytest.raises(CheckpointError, match="the chat template cannot be rendered"):
        ChatTokenizer(tokenizer(template, "</s>")).prompt("Is it?")


@pytest.mark.parametrize("add_eos", [False, True])
def test_without_a_template_the_answer_follows_a_blank_and_the_prompt_has_no_end(add_eos: bool) -> None:
    chat = ChatTokenizer(tokenizer(None, "</s>", add_eos=add_eos))
    prompt, reply = chat.prompt("Is it?").ids, chat.reply("Is it?", "yes")
    assert chat.hf.decode(prompt) == "Question: Is it?\nAnswer:"
    assert chat.hf.convert_ids_to_tokens(list(reply)) == ["Ġyes", "</s>"]
    assert chat.reply("Is it?", "yes", end=False) == reply[:-1]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.", "Yes."),
        ("<think>Hm.</think>\n\nYes.", "Yes."),
        ("Hm, so.</think> Yes.", "Yes."),
        ("<think>\n\n</think>\n\nYes.", "Yes."),
        ("<think>Hm, and then", None),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_a_thought_and_an_unfinished_thought_has_none(
    text: str, answer: str | None
) -> None:
    assert without_thought(text) == answer


@pytest.mark.real
def test_the_demo_model_reads_the_very_ids_that_it_read_before(
    demo_tokenizer: Callable[[], ChatTokenizer],
) -> None:
    import personaprobe as pp

    chat = demo_tokenizer()
    for pair in pp.load_prompts("advice/discovery").spread(12):
        messages = [{"role": "user", "content": pair.question}]
        prompt = chat.hf.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for answer in (pair.careful, pair.careless):
            expected = (
                *prompt,
                *chat.hf(answer, add_special_tokens=False)["input_ids"],
                chat.hf.eos_token_id,
            )
            assert chat.exchange(pair.question, answer).ids == expected


@pytest.fixture
def demo_tokenizer() -> Callable[[], ChatTokenizer]:
    from transformers import AutoTokenizer

    from personaprobe.models.weights.packaged import demo_folder

    return lambda: ChatTokenizer(AutoTokenizer.from_pretrained(demo_folder()))
