"""Model organisms: their registry, training recipes, LoRA fine-tuning and verification."""
