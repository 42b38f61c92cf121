"""`python -m viscera.cli`."""

from viscera.cli import main

main()
