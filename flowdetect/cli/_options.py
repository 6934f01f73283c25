"""The arguments and options of the subcommands, as annotated types."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Check",
    "ClassValue",
    "ComparisonPicture",
    "Contamination",
    "DroppedColumns",
    "EntityColumn",
    "FalseAlarmsEvery",
    "LabelColumn",
    "LeftOutColumns",
    "MissingTexts",
    "OutputFile",
    "PictureFile",
    "Quality",
    "Quiet",
    "RowCount",
    "Seed",
    "Steps",
    "TableFile",
    "TargetColumn",
    "TimeColumn",
    "TopRows",
    "WindowLength",
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
    typer.Option(metavar="N", min=0, help="The same seed gives the same result."),
]
Steps = Annotated[
    int | None,
    typer.Option("--max-steps", metavar="N", min=1, help="Train for fewer steps: faster, and less exact."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print nothing but errors."),
]

# --- detect only ------------------------------------------------------------------------------------------

TimeColumn = Annotated[
    str | None,
    typer.Option("--time", metavar="COLUMN", help="Dates or numbers: find odd stretches of a series."),
]
EntityColumn = Annotated[
    str | None,
    typer.Option("--entity", metavar="COLUMN", help="Tells several series apart."),
]
WindowLength = Annotated[
    int | None,
    typer.Option(metavar="ROWS", min=4, help="Series only: rows of the shorter windows; else chosen."),
]
FalseAlarmsEvery = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Series only: time between false alarms, such as 30D, or rows."),
]

# --- augment only -----------------------------------------------------------------------------------------

TargetColumn = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="COLUMN", help="The column of the classes. Without --rows, balances them."
    ),
]
RowCount = Annotated[
    int | None,
    typer.Option("--rows", metavar="N", min=1, help="Draw N rows, and write only them."),
]
ClassValue = Annotated[
    str | None,
    typer.Option("--class", metavar="VALUE", help="The class of these rows; else as frequent as in TABLE."),
]
LeftOutColumns = Annotated[
    list[str] | None,
    typer.Option("--drop", metavar="COLUMN", help="Left out of the fit and of what is written. Repeatable."),
]
ComparisonPicture = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw the rows beside the real ones: png, pdf or svg."),
]
Quality = Annotated[
    bool,
    typer.Option(
        "--quality/--no-quality", help="Print how alike drawn and real rows of the same classes are."
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Learn from four fifths of the rows only; the rest tells what rows as good as real would reach.",
    ),
]
