"""`TableEncoder`: a table of any dtypes as a matrix of values and codes, and back."""

import math
import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError, InvalidTableError, TableWarning
from flowdetect.preprocessing import _numeric as numeric
from flowdetect.preprocessing._columns import encode_column, encode_given
from flowdetect.preprocessing._copies import mark_copies, restore_copy
from flowdetect.preprocessing._discrete import decode_discrete, discrete_kind, fit_labels
from flowdetect.preprocessing._frame import align, as_frame, find_columns
from flowdetect.preprocessing._matrix import Coordinates, Dequantizer, Tails
from flowdetect.preprocessing._missing import refuse_missing, ungate
from flowdetect.preprocessing._schema import ColumnSchema, Storage, TableSchema, shown
from flowdetect.preprocessing._storage import describe, read_numbers, restore_numbers

__all__ = ["TableEncoder"]

_OPTIONS = {"missing": ("model", "always"), "lattice": ("auto", "decimal", "never")}


class TableEncoder:
    """Turn a table into a matrix ``[values | codes]`` with its log-determinant, and back.

    Numbers become values of about unit scale by a robust monotone map, categories become codes, and missing
    entries and atoms (values that many rows share exactly) become codes that gate a value. A table of
    continuous columns without missing values and heavy tails is mapped by a plain affine map.

    Parameters
    ----------
    atoms : bool, default=True
        Whether a number held by at least 10 rows and 5 % of them, in a column that varies continuously
        otherwise, gets a probability of its own (zero inflation, capped values).
    missing : {"model", "always"}, default="model"
        "model": a numeric column may be missing later if it was in training, and is refused otherwise.
        "always": every column may be missing later; where it never was in training, that is unlikely, not an
        error.
    lattice : {"auto", "decimal", "never"}, default="auto"
        Which equally spaced numbers are dequantised: whole numbers and decimals, any equal spacing as well
        ("auto", which also finds standardised whole numbers), or none.
    heaps : bool, default=False
        Whether rows that heap up at some numbers (rounded hours, small counts) are to do so when drawn: up to
        128 such numbers then become codes, each with a probability of its own and without an order; among
        more, up to 64 that hold half a per cent of the rows each are atoms.
    affine : bool, default=False
        Whether every column of numbers becomes a value by an affine map, and nothing else: no lattice, atoms
        or logarithmic tail, no codes for a few distinct numbers, constants or copies, and no bounds when it
        is decoded. It is for numbers that noise is added to. Times keep what the other options give them.
    max_categories : int, default=1000
        A column with more categories keeps codes for the most frequent ones that occur more than once; all
        others share the code of unseen categories, and decode to missing.

    Attributes
    ----------
    schema_ : TableSchema
        Everything learnt; JSON-able, see `TableSchema.to_dict`.
    layout_ : MatrixLayout
        Meaning of the columns of the matrix.
    column_of_ : ndarray of int, shape (n_columns,)
        For each column of the matrix, the position of its table column.
    coordinate_columns_ : ndarray of int, shape (n_coordinates,)
        The same for each of the `coordinates`.
    has_lattice_ : bool
        Whether `dequantize` does anything.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only for DataFrames whose column names are all strings.

    Notes
    -----
    With ``matrix, log_det = encode(X)`` and a model's log-density ``log q(matrix)``, the log-density of the
    rows is ``log q(matrix) + log_det`` (nats), with respect to the product over the table's columns of:

    - a continuous value: length in the column's own unit (seconds for times);
    - a value on a lattice (whole numbers, decimals): counting the points of the lattice. The model's density
      at the midpoint of the cell times its width: a midpoint-rule estimate of the cell's probability. A model
      trained on rows with uniform noise inside their cells (`dequantize`) maximises, by Jensen's inequality,
      a lower bound of the log-probability;
    - a category, a small set of numbers, a constant, a copy: counting, an exact probability;
    - a missing entry, or an atom, of a continuous or lattice column: a point mass that weighs as much as one
      scale of the column (for a lattice, ``scale / step`` points). So ``log_det`` carries ``-log(scale)``, or
      ``log(step / scale)``, in every row alike, a change of unit shifts the scores of all rows by the same
      constant, and no ranking depends on a unit.

    Only the logarithmic tail of heavy-tailed columns makes ``log_det`` differ between rows.

    Limits of ``decode(encode(X)) == X``: the index becomes 0 .. n-1; lattice columns are clipped to the range
    seen in training; categories and small-set values never seen in training become missing (or the most
    frequent value where the column cannot be missing); a copy becomes its original; whole numbers more than
    2**50 apart (36 years in microseconds), and those further than about 1e13 scales out in a heavy tail, are
    rounded.

    Examples
    --------
    >>> import pandas as pd
    >>> from flowdetect.preprocessing import TableEncoder
    >>> table = pd.DataFrame({"size": [1.5, 2.25, None, 0.125], "colour": ["red", "blue", "red", None]})
    >>> encoder = TableEncoder().fit(table)
    >>> encoder.layout_
    MatrixLayout(n_values=1, cardinalities=(2, 4), gates=(0, -1))
    >>> matrix, log_det = encoder.encode(table)
    >>> matrix.shape, log_det.shape
    ((4, 3), (4,))
    >>> bool(encoder.decode(matrix).equals(table))
    True
    """

    def __init__(
        self,
        *,
        atoms: bool = True,
        missing: Literal["model", "always"] = "model",
        lattice: Literal["auto", "decimal", "never"] = "auto",
        heaps: bool = False,
        affine: bool = False,
        max_categories: int = 1000,
    ) -> None:
        self.atoms = atoms
        self.missing = missing
        self.lattice = lattice
        self.heaps = heaps
        self.affine = affine
        self.max_categories = max_categories

    def fit(self, X: Any) -> "TableEncoder":
        """Learn the schema of a table.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)

        Returns
        -------
        self : TableEncoder

        Raises
        ------
        InvalidTableError
            If X is empty, sparse, complex, not two-dimensional, has repeated column names, or holds infinity.
        ConfigurationError
            If a parameter is none of its allowed values.

        Warns
        -----
        TableWarning
            If a column has more than `max_categories` categories.
        """
        self._check_options()
        frame, array_dtype = as_frame(X)
        if min(frame.shape) < 1:
            what = "sample" if len(frame) < 1 else "feature"
            raise InvalidTableError(
                f"Fitting needs at least one row and one column. Found array with 0 {what}(s) "
                f"(shape={frame.shape}) while a minimum of 1 is required."
            )
        text_array = array_dtype is not None and np.dtype(array_dtype).kind in "US"
        columns = [self._fit_column(frame.iloc[:, j], text_array) for j in range(frame.shape[1])]
        columns = mark_copies(frame, columns, numbers=not self.affine)
        schema = TableSchema(tuple(columns), "frame" if array_dtype is None else "array", array_dtype)
        return self._adopt(schema)

    @classmethod
    def from_schema(cls, schema: TableSchema) -> "TableEncoder":
        """Return a fitted encoder that encodes and decodes exactly as the one the schema comes from."""
        return cls()._adopt(schema)

    def encode(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Turn rows into the matrix.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
            Columns of a DataFrame are found by name. No rows are fine.

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, layout_.n_columns)
        log_det : ndarray of float64, shape (n_rows,)
            To be added to the model's log-density of a matrix row (nats).

        Raises
        ------
        InvalidTableError
            If columns are absent, or hold infinity, text instead of numbers, or missing values they never had
            in training.

        Warns
        -----
        TableWarning
            If X has columns unknown from training.
        """
        schema = self._fitted_schema()
        frame = align(*as_frame(X), schema)
        matrix = np.zeros((len(frame), self.layout_.n_columns))
        never_missing: dict[Any, int] = {}
        for position, column in enumerate(schema.columns):
            values, codes = encode_column(frame, position, column, never_missing)
            if values is not None:
                matrix[:, self._value_at[position]] = values
            if codes is not None:
                matrix[:, self._code_at[position]] = codes
        refuse_missing(never_missing)
        return matrix, self.log_det(matrix)

    def encode_given(self, given: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Encode rows of which only some columns are given.

        Parameters
        ----------
        given : DataFrame of shape (n_rows, n_given)
            Any of the columns by name; by position where the table of `fit` was an array.

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, layout_.n_columns)
            0 in the columns that are not given.
        known : ndarray of bool, shape (layout_.n_columns,)
            Which columns of the matrix are given. A copy of another column gives its original as well.

        Raises
        ------
        InvalidTableError
            If a column is unknown, or as `encode` does.
        """
        schema = self._fitted_schema()
        positions = find_columns(given, schema)
        columns = {position: given.iloc[:, k] for k, position in enumerate(positions)}
        return encode_given(columns, schema, len(given))

    def log_det(self, matrix: np.ndarray) -> np.ndarray:
        """Return the log-determinant that `encode` gives with these rows.

        Parameters
        ----------
        matrix : ndarray, shape (n_rows, layout_.n_columns)

        Returns
        -------
        log_det : ndarray of float64, shape (n_rows,)
            To be added to the model's log-density of a matrix row (nats).
        """
        self._fitted_schema()
        return self._constant + self._tails.log_slopes(matrix)

    def decode(self, matrix: np.ndarray) -> pd.DataFrame | np.ndarray:
        """Turn matrix rows, encoded or sampled, into rows of the caller's kind.

        Parameters
        ----------
        matrix : ndarray, shape (n_rows, layout_.n_columns)

        Returns
        -------
        X : DataFrame or ndarray, shape (n_rows, n_features)
            Columns, order, dtypes and categories as in `fit`; a DataFrame has the index 0 .. n_rows - 1.

        Raises
        ------
        InvalidTableError
            If the matrix has another width, or entries that are not finite.
        """
        schema = self._fitted_schema()
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.layout_.n_columns or not np.isfinite(matrix).all():
            raise InvalidTableError(
                f"The matrix must be finite, with {self.layout_.n_columns} columns; got shape {matrix.shape}"
                f"{'' if np.isfinite(matrix).all() else ' with entries that are not finite'}."
            )
        decoded: dict[int, pd.Series] = {}
        for position, column in enumerate(schema.columns):
            decoded[position] = self._decode_column(matrix, position, column, decoded)
        if schema.container == "array":
            return np.column_stack([series.to_numpy() for series in decoded.values()]).astype(
                schema.array_dtype
            )
        frame = pd.DataFrame(decoded, index=pd.RangeIndex(len(matrix)))
        frame.columns = pd.Index(schema.names, tupleize_cols=False)
        return frame

    def dequantize(self, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add fresh uniform noise inside the cells of lattice values, where these are observed.

        Parameters
        ----------
        matrix : ndarray, shape (n_rows, layout_.n_columns)
        rng : numpy.random.Generator

        Returns
        -------
        matrix : ndarray, shape (n_rows, layout_.n_columns)
            A copy; the same array if no column lies on a lattice.
        """
        self._fitted_schema()
        if not self.has_lattice_:
            return matrix
        return self._dequantizer.apply(matrix, rng)

    def coordinates(self, matrix: np.ndarray) -> np.ndarray:
        """Turn the matrix into points between which a Euclidean distance makes sense.

        Parameters
        ----------
        matrix : ndarray, shape (n_rows, layout_.n_columns)

        Returns
        -------
        points : ndarray of float64, shape (n_rows, n_coordinates)
            The values as they are; codes of a small set of numbers as ranks; other codes a distance of about
            1 apart.
        """
        self._fitted_schema()
        return self._coordinates.apply(matrix)

    # --- learning ----------------------------------------------------------------------------------------

    def _check_options(self) -> None:
        for name, allowed in _OPTIONS.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}.")
        if not isinstance(self.max_categories, int | np.integer) or self.max_categories < 1:
            raise ConfigurationError(
                f"max_categories must be a whole number >= 1; got {self.max_categories!r}."
            )

    def _fit_column(self, series: pd.Series, text_array: bool) -> ColumnSchema:
        storage = describe(series)
        storage = replace(storage, nullable=False) if text_array else storage
        if storage.family != "label":
            return self._fit_numbers(series, storage)
        schema, rare = fit_labels(
            series,
            storage,
            max_categories=self.max_categories,
            always_missing=self.missing == "always",
        )
        if rare:
            warnings.warn(
                f"Column {shown(series.name)} has more than max_categories={self.max_categories} categories; "
                f"{len(rare)} rare ones share one code and decode to missing. Drop the column "
                "if it only identifies rows.",
                TableWarning,
                stacklevel=4,
            )
        return schema

    def _fit_numbers(self, series: pd.Series, storage: Storage) -> ColumnSchema:
        numbers = read_numbers(series, storage)
        observed = numbers[~np.isnan(numbers)] if np.isnan(numbers).any() else numbers
        missing = self.missing == "always" or len(observed) < len(numbers)
        column = ColumnSchema(series.name, "continuous", storage, missing=missing)
        if not len(observed):
            return replace(column, kind="empty")
        if self.affine and storage.family == "number":
            return replace(column, values=numeric.fit_affine(observed))
        distinct = numeric.count_distinct(observed)
        heaped = self.heaps and numeric.is_heaped(distinct)
        if storage.family == "bool" or heaped or numeric.is_discrete(distinct):
            levels = tuple(distinct.values.tolist())
            kind = discrete_kind(levels, missing, "levels")
            return replace(column, kind=kind, levels=levels, frequent=int(np.argmax(distinct.counts)))
        values = numeric.fit_values(
            observed,
            distinct,
            atoms=self.atoms,
            heaps=self.heaps,
            lattice=self.lattice,
            whole_always=storage.family == "number",
        )
        return replace(column, kind="continuous" if values.step is None else "lattice", values=values)

    def _adopt(self, schema: TableSchema) -> "TableEncoder":
        """Derive every fitted attribute from the schema alone."""
        self.schema_ = schema
        self.layout_: MatrixLayout = schema.layout
        self.column_of_ = np.array([*schema.value_positions, *schema.code_positions], dtype=np.intp)
        self.n_features_in_ = len(schema.columns)
        if schema.container == "frame" and all(isinstance(name, str) for name in schema.names):
            self.feature_names_in_ = np.array(schema.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._value_at = {position: k for k, position in enumerate(schema.value_positions)}
        self._code_at = {
            position: self.layout_.n_values + k for k, position in enumerate(schema.code_positions)
        }
        scales = [column.values for column in schema.columns if column.values is not None]
        self._constant = math.fsum(math.log(v.step or 1.0) - math.log(v.scale) for v in scales)
        self.has_lattice_ = any(v.step is not None for v in scales)
        self._dequantizer = Dequantizer.of(schema)
        self._tails = Tails.of(schema)
        self._coordinates = Coordinates.of(schema)
        widths = [1] * self.layout_.n_values + [table.shape[1] for table in self._coordinates.tables]
        self.coordinate_columns_ = np.repeat(self.column_of_, widths)
        return self

    def _fitted_schema(self) -> TableSchema:
        if not hasattr(self, "schema_"):
            raise ConfigurationError("This TableEncoder is not fitted yet; call fit, or from_schema, first.")
        return self.schema_

    def _decode_column(
        self, matrix: np.ndarray, position: int, column: ColumnSchema, decoded: dict[int, pd.Series]
    ) -> pd.Series:
        codes = None
        if column.cardinality:
            codes = np.rint(matrix[:, self._code_at[position]]).astype(np.intp)
            codes = codes.clip(0, column.cardinality - 1)
        if column.copy_of is not None:
            return restore_copy(decoded[column.copy_of], column)
        if column.values is None:
            return decode_discrete(np.zeros(len(matrix), np.intp) if codes is None else codes, column)
        numbers = numeric.decode_values(matrix[:, self._value_at[position]], column.values)
        return restore_numbers(numbers if codes is None else ungate(numbers, codes, column), column.storage)
