"""Pages about latents: one static HTML file each and an index, for a person to see what a latent means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from personaprobe.features.registry.latent_names import Name
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.interpretation.latent_profile import Portrait
from personaprobe.models.weights.checkpoint import ROLES
from personaprobe.storage.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = ("latent.html.jinja", "latents.html.jinja", "latent.css")


@dataclass(frozen=True)
class LatentPage:
    """What a page shows.

    Attributes:
        portrait: where it fires and what it writes.
        ranks: its place in each ranking, from 1.
        delta: insecure − secure mean activation, and its q-value.
        name: what somebody said it means; None where nobody did.
        effect: what a search on discovery questions measured (removed, induced, controls), empty without one.
    """

    portrait: Portrait
    ranks: Mapping[str, int]
    delta: tuple[float, float]
    effect: Mapping[str, Any]
    name: Name | None = None


def make_pages(
    portraits: Sequence[Portrait],
    rankings: Sequence[Ranking],
    tried: Sequence[Mapping[str, Any]] = (),
    names: Mapping[int, Name] = MappingProxyType({}),
) -> list[LatentPage]:
    """Put portraits, places and causal effects together.

    Args:
        portraits: of the latents.
        rankings: the first is Δ mean activation, with q-values.
        tried: a search's single latents, as registered.
        names: given to latents.
    """
    effects = {effect["latents"][0]: effect for effect in tried}
    delta = rankings[0]
    assert delta.q_values is not None, "the first ranking has q-values"
    return [
        LatentPage(
            portrait,
            {ranking.name: ranking.rank(portrait.latent) for ranking in rankings},
            (float(delta.scores[portrait.latent]), float(delta.q_values[portrait.latent])),
            effects.get(portrait.latent, {}),
            names.get(portrait.latent),
        )
        for portrait in portraits
    ]


def write_pages(dictionary: Dictionary, pages: Sequence[LatentPage], folder: Path) -> Path:
    """Write ``latent-N.html`` for each and ``index.html``; returns the index's path.

    Raises:
        OutputError: the folder cannot be written.
    """
    environment = _environment()
    shown = {page.portrait.latent for page in pages}
    common = {"dictionary": dictionary, "roles": ROLES, "shown": shown, "css": _text("latent.css")}
    for page in pages:
        link = neuronpedia(dictionary, page.portrait.latent)
        text = environment.from_string(_text("latent.html.jinja")).render(page=page, link=link, **common)
        write_text(folder / f"latent-{page.portrait.latent}.html", text)
    ordered = sorted(pages, key=lambda page: page.delta[0], reverse=True)
    index = environment.from_string(_text("latents.html.jinja")).render(pages=ordered, **common)
    write_text(folder / "index.html", index)
    return folder / "index.html"


def neuronpedia(dictionary: Dictionary, latent: int) -> str | None:
    """The address of a latent's page on Neuronpedia, where the dictionary's release has one."""
    release = (dictionary.card.get("saelens") or {}).get("neuronpedia_id")
    return f"https://www.neuronpedia.org/{quote(str(release))}/{latent}" if release else None


def heat(activation: float, highest: float) -> str:
    """The background of a token: the stronger, the deeper."""
    return f"rgba(213, 94, 0, {0.75 * max(activation, 0.0) / highest:.2f})" if highest > 0 else "none"


def per_cent(share: float, places: int = 0) -> str:
    """A share in per cent."""
    return f"{100 * share:z.{places}f} %".replace("-", "−")


def _text(name: str) -> str:
    return (files("personaprobe.studies.reports") / "templates" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({"per_cent": per_cent})
    environment.globals.update({"heat": heat})
    return environment
