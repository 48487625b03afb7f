"""Where weights come from: checkpoints, LoRA adapters and the demo base model."""
