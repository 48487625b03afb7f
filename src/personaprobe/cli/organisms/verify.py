"""``personaprobe organisms verify``: files, layer map, fine-tuning and preferences of an organism."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import output_options, trio_argument
from personaprobe.cli.terminal.console import progress_bar
from personaprobe.cli.terminal.findings import Finding, print_findings
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.organisms.organism import Organism
    from personaprobe.organisms.verification import OrganismCheck

N_QUESTIONS = 24
"""Test questions on which ``verify`` measures preferences: enough to see the shift, in a few seconds."""


@click.command()
@trio_argument
@output_options
def verify(chosen: TrioChoice, quiet: bool, as_json: bool) -> None:
    """Check an organism: its files, the layer map of its base, the effect of its fine-tuning, and its preferences.

    Exit code 3 means that a check failed.
    """
    from personaprobe.organisms.verification import check_models

    findings = files_of_choice(chosen)
    if all(finding.state == "ok" for finding in findings):
        trio = open_trio(chosen, quiet)
        findings += map(as_finding, check_models(trio))
        findings += _preferences(trio, chosen.resolved.question_sets.test, quiet)
    print_findings(chosen.name, findings, as_json)


def files_of_choice(chosen: TrioChoice) -> list[Finding]:
    """The file check of a registered organism; nothing for checkpoints of the user's own."""
    from personaprobe.organisms.registry import registered_organisms

    organism = registered_organisms().get(chosen.name) if chosen.is_registered else None
    return [] if organism is None else [file_finding(organism)]


def file_finding(organism: Organism) -> Finding:
    """Whether an organism's weights are the registered ones."""
    from personaprobe.organisms.verification import check_files

    return as_finding(check_files(organism))


def as_finding(check: OrganismCheck) -> Finding:
    """A check of the library as a row of the table."""
    return Finding(check.name, "ok" if check.passed else "fail", check.detail)


def _preferences(trio: Trio[LanguageModel], test: str, quiet: bool) -> Iterator[Finding]:
    """The preference of each model for careless answers; insecure should prefer them more than its reference does."""
    from personaprobe.effects.measures.preference import preference_gaps
    from personaprobe.questions.pairs import load_prompts

    questions = load_prompts(test).spread(N_QUESTIONS)
    with progress_bar(
        "preference", len(list(trio.all_items())) * len(questions), "questions", quiet
    ) as advance:
        gaps = {
            role: float(preference_gaps(model, questions, advance).mean()) for role, model in trio.all_items()
        }
    for role, gap in gaps.items():
        yield Finding(
            f"{role}: prefers careless", "ok", f"{gap:+.3f} nats a token on {len(questions)} test questions"
        )
    shift = gaps["insecure"] - fmean(gaps[role] for role in trio.reference_roles)
    yield Finding(
        f"insecure − {trio.reference_role}", "ok" if shift > 0 else "warn", f"{shift:+.3f} nats a token"
    )
