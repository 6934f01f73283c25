"""The subcommands `inspect` and `verify`. What is slow to import is imported where it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from flowdetect.cli import _job_options as options
from flowdetect.cli._errors import MODEL, CommandError, reported
from flowdetect.cli._jobs import print_json
from flowdetect.exceptions import ModelFileError

__all__ = ["INSPECT_EXAMPLES", "VERIFY_EXAMPLES", "inspect", "verify"]

INSPECT_EXAMPLES = """[bold]Examples[/bold]

  flowdetect inspect visits.flow
"""
VERIFY_EXAMPLES = """[bold]Examples[/bold]

  flowdetect verify visits.flow --sha256 $(cat visits.flow.id)
"""

_Path = Annotated[str, typer.Argument(metavar="MODEL", help="A model file.")]


def inspect(model: _Path, *, json: options.Json = False) -> None:
    """Print the card of MODEL: what it is, learnt from and says of itself. Nothing is built from the file."""
    with reported():
        from flowdetect.persistence import read_manifest

        try:
            manifest = read_manifest(model)
        except OSError as error:
            raise CommandError(f"'{model}' cannot be read: {error.strerror or error}.", MODEL) from error
        if json:
            print_json(manifest)
        else:
            typer.echo(manifest["card"])


def verify(model: _Path, *, sha256: options.Sha256 = None) -> None:
    """Load MODEL completely, with every check, and print its id."""
    with reported():
        from flowdetect.persistence import verify as verify_file

        try:
            model_id = verify_file(model, sha256=sha256)
        except OSError as error:
            raise ModelFileError(f"'{model}' cannot be read: {error.strerror or error}.") from error
        typer.echo(model_id)
