"""What a density trained at several noise scales is for: scores and samples at one of them, and denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._grids import as_floats
from flowdetect.estimators._likelihood import LikelihoodEstimator
from flowdetect.estimators._noise import NoiseModel, check_scales, read_units, value_scales
from flowdetect.estimators._rows import EncodedRows
from flowdetect.estimators._seen import draw_seen
from flowdetect.exceptions import ConfigurationError
from flowdetect.preprocessing import TableEncoder, TableSchema

if TYPE_CHECKING:
    import torch

    from flowdetect.flows import NoiseWhitenedDensity, TableDensity
    from flowdetect.training import Objective

__all__ = ["DenoisingEstimator"]

# Rows, with noise of all scales, from which it is learnt how far the density is to be believed.
_TRUST_ROWS = 4096


class DenoisingEstimator(LikelihoodEstimator):
    """Base of an estimator with one density that may be trained at several noise scales.

    ``noise_`` is there after a fit with noise scales, and only then.
    """

    noise_scales: Any
    noise_unit: Any
    noise_: NoiseModel
    density_: TableDensity

    def denoise(self, X: Any, noise_scale: Any, *, context: Any = None) -> Any:
        """Return the mean of the rows without noise, given the noisy ones.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            Noisy rows: Gaussian noise, independent between rows and columns, was added to each number.
        noise_scale : float or array-like of shape (n_rows,)
            Standard deviation of that noise, in the units that ``noise_unit`` says: with ``"column"`` those
            of the columns themselves. Within ``noise_scales``.
        context : DataFrame or array-like of shape (n_rows, n_context), optional
            Needed just if the density was fitted with context; it is taken to be without noise.

        Returns
        -------
        DataFrame or ndarray of float64, shape (n_rows, n_features)
            ``E[x | X]``: of all guesses the one with the smallest mean squared error, in every column.
            Columns without noise, categories and missing entries are what they were in X.

        Raises
        ------
        ValueError
            If the density was fitted without noise scales, the noise scale lies outside of them, or the
            columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.

        Notes
        -----
        For noise of covariance ``s^2 N`` Tweedie's formula says ``E[x | y] = y + s^2 N grad log p_s(y)``,
        with the density ``p_s`` of noisy rows: it is exact where that density is. Large noise multiplies what
        is wrong with the gradient, so that what it says beyond the linear (Wiener) filter is believed only as
        far as it held on the rows that training was judged on.

        References
        ----------
        H. Robbins (1956), "An empirical Bayes approach to statistics", Berkeley Symposium.
        B. Efron (2011), "Tweedie's formula and selection bias", JASA 106(496).
        P. Vincent (2011), "A connection between score matching and denoising autoencoders", Neural
        Computation.

        Examples
        --------
        >>> import numpy as np
        >>> from flowdetect import FlowDensity
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(500, 1)) * [[1.0, 1.0]]
        >>> density = FlowDensity(noise_scales=(0.1, 1.0), max_steps=100, random_state=0).fit(X)
        >>> noisy = X + 0.5 * rng.normal(size=X.shape)
        >>> denoised = density.denoise(noisy, 0.5)
        >>> bool(np.mean((denoised - X) ** 2) < 0.6 * np.mean((noisy - X) ** 2))
        True
        """
        X, context = self._check_scoring(X, context)
        scales = self._noise_of_rows(noise_scale, len(X))
        columns = self.encoder_.column_of_[: self.encoder_.layout_.n_values]
        shifts = np.zeros((len(X), self.encoder_.n_features_in_))
        for rows, matrix, _, given in self._encoded_pairs(X, context):
            gradient = self._noisy_gradient(matrix, self._with_noise(given, scales[rows]))
            found = self.noise_.shift(matrix, gradient, scales[rows])
            shifts[rows, columns] = found * value_scales(self.encoder_)
        return _moved(X, shifts, np.flatnonzero(self.noise_.units), self.encoder_.schema_)

    # --- fitting ----------------------------------------------------------------------------------

    def _learn_noise(self, source: EncodedRows) -> None:
        self.__dict__.pop("noise_", None)
        if self.noise_scales is not None:
            scales = check_scales(self.noise_scales)
            self.noise_ = NoiseModel.learn(source, scales, read_units(self.noise_unit, self.encoder_))

    def _of_noisy_rows(self, density: TableDensity) -> TableDensity | NoiseWhitenedDensity:
        """Return the density of encoded rows: with noise, that given is of whitened ones."""
        return self.noise_.whitened(density) if self._noisy else density

    def _learn_trust(self, source: EncodedRows, seed: int) -> None:
        """Learn on rows kept from training how far the density is to be believed beyond the linear filter."""
        if not self._noisy:
            return
        from flowdetect.training import held_out_rows

        kept = held_out_rows(source, self._training_config(seed, len(source)))
        rng = np.random.default_rng(seed)
        some = kept if len(kept) else np.arange(len(source))
        batch = source.rows(rng.choice(some, _TRUST_ROWS), rng)
        clean = batch.inputs.numpy().astype(np.float64)
        scales = np.geomspace(*self.noise_.scales, _TRUST_ROWS)
        present = self._present(clean)
        noise = rng.normal(size=present.shape) * present * self.noise_.weights
        noisy = clean.copy()
        noisy[:, : present.shape[1]] += (scales * self.noise_.reference)[:, None] * noise
        gradient = np.empty(present.shape)
        for rows in self._chunks(_TRUST_ROWS):
            given = None if batch.context is None else batch.context[rows].double()
            gradient[rows] = self._noisy_gradient(noisy[rows], self._with_noise(given, scales[rows]))
        self.noise_.learn_trust(clean, noisy, gradient, scales, present)

    def _present(self, matrix: np.ndarray) -> np.ndarray:
        """Return which values of encoded rows are there."""
        layout = self.encoder_.layout_
        present = np.ones((len(matrix), layout.n_values), dtype=bool)
        for position, gate in enumerate(layout.gates):
            if gate >= 0:
                present[:, gate] &= matrix[:, layout.n_values + position] == 0
        return present

    @property
    def _noisy(self) -> bool:
        """Whether the density was trained, or is about to be, at noise scales."""
        return hasattr(self, "noise_")

    @property
    def _n_extra_context(self) -> int:
        return int(self._noisy)

    def _make_encoder(self) -> TableEncoder:
        # Only whole numbers and decimals are taken for a lattice: standardised columns keep a density. With
        # noise on them, all numbers are continuous.
        return TableEncoder(lattice="decimal", affine=self.noise_scales is not None)

    def _objective(self) -> Objective:
        if not self._noisy:
            return super()._objective()
        from flowdetect.training import NoiseConditional

        layout = self.encoder_.layout_
        return NoiseConditional(
            layout.n_values,
            scales=self.noise_.inner_scales,
            cardinalities=layout.cardinalities,
            gates=layout.gates,
            weights=tuple(self.noise_.weights.tolist()),
            noisy_codes=False,
        )

    # --- scoring and drawing ------------------------------------------------------------------------

    def _noise_of_rows(self, noise_scale: Any, n_rows: int) -> np.ndarray:
        if not self._noisy:
            raise ConfigurationError(
                "noise_scale needs a density that was trained with noise; this "
                f"{type(self).__name__} was fitted with noise_scales=None. Fit with noise_scales=(low, high)."
            )
        return self.noise_.read_scale(noise_scale, n_rows)

    def _scoring_noise(self, noise_scale: Any, n_rows: int) -> np.ndarray | None:
        """Return the noise scale of each row, the smallest where none is asked for; None without noise."""
        if noise_scale is None:
            return np.full(n_rows, self.noise_.scales[0]) if self._noisy else None
        return self._noise_of_rows(noise_scale, n_rows)

    def _with_noise(self, given: torch.Tensor | None, scales: np.ndarray) -> torch.Tensor:
        """Return the encoded context with the noise scale of each row as its last column."""
        import torch

        from flowdetect.training import noise_context

        inner = torch.from_numpy(scales * self.noise_.reference)
        return noise_context(inner, len(scales), context=given)

    def _rows_at(self, uniforms: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
        """Return encoded rows at points of the unit cube; with noise, those of the smallest scale trained."""
        scales = self._scoring_noise(None, len(uniforms))
        if scales is None:
            return self.density_.rows_at(uniforms, given)
        return self.noise_.whitened(self.density_).rows_at(uniforms, self._with_noise(given, scales))

    def _score_noisy(self, X: Any, context: Any, scales: np.ndarray) -> np.ndarray:
        import torch

        module = self.noise_.whitened(self.density_)
        scores = np.empty(len(X))
        for rows, matrix, log_det, given in self._encoded_pairs(X, context):
            with torch.inference_mode():
                log_prob = module.log_prob(torch.from_numpy(matrix), self._with_noise(given, scales[rows]))
            scores[rows] = log_det + log_prob.numpy()
        return scores

    def _noisy_gradient(self, matrix: np.ndarray, context: torch.Tensor) -> np.ndarray:
        """Return the gradient of the log-density in the encoded values, shape (n_rows, n_values)."""
        import torch

        values, codes = np.split(matrix, [self.encoder_.layout_.n_values], axis=1)
        with torch.enable_grad():
            inputs = torch.from_numpy(values).requires_grad_()
            rows = torch.cat((inputs, torch.from_numpy(codes)), dim=1)
            log_prob = self.noise_.whitened(self.density_).log_prob(rows, context)
            [gradient] = torch.autograd.grad(log_prob.sum(), inputs)
        return np.asarray(gradient)

    def _draw(self, n_samples: int, context: Any, noise_scale: Any, random_state: RandomState) -> np.ndarray:
        """Draw encoded rows, n_samples for each row of the context."""
        import torch

        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        encoded = self._encode_context(self._check_context(context, None))
        if encoded is not None:
            encoded = encoded.repeat_interleave(int(n_samples), dim=0)
        n_rows = int(n_samples) if encoded is None else len(encoded)
        scales = self._scoring_noise(noise_scale, n_rows)
        generator = torch.Generator().manual_seed(resolve_seed(random_state))

        def draw(rows: np.ndarray) -> np.ndarray:
            part = None if encoded is None else encoded[rows]
            if scales is None:
                return self.density_.sample_rows(len(rows), part, generator).numpy()
            module = self.noise_.whitened(self.density_)
            return module.sample_rows(len(rows), self._with_noise(part, scales[rows]), generator).numpy()

        chunks = (np.arange(rows.start, rows.stop) for rows in self._chunks(n_rows))
        return np.concatenate([draw_seen(self.encoder_, draw, rows) for rows in chunks])


def _moved(X: Any, shifts: np.ndarray, columns: np.ndarray, schema: TableSchema) -> Any:
    """Return a table with the shifts added to some columns of numbers, which become float64.

    Shifts and columns are in the order of the schema, the table is in that of the caller.
    """
    if not isinstance(X, pd.DataFrame):
        return X + shifts
    places = np.arange(X.shape[1])
    if schema.container == "frame":
        places = X.columns.get_indexer(pd.Index(schema.names, tupleize_cols=False))
    moved = X.copy()
    for column in columns:
        place = int(places[column])
        moved.isetitem(place, as_floats(X.iloc[:, place]) + shifts[:, column])
    return moved
