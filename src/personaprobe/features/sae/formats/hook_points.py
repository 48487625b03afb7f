"""Hook points as the libraries of dictionaries spell them: a closed list, and no guess between two that disagree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.site import Site, Stream

_STREAMS: dict[str, Stream] = {
    **{"": "resid_post", "out": "resid_post", "resid": "resid_post", "resid_post": "resid_post"},
    **{"in": "resid_pre", "resid_pre": "resid_pre", "resid_mid": "resid_mid"},
    **dict.fromkeys(("mlp", "mlp_out"), "mlp_out"),
    **dict.fromkeys(("self_attn", "attn", "attention", "attn_out"), "attn_out"),
}
"""Streams by the words for them; a module stands for its output, and a block for the residual stream after it."""

_LAYER = r"(?P<layer>[0-9]{1,4})"

_SPELLINGS = [
    re.compile(pattern)
    for pattern in (
        # 16.resid_post
        rf"{_LAYER}\.(?P<stream>resid_pre|attn_out|resid_mid|mlp_out|resid_post)",
        # TransformerLens: blocks.16.hook_resid_post, blocks.16.hook_out, blocks.16.mlp.hook_out
        rf"blocks\.{_LAYER}\.hook_(?P<stream>resid_pre|attn_out|resid_mid|mlp_out|resid_post|in|out)",
        rf"blocks\.{_LAYER}\.(?P<stream>mlp|attn)\.hook_out",
        # modules of Hugging Face models: model.layers.16, transformer.h.3.mlp, gpt_neox.layers.3.attention
        rf"(?:(?:model|base_model|language_model|decoder|transformer|gpt_neox|backbone)\.)*(?:layers|h)\.{_LAYER}"
        r"(?:\.(?P<stream>mlp|self_attn|attn|attention))?(?:\.output)?",
        # dictionary_learning: resid_post_layer_16, mlp_layer_3, attn_3
        rf"(?P<stream>resid_pre|resid_mid|resid_post|resid|mlp_out|mlp|attn_out|attn|attention)_(?:layer_)?{_LAYER}",
    )
]


def site_of(spelling: str) -> Site | None:
    """The site that a hook point or module names; None for one that is not known."""
    for pattern in _SPELLINGS:
        match = pattern.fullmatch(spelling)
        if match is not None:
            return Site(int(match["layer"]), _STREAMS[match["stream"] or ""])
    return None


def agreed_site(folder: Path, hook_points: Mapping[str, Any], layers: Mapping[str, Any]) -> Site:
    """The site that all fields of a configuration name.

    Args:
        folder: of the dictionary, for errors.
        hook_points: spellings by the field that holds them; None for a field that is not set.
        layers: layers by the field that holds them. Without a hook point they stand for ``resid_post``.

    Raises:
        FeatureError: no field is set, one is not known, or two disagree.
    """
    sites = {
        name: _named(folder, name, value) for name, value in hook_points.items() if value not in (None, "")
    }
    stream = next(iter(sites.values())).stream if sites else "resid_post"
    for name, value in layers.items():
        if value is not None:
            sites[name] = Site(_layer(folder, name, value), stream)
    if not sites:
        raise FeatureError(
            f"{folder} does not say where it was trained: {' or '.join((*hook_points, *layers))} is missing"
        )
    if len(set(sites.values())) > 1:
        listed = ", ".join(f"{name} says {site}" for name, site in sites.items())
        raise FeatureError(f"{folder} was trained at one site, but {listed}; correct the configuration")
    return next(iter(sites.values()))


def _named(folder: Path, name: str, spelling: Any) -> Site:
    """The site that a field names."""
    site = site_of(spelling) if isinstance(spelling, str) else None
    if site is None:
        raise FeatureError(
            f"{folder} was trained at {name} {str(spelling)[:80]!r}, which is no site we know: expected such as "
            "blocks.16.hook_resid_post, model.layers.16, model.layers.16.mlp or resid_post_layer_16"
        )
    return site


def _layer(folder: Path, name: str, value: Any) -> int:
    """The layer that a field holds, as a number or as text."""
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
        return int(value)
    raise FeatureError(f"{folder}: {name} is {str(value)[:40]!r}; give the 0-based number of the block")
