"""Training of dictionaries: several of them can learn from the same batches side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.compute.optimisation import LinearSchedule, ScheduledOptimizer, run_steps
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.training.architectures.architecture import Architecture, Losses
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.autoencoder import Autoencoder
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.site import Site
from personaprobe.storage.files import writing
from personaprobe.storage.leftovers import remove_abandoned
from personaprobe.storage.training_state import (
    STATE,
    drop_later_metrics,
    drop_repeated_metrics,
    read_state,
    refusing_damaged_state,
    write_state,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

METRICS = "metrics.jsonl"
"""One line a logged step."""


@dataclass(frozen=True)
class SAERecipe:
    """Hyperparameters of one dictionary.

    Attributes:
        architecture: the training objective.
        d_sae: number of latents.
        steps: optimiser steps.
        learning_rate: peak learning rate of Adam.
        warmup: steps until the peak.
        decay: share of the steps, the last ones, over which the learning rate falls to 0.
        dead_after: rows without activity after which a latent counts as dead.
        seed: of the decoder's initial directions.
    """

    architecture: Architecture = field(default_factory=BatchTopKArchitecture)
    d_sae: int = 4096
    steps: int = 3000
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    dead_after: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.d_sae < 1 or self.steps < 1 or not self.learning_rate > 0:
            raise DataError(
                f"d_sae {self.d_sae}, {self.steps} steps at learning rate {self.learning_rate}: all must be above 0"
            )

    @property
    def schedule(self) -> LinearSchedule:
        """Warm-up, a plateau, and decay to 0 over the last ``decay`` share of the steps."""
        return LinearSchedule(self.steps, self.warmup, self.decay * self.steps)

    def describe(self) -> dict[str, Any]:
        """The recipe as plain data, for the card of the dictionary."""
        hyperparameters = {name: value for name, value in vars(self).items() if name != "architecture"}
        options = asdict(self.architecture)  # type: ignore[call-overload]  # every architecture is a dataclass
        return {"architecture": self.architecture.name, **options, **hyperparameters}


@dataclass(frozen=True)
class TrainingMetrics:
    """Metrics of one dictionary after a step.

    Attributes:
        step: number of the step, from 1.
        losses: loss terms by name.
        explained_variance: of the batch: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖².
        l0: active latents per row.
        dead: share of latents that are dead.
    """

    step: int
    losses: Mapping[str, float]
    explained_variance: float
    l0: float
    dead: float


class SAETrainer:
    """A dictionary in training: parameters, optimiser state and the number of steps taken."""

    def __init__(self, recipe: SAERecipe, sample: Float[Tensor, "row d_in"], device: Any = "cpu") -> None:
        """Initialise from a sample of the training rows."""
        self.recipe = recipe
        self.autoencoder = Autoencoder(recipe.d_sae, sample, recipe.seed).to(device)
        adam = torch.optim.Adam(
            self.autoencoder.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True
        )
        self._optimizer = ScheduledOptimizer(adam, recipe.schedule)
        self._last_losses: Losses | None = None

    @property
    def steps_taken(self) -> int:
        """Number of steps so far, resumed ones included."""
        return self._optimizer.steps_taken

    @property
    def is_finished(self) -> bool:
        """Whether all steps of the recipe were taken."""
        return self.steps_taken >= self.recipe.steps

    def step(self, rows: Float[Tensor, "row d_in"]) -> None:
        """Take one optimiser step on a batch of recorded rows."""
        autoencoder, recipe = self.autoencoder, self.recipe
        x = rows.to(autoencoder.b_dec.device) / autoencoder.scale
        losses = recipe.architecture.losses(autoencoder, x, autoencoder.dead(recipe.dead_after))
        self._optimizer.step(losses.total, autoencoder.project_gradient)
        autoencoder.normalise_decoder()
        autoencoder.count_rows(losses.active_counts, len(x))
        self._last_losses = losses.detached()

    def metrics(self) -> TrainingMetrics:
        """Metrics of the last step. Access synchronises with the device, so not every step should."""
        assert self._last_losses is not None, "a step was taken"
        losses, dead = self._last_losses, self.autoencoder.dead(self.recipe.dead_after)
        x = losses.x
        total_variance = torch.linalg.vector_norm(x - x.mean(0)).square()
        return TrainingMetrics(
            self.steps_taken,
            {name: float(term) for name, term in losses.terms.items()},
            1.0 - float(torch.linalg.vector_norm(losses.residual).square() / total_variance),
            float(losses.active_counts.sum()) / len(x),
            float(dead.float().mean()),
        )

    def dictionary(self, site: Site, name: str) -> Dictionary:
        """The dictionary as trained so far.

        Args:
            site: where the rows were recorded.
            name: for tables and spellings.
        """
        return self.autoencoder.dictionary(self.recipe.architecture.activation(self.autoencoder), site, name)

    def save(self, folder: Path) -> None:
        """Write everything that the next step depends on to ``state.pt``."""
        state = {
            "recipe": json.dumps(self.recipe.describe(), sort_keys=True),
            "step": self.steps_taken,
            "autoencoder": self.autoencoder.state_dict(),
            "optimizer": self._optimizer.optimizer.state_dict(),
        }
        write_state(folder / STATE, state)

    def resume(self, folder: Path) -> None:
        """Load the state that :meth:`save` wrote, if there is one.

        Raises:
            FeatureError: the state belongs to another recipe, or is damaged.
        """
        path = folder / STATE
        if path.exists():
            with refusing_damaged_state(path, FeatureError):
                state = read_state(path)
                if state["recipe"] == json.dumps(self.recipe.describe(), sort_keys=True):
                    self._load(state)
                    return
            raise FeatureError(
                f"{path} is of another recipe; give another folder, or delete this one to start anew"
            )

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over a state; ValueError, RuntimeError or KeyError where it does not fit the recipe."""
        parameters = state["autoencoder"]
        steps_taken = state["step"]
        if type(steps_taken) is not int or not 0 <= steps_taken <= self.recipe.steps:
            raise ValueError(f"step {steps_taken!r} of {self.recipe.steps}")
        if not all(bool(values.isfinite().all()) for values in parameters.values()):
            raise ValueError("NaN or infinite parameters")
        self.autoencoder.load_state_dict(parameters)
        self._optimizer.optimizer.load_state_dict(state["optimizer"])
        self._optimizer.steps_taken = steps_taken


def train_dictionaries(
    loader: BatchLoader, trainers: Mapping[Path, SAETrainer], *, save_every: int = 250, log_every: int = 25
) -> Iterator[dict[Path, TrainingMetrics]]:
    """Train dictionaries side by side on the same batches, each resumed from its folder.

    Args:
        loader: batches, epoch after epoch until every recipe has its steps.
        trainers: by the folder that holds the state and the metrics of each.
        save_every: steps between states; an interruption loses no more than that.
        log_every: steps between lines of ``metrics.jsonl``.

    Yields:
        Metrics of every dictionary that took a step, every ``log_every`` steps.

    Raises:
        FeatureError: a folder holds the state of another recipe, or a damaged one.
        DataError: no batch, or activations that are not finite.
    """
    for folder, trainer in trainers.items():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        trainer.resume(folder)
        drop_later_metrics(folder / METRICS, trainer.steps_taken)

    is_done = all(trainer.is_finished for trainer in trainers.values())
    n_steps = 0 if is_done else max(trainer.recipe.steps for trainer in trainers.values())
    results = run_steps(islice(loader.endless(), n_steps), partial(_step_due, trainers))
    for number, stepped in enumerate(results, 1):
        is_logged = number % log_every == 0
        metrics = {
            folder: trainer.metrics()
            for folder, trainer in stepped.items()
            if is_logged or trainer.is_finished
        }
        for folder, values in metrics.items():
            _log(folder, values)
            if trainers[folder].is_finished:
                drop_repeated_metrics(folder / METRICS)
        # after the metrics: those of a saved step are never logged again
        _save_states(save_every, number, stepped)
        if metrics and is_logged:
            yield metrics


def _step_due(trainers: Mapping[Path, SAETrainer], number: int, rows: Tensor) -> dict[Path, SAETrainer]:
    """Step the dictionaries whose next step this is; a resumed one waits until the order of batches has reached it."""
    due = {
        folder: trainer
        for folder, trainer in trainers.items()
        if trainer.steps_taken == number - 1 and not trainer.is_finished
    }
    for trainer in due.values():
        trainer.step(rows)
    return due


def _save_states(every: int, number: int, stepped: Mapping[Path, SAETrainer]) -> None:
    for folder, trainer in stepped.items():
        if trainer.is_finished or number % every == 0:
            trainer.save(folder)


def _log(folder: Path, metrics: TrainingMetrics) -> None:
    with writing(folder), (folder / METRICS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(metrics)) + "\n")
