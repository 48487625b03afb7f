"""The limits of inference: the conclusions that the checkpoints of a study do not allow, whatever was measured."""

from __future__ import annotations

from personaprobe.effects.verdict.evidence import Evidence


def cannot_conclude(evidence: Evidence) -> tuple[str, ...]:
    """The questions that stay open because of the checkpoints that insecure was compared with, as sentences."""
    if evidence.reference == "base":
        return (
            "How much of the change harmless training on the same task would cause: there is no benign control.",
            "Whether the feature carries the harm, or the task, its format and its style: base lacks all of them.",
            "Whether the ablation removes more in insecure than it would in a harmless fine-tune.",
        )
    if evidence.n_secures < 2:
        return (
            "How much of the shift is the chance of one harmless training: a second secure, of another seed, would show it.",
        )
    return (
        "How much of the shift is the chance of one harmful training: the interval holds the spread of "
        f"{evidence.n_secures} harmless trainings, and of one insecure.",
    )
