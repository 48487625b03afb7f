"""Generation of answers: sampling, the decode loop, its KV cache, and cached prefixes."""
