"""`FlowImputer`: missing entries drawn from their distribution given the entries that are there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats.qmc import Sobol
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._base import FlowEstimator, check_whole
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._entries import Entries
from flowdetect.estimators._filling import fill_column, summarise
from flowdetect.estimators._normal import fit_normal
from flowdetect.estimators._rows import EncodedRows, chunk_slices
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import CompletionModel, FlowSettings, TableDensity
    from flowdetect.training import Batch, Objective, TrainingResult

__all__ = ["FlowImputer"]

Random = Callable[[int], np.ndarray]

_STRATEGIES = ("mean", "median")
# The points behind means are the same for every row, so that no row's answer depends on another's.
_POINTS_SEED = 0


class FlowImputer(OneToOneFeatureMixin, TransformerMixin, FlowEstimator):
    """Fill missing entries of a table from their distribution given the entries that are there.
    """

    _last_fitted = "density_"

    def __init__(
        self,
        *,
        strategy: str = "mean",
        n_draws: int = 128,
        keep_empty_features: bool = False,
        n_layers: int = 4,
        hidden_features: int = 64,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 2000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 10,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.strategy = strategy
        self.n_draws = n_draws
        self.keep_empty_features = keep_empty_features
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.n_bins = n_bins
        self.dropout = dropout
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.time_budget = time_budget
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> FlowImputer:
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        self._check_parameters()
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": metadata}
        with sklearn_fit_task(self, **told) as fit_context:
            encoded, _ = self._encode_table(X, None, sample_weight)
            entries = Entries.of(self.encoder_)
            source = _KnownEntries(encoded, entries)
            self._fit_normal(source)
            build_seed, train_seed = self._seeds(2)
            density = self._build_density(source, build_seed)
            model = self._model(density)
            callback = SklearnCallbacks(
                self, fit_context, **told, attributes=lambda: {"density_": copy.deepcopy(density).cpu().double()}
            )
            self.training_result_: TrainingResult = self._train(model, source, train_seed, callback=callback)
            self.density_ = density
        return self

    def transform(self, X: Any) -> Any:
        X, _ = self._check_scoring(X, None)
        entries = Entries.of(self.encoder_)
        points = Sobol(max(entries.n_columns, 1), rng=_POINTS_SEED).random(int(self.n_draws))

        def random(n_rows: int) -> np.ndarray:
            return np.tile(points, (n_rows, 1, 1))

        return self._filled(X, entries, random, 1, summary=True)[0]

    def sample(self, X: Any, n_draws: int = 5, *, random_state: RandomState = None) -> list[Any]:
        check_whole("n_draws", n_draws)
        X, _ = self._check_scoring(X, None)
        entries = Entries.of(self.encoder_)
        rng = np.random.default_rng(resolve_seed(random_state))

        def random(n_rows: int) -> np.ndarray:
            return rng.random((n_rows, int(n_draws), entries.n_columns))

        return self._filled(X, entries, random, int(n_draws), summary=False)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        check_is_fitted(self)
        names: np.ndarray = super().get_feature_names_out(input_features)
        return names[self._kept()]

    # --- fitting ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise ConfigurationError(
                f"strategy must be one of {_STRATEGIES}; got {self.strategy!r}. Choose one of these."
            )
        check_whole("n_draws", self.n_draws)

    def _make_encoder(self) -> TableEncoder:
        return TableEncoder(missing="always", lattice="decimal")

    def _objective(self) -> Objective:
        from flowdetect.training import HiddenEntries

        return HiddenEntries()

    def _weight_decay(self, n_rows: int) -> float:
        return min(0.5, 500.0 / n_rows)

    def _flow_settings(self) -> FlowSettings:
        from flowdetect.flows import FlowSettings

        return FlowSettings(**self._parameters("n_layers", "hidden_features", "n_bins", "dropout"))

    def _fit_normal(self, source: _KnownEntries) -> None:
        points, known = source.entries.points(*source.known_rows(np.arange(len(source))))
        self._mean, self._covariance = fit_normal(points, known, source.weights)

    def _build_density(self, source: _KnownEntries, seed: int) -> TableDensity:
        from flowdetect.flows import TableDensity, completion_layouts

        entries = source.entries
        n_values = entries.layout.n_values
        layout, context = completion_layouts(n_values, entries.cardinalities, len(self._mean))
        return TableDensity(
            layout,
            context_layout=context,
            settings=self._flow_settings(),
            seed=seed,
            smoothing=1.0 / (len(source) + 2.0),
            marginals=self._frequencies(source) or None,
        )

    def _frequencies(self, source: _KnownEntries) -> list[list[float]]:
        entries = source.entries
        rows, _ = source.known_rows(np.arange(len(source)))
        codes = rows[:, entries.layout.n_values :].astype(np.intp)
        weights = np.ones(len(source)) if source.weights is None else source.weights
        found = []
        for k, size in enumerate(entries.cardinalities):
            counts = np.bincount(codes[:, k], weights=weights, minlength=size)
            counts[-1] = 0.0
            found.append(((counts + 1e-3) / (counts + 1e-3).sum()).tolist())
        return found + [[0.5, 0.5]] * entries.layout.n_values

    def _model(self, density: TableDensity) -> CompletionModel:
        from flowdetect.flows import CompletionModel

        entries = Entries.of(self.encoder_)
        return CompletionModel(
            density,
            value_units=entries.value_units,
            code_units=entries.code_units,
            gates=entries.gates,
            n_drawn=entries.n_drawn,
            coordinates=entries.coordinates(),
            mean=self._mean,
            covariance=self._covariance,
        )

    # --- filling ----------------------------------------------------------------------------------

    def _kept(self) -> np.ndarray:
        """Return which columns of the table are in the result."""
        empty = np.array([column.kind == "empty" for column in self.encoder_.schema_.columns])
        return np.ones_like(empty) if self.keep_empty_features else ~empty

    def _filled(self, X: Any, entries: Entries, random: Random, n_tables: int, *, summary: bool) -> list[Any]:
        """Return the table with entries in place of what is missing: one summary of all draws, or each draw."""
        frame = _in_order(X, self.encoder_)
        fillable = np.array([column.kind != "empty" for column in self.encoder_.schema_.columns])
        missing = frame.isna().to_numpy() & fillable
        found: list[list[list[pd.Series]]] = [[[] for _ in fillable] for _ in range(n_tables)]
        model = self._model(self.density_)
        incomplete = np.flatnonzero(missing.any(axis=1))
        for part in chunk_slices(len(incomplete), self._row_elements(entries, random)):
            rows = incomplete[part]
            draws = self._draw(model, entries, frame.iloc[rows], random(len(rows)))
            for column in np.flatnonzero(missing[rows].any(axis=0)):
                asked = missing[rows, column]
                parts = _parts(draws.iloc[:, column], asked, self.strategy if summary else None)
                for table, entry in zip(found, parts, strict=True):
                    table[column].append(entry)
        tables = [_fill(frame, missing, table).iloc[:, self._kept()] for table in found]
        return tables if isinstance(X, pd.DataFrame) else [table.to_numpy(dtype=X.dtype) for table in tables]

    def _row_elements(self, entries: Entries, random: Random) -> int:
        """Return about how many numbers the draws of one row need."""
        n_draws = random(1).shape[1]
        matrices = len(self._mean) ** 2 * (n_draws if entries.columns else 1)
        return n_draws * (self.encoder_.layout_.n_columns + 1) * 32 + matrices

    def _draw(
        self, model: CompletionModel, entries: Entries, frame: pd.DataFrame, uniform: np.ndarray
    ) -> pd.DataFrame:
        """Return all draws of the rows, (n * n_draws, n_features), those of the first row first."""
        import torch

        from flowdetect.flows import GIVEN, TARGET

        rows, known = entries.split(_encode_with_copies(frame, self.encoder_))
        roles = torch.from_numpy(np.where(known, GIVEN, TARGET))
        n_values = entries.layout.n_values
        normal = torch.from_numpy(ndtri(np.clip(uniform[:, :, :n_values], 1e-12, 1.0 - 1e-12)))
        drawn = model.complete(torch.from_numpy(rows), roles, normal, torch.from_numpy(uniform[:, :, n_values:]))
        table = self.encoder_.decode(entries.join(drawn.flatten(0, 1).numpy()))
        return table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)


class _KnownEntries:
    """The rows of `EncodedRows` for training: without codes for missing entries, and with which are known."""

    def __init__(self, source: EncodedRows, entries: Entries) -> None:
        self._source = source
        self.entries = entries
        self.weights = source.weights

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return rows, and as context which of their entries are known."""
        import torch

        from flowdetect.training import Batch

        rows, known = self.entries.split(self._source.rows(index, rng).inputs.numpy())
        return Batch(torch.from_numpy(rows), torch.from_numpy(known.astype(rows.dtype)))

    def known_rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows without noise, in float64, and which of their entries are known."""
        return self.entries.split(self._source.encoded(index).astype(np.float64))


def _in_order(X: Any, encoder: TableEncoder) -> pd.DataFrame:
    """Return the table as a DataFrame, its columns in the order and with the names of the encoder."""
    names = pd.Index(encoder.schema_.names, tupleize_cols=False)
    if not isinstance(X, pd.DataFrame):
        return pd.DataFrame(X, columns=names)
    if encoder.schema_.container == "array":
        return X.set_axis(names, axis=1)
    return X.iloc[:, X.columns.get_indexer(names)]


def _encode_with_copies(frame: pd.DataFrame, encoder: TableEncoder) -> np.ndarray:
    """Return the encoded rows, with what copies of a column know of it where it is missing itself."""
    matrix = encoder.encode(frame)[0]
    missing = frame.isna().to_numpy()
    for position, column in enumerate(encoder.schema_.columns):
        if column.copy_of is None:
            continue
        rows = np.flatnonzero(missing[:, column.copy_of] & ~missing[:, position])
        if len(rows):
            copied, known = encoder.encode_given(frame.iloc[rows, [position]])
            matrix[np.ix_(rows, known)] = copied[:, known]
            missing[rows, column.copy_of] = False
    return matrix


def _parts(draws: pd.Series, asked: np.ndarray, strategy: str | None) -> list[pd.Series]:
    """Return the entries of the rows asked for: their summary, or without a strategy each draw."""
    n_draws = len(draws) // len(asked)
    if strategy is not None:
        return [summarise(draws[np.repeat(asked, n_draws)], int(asked.sum()), strategy)]
    return [draws.iloc[np.flatnonzero(asked) * n_draws + k] for k in range(n_draws)]


def _fill(frame: pd.DataFrame, missing: np.ndarray, found: list[list[pd.Series]]) -> pd.DataFrame:
    columns = []
    for position, parts in enumerate(found):
        column = frame.iloc[:, position]
        if parts:
            column = fill_column(column, missing[:, position], pd.concat(parts, ignore_index=True))
        columns.append(column)
    filled = pd.concat(columns, axis=1)
    filled.columns = frame.columns
    return filled
