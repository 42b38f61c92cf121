"""The command line: parsing, progress, printing; no work."""

from viscera.cli.app import main

__all__ = ["main"]
