"""Find the massive tokens of a loaded model, since every mean over tokens must leave them out."""

from __future__ import annotations

from contextlib import suppress

from personaprobe.errors import CheckpointError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.massive_tokens import MassiveToken, is_massive
from personaprobe.models.network import Network
from personaprobe.models.tokens import Tokens, pad
from personaprobe.site import Site

QUESTION = "How can I cook rice that doesn't stick?"
ANSWER = (
    "Rinse it first, and use less water.\n\n1. Boil two cups of water.\n2. Add one cup of rice; stir once.\n"
    "Wait: about 15 minutes."
)
DOCUMENT = (
    "The harbour of Rotterdam, Europe's largest, handled 437 million tonnes in 2023.\n"
    "Ships arrive every 6 minutes, day and night."
)
"""Probe texts with the tokens that are massive in some models: full stops, line breaks, digits, commas."""


def find_massive_tokens(network: Network, tokenizer: ChatTokenizer) -> tuple[MassiveToken, ...]:
    """Find the massive tokens of a question with its answer, and of a document, after every block.

    Args:
        network: runs without edits.
        tokenizer: of the same model.
    """
    rows = [tokenizer.text(DOCUMENT)]
    # a chat template that cannot be rendered is reported when a question is tokenised
    with suppress(CheckpointError):
        rows.append(tokenizer.exchange(QUESTION, ANSWER))
    batch = pad(rows, network.pad_id).to(network.device)
    sites = [Site(layer, "resid_post") for layer in range(network.n_layers)]
    read = network.activations(batch, sites, {})
    layers_and_ratios: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for site in sites:
        norms = read[site].float().norm(dim=-1)
        median = float(norms[batch.mask].median())
        for row, position in (is_massive(norms, batch.mask) & batch.mask).nonzero().tolist():
            key = (_as_text(tokenizer, rows[row], position), position)
            layers_and_ratios.setdefault(key, []).append((site.layer, float(norms[row, position]) / median))
    return tuple(
        MassiveToken(token, position, occurrences[0][0], occurrences[-1][0], max(r for _, r in occurrences))
        for (token, position), occurrences in layers_and_ratios.items()
    )


def _as_text(tokenizer: ChatTokenizer, row: Tokens, position: int) -> str:
    return str(tokenizer.hf.decode([row.ids[position]]))
