"""One schedule serves every training: its learning rates are those of the three formulas that it replaced."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.compute.optimisation import (
    LinearSchedule,
    ScheduledOptimizer,
    run_steps,
    similar_length_batches,
)

STEPS, WARMUP = st.integers(1, 300), st.integers(0, 400)


def dictionary_factor(step: int, steps: int, warmup: int, decay: float) -> float:
    up = (step + 1) / max(1, warmup)
    down = (steps - step) / max(1.0, decay * steps)
    return min(1.0, up, down)


def organism_factor(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)


def judge_factor(step: int, steps: int, warmup: int) -> float:
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


@given(STEPS, WARMUP, st.floats(0, 1))
def test_dictionaries_learn_at_the_rates_of_their_old_formula(steps: int, warmup: int, decay: float) -> None:
    schedule = LinearSchedule(steps, warmup, decay * steps)
    for step in range(steps):
        assert schedule.lr_factor(step) == dictionary_factor(step, steps, warmup, decay)


@given(STEPS, WARMUP)
def test_organisms_learn_at_the_rates_of_their_old_formula(steps: int, warmup: int) -> None:
    schedule = LinearSchedule(steps, warmup)
    for step in range(steps):
        assert schedule.lr_factor(step) == organism_factor(step, steps, warmup)


@given(STEPS, st.integers(1, 400))
def test_judges_learn_at_the_rates_of_their_old_formula(steps: int, warmup: int) -> None:
    schedule = LinearSchedule(steps, warmup)
    for step in range(steps):
        assert schedule.lr_factor(step) == judge_factor(step, steps, warmup)


def test_a_training_reaches_its_peak_rate_and_ends_near_zero() -> None:
    factors = [LinearSchedule(100, 10, 30).lr_factor(step) for step in range(100)]
    assert max(factors) == 1.0
    assert factors[0] == 0.1
    assert factors[9:71] == [1.0] * 62
    assert factors[-1] == pytest.approx(1 / 30)


def test_steps_equal_those_of_torchs_own_scheduler_bit_for_bit() -> None:
    schedule = LinearSchedule(12, 3)

    def trained(ours: bool) -> torch.Tensor:
        weights = torch.linspace(-1, 1, 7).requires_grad_()
        bias = torch.zeros(7, requires_grad=True)
        adam = torch.optim.AdamW(
            [{"params": [weights], "lr": 0.1}, {"params": [bias], "lr": 1.0}], weight_decay=0.01
        )
        optimizer = ScheduledOptimizer(adam, schedule)
        scheduler = None if ours else torch.optim.lr_scheduler.LambdaLR(adam, schedule.lr_factor)
        for step in range(12):
            loss = ((weights * (step + 1)).sin() + bias.cos()).sum()
            if scheduler is None:
                optimizer.step(loss, lambda: torch.nn.utils.clip_grad_norm_([weights], 1.0))
            else:
                loss.backward()
                torch.nn.utils.clip_grad_norm_([weights], 1.0)
                adam.step()
                scheduler.step()
                adam.zero_grad()
        return torch.cat([weights, bias]).detach()

    assert torch.equal(trained(ours=True), trained(ours=False))


def test_hooks_see_every_step_before_the_caller_does_and_steps_are_taken_lazily() -> None:
    events: list[str] = []

    def take_step(number: int, batch: str) -> str:
        events.append(f"step {number}")
        return batch.upper()

    results = run_steps("ab", take_step, [lambda number, result: events.append(f"hook {number} {result}")])
    assert events == []
    assert next(results) == "A"
    assert events == ["step 1", "hook 1 A"]
    assert list(results) == ["B"]


@given(st.lists(st.integers(0, 99), max_size=200), st.integers(1, 9), st.integers(0, 99))
def test_batches_of_similar_length_hold_every_row_once(rows: list[int], size: int, seed: int) -> None:
    rng = random.Random(seed)
    batches = list(
        similar_length_batches(rows, size, lambda row: row, lambda groups, _: rng.sample(groups, len(groups)))
    )
    assert sorted(row for batch in batches for row in batch) == sorted(rows)
    assert all(len(batch) <= size and batch == sorted(batch) for batch in batches)
