"""The command line: arguments to the public API to an exit code."""

from flowdetect.cli._app import app

__all__ = ["app"]
