"""How fast this machine works, beside the bare model: the same token ids, interleaved, as ratios.

Every contender of a work computes the same thing; that it does is checked in the same run, and how far it is off is told.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions import Ablate, Layers
from personaprobe.effects.preference import BATCH_TOKENS, fork
from personaprobe.features.directions import Direction, Mark
from personaprobe.features.sources import random_vector
from personaprobe.models.checkpoint import Trio
from personaprobe.models.cut import cut
from personaprobe.models.edits import SiteEdits, compose
from personaprobe.models.generation import Draw, Sampling, generate
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Fork
from personaprobe.models.tokens import Tokens, by_length, pad
from personaprobe.prompts import load_prompts
from personaprobe.site import Site
from personaprobe.studies.progress import Progress, silent

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

NO_END = -1


@dataclass(frozen=True)
class Work:
    """One thing that is done in several ways.

    Attributes:
        name: what.
        contenders: ways to do it, the reference first.
        deviation: how far the others are from the reference, in words; run once before anything is timed.
        units: how much work one run of each contender is, where they do not do equally much.
    """

    name: str
    contenders: Mapping[str, Callable[[], Any]]
    deviation: Callable[[], str]
    units: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """One contender's speed, relative to the reference of the same round.

    Attributes:
        seconds: median of a run.
        ratio, slowest, fastest: median and range of its speed over the reference's.
    """

    seconds: float
    ratio: float
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Measured:
    """A work that was timed.

    Attributes:
        name: what.
        deviation: how far contenders are from the reference.
        speeds: by contender, the reference first.
    """

    name: str
    deviation: str
    speeds: Mapping[str, Speed]


def measure(work: Work, rounds: int, progress: Progress = silent) -> Measured:
    """Time all contenders in turn, round after round, so that a slow minute of the machine slows all of them."""
    deviation = work.deviation()
    seconds: dict[str, list[float]] = {name: [] for name in work.contenders}
    with progress(work.name, rounds * len(work.contenders), "runs") as advance:
        for _ in range(rounds):
            for name, run in work.contenders.items():
                started = time.perf_counter()
                run()
                _finished()
                seconds[name].append((time.perf_counter() - started) / work.units.get(name, 1.0))
                advance(1)
    reference = next(iter(seconds.values()))
    speeds = {name: _speed(times, reference) for name, times in seconds.items()}
    return Measured(work.name, deviation, speeds)


def _speed(times: Sequence[float], reference: Sequence[float]) -> Speed:
    ratios = [theirs / own for own, theirs in zip(times, reference, strict=True)]
    return Speed(statistics.median(times), statistics.median(ratios), min(ratios), max(ratios))


def _finished() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


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

    def arriving() -> Tensor:
        batches = [list(range(i, min(i + 16, len(texts)))) for i in range(0, len(texts), 16)]
        read = [hidden_states(model, [texts[i] for i in batch], site) for batch in batches]
        return _in_order(read, batches)

    return Work(
        f"recording {site} of {len(texts)} chats",
        {
            f"bare model, cut, sorted, {AT_ONCE} at a time, {_padding(texts, simple):.0%} padding": lambda: (
                bare_recording(model, texts, simple)
            ),
            f"bare model, cut, in our batches, {_padding(texts, plan):.0%} padding": lambda: bare_recording(
                model, texts, plan
            ),
            "personaprobe": lambda: our_recording(model, texts, plan),
            "output_hidden_states, as they come": arriving,
        },
        lambda: _furthest(bare_recording(model, texts, plan), our_recording(model, texts, plan)),
    )


def recording_all(trio: Trio[LanguageModel]) -> Work:
    """The same of all three checkpoints, whose adapters are switched, beside the bare reading of a single one."""
    model = trio.insecure
    texts = chats(model)
    plan, simple = by_length(texts, RECORDING_TOKENS), _by_number(texts, AT_ONCE)
    in_turn = (trio.base, trio.secure, model)  # the last one is what the next contender reads
    return Work(
        f"recording all three checkpoints, {len(texts)} chats each",
        {
            "bare model, one checkpoint": lambda: bare_recording(model, texts, simple),
            "personaprobe, one checkpoint": lambda: our_recording(model, texts, plan),
            "personaprobe, base, insecure and secure": lambda: [
                our_recording(each, texts, plan) for each in in_turn
            ],
        },
        lambda: _furthest(
            *(
                _stacked(read(each, texts, plan) for each in in_turn)
                for read in (bare_recording, our_recording)
            )
        ),
    )


def middle(model: LanguageModel) -> Site:
    """Where it is recorded: behind half of the blocks."""
    return Site(model.n_layers // 2 - 1)


def bare_recording(model: LanguageModel, texts: Sequence[Tokens], plan: Sequence[Sequence[int]]) -> Tensor:
    """States of all texts ``(token, d_model)``, in their order, by the bare model cut behind the middle."""
    with cut(_hf(model), middle(model).layer):
        return _in_order([bare_states(model, [texts[i] for i in batch]) for batch in plan], plan)


def our_recording(model: LanguageModel, texts: Sequence[Tokens], plan: Sequence[Sequence[int]]) -> Tensor:
    """The same, as stores are filled."""
    site = middle(model)
    with model.busy():
        return _in_order([_read(model, [texts[i] for i in batch], site) for batch in plan], plan)


def _by_number(texts: Sequence[Tokens], at_once: int) -> list[list[int]]:
    """Batches of a fixed number of texts, the longest first."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    return [order[at : at + at_once] for at in range(0, len(order), at_once)]


def _padding(texts: Sequence[Tokens], batches: Sequence[Sequence[int]]) -> float:
    """Share of what is read that is padding."""
    read = sum(len(batch) * max(len(texts[index]) for index in batch) for batch in batches)
    return 1 - sum(map(len, texts)) / read


def _read(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    batch = pad(texts, model.network.pad_id).to(model.network.device)
    states = model.activations(batch, [site])[site]
    return [own[: len(text)] for own, text in zip(states, texts, strict=True)]


def bare_states(model: LanguageModel, texts: Sequence[Tokens]) -> list[Tensor]:
    """What comes out of the bare blocks, as one would write it."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        states = _hf(model).get_decoder()(
            input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
        )
    return [own[: len(text)] for own, text in zip(states.last_hidden_state, texts, strict=True)]


def hidden_states(model: LanguageModel, texts: Sequence[Tokens], site: Site) -> list[Tensor]:
    """The same by transformers' own option, which keeps every layer."""
    import torch

    batch = pad(texts, model.network.pad_id).to(model.network.device)
    with torch.inference_mode():
        told = _hf(model)(input_ids=batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    return [own[: len(text)] for own, text in zip(told.hidden_states[site.layer + 1], texts, strict=True)]


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


def bare_scores(model: LanguageModel, forks: Sequence[Fork], batch_size: int = 16) -> Tensor:
    """Separate rows in the order in which they come, logits of the whole vocabulary everywhere: what one writes first."""
    import torch

    rows = [row for one in forks for row in one.rows]
    means = []
    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        batch = pad(group, model.network.pad_id).to(model.network.device)
        with torch.inference_mode():
            logits = _hf(model)(input_ids=batch.ids, attention_mask=batch.mask.long()).logits[:, :-1].float()
        values = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        means += [values[i, row.n_prompt - 1 : len(row) - 1].mean() for i, row in enumerate(group)]
    return torch.stack(means).cpu()


def our_scores(model: LanguageModel, forks: Sequence[Fork]) -> Tensor:
    """What preference is measured with: questions shared, the head at answers alone."""
    import torch

    means: dict[tuple[int, int], Tensor] = {}
    with model.busy():
        for indices in by_length(forks, BATCH_TOKENS):
            for index, group in zip(indices, model.fork_log_probs([forks[i] for i in indices]), strict=True):
                means.update({(index, which): values.mean() for which, values in enumerate(group)})
    return torch.stack([means[key] for key in sorted(means)]).cpu()


def generation(model: LanguageModel) -> Iterator[Work]:
    """Answers of equal and of mixed lengths, with and without an ablation at every layer, and of ten arms together."""
    asks = load_prompts("advice/test").spread(WAITING).asks
    prompts = [model.tokenizer.prompt(ask.question) for ask in asks]
    few, end = prompts[:ROWS], model.tokenizer.end_id
    arms = [compose([ablation(model, seed)], model.n_layers) for seed in range(ARMS)]
    yield Work(
        f"generating {ROWS} × {NEW} tokens",
        {
            "generate, bare": lambda: bare_answers(model, few, NEW, NO_END),
            "personaprobe": lambda: our_answers(model, few, NEW, NO_END, [{}]),
            "personaprobe, ablating at every layer": lambda: our_answers(model, few, NEW, NO_END, arms[:1]),
        },
        lambda: _alike(bare_answers(model, few, NEW, NO_END), our_answers(model, few, NEW, NO_END, [{}])),
    )
    yield Work(
        f"generating {len(prompts)} answers that end by themselves, {ROWS} side by side",
        {
            "generate, bare": lambda: bare_answers(model, prompts, LONGEST, end),
            "personaprobe": lambda: our_answers(model, prompts, LONGEST, end, [{}]),
        },
        lambda: _alike(
            bare_answers(model, prompts, LONGEST, end), our_answers(model, prompts, LONGEST, end, [{}])
        ),
    )
    one, together = few[:A_FEW], f"{ARMS} arms side by side"
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


def our_answers(
    model: LanguageModel, prompts: Sequence[Tokens], most: int, end: int, arms: Sequence[SiteEdits]
) -> list[tuple[int, ...]]:
    """The most probable answers under each of some edits."""
    rows = [(Draw(prompt), arm) for arm in arms for prompt in prompts]
    sampling = Sampling(most, 0.0, batch_size=ROWS * len(arms))
    return generate(model.network, [draw for draw, _ in rows], sampling, [arm for _, arm in rows], end)


def bare_answers(
    model: LanguageModel, prompts: Sequence[Tokens], most: int, end: int
) -> list[tuple[int, ...]]:
    """The same by transformers' ``generate``, in batches of like length."""
    import torch

    answers: dict[int, tuple[int, ...]] = {}
    widest = max(map(len, prompts))
    fixed = {"min_new_tokens": most} if end == NO_END else {}
    for indices in by_length(prompts, widest * ROWS):
        batch = pad([prompts[i] for i in indices], model.network.pad_id, side="left").to(model.network.device)
        with torch.inference_mode():
            said = (
                _hf(model)
                .generate(
                    batch.ids,
                    attention_mask=batch.mask.long(),
                    max_new_tokens=most,
                    do_sample=False,
                    pad_token_id=model.network.pad_id,
                    eos_token_id=None if end == NO_END else end,
                    **fixed,
                )[:, batch.ids.shape[1] :]
                .tolist()
            )
        answers.update(
            {
                i: tuple(own[: own.index(end)] if end in own else own)
                for i, own in zip(indices, said, strict=True)
            }
        )
    return [answers[index] for index in range(len(prompts))]


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


def _hf(model: LanguageModel) -> Any:
    """The bare model under the checkpoint's adapter, whatever was worn before."""
    model.network.wear(model.adapter)
    return model.network.model  # type: ignore[attr-defined]  # the hooks backend


def _in_order(read: Sequence[Sequence[Tensor]], plan: Sequence[Sequence[int]]) -> Tensor:
    """Texts' states one after another, in the order of the texts."""
    import torch

    found = {
        i: own for batch, states in zip(plan, read, strict=True) for i, own in zip(batch, states, strict=True)
    }
    return torch.cat([found[index] for index in range(len(found))])


def _stacked(read: Iterable[Tensor]) -> Tensor:
    import torch

    return torch.stack([*read])


def _furthest(one: Tensor, other: Tensor) -> str:
    return f"{float((one - other).abs().max()):.1e} apart at most, values up to {float(one.abs().max()):.3g}"


def _alike(ones: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> str:
    same = sum(a == b for a, b in zip(ones, others, strict=True))
    return f"{same} of {len(ones)} answers the same to the token"
