"""What a drift monitor found: the verdict, the scores, and a table of the columns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnDrift", "DriftReport", "ScoreDrift"]

Verdict = Literal["drift", "no drift seen", "too few rows"]


@dataclass(frozen=True)
class ScoreDrift:
    """How the p-values of the new rows are spread, beside the uniform that they have without drift.

    Parameters
    ----------
    p_value : float
        That the largest deviation is as large where nothing has changed.
    drift : bool
        Whether that is at most the part of alpha that the scores have.
    level, share : float
        Where the deviation is largest: the share of new rows with a p-value up to that level.
    n_reference : int
        Held-out scores that the new ones are compared with.
    levels, shares : tuple of float
        All levels, ascending, and the share of new rows with p-values up to each.
    deviations : tuple of float
        How far the shares are from the levels: positive where there are too many rows, in standard
        deviations, those of the held-out scores included.
    critical : float
        The largest deviation that passes for no drift, either way.
    """

    p_value: float
    drift: bool
    level: float
    share: float
    n_reference: int
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    deviations: tuple[float, ...]
    critical: float


@dataclass(frozen=True)
class ColumnDrift:
    """How a column differs most from what it was.

    Parameters
    ----------
    column : str
        Its name.
    what : str
        Entries that became more, or less, frequent, such as "age < 40", "missing" or "sex = 'F'".
    expected, share : float or None
        Their share of the training rows and of the new ones; None where nothing could be compared.
    p_value : float
        For this column alone.
    p_adjusted : float
        For the number of columns (Holm).
    drift : bool
        Whether that is at most the part of alpha that the columns have.
    """

    column: str
    what: str
    expected: float | None
    share: float | None
    p_value: float
    p_adjusted: float
    drift: bool


@dataclass(frozen=True)
class DriftReport:
    """The verdict on new rows.

    Parameters
    ----------
    n_rows : int
        New rows looked at.
    verdict : {"drift", "no drift seen", "too few rows"}
        "no drift seen" is no proof that there is none: few rows show only large changes.
    p_value : float or None
        Of all comparisons together; "drift" is ``p_value <= alpha``. None with too few rows.
    alpha : float
        Rate of false alarms.
    min_rows : int
        So many rows are needed for a verdict.
    score : ScoreDrift or None
        None with too few rows, or where the model has no held-out scores.
    columns : tuple of ColumnDrift
        The most changed one first; empty with too few rows.
    note : str or None
        Why no column was compared, where the model cannot tell how they were in training.
    """

    n_rows: int
    verdict: Verdict
    p_value: float | None
    alpha: float
    min_rows: int
    score: ScoreDrift | None
    columns: tuple[ColumnDrift, ...]
    note: str | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The columns as a DataFrame, the most changed one first."""
        import pandas as pd

        names = list(ColumnDrift.__dataclass_fields__)
        return pd.DataFrame([asdict(column) for column in self.columns], columns=names)

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists, strings, numbers and None, ready for ``json.dumps``."""
        entry = asdict(self)
        if self.score is not None:
            entry["score"] = {k: list(v) if isinstance(v, tuple) else v for k, v in entry["score"].items()}
        return {**entry, "columns": list(entry["columns"])}
