"""`--quick`, which every benchmark takes: less work, under a minute, and no file of results."""

import argparse


def parser_of(purpose: str | None) -> argparse.ArgumentParser:
    """Takes `--quick`, and whatever is added; `purpose`, the docstring of the module, is its help."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less work, under 60 seconds; no file is written")
    return parser


def is_quick(purpose: str | None) -> bool:
    """Whether the command line says `--quick`, of a benchmark that takes nothing else."""
    return bool(parser_of(purpose).parse_args().quick)
