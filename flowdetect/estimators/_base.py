"""The one fit of all estimators: validate, encode, build, train; and chunked scoring in float64.

torch, and with it flows and training, are imported when a fit or a score needs them: they take longer than
all other imports together, and an estimator is made, copied and put into a pipeline without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.random import resolve_seed
from flowdetect.estimators._callbacks import CallbackSupportMixin
from flowdetect.estimators._rows import (
    EncodedRows,
    about_context,
    as_context_frame,
    check_table,
    check_weights,
    chunk_slices,
    known_columns,
    take_rows,
)
from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    import torch

    from flowdetect.flows import FlowSettings, TableDensity
    from flowdetect.training import Callback, Objective, RowSource, TrainingConfig, TrainingResult

__all__ = ["FlowEstimator"]

# Code frequencies are counted on at most this many rows.
_MARGINAL_ROWS = 200_000


class FlowEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators: what they have in common between their parameters and a trained density.

    Subclasses have the parameters read here, and define `_flow_settings`, `_objective` and `_make_encoder`.
    """

    # The attribute that fit sets last: with it the estimator is fitted.
    _last_fitted = "encoder_"

    # --- what subclasses say ----------------------------------------------------------------------

    def _flow_settings(self) -> FlowSettings:
        raise NotImplementedError

    def _objective(self) -> Objective:
        raise NotImplementedError

    def _make_encoder(self) -> TableEncoder:
        raise NotImplementedError

    @property
    def _n_extra_context(self) -> int:
        """Columns of the density's context behind those of the user, such as a noise level."""
        return 0

    def _weight_decay(self, n_rows: int) -> float:
        return 0.0

    # --- fitting ----------------------------------------------------------------------------------

    def _encode_table(self, X: Any, context: Any, sample_weight: Any) -> tuple[EncodedRows, np.ndarray]:
        """Check and encode the rows of positive weight, and set the attributes that describe the table.

        Returns
        -------
        source : EncodedRows
            The rows whose weight is not 0: a row of weight 0 is as good as absent.
        kept : ndarray of bool, shape (n_rows,)
            Which rows of X these are.
        """
        # A fit that fails must not leave an older density beside a newer encoder.
        self.__dict__.pop(self._last_fitted, None)
        X = check_table(self, X, fitting=True)
        weights = None if sample_weight is None else check_weights(sample_weight, len(X), least=2)
        context = None if context is None else as_context_frame(context, len(X))
        kept = np.ones(len(X), dtype=bool) if weights is None else weights > 0.0
        if not kept.all():
            X, context, weights = (
                None if part is None else take_rows(part, kept) for part in (X, context, weights)
            )
        self._fit_encoders(X, context)
        source = EncodedRows(
            self.encoder_, X, context_encoder=self.context_encoder_, context=context, weights=weights
        )
        return source, kept

    def _fit_encoders(self, X: Any, context: Any) -> None:
        self.encoder_ = self._make_encoder().fit(X)
        self.n_features_in_ = self.encoder_.n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(self.encoder_, "feature_names_in_"):
            self.feature_names_in_ = self.encoder_.feature_names_in_
        self.context_encoder_ = None
        if context is not None:
            with about_context():
                self.context_encoder_ = TableEncoder(missing="always").fit(context)

    def _build(self, source: EncodedRows, seed: int) -> TableDensity:
        """Build an untrained density for the encoded rows."""
        from flowdetect.flows import TableDensity

        return TableDensity(
            self.encoder_.layout_,
            context_layout=None if self.context_encoder_ is None else self.context_encoder_.layout_,
            n_extra_context=self._n_extra_context,
            settings=self._flow_settings(),
            seed=seed,
            smoothing=1.0 / (len(source) + 2.0),
            marginals=self._code_frequencies(source) or None,
        )

    def _code_frequencies(self, source: EncodedRows) -> list[list[float]]:
        """Return the share of each code of each code column, by weight."""
        layout = self.encoder_.layout_
        some = np.linspace(0, len(source) - 1, min(len(source), _MARGINAL_ROWS)).astype(int)
        weights = np.ones(len(some)) if source.weights is None else source.weights[some]
        codes = source.encoded(some)[:, layout.n_values :].astype(int)
        return [
            (np.bincount(codes[:, j], weights=weights, minlength=k) / weights.sum()).tolist()
            for j, k in enumerate(layout.cardinalities)
        ]

    def _train(
        self,
        density: torch.nn.Module,
        source: RowSource,
        seed: int,
        *,
        callback: Callback,
        description: str = "fitting",
    ) -> TrainingResult:
        """Train in place; the density ends in float64, ready to score."""
        from flowdetect.training import ProgressBar, train

        bar = [ProgressBar(description)] if self.verbose else []
        result = train(
            density,
            source,
            objective=self._objective(),
            config=self._training_config(seed, len(source)),
            callbacks=[callback, *bar],
        )
        density.double()
        return result

    def _training_config(self, seed: int, n_rows: int) -> TrainingConfig:
        from flowdetect.training import TrainingConfig

        names = ("max_steps", "batch_size", "learning_rate", "validation_fraction", "patience", "time_budget")
        weight_decay = self._weight_decay(n_rows)
        return TrainingConfig(**self._parameters(*names, "device"), weight_decay=weight_decay, seed=seed)

    def _parameters(self, *names: str) -> dict[str, Any]:
        """Return parameters by name; numpy's numbers, of which search grids consist, as Python's."""
        values = {name: getattr(self, name) for name in names}
        return {name: v.item() if isinstance(v, np.generic) else v for name, v in values.items()}

    def _seeds(self, n_seeds: int) -> list[int]:
        """Resolve random_state once, into as many seeds as the fit needs."""
        root = np.random.SeedSequence(resolve_seed(self.random_state))
        return [int(seed) for seed in root.generate_state(n_seeds, dtype=np.uint32) >> 1]

    # --- scoring ----------------------------------------------------------------------------------

    def _check_scoring(self, X: Any, context: Any) -> tuple[Any, Any]:
        check_is_fitted(self)
        X = known_columns(self.encoder_, check_table(self, X, fitting=False))
        return X, self._check_context(context, len(X))

    def _check_context(self, context: Any, n_rows: int | None) -> Any:
        """Return context as a table, None for a density without; refuse it where fit had none, and back."""
        name = type(self).__name__
        if context is None and self.context_encoder_ is None:
            return None
        if self.context_encoder_ is None:
            raise InvalidTableError(
                f"This {name} was fitted without context, so it takes none; got one. "
                "Leave context out, or fit with it."
            )
        if context is None:
            raise InvalidTableError(
                f"This {name} was fitted with context, so it needs one; got none. Pass context=."
            )
        context = as_context_frame(context, n_rows)
        with about_context():
            return known_columns(self.context_encoder_, context)

    def _encode_context(self, context: Any) -> torch.Tensor | None:
        import torch

        if self.context_encoder_ is None:
            return None
        with about_context():
            return torch.from_numpy(self.context_encoder_.encode(context)[0])

    def _chunks(self, n_rows: int) -> Iterator[slice]:
        # About what a spline of the default size holds for each column.
        return chunk_slices(n_rows, (self.encoder_.layout_.n_columns + 1) * 32)

    def _score(self, X: Any, context: Any, densities: Sequence[TableDensity]) -> np.ndarray:
        """Return the mean log-density of each checked row under the densities, in nats and original units."""
        scores = np.empty(len(X))
        for rows, matrix, log_det, given in self._encoded_pairs(X, context):
            scores[rows] = log_det + self._log_density(matrix, given, densities)
        return scores

    def _encoded_pairs(
        self, X: Any, context: Any
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, torch.Tensor | None]]:
        """Yield some checked rows at a time: which, their matrix, log-determinant and encoded context."""
        for rows in self._chunks(len(X)):
            matrix, log_det = self.encoder_.encode(take_rows(X, rows))
            given = None if context is None else self._encode_context(take_rows(context, rows))
            yield rows, matrix, log_det, given

    def _log_density(
        self, matrix: np.ndarray, context: torch.Tensor | None, densities: Sequence[Any]
    ) -> np.ndarray:
        """Return the mean log-density of encoded rows, in nats and encoded units."""
        import torch

        inputs = torch.from_numpy(matrix)
        with torch.inference_mode():
            total = sum(density.log_prob(inputs, context) for density in densities)
            return np.asarray(total) / len(densities)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, self._last_fitted)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = False
        tags.non_deterministic = False
        return tags
