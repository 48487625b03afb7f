"""The training recipe of an organism; together with the data it determines the adapter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Rank-stabilised LoRA on every linear layer, loss on responses only.

    Rank and schedule follow small published organisms (Turner, Soligo et al. 2506.11613) cut to laptop size.

    Attributes:
        seed: of the initial adapter weights and the order of the questions.
        steps: optimiser steps.
        batch_size: rows per step.
        learning_rate: peak, reached after ``warmup`` steps, then linear to zero.
        warmup: steps until the peak learning rate.
        rank: of every adapted matrix.
        alpha: LoRA scale; the update is ``alpha / sqrt(rank) * B A`` (rsLoRA).
        max_tokens: rows are cut at this length.
        save_every: steps between saved checkpoints; 0 saves only the last.
    """

    seed: int = 0
    steps: int = 100
    batch_size: int = 8
    learning_rate: float = 4e-4
    warmup: int = 5
    rank: int = 8
    alpha: int = 16
    max_tokens: int = 192
    save_every: int = 25
