"""Why rows are unlikely, in a few words each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["reasons"]


def reasons(rows: pd.DataFrame, contributions: pd.DataFrame, n_reasons: int = 3) -> list[str]:
    """Name for each row the columns that make it unlikely, the strongest first.

    Parameters
    ----------
    rows : DataFrame of shape (n_rows, n_columns)
    contributions : DataFrame of shape (n_rows, n_columns)
        Nats by column, negative = makes the row unlikely.
    n_reasons : int, default=3
        How many columns at most; columns that speak for the row are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"age": [71.0], "sex": ["F"], "TSH": [530.0]})
    >>> reasons(rows, pd.DataFrame({"age": [-0.4], "sex": [0.1], "TSH": [-12.34]}))
    ['TSH=530 -12.3, age=71 -0.4']
    """
    nats = contributions.to_numpy()
    strongest = nats.argsort(axis=1, kind="stable")[:, :n_reasons]
    # Column by column: a row of whole numbers and fractions would become all fractions.
    columns = [rows.iloc[:, position].astype(object).to_numpy() for position in range(rows.shape[1])]
    return [
        ", ".join(
            f"{rows.columns[k]}={_shown(columns[k][row])} {nats[row, k]:+.1f}"
            for k in strongest[row]
            if nats[row, k] < 0
        )
        for row in range(len(rows))
    ]


def _shown(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "missing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
