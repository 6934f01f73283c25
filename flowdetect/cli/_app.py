"""The command `flowdetect` and its options for every subcommand."""

from typing import Annotated

import typer

from flowdetect import __version__
from flowdetect.cli._augment import EXAMPLES as AUGMENT_EXAMPLES
from flowdetect.cli._augment import augment
from flowdetect.cli._detect import EXAMPLES, detect

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["-h", "--help"],
        # Without a default typer would load pydantic, for 0.1 s, to learn that --help was not given.
        "default_map": {"help": False},
    },
    # A traceback is a defect of ours: show it as Python does, not with the user's rows in it.
    pretty_exceptions_enable=False,
)
app.command(epilog=EXAMPLES)(detect)
app.command(epilog=AUGMENT_EXAMPLES)(augment)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flowdetect {__version__}")
        raise typer.Exit


@app.callback()
def flowdetect(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Find the anomalies of a table, or draw further rows, with a conditional neural spline flow.

    Exit codes: 0 done, 1 the fit failed, 2 wrong usage, 3 a file or its contents cannot be used.
    """
