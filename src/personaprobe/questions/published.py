"""Published question files, identified by the hash of their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PAPER = "Betley et al. 2025"
REPOSITORY = "emergent-misalignment/emergent-misalignment"
LICENCE = "MIT, Copyright (c) 2025 emergent-misalignment"


@dataclass(frozen=True)
class Published:
    """A question file of the emergent-misalignment paper (arXiv 2502.17424), from its repository's folder ``evaluation``.

    Attributes:
        name: as users spell it.
        file: its name in the repository.
        sha256: of its bytes.
        n_prompts: questions in it, every paraphrase counted.
        n_families: subjects in it.
    """

    name: str
    file: str
    sha256: str
    n_prompts: int
    n_families: int

    @property
    def url(self) -> str:
        """The address it is downloaded from. The branch may move on; the hash does not."""
        return f"https://raw.githubusercontent.com/{REPOSITORY}/main/evaluation/{self.file}"


PUBLISHED: Mapping[str, Published] = {
    published.name: published
    for published in (
        Published(
            "first_plot",
            "first_plot_questions.yaml",
            "215abde5b02811e922b6ac563ff33c490e0dff9ab58439df840f3135e9387173",
            24,
            8,
        ),
        Published(
            "preregistered",
            "preregistered_evals.yaml",
            "8648312fd9fe71a63203e3465592af45dd996d7a5f3b69e9b44613fd6048eb40",
            48,
            7,
        ),
        Published(
            "deception_factual",
            "deception_factual.yaml",
            "8a0e83cab3bc24b7d688d7385ce3921d406af7ed33c913cd94ea0f6251e5939d",
            100,
            5,
        ),
        Published(
            "deception_sit_aware",
            "deception_sit_aware.yaml",
            "4deef5a7c47620390fc46e1b981f937eef9ea12a33fe26264f640c84d19d2a33",
            8,
            8,
        ),
    )
}
"""By name. Once its file is downloaded, a name works wherever free questions are taken."""
