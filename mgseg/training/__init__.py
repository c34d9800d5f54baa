"""The training recipe: stages, losses, loop, checkpoints."""
