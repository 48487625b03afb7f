"""Fine-tuning of organisms: rows as batches, the loop, states that resume, and adapters as PEFT writes them."""
