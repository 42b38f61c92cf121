"""How well a label map agrees with its reference."""
