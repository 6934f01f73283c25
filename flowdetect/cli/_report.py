"""What a person wants to read after a run: the rows to look at, with reasons, and how the label agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowdetect.cli._errors import INPUT, CommandError
from flowdetect.jobs._reasons import reasons

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.table import Table

__all__ = ["RareRows", "print_agreement", "print_top", "rare_rows"]


@dataclass(frozen=True)
class RareRows:
    """The rows that have the rarest value of the label.

    Parameters
    ----------
    name : str
        "column = value".
    mask : ndarray of bool of shape (n_rows,)
    """

    name: str
    mask: NDArray[np.bool_]


def rare_rows(labels: pd.Series) -> RareRows:
    """Find the rows with the rarest value of a label.

    Raises
    ------
    CommandError
        If the label does not have two different values.
    """
    counts = labels.value_counts()
    if len(counts) < 2:
        raise CommandError(
            f"the label '{labels.name}' must have at least two different values; it has {len(counts)}.", INPUT
        )
    rarest = counts.index[-1]
    return RareRows(f"{labels.name} = {rarest}", (labels == rarest).to_numpy(dtype=bool, na_value=False))


def print_top(console: Console, rows: pd.DataFrame, scores: NDArray[np.float64], why: pd.DataFrame) -> None:
    """Print the most unlikely rows.

    Parameters
    ----------
    console : Console
        Where to print.
    rows : DataFrame of shape (n_top, n_columns)
        The rows, the most unlikely first; their index is the position in the table, from 0
        (printed from 1).
    scores : ndarray of shape (n_top,)
        Their log-densities in nats.
    why : DataFrame of shape (n_top, n_columns)
        Contribution of each column in nats, negative = makes the row unlikely.
    """
    from rich.text import Text

    table = _empty_table()
    for position, score, text in zip(rows.index, scores, reasons(rows, why), strict=True):
        table.add_row(f"{position + 1:,}", f"{score:.1f}", Text(text))
    console.print(table)


def _empty_table() -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("row", justify="right")
    table.add_column("score", justify="right")
    table.add_column("makes it unlikely: column=value nats")
    return table


def print_agreement(console: Console, scores: NDArray[np.float64], rare: RareRows) -> None:
    """Print how well the ranking finds the rows known to be rare."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    n_rare = int(rare.mask.sum())
    found = int(rare.mask[scores.argsort(kind="stable")[:n_rare]].sum())
    console.print(
        f"{rare.name}: {found:,} of its {n_rare:,} rows are among the {n_rare:,} most unlikely ones; "
        f"AUROC {roc_auc_score(rare.mask, -scores):.3f}, "
        f"average precision {average_precision_score(rare.mask, -scores):.3f}",
        markup=False,
        highlight=False,
    )
