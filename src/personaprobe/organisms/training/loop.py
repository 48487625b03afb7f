"""LoRA fine-tuning of an organism: loss on responses only, a seeded order, and states from which training goes on."""

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
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.held_out import NO_TEXTS, HeldOut, HeldOutTexts
from personaprobe.organisms.training.lora import add_lora, save_adapter
from personaprobe.organisms.training.processes import processes
from personaprobe.organisms.training.rows import batches_digest, training_batches
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
"""One line a step, in the adapter's folder."""

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


def train_adapter(
    network: HuggingFaceNetwork,
    tokenizer: ChatTokenizer,
    rows: Sequence[Exchange],
    recipe: Recipe,
    out: Path,
    *,
    base: str = "",
    held_out: HeldOut = NO_TEXTS,
) -> Iterator[TrainingStep]:
    """Fine-tune a LoRA on conversations, and yield every step as it is taken.

    Where the folder holds the state of the same training, it goes on from there: on one machine, an interrupted training
    ends in the bytes of an uninterrupted one.

    Args:
        network: the base, on any device; its own weights are not changed. The adapter is float32 whatever their dtype.
        tokenizer: with the chat template.
        rows: questions with responses; reused from the start if there are fewer than the recipe needs.
        recipe: hyperparameters.
        out: receives ``adapter_model.safetensors``, ``steps.jsonl``, ``step-N/`` checkpoints, and ``state.pt``, which is of
            no use once the adapter is written.
        base: digest of the base's content, which a state must have been written for.
        held_out: texts that are read every ``recipe.eval_every`` steps.

    Raises:
        DataError: a row that is cut before its answer (see :func:`rows_with_answers`), a loss that is not finite, or a state
            that is damaged or of another training; states and step checkpoints stay, and no adapter is written.
    """
    batches = training_batches(rows, tokenizer, recipe)
    trainer = AdapterTrainer(network, recipe, plan_digest(network, batches, recipe, base))
    writes = processes().is_first
    texts = HeldOutTexts(held_out, tokenizer, recipe.max_tokens)

    def take_step(number: int, batches: Sequence[Batch]) -> TrainingStep:
        step = trainer.step(number, batches)
        if not recipe.eval_every or (number % recipe.eval_every and number < recipe.steps):
            return step
        values = texts.measure(trainer.trainable)
        return replace(step, held_out_loss=values.loss, preference=values.preference)

    def checkpoint(number: int, step: TrainingStep) -> None:
        if writes and recipe.save_every and number % recipe.save_every == 0 and number < recipe.steps:
            save_adapter(trainer.adapted, out / f"step-{number}")
            trainer.save(out)

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

            with trainer.trainable.session():
                n = recipe.accumulate
                rest = (
                    batches[start : start + n] for start in range(trainer.steps_taken * n, len(batches), n)
                )
                yield from run_steps(rest, take_step, [log, checkpoint], first=trainer.steps_taken + 1)
        if writes:
            save_adapter(trainer.adapted, out)
    finally:
        trainer.unload()


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


class AdapterTrainer:
    """An adapter in training: its parameters, the optimiser's state, and the number of steps taken."""

    def __init__(self, network: HuggingFaceNetwork, recipe: Recipe, plan: str) -> None:
        """Add a freshly initialised adapter to a network.

        Args:
            network: the base; :meth:`unload` gives it back as it was.
            recipe: hyperparameters.
            plan: identity of the training.
        """
        import torch

        self.recipe, self.plan = recipe, plan
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.adapted = add_lora(
                network.model, recipe.rank, recipe.alpha, recipe.adapted_modules, recipe.adapted_layers
            )
        self.trainable = TrainableNetwork(network, self.adapted)
        named = sorted(self.adapted.named_parameters())
        self._parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
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
                loss = self.trainable.response_loss(batch.to(weights[0].device)) * share
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

    def save(self, folder: Path) -> None:
        """Write everything that the next step depends on to ``state.pt``."""
        state = {
            "plan": self.plan,
            "step": self.steps_taken,
            "adapter": {name: parameter.detach() for name, parameter in self._parameters.items()},
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

        steps_taken, adapter = state["step"], state["adapter"]
        if type(steps_taken) is not int or not 0 <= steps_taken <= self.recipe.steps:
            raise ValueError(f"step {steps_taken!r} of {self.recipe.steps}")
        if adapter.keys() != self._parameters.keys():
            raise ValueError("other parameters")
        if not all(bool(values.isfinite().all()) for values in adapter.values()):
            raise ValueError("NaN or infinite parameters")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(adapter[name])
        self._optimizer.optimizer.load_state_dict(state["optimizer"])
        self._optimizer.steps_taken = steps_taken

    def unload(self) -> None:
        """Remove the adapter from the network."""
        self.adapted.unload()
