"""What the subcommands have in common: notes to the reader, files to check, pictures to save."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdetect.cli._errors import STORAGE, CommandError
from flowdetect.cli._tables import check_output, check_suffix

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

__all__ = ["PICTURES", "check_files", "print_notes", "quoted", "save_figure", "warnings_as_notes"]

PICTURES = (".png", ".pdf", ".svg")


def quoted(names: Any) -> str:
    """Return names in single quotes, separated by commas."""
    return ", ".join(f"'{name}'" for name in names)


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print sentences that are no errors."""
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False)


@contextmanager
def warnings_as_notes(console: Console) -> Iterator[None]:
    """Print each warning once, as a sentence without the line of code that gave it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    print_notes(console, dict.fromkeys(str(warning.message) for warning in caught))


def check_files(table: Path, target: Path | None, plot: Path | None) -> None:
    """Refuse files of another kind than can be read or written, and outputs that cannot be written.

    Raises
    ------
    CommandError
    """
    check_suffix(table, "TABLE")
    if target is not None:
        check_suffix(target, "--out")
        check_output(target, table)
    if plot is not None:
        check_suffix(plot, "--plot", PICTURES)
        check_output(plot, table)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture.

    Raises
    ------
    CommandError
        If it cannot be written.
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise CommandError(f"'{path}' cannot be written: {error}", STORAGE) from error
