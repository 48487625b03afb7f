"""How the studied models were made: datasets, LoRA fine-tuning with step checkpoints, and proof that it took."""
