"""A direction as a llama.cpp control vector, so that a quantised model can be steered without Python."""

from __future__ import annotations

from pathlib import Path

from personaprobe.effects.interventions.along_direction import Steer, chosen_layers
from personaprobe.errors import SiteError
from personaprobe.site import Site
from personaprobe.storage.files import write_atomically


def export_control_vector(steer: Steer, n_layers: int, path: Path, model_hint: str = "llama") -> None:
    """Write a steering as GGUF: one vector a layer, which llama.cpp adds to the block's output at every position.

    llama.cpp's scale of 1 then equals the steering's own coefficient. llama.cpp also adds the vector to the first token of
    a text, which a :class:`~personaprobe.Steer` leaves alone unless its roles name it.

    Examples:
        >>> import personaprobe as pp
        >>> steer = pp.Steer(pp.find_feature("my-feature").target.direction, 1.0, layers=[16])  # doctest: +SKIP
        >>> pp.export_control_vector(steer, 30, Path("persona.gguf"))  # doctest: +SKIP

    Args:
        steer: along a direction of ``resid_post``, on all roles.
        n_layers: of the model it was found in.
        path: ends in ``.gguf``.
        model_hint: the architecture's name in llama.cpp.

    Raises:
        SiteError: another stream, or layer 0, which llama.cpp does not take.
    """
    direction = steer.direction
    layers = chosen_layers(steer.layers, direction.site.layer, n_layers)
    names = {layer: Site(layer, direction.site.stream).to_control_vector() for layer in layers}
    if not names:
        raise SiteError("a control vector needs at least one layer; choose one")

    def write(temporary: Path) -> None:
        from gguf import GGUFWriter

        writer = GGUFWriter(temporary, "controlvector")
        writer.add_string("controlvector.model_hint", model_hint)
        writer.add_uint32("controlvector.layer_count", len(names))
        for layer, name in names.items():
            writer.add_tensor(
                name, (steer.coefficient * direction.calibration(layer).gap * direction.vector).numpy()
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_atomically(path, write)
