"""The command `flowdetect` and its options for every subcommand."""

from typing import Annotated

import typer

from flowdetect import __version__
from flowdetect.cli._augment import EXAMPLES as AUGMENT_EXAMPLES
from flowdetect.cli._augment import augment
from flowdetect.cli._detect import EXAMPLES, detect
from flowdetect.cli._drift import EXAMPLES as DRIFT_EXAMPLES
from flowdetect.cli._drift import drift
from flowdetect.cli._errors import EXIT_CODES
from flowdetect.cli._fit import EXAMPLES as FIT_EXAMPLES
from flowdetect.cli._fit import fit
from flowdetect.cli._models import INSPECT_EXAMPLES, VERIFY_EXAMPLES, inspect, verify
from flowdetect.cli._score import EXAMPLES as SCORE_EXAMPLES
from flowdetect.cli._score import score

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
app.command(epilog=FIT_EXAMPLES)(fit)
app.command(epilog=SCORE_EXAMPLES)(score)
app.command(epilog=DRIFT_EXAMPLES)(drift)
app.command(epilog=INSPECT_EXAMPLES)(inspect)
app.command(epilog=VERIFY_EXAMPLES)(verify)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flowdetect {__version__}")
        raise typer.Exit


_CODES = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


@app.callback(
    help="Find the anomalies of a table, or draw further rows, with a conditional neural spline flow.\n\n"
    f"Exit codes: {_CODES}."
)
def flowdetect(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Find the anomalies of a table, or draw further rows, with a conditional neural spline flow."""
