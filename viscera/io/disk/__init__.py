"""How files come to the disk: several at once, exchanged, and by one process at a time."""
