"""A run on disk: its folder, checkpoints, metrics and model card."""
