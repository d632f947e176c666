"""The command ``enterprises``: one module per command."""

from flows.cli.app import main

__all__ = ["main"]
