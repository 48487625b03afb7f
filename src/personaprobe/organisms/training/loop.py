"""Fine-tuning of an organism: loss on responses only, a seeded order, and states from which training goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from personaprobe.compute.optimisation import ScheduledOptimizer, find_schedule, run_steps
from personaprobe.errors import DataError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Batch
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.held_out import NO_TEXTS, HeldOut, HeldOutTexts
from personaprobe.organisms.training.processes import processes
from personaprobe.organisms.training.rows import batches_digest, training_batches
from personaprobe.organisms.training.trained_weights import KINDS, TrainedWeights
from personaprobe.questions.conversations import Exchange
from personaprobe.storage.digests import json_digest
from personaprobe.storage.files import writing
from personaprobe.storage.leftovers import remove_abandoned
from personaprobe.storage.training_state import (
    STATE,
    drop_later_metrics,
    read_state,
    refusing_damaged_state,
    write_state,
)

STEPS = "steps.jsonl"
"""One line a step, beside the weights."""

FORMAT = 1
"""Of a training's state; another number is another plan."""


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step.

    Attributes:
        number: from 1.
        loss: mean over the response tokens of the step, nats per token.
        tokens: read, shared prefixes as often as they occur.
        supervised: of these, the response tokens that are learned.
        gradient_norm: before it is clipped to 1.
        learning_rate: of the step.
        held_out_loss: on rows of the narrow task that are not learned, nats per token; None where they were not read.
        preference: for careless answers, on held-out question pairs, nats per token; None where they were not read.
    """

    number: int
    loss: float
    tokens: int
    supervised: int
    gradient_norm: float
    learning_rate: float
    held_out_loss: float | None = None
    preference: float | None = None


def fine_tune(
    network: HuggingFaceNetwork,
    tokenizer: ChatTokenizer,
    rows: Sequence[Exchange],
    recipe: Recipe,
    out: Path,
    *,
    base: str = "",
    held_out: HeldOut = NO_TEXTS,
) -> Iterator[TrainingStep]:
    """Fine-tune an adapter, or all weights, on conversations, and yield every step as it is taken.

    Where the folder holds the state of the same training, it goes on from there: on one machine, an interrupted training
    ends in the bytes of an uninterrupted one.

    Args:
        network: the base, on any device; its own weights are not changed. An adapter is float32 whatever their dtype; for
            all weights they have to be float32.
        tokenizer: with the chat template.
        rows: questions with responses; reused from the start if there are fewer than the recipe needs.
        recipe: hyperparameters.
        out: receives the adapter or the whole model, ``steps.jsonl``, ``step-N/`` checkpoints, and ``state.pt``, which is
            of no use once the weights are written.
        base: digest of the base's content, which a state must have been written for.
        held_out: texts that are read every ``recipe.eval_every`` steps.

    Raises:
        DataError: a row that is cut before its answer (see :func:`rows_with_answers`), a loss that is not finite, or a state
            that is damaged or of another training; states and step checkpoints stay, and no weights are written.
    """
    batches = training_batches(rows, tokenizer, recipe)
    weights = KINDS[recipe.trained](network, tokenizer, recipe)
    trainer = FineTuner(weights, recipe, plan_digest(network, batches, recipe, base))
    writes = processes().is_first
    texts = HeldOutTexts(held_out, tokenizer, recipe.max_tokens)

    def take_step(number: int, batches: Sequence[Batch]) -> TrainingStep:
        step = trainer.step(number, batches)
        if not recipe.eval_every or (number % recipe.eval_every and number < recipe.steps):
            return step
        values = texts.measure(weights.trainable)
        return replace(step, held_out_loss=values.loss, preference=values.preference)

    def checkpoint(number: int, step: TrainingStep) -> None:
        if writes and number < recipe.steps:
            trainer.save_what_is_due(out)

    try:
        _make_folder(out)
        trainer.resume(out)
        processes().wait()  # no process writes before all have looked
        if writes:
            trainer.begin(out)
        with writing(out), (out / STEPS if writes else Path(os.devnull)).open("a", encoding="utf-8") as lines:

            def log(number: int, step: TrainingStep) -> None:
                lines.write(json.dumps(asdict(step)) + "\n")
                lines.flush()

            with weights.trainable.session():
                n = recipe.accumulate
                rest = (
                    batches[start : start + n] for start in range(trainer.steps_taken * n, len(batches), n)
                )
                yield from run_steps(rest, take_step, [log, checkpoint], first=trainer.steps_taken + 1)
        if writes:
            weights.save(out)
    finally:
        weights.unload()


def _is_due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _make_folder(out: Path) -> None:
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out)


def plan_digest(network: HuggingFaceNetwork, batches: Sequence[Batch], recipe: Recipe, base: str) -> str:
    """Identity of a training: recipe, tokens in their order, base, and the dtype and kind of device that compute."""
    plan = {
        "format": FORMAT,
        "recipe": recipe.identity(),
        "batches": batches_digest(batches),
        "base": [base, str(network.dtype), network.device.type],
    }
    return json_digest(plan, length=64)


class FineTuner:
    """Weights in training, the optimiser's state, and the number of steps taken."""

    def __init__(self, weights: TrainedWeights, recipe: Recipe, plan: str) -> None:
        """Take no step yet.

        Args:
            weights: that are trained.
            recipe: hyperparameters.
            plan: identity of the training.
        """
        import torch

        self.recipe, self.plan = recipe, plan
        self._weights, self._parameters = weights, weights.parameters
        adam = torch.optim.AdamW(self._parameters.values(), lr=recipe.learning_rate, weight_decay=0.0)
        schedule = find_schedule(recipe.schedule)(recipe.steps, recipe.warmup)
        self._optimizer = ScheduledOptimizer(adam, schedule)

    @property
    def steps_taken(self) -> int:
        """Number of steps so far, resumed ones included."""
        return self._optimizer.steps_taken

    def step(self, number: int, batches: Sequence[Batch]) -> TrainingStep:
        """Take one optimiser step on batches whose gradients are added up; every response token counts the same."""
        import torch

        weights = list(self._parameters.values())
        supervised = [int(batch.predicting.sum()) for batch in batches]
        norms: list[float] = []
        total = 0.0

        def losses() -> Iterator[torch.Tensor]:
            nonlocal total
            for batch in filter(None, map(processes().share, batches)):
                share = int(batch.predicting.sum()) / sum(supervised)
                loss = self._weights.trainable.response_loss(batch.to(weights[0].device)) * share
                total += loss.item()
                if not math.isfinite(total):
                    raise DataError(
                        f"the loss of step {number} is {total}: training diverged; give a lower --learning-rate, or a "
                        "longer warmup"
                    )
                yield loss

        def clip() -> None:
            processes().add_gradients(weights)
            norms.append(float(torch.nn.utils.clip_grad_norm_(weights, 1.0)))
            if not math.isfinite(norms[0]):
                raise DataError(f"the gradient of step {number} is {norms[0]}; give a lower --learning-rate")

        self._optimizer.step(losses(), clip)
        n_read = sum(int(batch.mask.sum()) for batch in batches)
        loss = processes().add(total, weights[0])
        return TrainingStep(number, loss, n_read, sum(supervised), norms[0], self._optimizer.learning_rate)

    def save_what_is_due(self, folder: Path) -> None:
        """Write what the recipe wants after a step: a checkpoint in ``step-N/`` and a state, a state alone, or nothing."""
        is_saved = _is_due(self.steps_taken, self.recipe.save_every)
        if is_saved:
            self._weights.save(folder / f"step-{self.steps_taken}")
        if is_saved or _is_due(self.steps_taken, self.recipe.state_every):
            self.save(folder)

    def save(self, folder: Path) -> None:
        """Write everything that the next step depends on to ``state.pt``."""
        state = {
            "plan": self.plan,
            "step": self.steps_taken,
            "weights": {name: parameter.detach() for name, parameter in self._parameters.items()},
            "optimizer": self._optimizer.optimizer.state_dict(),
        }
        write_state(folder / STATE, state)

    def begin(self, folder: Path) -> None:
        """Make the folder known as this training's, and drop what was logged after the last saved step."""
        if not self.steps_taken:
            self.save(folder)
        drop_later_metrics(folder / STEPS, self.steps_taken, "number")

    def resume(self, folder: Path) -> None:
        """Take over the state that :meth:`save` wrote, if there is one.

        Raises:
            DataError: the state belongs to another training, or is damaged.
        """
        path = folder / STATE
        if not path.exists():
            return
        with refusing_damaged_state(path, DataError):
            state = read_state(path)
            same = state["plan"] == self.plan
            if same:
                self._load(state)
        if not same:
            raise DataError(
                f"{path} is of another training (recipe, rows, base, dtype or device); give another --out, or --overwrite"
            )

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over a state; ValueError, RuntimeError or KeyError where it does not fit."""
        import torch

        # versions up to 0.6 trained adapters only
        steps_taken, weights = state["step"], state["weights"] if "weights" in state else state["adapter"]
        if type(steps_taken) is not int or not 0 <= steps_taken <= self.recipe.steps:
            raise ValueError(f"step {steps_taken!r} of {self.recipe.steps}")
        if weights.keys() != self._parameters.keys():
            raise ValueError("other parameters")
        if not all(bool(values.isfinite().all()) for values in weights.values()):
            raise ValueError("NaN or infinite parameters")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        self._optimizer.optimizer.load_state_dict(state["optimizer"])
        self._optimizer.steps_taken = steps_taken
