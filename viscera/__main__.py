"""`python -m viscera`, as `torchrun -m viscera` starts it."""

from viscera.cli import main

main()
