"""Artifacts at URLs: the door to fsspec, and the local copies that commands work with."""
