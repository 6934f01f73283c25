"""The options of the commands for jobs, as annotated types. None means that a flag was not given."""

from typing import Annotated

import typer

__all__ = [
    "Alpha",
    "BatchRows",
    "ConfigFile",
    "Drift",
    "DryRun",
    "FailOn",
    "IdColumns",
    "Ignore",
    "Json",
    "LogFormat",
    "ManifestFile",
    "MaxBadRows",
    "MetricsFile",
    "MissingEntries",
    "ModelFile",
    "OutFormat",
    "Prune",
    "Quarantine",
    "Query",
    "Reasons",
    "Resume",
    "RunKey",
    "Sha256",
    "SourceFormat",
    "Sources",
    "Target",
    "Threads",
    "Wait",
]

ModelFile = Annotated[str | None, typer.Argument(metavar="MODEL", help="A model file.", show_default=False)]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="Files (csv, csv.gz, csv.zst, parquet, arrow), folders, globs, '-', or URLs of databases with "
        "#table.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="TARGET", help="A file, a folder (ends in '/'), '-', or a URL with #table."
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="TOML; variables win over it, and flags over these."),
]
SourceFormat = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="Of the sources, where their names do not tell."),
]
OutFormat = Annotated[
    str | None,
    typer.Option("--out-format", metavar="FORMAT", help="Of the target, where its name does not tell."),
]
Query = Annotated[
    str | None,
    typer.Option("--query", metavar="SQL", help="What to read from a database, in place of #table."),
]
MissingEntries = Annotated[
    list[str] | None,
    typer.Option("--na-value", metavar="TEXT", help="Means 'missing' in csv files. Repeatable."),
]
IdColumns = Annotated[
    list[str] | None,
    typer.Option("--id-columns", metavar="COLUMN", help="Write only these of the input. Repeatable."),
]
Reasons = Annotated[
    int | None,
    typer.Option(
        "--reasons", metavar="N", min=0, help="Columns named for each anomaly; 3, and 0 is fastest."
    ),
]
Quarantine = Annotated[
    str | None,
    typer.Option(
        "--quarantine", metavar="FILE", help="Where rows go that cannot be used; else they stop it."
    ),
]
MaxBadRows = Annotated[
    str | None,
    typer.Option(
        "--max-bad-rows", metavar="N|x%", help="More such rows, or a larger share of a file, stop it."
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume", help="Leave alone files of a folder that an interrupted run has finished."
    ),
]
Prune = Annotated[
    bool | None,
    typer.Option("--prune/--no-prune", help="Remove files of the run before whose sources are gone."),
]
ManifestFile = Annotated[
    str | None,
    typer.Option(
        "--manifest", metavar="FILE", help="What the run did, written last; else beside the target."
    ),
]
MetricsFile = Annotated[
    str | None, typer.Option("--metrics", metavar="FILE", help="For the textfile collector of Prometheus.")
]
FailOn = Annotated[
    list[str] | None,
    typer.Option("--fail-on", metavar="anomalies|drift|quarantine", help="End with code 1. Repeatable."),
]
Drift = Annotated[bool | None, typer.Option("--drift/--no-drift", help="Look for drift.")]
Alpha = Annotated[
    float | None,
    typer.Option("--alpha", metavar="RATE", help="Rate of false alarms of the drift test; 0.01."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="COLUMN", help="Left out of the drift test. Repeatable."),
]
Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="ID", help="The only model id to accept.")]
RunKey = Annotated[
    str | None,
    typer.Option(
        "--run-key", metavar="TEXT", help="Such as the date; in a table a run replaces the rows of its key."
    ),
]
BatchRows = Annotated[int | None, typer.Option("--batch-rows", metavar="N", min=1, help="Rows at a time.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="How many may be used.")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", metavar="SECONDS", min=0, help="For another run that writes the same; else 75."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON to stdout.")]
LogFormat = Annotated[
    str | None, typer.Option("--log-format", metavar="text|json", help="Of the messages on stderr.")
]
