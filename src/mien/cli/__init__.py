"""The command line; `mien.cli.program` lists its verbs."""

from mien.cli.program import app, data_app, main

__all__ = ["app", "data_app", "main"]
