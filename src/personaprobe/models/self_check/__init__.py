"""The self-check at load: a model is used only where reading, editing, packing and decoding it are proven on itself."""
