"""The model card of a run: what it was trained on and how, what it is for, and how well it does."""
