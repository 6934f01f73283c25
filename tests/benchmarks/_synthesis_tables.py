"""Mixed tables to imitate: how they are read, which rows are fitted and which are held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

__all__ = ["MixedTable", "category_columns", "find_mixed", "read_mixed"]

SPLIT = "__split"
TEST_SHARE = 0.25

# Columns of the online shoppers data whose integers are names, not amounts.
CODES = ("OperatingSystems", "Browser", "Region", "TrafficType")


@dataclass(frozen=True)
class MixedTable:
    """Disjoint rows of one table: the last column is the target, text and codes are categories.

    Parameters
    ----------
    train : DataFrame
        Rows that generators are fitted on.
    held_out : DataFrame
        Real rows that no generator sees.
    """

    name: str
    train: pd.DataFrame
    held_out: pd.DataFrame

    @property
    def target(self) -> str:
        """Name of the column of classes."""
        return str(self.train.columns[-1])


def find_mixed(folder: Path, wanted: str) -> Iterator[Path]:
    """Yield the ``.csv.gz`` files whose names have one of the comma separated parts, or all for ``""``."""
    parts = [part for part in wanted.split(",") if part]
    for path in sorted(folder.glob("*.csv.gz")):
        if not parts or any(part in path.name for part in parts):
            yield path


def category_columns(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns of categories."""
    return [str(name) for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)]


def read_mixed(path: Path, max_rows: int, seed: int) -> MixedTable:
    """Return the rows of one file, those to fit drawn at random from its training rows."""
    table = pd.read_csv(path)
    split = table.pop(SPLIT) if SPLIT in table else None
    table = _as_categories(table)
    if split is None:
        # Which rows are held out is part of the data, so no seed of a run changes it.
        rest, held_out = train_test_split(
            table, test_size=TEST_SHARE, random_state=0, stratify=table.iloc[:, -1]
        )
    else:
        rest, held_out = table[split == "train"], table[split == "test"]
    order = np.random.RandomState(seed).permutation(len(rest))
    parts = (rest.iloc[order[:max_rows]], held_out)
    return MixedTable(path.name.removesuffix(".csv.gz"), *(part.reset_index(drop=True) for part in parts))


def _as_categories(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with text, truth values, codes and the target as categories of text."""
    table = table.copy()
    for name in table:
        text = not pd.api.types.is_numeric_dtype(table[name]) or pd.api.types.is_bool_dtype(table[name])
        if text or name in CODES or name == table.columns[-1]:
            values = table[name].astype(object).map(str, na_action="ignore")
            table[name] = pd.Categorical(values, categories=sorted(values.dropna().unique()))
    return table
