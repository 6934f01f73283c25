"""The arguments and options of the subcommands, as annotated types."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Contamination",
    "DroppedColumns",
    "LabelColumn",
    "MissingTexts",
    "OutputFile",
    "PictureFile",
    "Quiet",
    "Seed",
    "Steps",
    "TableFile",
    "TopRows",
]


def _contamination(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        fraction = float(text)
    except ValueError:
        fraction = float("nan")
    if not 0.0 < fraction <= 0.5:
        raise typer.BadParameter(f"must be 'auto' or a fraction above 0 and at most 0.5; got '{text}'.")
    return fraction


TableFile = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="A csv, csv.gz or parquet file."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="Left out of the fit; its rarest value is looked for."),
]
DroppedColumns = Annotated[
    list[str] | None,
    typer.Option("--drop", metavar="COLUMN", help="Left out of the fit, but written. Repeatable."),
]
# typer takes no union of text and number: the parser decides.
Contamination = Annotated[
    str,
    typer.Option(parser=_contamination, metavar="auto|FRACTION", help="Share of rows called anomalies."),
]
OutputFile = Annotated[
    str,
    typer.Option(metavar="FILE", help="csv, csv.gz or parquet; '-' writes csv to stdout."),
]
PictureFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw the distribution of the scores: png, pdf or svg."),
]
TopRows = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="How many of the most unlikely rows to print with reasons."),
]
MissingTexts = Annotated[
    list[str] | None,
    typer.Option("--na-value", metavar="TEXT", help="Means 'missing', as an empty field does. Repeatable."),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="The same seed gives the same scores."),
]
Steps = Annotated[
    int | None,
    typer.Option("--max-steps", metavar="N", min=1, help="Train for fewer steps: faster, and less exact."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print nothing but errors."),
]
