"""The meaning of the columns of an encoded matrix."""

from dataclasses import dataclass

from flowdetect.exceptions import ConfigurationError

__all__ = ["MatrixLayout"]


@dataclass(frozen=True)
class MatrixLayout:
    """Columns of an encoded matrix: ``[values | codes]``.

    Parameters
    ----------
    n_values : int
        Number of continuous columns, which come first.
    cardinalities : tuple of int
        Number of codes of each discrete column; codes are ``0 .. cardinality - 1``.
    gates : tuple of int
        For each discrete column, the continuous column that exists only where the code is 0, or -1.

    Raises
    ------
    ConfigurationError
        If the numbers do not fit together.

    Examples
    --------
    >>> layout = MatrixLayout(n_values=2, cardinalities=(3, 2), gates=(-1, 0))
    >>> layout.n_columns, layout.gated
    (4, True)
    """

    n_values: int
    cardinalities: tuple[int, ...] = ()
    gates: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.gates) != len(self.cardinalities):
            raise ConfigurationError(
                f"gates must name one value column (or -1) per code column; got {len(self.gates)} gates "
                f"for {len(self.cardinalities)} code columns."
            )
        if any(not -1 <= gate < self.n_values for gate in self.gates):
            raise ConfigurationError(f"gates must lie in -1..{self.n_values - 1}; got {self.gates!r}.")
        if any(cardinality < 1 for cardinality in self.cardinalities):
            raise ConfigurationError(f"cardinalities must be at least 1; got {self.cardinalities!r}.")

    @property
    def n_codes(self) -> int:
        """Number of discrete columns."""
        return len(self.cardinalities)

    @property
    def n_columns(self) -> int:
        """Number of columns of the matrix."""
        return self.n_values + self.n_codes

    @property
    def gated(self) -> bool:
        """Whether some continuous column is absent from some rows."""
        return any(gate >= 0 for gate in self.gates)
