"""What models are asked: paired answers, free questions, answer formats, capability exercises, published sets."""
