"""The parts of the runner of an exported network; they import NumPy and each other, and nothing of viscera."""
