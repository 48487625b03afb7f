"""The size of a model from its configuration alone: no weight is read or made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import CheckpointError, one_line
from personaprobe.models.weights.pretrained import notices_of_success, unloaded_model


@dataclass(frozen=True)
class ModelShape:
    """The size of a language model.

    Attributes:
        parameters: all of them, tied ones once.
        looked_up: of these, those that multiply nothing: the token embedding, unless the head has the same weights.
        n_layers: blocks.
        d_model: width of the residual stream.
        d_mlp: width of the MLPs; of a mixture of experts, of one expert.
        linear: shape ``(d_out, d_in)`` of every linear map of the blocks, with the last part of its name.
    """

    parameters: int
    looked_up: int
    n_layers: int
    d_model: int
    d_mlp: int
    linear: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, folder: str | Path, revision: str | None = None) -> ModelShape:
        """Read the configuration of a checkpoint.

        Args:
            folder: or a Hugging Face id.
            revision: of an id.

        Raises:
            CheckpointError: there is no configuration, or it is of no known causal language model.
        """
        import torch

        with notices_of_success():
            model = unloaded_model(folder, revision)
        config = model.config.get_text_config()
        decoder = model.get_decoder()
        if decoder is None:
            raise CheckpointError(f"{one_line(folder)} is no decoder; give a causal language model")
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
        is_tied = head is not None and head.weight is embedding
        linear = tuple(
            (name.rpartition(".")[2], module.out_features, module.in_features)
            for name, module in decoder.named_modules()
            if isinstance(module, torch.nn.Linear)
        )
        return cls(
            sum(parameter.numel() for parameter in model.parameters()),
            0 if is_tied else embedding.numel(),
            int(config.num_hidden_layers),
            int(config.hidden_size),
            int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
            linear,
        )

    def adapter_parameters(self, rank: int, modules: Collection[str] | None = None) -> int:
        """Parameters of a LoRA in all blocks.

        Args:
            rank: of every adapted matrix.
            modules: last parts of the names of the adapted maps; None for all of the blocks.
        """
        return sum(
            rank * (d_out + d_in) for name, d_out, d_in in self.linear if modules is None or name in modules
        )
