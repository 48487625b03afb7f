"""Training dictionaries: one pass over the activations may feed many of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.training.architectures import Architecture, BatchTopKArchitecture, Losses
from personaprobe.features.sae.training.autoencoder import Autoencoder
from personaprobe.features.sae.training.batches import Feed
from personaprobe.storage.files import write_atomically, writing

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

STATE, METRICS = "state.pt", "metrics.jsonl"


@dataclass(frozen=True)
class SAERecipe:
    """How a dictionary is trained.

    Attributes:
        architecture: what it is trained to do.
        d_sae: how many latents.
        steps: batches to train on.
        learning_rate: of Adam, after ``warmup`` steps; falls to 0 over the last ``decay`` share of the steps.
        warmup: steps.
        decay: share of the steps.
        dead_after: rows without firing after which a latent counts as dead.
        seed: of the decoder's first directions.
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

    def slope(self, step: int) -> float:
        """Factor of the learning rate at a step: up, level, down to 0."""
        up = (step + 1) / max(1, self.warmup)
        down = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, up, down)

    def describe(self) -> dict[str, Any]:
        """The recipe as plain data."""
        told = {k: v for k, v in vars(self).items() if k != "architecture"}
        options = asdict(self.architecture)  # type: ignore[call-overload]  # every architecture is a dataclass
        return {"architecture": self.architecture.name, **options, **told}


@dataclass(frozen=True)
class Progress:
    """How one dictionary does after a step.

    Attributes:
        step: from 1.
        losses: by term.
        explained_variance: of this batch: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖².
        l0: latents a row.
        dead: share of latents.
    """

    step: int
    losses: Mapping[str, float]
    explained_variance: float
    l0: float
    dead: float


class Trainee:
    """A dictionary being trained: parameters, optimiser, and how far it has come."""

    def __init__(self, recipe: SAERecipe, sample: Float[Tensor, "row d_in"], device: Any = "cpu") -> None:
        """Start from a sample of the rows."""
        self.recipe = recipe
        self.autoencoder = Autoencoder(recipe.d_sae, sample, recipe.seed).to(device)
        self.optimizer = torch.optim.Adam(
            self.autoencoder.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True
        )
        self.step = 0
        self._last: Losses | None = None

    def learn(self, rows: Float[Tensor, "row d_in"]) -> None:
        """Take one step."""
        autoencoder, recipe = self.autoencoder, self.recipe
        x = rows.to(autoencoder.b_dec.device) / autoencoder.scale
        losses = recipe.architecture.losses(autoencoder, x, autoencoder.dead(recipe.dead_after))
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        autoencoder.project_gradient()
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.slope(self.step)
        self.optimizer.step()
        autoencoder.normalise()
        autoencoder.seen(losses.fired, len(x))
        self.step += 1
        self._last = losses.detached()

    def progress(self) -> Progress:
        """How the last step went. Waits for the device, so that it is not for every step."""
        assert self._last is not None, "a step was taken"
        losses, dead = self._last, self.autoencoder.dead(self.recipe.dead_after)
        x = losses.x
        spread = torch.linalg.vector_norm(x - x.mean(0)).square()
        return Progress(
            self.step,
            {name: float(term) for name, term in losses.terms.items()},
            1.0 - float(torch.linalg.vector_norm(losses.residual).square() / spread),
            float(losses.fired.sum()) / len(x),
            float(dead.float().mean()),
        )

    def save(self, folder: Path) -> None:
        """Keep everything that the next step depends on."""
        state = {
            "recipe": json.dumps(self.recipe.describe(), sort_keys=True),
            "step": self.step,
            "autoencoder": self.autoencoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_atomically(folder / STATE, lambda path: torch.save(state, path))

    def resume(self, folder: Path) -> None:
        """Take up what :meth:`save` kept, if anything.

        Raises:
            FeatureError: what is there was trained by another recipe.
        """
        path = folder / STATE
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["recipe"] != json.dumps(self.recipe.describe(), sort_keys=True):
            raise FeatureError(
                f"{path} is of another recipe; give another folder, or delete this one to start anew"
            )
        self.autoencoder.load_state_dict(state["autoencoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def train(
    feed: Feed, trainees: Mapping[Path, Trainee], *, save_every: int = 250, log_every: int = 25
) -> Iterator[dict[Path, Progress]]:
    """Train dictionaries side by side on the same batches, taking up where their folders left off.

    Args:
        feed: batches, read anew in another order as often as the steps ask for.
        trainees: by the folder each keeps its state and its metrics in.
        save_every: steps between states; an interruption loses no more than that.
        log_every: steps between lines of ``metrics.jsonl``.

    Yields:
        Progress of every dictionary that took a step, every ``log_every`` steps and at the end.
    """
    for folder, trainee in trainees.items():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        trainee.resume(folder)
    for step, rows in enumerate(_endless(feed)):
        if all(trainee.step >= trainee.recipe.steps for trainee in trainees.values()):
            return
        behind = {folder: t for folder, t in trainees.items() if step == t.step < t.recipe.steps}
        logged = (step + 1) % log_every == 0
        made = {}
        for folder, trainee in behind.items():
            trainee.learn(rows)
            last = trainee.step == trainee.recipe.steps
            if last or trainee.step % save_every == 0:
                trainee.save(folder)
            if last or logged:
                made[folder] = trainee.progress()
                _log(folder, made[folder])
        if made and logged:
            yield made


def _endless(feed: Feed) -> Iterator[Tensor]:
    for epoch in count():
        empty = True
        for rows in feed.batches(epoch):
            empty = False
            yield rows
        if empty:
            raise DataError(f"every block holds fewer rows than a batch of {feed.batch_rows}; give more text")


def _log(folder: Path, progress: Progress) -> None:
    with writing(folder), (folder / METRICS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(progress)) + "\n")
