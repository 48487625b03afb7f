"""Pages about latents, one HTML file each and an index, rendered from ``latents.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from personaprobe.features.registry.latent_names import Name
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
from personaprobe.models.weights.checkpoint import ROLES
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.reports.page import render_template, styled


@dataclass(frozen=True)
class LatentPage:
    """Everything that a page about a latent shows.

    Attributes:
        profile: where the latent fires, how strongly, and which tokens it makes likely.
        ranks: its place in each ranking, from 1.
        delta: insecure − secure mean activation, and its q-value.
        effect: ``removed, induced, controls`` as a search on discovery questions measured them; empty without a search.
        name: its meaning in a few words; None where it has no name.
    """

    profile: LatentProfile
    ranks: Mapping[str, int]
    delta: tuple[float, float]
    effect: Mapping[str, Any]
    name: Name | None = None


def make_pages(
    profiles: Sequence[LatentProfile],
    rankings: Sequence[Ranking],
    effects: Sequence[Mapping[str, Any]] = (),
    names: Mapping[int, Name] = MappingProxyType({}),
) -> list[LatentPage]:
    """Put profiles, ranks, causal effects and names of latents together.

    Args:
        profiles: of the latents.
        rankings: of all latents; the first is Δ mean activation, with q-values.
        effects: of single latents, as a search registered them.
        names: by latent.
    """
    by_latent = {effect["latents"][0]: effect for effect in effects}
    delta = rankings[0]
    assert delta.q_values is not None, "the first ranking has q-values"
    return [
        LatentPage(
            profile,
            {ranking.name: ranking.rank(profile.latent) for ranking in rankings},
            (float(delta.scores[profile.latent]), float(delta.q_values[profile.latent])),
            by_latent.get(profile.latent, {}),
            names.get(profile.latent),
        )
        for profile in profiles
    ]


def latents_data(dictionary: Dictionary, pages: Sequence[LatentPage]) -> dict[str, Any]:
    """Pages as plain data, as written to ``latents.json``."""
    data: dict[str, Any] = to_plain_json(
        {
            "schema": "personaprobe-latents-1",
            "dictionary": {
                "name": dictionary.name,
                "site": str(dictionary.site),
                "d_sae": dictionary.d_sae,
                "neuronpedia_id": (dictionary.card.get("saelens") or {}).get("neuronpedia_id"),
            },
            "pages": [
                asdict(page)
                | {"name": None if page.name is None else asdict(page.name) | {"label": str(page.name)}}
                for page in pages
            ],
        }
    )
    return data


def render_latents(data: Mapping[str, Any]) -> dict[str, str]:
    """The text of every page by file name: ``latent-N.html`` for each latent, and ``index.html``.

    The pages have no script, and their policy forbids the browser to load anything.

    Args:
        data: the pages as plain data (``latents.json``).
    """
    dictionary, pages = data["dictionary"], data["pages"]
    common = {
        "dictionary": dictionary,
        "roles": list(pages[0]["profile"]["contexts"]) if pages else list(ROLES),
        "shown": {page["profile"]["latent"] for page in pages},
        "css": styled("latent.css"),
    }
    texts = {}
    for page in pages:
        latent = page["profile"]["latent"]
        link = neuronpedia_page(dictionary["neuronpedia_id"], latent)
        texts[f"latent-{latent}.html"] = render_template("latent.html.jinja", page=page, link=link, **common)
    ordered = sorted(pages, key=lambda page: page["delta"][0] or 0.0, reverse=True)
    return texts | {"index.html": render_template("latents.html.jinja", pages=ordered, **common)}


def neuronpedia_page(release: str | None, latent: int) -> str | None:
    """The address of a latent's page on Neuronpedia; None where the dictionary's release has none."""
    return f"https://www.neuronpedia.org/{quote(release)}/{latent}" if release else None
