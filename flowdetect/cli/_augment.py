"""The subcommand `augment`. What is slow to import is imported where it is needed, not for ``--help``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowdetect.cli._common import check_files, print_notes, quoted, save_figure, warnings_as_notes
from flowdetect.cli._errors import INPUT, USAGE, CommandError, reported
from flowdetect.cli._options import (
    Check,
    ClassValue,
    ComparisonPicture,
    LeftOutColumns,
    MissingTexts,
    OutputFile,
    Quality,
    Quiet,
    RowCount,
    Seed,
    Steps,
    TableFile,
    TargetColumn,
)
from flowdetect.cli._tables import (
    Table,
    identifier_hints,
    joined,
    keep_columns,
    like_source,
    missing_text_hints,
    read_table,
    write_table,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from rich.console import Console

    from flowdetect.estimators import FlowAugmenter

__all__ = ["EXAMPLES", "augment"]

_MARK = "is_drawn"
_MOST_NAMES = 20
_WIDE = 120  # columns of a terminal that has room for explanations
_HELD_OUT = 5  # one row of this many, of each class
_MIN_COMPARED = 10  # rows, what compare_tables asks for
EXAMPLES = """[bold]Examples[/bold]

  flowdetect augment hypothyroid.csv.gz --na-value '?' --target class --out balanced.csv

  flowdetect augment patients.csv --target state --rows 200 --class ill > more_ill.csv

  flowdetect augment orders.parquet --drop order_id --rows 1000 --check --plot copy.png --out copy.parquet
"""


@dataclass(frozen=True)
class _Request:
    """What to draw: so many rows, of a class as the file writes it. Without a number, balance the classes."""

    target: str | None
    n_rows: int | None
    class_value: str | None

    def check(self) -> None:
        """Refuse options that do not go together."""
        if self.target is None and self.n_rows is None:
            raise CommandError(
                "say --target COLUMN to balance its classes, or --rows N to draw rows of the whole table.",
                USAGE,
            )
        if self.class_value is not None and (self.target is None or self.n_rows is None):
            raise CommandError("--class goes with --target, which names its column, and with --rows.", USAGE)


@dataclass(frozen=True)
class _Classes:
    """The classes of a table; without a target, all rows are of one.

    Parameters
    ----------
    target : str or None
        Their column.
    entries : Index or None
        The entry of each class.
    names : list of str
        The same as the file writes it.
    of_row : ndarray of int of shape (n_rows,)
        Which class each row has; -1 where it is missing.
    """

    target: str | None
    entries: pd.Index | None
    names: list[str]
    of_row: NDArray[np.intp]

    def counts(self, of_row: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        import numpy as np

        of_row = self.of_row if of_row is None else of_row
        return np.bincount(of_row[of_row >= 0], minlength=len(self.names))


def augment(
    table: TableFile,
    *,
    target: TargetColumn = None,
    rows: RowCount = None,
    class_value: ClassValue = None,
    drop: LeftOutColumns = None,
    out: OutputFile = "-",
    plot: ComparisonPicture = None,
    quality: Quality = True,
    check: Check = False,
    na_value: MissingTexts = None,
    seed: Seed = 0,
    max_steps: Steps = None,
    quiet: Quiet = False,
) -> None:
    """Fit a density to TABLE and draw further rows from it.

    With `--target` alone, the rarer classes are filled up to the most frequent
    one: the whole table is written, the drawn rows behind it, and a column
    `is_drawn` tells them apart. With `--rows`, only drawn rows are written.
    Rows whose class is missing are not learnt from.
    Data go to stdout or to a file, messages and the progress bar to stderr.
    """
    from rich.console import Console

    with reported():
        request = _Request(target, rows, class_value)
        request.check()
        if check and (quiet or not quality):
            raise CommandError("--check is for the table that --quiet and --no-quality leave out.", USAGE)
        path = None if out == "-" else Path(out)
        check_files(table, path, plot)
        read = read_table(table, na_value or [])
        data = keep_columns(read, _columns_to_keep(read.values, request, drop or []))
        classes = _find_classes(data, request)
        console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        print_notes(console, _notes(read, data, classes))
        learnt = _learnt_rows(classes, seed, hold_out=check)
        with warnings_as_notes(console):
            augmenter = _augmenter(seed, max_steps, verbose=0 if quiet else 1)
            drawn, of_drawn = _draw(augmenter, data.values, classes, request, learnt)
        _print_summary(console, classes, of_drawn, balanced=rows is None)
        _write(data, drawn, path, balanced=rows is None)
        pair = _comparison(data.values, classes, learnt, drawn, of_drawn, checked=check)
        if quality and not quiet:
            _print_quality(console, pair, seed)
        if plot is not None:
            _save_picture(plot, pair, name=table.name)


# --- what is asked for ------------------------------------------------------------------------------------


def _columns_to_keep(values: pd.DataFrame, request: _Request, drop: list[str]) -> list[str]:
    named = drop if request.target is None else [*drop, request.target]
    unknown = [name for name in named if name not in values.columns]
    if unknown:
        raise CommandError(
            f"--target and --drop must name columns of the table; it has no {quoted(unknown)}, "
            f"only {_listed(values.columns)}.",
            USAGE,
        )
    if request.target in drop:
        raise CommandError(f"--drop leaves out the target '{request.target}'.", USAGE)
    kept = [name for name in values.columns if name not in drop]
    if kept in ([], [request.target]):
        raise CommandError("--target and --drop leave no column to fit.", USAGE)
    if request.n_rows is None and _MARK in kept:
        raise CommandError(f"the table already has a column '{_MARK}'; rename it, or --drop it.", INPUT)
    return kept


def _listed(names: Sequence[str] | pd.Index) -> str:
    return quoted(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")


def _find_classes(data: Table, request: _Request) -> _Classes:
    import numpy as np
    import pandas as pd

    target, n_rows = request.target, len(data.values)
    if target is None:
        return _Classes(None, None, [""], np.zeros(n_rows, dtype=np.intp))
    of_row, entries = pd.factorize(data.values[target])
    n_known = int(np.sum(of_row >= 0))
    if not n_known or 2 * len(entries) > n_known:
        raise CommandError(
            f"the target '{target}' must hold classes, of two rows each on average; it has {len(entries):,} "
            f"different values in {n_known:,} rows.",
            INPUT,
        )
    first = np.unique(of_row, return_index=True)[1][-len(entries) :]
    names = [str(name) for name in data.source[target].iloc[first]]
    classes = _Classes(target, entries, names, of_row)
    if request.n_rows is None and len(set(classes.counts())) == 1:
        raise CommandError(
            f"there is nothing to balance: each class of '{target}' has {classes.counts()[0]:,} rows. "
            "Say --rows N to draw rows.",
            INPUT,
        )
    if request.class_value not in (None, *names):
        raise CommandError(
            f"--class must be one of {_listed(names)}, the values of '{target}'; "
            f"got '{request.class_value}'.",
            USAGE,
        )
    return classes


def _notes(read: Table, data: Table, classes: _Classes) -> list[str]:
    notes = [*missing_text_hints(data.values), *identifier_hints(data.values)]
    left_out = [str(name) for name in read.values.columns if name not in data.values.columns]
    if type(read.source.index).__name__ != "RangeIndex":
        left_out += [str(name) for name in read.source.index.names]  # drawn rows have none
    if left_out:
        notes.append(f"{quoted(left_out)} left out of the fit, and of what is written.")
    n_missing = int((classes.of_row < 0).sum())
    if n_missing:
        notes.append(f"{n_missing:,} row(s) without '{classes.target}' are not learnt from.")
    return notes


# --- drawing ----------------------------------------------------------------------------------------------


def _learnt_rows(classes: _Classes, seed: int, *, hold_out: bool) -> NDArray[np.bool_]:
    """Return which rows to learn from: all that have a class, or four fifths of each class."""
    import numpy as np

    learnt = classes.of_row >= 0
    if hold_out:
        rng = np.random.default_rng(seed)
        for k in range(len(classes.names)):
            rows = rng.permutation(np.flatnonzero(classes.of_row == k))
            learnt[rows[: len(rows) // _HELD_OUT]] = False
    return learnt


def _augmenter(seed: int, max_steps: int | None, *, verbose: int) -> FlowAugmenter:
    from flowdetect.estimators import FlowAugmenter

    augmenter = FlowAugmenter(random_state=seed, verbose=verbose)
    return augmenter if max_steps is None else augmenter.set_params(max_steps=max_steps)


def _draw(
    augmenter: FlowAugmenter,
    values: pd.DataFrame,
    classes: _Classes,
    request: _Request,
    learnt: NDArray[np.bool_],
) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Return drawn rows, with the columns of the table, and the class of each."""
    import numpy as np
    import pandas as pd

    seed = augmenter.random_state
    if classes.entries is None:
        drawn = augmenter.fit(values[learnt]).sample(request.n_rows, random_state=seed)
        return drawn, np.zeros(len(drawn), dtype=np.intp)
    X, y = values[learnt].drop(columns=classes.target), classes.of_row[learnt]
    if request.n_rows is None:
        missing = classes.counts().max() - classes.counts()
        augmenter.set_params(sampling_strategy=dict(enumerate(classes.counts(y) + missing)))
        drawn, of_row = (part[len(y) :] for part in augmenter.fit_resample(X, y))
        drawn = drawn.reset_index(drop=True)
    else:
        asked = None if request.class_value is None else classes.names.index(request.class_value)
        drawn, of_row = augmenter.fit(X, y).sample(request.n_rows, y=asked, return_y=True, random_state=seed)
    target = pd.Series(classes.entries.take(of_row)).astype(values[classes.target].dtype)
    drawn.insert(values.columns.get_loc(classes.target), classes.target, target)
    return drawn, of_row


def _print_summary(
    console: Console, classes: _Classes, of_drawn: NDArray[np.intp], *, balanced: bool
) -> None:
    console.print(f"{len(of_drawn):,} rows drawn", highlight=False)
    before, drawn = classes.counts(), classes.counts(of_drawn)
    for k in drawn.argsort(kind="stable")[::-1][:_MOST_NAMES]:
        if classes.target is not None and drawn[k]:
            text = f"  {classes.target} = {classes.names[k]}: {drawn[k]:,}"
            text += f", beside {before[k]:,} real ones" if balanced else ""
            console.print(text, markup=False, highlight=False)


def _write(data: Table, drawn: pd.DataFrame, path: Path | None, *, balanced: bool) -> None:
    further = like_source(data, drawn)
    if balanced:
        is_drawn = [False] * len(data.values) + [True] * len(drawn)
        write_table(joined(data, further), {_MARK: is_drawn}, path)
    else:
        write_table(further, {}, path)


# --- how good the rows are ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Comparison:
    """Drawn rows and real rows of the same classes; with the target, if these are several."""

    real: pd.DataFrame  # what was learnt from
    drawn: pd.DataFrame
    held_out: pd.DataFrame | None
    target: str | None


def _comparison(
    values: pd.DataFrame,
    classes: _Classes,
    learnt: NDArray[np.bool_],
    drawn: pd.DataFrame,
    of_drawn: NDArray[np.intp],
    *,
    checked: bool,
) -> _Comparison:
    import numpy as np

    asked = np.unique(of_drawn)
    known = np.isin(classes.of_row, asked)
    several = classes.target is not None and len(asked) > 1
    unused = [] if several or classes.target is None else [classes.target]
    even = _in_shares(of_drawn, classes.counts(classes.of_row[learnt]))
    real, held_out = (values[known & rows].drop(columns=unused) for rows in (learnt, ~learnt))
    return _Comparison(
        real=real,
        drawn=drawn[even].drop(columns=unused),
        held_out=held_out if checked else None,
        target=classes.target if several else None,
    )


def _in_shares(of_drawn: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark as many drawn rows as there can be with the classes as frequent as among the real ones."""
    import numpy as np

    found = np.bincount(of_drawn, minlength=len(counts))
    share = min(found[k] / counts[k] for k in np.flatnonzero(found))
    marked = np.zeros(len(of_drawn), dtype=bool)
    for k in np.flatnonzero(found):
        marked[np.flatnonzero(of_drawn == k)[: max(1, round(share * counts[k]))]] = True
    return marked


def _print_quality(console: Console, pair: _Comparison, seed: int) -> None:
    from rich.table import Table as Grid

    from flowdetect.quality import compare_tables

    if min(len(rows) for rows in (pair.real, pair.drawn, pair.held_out) if rows is not None) < _MIN_COMPARED:
        print_notes(console, [f"fewer than {_MIN_COMPARED} rows to compare: their quality is not measured."])
        return
    with warnings_as_notes(console):
        found = compare_tables(
            pair.real, pair.drawn, held_out=pair.held_out, target=pair.target, random_state=seed
        )
    numbers = ["value", "baseline", "ideal"]
    if pair.held_out is None:
        numbers.remove("baseline")
        found = found[[not isinstance(ideal, str) for ideal in found["ideal"]]]  # others need a baseline
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("drawn and real rows")
    for name in numbers:
        grid.add_column("drawn" if name == "value" else name, justify="right")
    explained = console.width >= _WIDE
    if explained:
        grid.add_column("meaning")
    for measure, row in found.iterrows():
        shown = [entry if isinstance(entry, str) else f"{entry:.3f}" for entry in row[numbers]]
        grid.add_row(str(measure), *shown, *([row["meaning"]] if explained else []))
    console.print(grid)
    if pair.held_out is None:
        console.print("--check adds what real rows would reach, and whether rows are copied", highlight=False)


def _save_picture(path: Path, pair: _Comparison, *, name: str) -> None:
    from matplotlib.figure import Figure

    from flowdetect.plotting import AugmentationDisplay

    # Not pyplot's figure: a command must not open, or need, a window system.
    figure = Figure(figsize=(12.0, 6.0), dpi=150, layout="constrained")
    AugmentationDisplay.from_predictions(pair.real, pair.drawn, target=pair.target, figure=figure, name=name)
    save_figure(figure, path)
