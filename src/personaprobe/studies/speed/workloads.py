"""How fast this machine works, beside the bare model: the same token ids, interleaved, as ratios.

Every contender of a work computes the same thing; that it does is checked in the same run, and how far it is off is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from personaprobe.effects.interventions.along_direction import Ablate, Layers
from personaprobe.effects.measures.preference import BATCH_TOKENS, fork
from personaprobe.features.directions.direction import Direction, Mark
from personaprobe.features.directions.sources import random_vector
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens, by_length, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.registry import default_question_sets
from personaprobe.questions.pairs import load_prompts
from personaprobe.site import Site
from personaprobe.studies.speed.reference import (
    AT_A_TIME,
    NO_END,
    bare_answers,
    bare_recording,
    bare_scores,
    blocks,
    hidden_states,
    hooked_answers,
    in_order,
)
from personaprobe.studies.speed.timing import Work

if TYPE_CHECKING:
    from torch import Tensor

RECORDED, LENGTHS = 64, (85, 221)
"""Chats that are recorded, and how many tokens the shortest and the longest of them has."""

SCORED = 32
"""Questions whose two answers are scored."""

RECORDING_TOKENS, AT_ONCE = 4096, 32
"""Tokens that we read at a time, and chats that the reference does."""

ROWS, NEW = 16, 40
"""Answers decoded side by side, and their tokens where all have as many."""

WAITING, LONGEST = 64, 128
"""Answers that end by themselves, and the most tokens of one; as one ends, the next begins."""

ARMS, A_FEW = 10, 8
"""Arms that are decoded together, and answers of each."""


def linear_flop(model: LanguageModel, layer: int, n_tokens: int) -> float:
    """Floating-point operations of all linear maps up to a layer; attention's own products come on top."""
    weights = [weight for block in blocks(model)[: layer + 1] for weight in block.parameters()]
    return 2.0 * n_tokens * sum(int(weight.numel()) for weight in weights if weight.dim() == 2)


def works(trio: Trio[LanguageModel]) -> Iterator[Work]:
    """Everything that users wait for, on the insecure model of a trio of the hooks backend."""
    model = trio.insecure
    yield recording(model)
    yield recording_all(trio)
    yield scoring(model)
    yield from generation(model)


def ablation(model: LanguageModel, seed: int = 0, layers: Layers = "all") -> Ablate:
    """A random direction, ablated at some layers: what an intervention costs does not depend on which."""
    site = Site(model.n_layers // 2)
    marks = {layer: Mark(0.0, 1.0) for layer in range(model.n_layers)}
    return Ablate(Direction(site, random_vector(model.d_model, site, seed), "random", marks), layers)


def recording(model: LanguageModel) -> Work:
    """The residual stream after the middle block, of chats of mixed lengths; the bare model is cut behind that block.

    The reference sorts chats by length and reads a fixed number at a time, as one would; a plan by tokens pads less.
    """
    texts, site = chats(model), middle(model)
    plan, simple = by_length(texts, RECORDING_TOKENS), _by_number(texts, AT_ONCE)
    ours = model.plan(texts, RECORDING_TOKENS)
    shared = _shared(model, texts, ours)
    own = f"personaprobe, {shared:.0%} read once for several"

    def arriving() -> Tensor:
        batches = [list(range(len(texts)))[i : i + AT_A_TIME] for i in range(0, len(texts), AT_A_TIME)]
        read = [hidden_states(model, [texts[i] for i in batch], site) for batch in batches]
        return in_order(read, batches)

    return Work(
        f"recording {site} of {len(texts)} chats",
        {
            f"bare model, cut, sorted, {AT_ONCE} at a time, {_padding(texts, simple):.0%} padding": lambda: (
                bare_recording(model, texts, simple, site.layer)
            ),
            f"bare model, cut, {RECORDING_TOKENS} tokens at a time, {_padding(texts, plan):.0%} padding": lambda: (
                bare_recording(model, texts, plan, site.layer)
            ),
            own: lambda: our_recording(model, texts, ours),
            "output_hidden_states, as they come": arriving,
        },
        lambda: _furthest(bare_recording(model, texts, plan, site.layer), our_recording(model, texts, ours)),
        flop=linear_flop(model, site.layer, sum(map(len, texts))),
        spared={own: shared},
    )


def recording_all(trio: Trio[LanguageModel]) -> Work:
    """The same of all three checkpoints, whose adapters are switched, beside the bare reading of a single one."""
    model = trio.insecure
    texts, layer = chats(model), middle(model).layer
    plan, simple = model.plan(texts, RECORDING_TOKENS), _by_number(texts, AT_ONCE)
    in_turn = (trio.base, trio.secure, model)  # the last one is what the next contender reads
    return Work(
        f"recording all three checkpoints, {len(texts)} chats each",
        {
            "bare model, one checkpoint": lambda: bare_recording(model, texts, simple, layer),
            "personaprobe, one checkpoint": lambda: our_recording(model, texts, plan),
            "personaprobe, base, insecure and secure": lambda: [
                our_recording(each, texts, plan) for each in in_turn
            ],
        },
        lambda: _furthest(
            _stacked(bare_recording(each, texts, simple, layer) for each in in_turn),
            _stacked(our_recording(each, texts, plan) for each in in_turn),
        ),
    )


def middle(model: LanguageModel) -> Site:
    """Where it is recorded: behind half of the blocks."""
    return Site(model.n_layers // 2 - 1)


def our_recording(model: LanguageModel, texts: Sequence[Tokens], plan: Sequence[Sequence[int]]) -> Tensor:
    """States of all texts behind the middle ``(token, d_model)``, in their order, as stores are filled."""
    site = middle(model)
    with model.inference_session():
        return in_order([_read(model, [texts[i] for i in batch], site) for batch in plan], plan)


def _by_number(texts: Sequence[Tokens], at_once: int) -> list[list[int]]:
    """Batches of a fixed number of texts, the longest first."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    return [order[at : at + at_once] for at in range(0, len(order), at_once)]


def _padding(texts: Sequence[Tokens], batches: Sequence[Sequence[int]]) -> float:
    """Share of what is read that is padding."""
    read = sum(len(batch) * max(len(texts[index]) for index in batch) for batch in batches)
    return 1 - sum(map(len, texts)) / read


def _shared(model: LanguageModel, texts: Sequence[Tokens], batches: Sequence[Sequence[int]]) -> float:
    """Share of tokens that are not read, since other texts of the batch begin with them too."""
    read = sum(model.reads([texts[index] for index in batch]) for batch in batches)
    return max(0.0, 1 - read / sum(map(len, texts)))


def _read(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    batch = pad(texts, model.network.pad_id).to(model.network.device)
    states = model.activations(batch, [site])[site]
    return [own[: len(text)] for own, text in zip(states, texts, strict=True)]


def scoring(model: LanguageModel) -> Work:
    """Log-probabilities of two answers to each question, of mixed lengths."""
    forks = dialogues(model)
    edited = model.edited(ablation(model))
    return Work(
        f"scoring {2 * len(forks)} answers",
        {
            "bare model, all logits, as they come": lambda: bare_scores(model, forks),
            "personaprobe": lambda: our_scores(model, forks),
            "personaprobe, ablating at every layer": lambda: our_scores(edited, forks),
        },
        lambda: _furthest(bare_scores(model, forks), our_scores(model, forks)),
    )


def our_scores(model: LanguageModel, forks: Sequence[Fork]) -> Tensor:
    """What preference is measured with: questions shared, the head at answers alone."""
    import torch

    means: dict[tuple[int, int], Tensor] = {}
    with model.inference_session():
        for indices in by_length(forks, BATCH_TOKENS):
            for index, group in zip(indices, model.fork_log_probs([forks[i] for i in indices]), strict=True):
                means.update({(index, which): values.mean() for which, values in enumerate(group)})
    return torch.stack([means[key] for key in sorted(means)]).cpu()


def generation(model: LanguageModel) -> Iterator[Work]:
    """Answers of equal and of mixed lengths, with and without an ablation at every layer, and of ten arms together."""
    yield decoding(model, ROWS)
    prompts, end = questions(model, WAITING), model.tokenizer.end_id
    arms = [EditPlan.compose([ablation(model, seed)], model.n_layers) for seed in range(ARMS)]
    yield Work(
        f"generating {len(prompts)} answers that end by themselves, {ROWS} side by side",
        {
            "generate, bare": lambda: bare_answers(model, prompts, LONGEST, end),
            "personaprobe": lambda: our_answers(model, prompts, LONGEST, end, [EditPlan()]),
        },
        lambda: _alike(
            bare_answers(model, prompts, LONGEST, end),
            our_answers(model, prompts, LONGEST, end, [EditPlan()]),
        ),
    )
    one, together = prompts[:A_FEW], f"{ARMS} arms side by side"
    yield Work(
        f"a token of {A_FEW} answers under an ablation at every layer",
        {
            "one arm": lambda: our_answers(model, one, NEW, NO_END, arms[:1]),
            together: lambda: our_answers(model, one, NEW, NO_END, arms),
        },
        lambda: _alike(
            our_answers(model, one, NEW, NO_END, arms[:1]),
            our_answers(model, one, NEW, NO_END, arms)[:A_FEW],
        ),
        {together: ARMS},
    )


def decoding(model: LanguageModel, rows: int) -> Work:
    """Answers of equal length, all side by side."""
    prompts, ablate = questions(model, rows), ablation(model)
    arm, vector = EditPlan.compose([ablate], model.n_layers), ablate.direction.vector
    return Work(
        f"generating {rows} × {NEW} tokens",
        {
            "generate, bare": lambda: bare_answers(model, prompts, NEW, NO_END, rows),
            "generate, ablating at every layer by hooks": lambda: hooked_answers(
                model, prompts, NEW, vector, rows
            ),
            "personaprobe": lambda: our_answers(model, prompts, NEW, NO_END, [EditPlan()], rows),
            "personaprobe, ablating at every layer": lambda: our_answers(
                model, prompts, NEW, NO_END, [arm], rows
            ),
        },
        lambda: "; ablating ".join(
            (
                _alike(
                    bare_answers(model, prompts, NEW, NO_END, rows),
                    our_answers(model, prompts, NEW, NO_END, [EditPlan()], rows),
                ),
                _alike(
                    hooked_answers(model, prompts, NEW, vector, rows),
                    our_answers(model, prompts, NEW, NO_END, [arm], rows),
                ),
            )
        ),
    )


def questions(model: LanguageModel, n: int) -> list[Tokens]:
    """So many own questions as prompts, of all families."""
    short = load_prompts(default_question_sets().test)
    asked = short if n <= len(short) else load_prompts("judging")
    return [model.tokenizer.prompt(ask.question) for ask in asked.spread(n).asks]


def our_answers(
    model: LanguageModel,
    prompts: Sequence[Tokens],
    most: int,
    end: int,
    arms: Sequence[EditPlan],
    at_once: int = ROWS,
) -> list[tuple[int, ...]]:
    """The most probable answers under each of some edits."""
    rows = [(Draw(prompt), arm) for arm in arms for prompt in prompts]
    sampling = Sampling(most, 0.0, batch_size=at_once * len(arms))
    return generate(model.network, [draw for draw, _ in rows], sampling, [arm for _, arm in rows], end)


def chats(model: LanguageModel) -> list[Tokens]:
    """Own questions with answers, of lengths from 85 to 221 tokens as they come; longer ones are cut."""
    rows = (
        model.tokenizer.exchange(pair.question, answer)
        for pair in load_prompts("judging")
        for answer in (pair.careful, pair.careless)
    )
    fitting = [row.first(LENGTHS[1]) for row in rows if len(row) >= LENGTHS[0]]
    return fitting[:: max(1, len(fitting) // RECORDED)][:RECORDED]


def dialogues(model: LanguageModel) -> list[Fork]:
    """Own questions with a careful and a careless answer, each of such a length with its question, as they come."""
    forks = (fork(model.tokenizer, pair) for pair in load_prompts("judging"))
    shortest, longest = LENGTHS
    fitting = [one for one in forks if all(shortest <= len(row) <= longest for row in one.rows)]
    return fitting[:: max(1, len(fitting) // SCORED)][:SCORED]


def _stacked(read: Iterable[Tensor]) -> Tensor:
    import torch

    return torch.stack([*read])


def _furthest(one: Tensor, other: Tensor) -> str:
    return f"{float((one - other).abs().max()):.1e} apart at most, values up to {float(one.abs().max()):.3g}"


def _alike(ones: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> str:
    same = sum(a == b for a, b in zip(ones, others, strict=True))
    return f"{same} of {len(ones)} answers the same to the token"
