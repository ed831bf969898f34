"""Training: the base model with LoRA, how a step fits the memory, and callbacks."""
