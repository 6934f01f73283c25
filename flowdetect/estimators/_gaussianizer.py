"""`FlowGaussianizer`: a table as independent standard normal numbers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._density import FlowDensity
from flowdetect.estimators._rows import take_rows
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    import torch

__all__ = ["FlowGaussianizer"]

# With jitter, places in the interval of a code keep this share of it away from the ends, where rounding would
# decide about the code.
_EDGE = 1e-6


def _free_name(name: str, taken: list[str]) -> str:
    """Return the name, with as many underscores behind it as make it different from those taken."""
    while name in taken:
        name += "_"
    return name


class FlowGaussianizer(TransformerMixin, FlowDensity):
    """Map the rows of a table to independent standard normal numbers, and back, with a neural spline flow.

    The map is that of `FlowDensity`: its density is the standard normal density of what `transform` returns,
    times the volume by which the map stretches. PowerTransformer and QuantileTransformer make each column
    normal by itself; this makes all columns normal together, whatever their dependence.

    Parameters
    ----------
    jitter : bool, default=False
        How entries are mapped that many rows share: categories, flags, few-valued numbers, numbers on a
        lattice (whole numbers, decimals), missing entries. Each owns an interval of probability. False takes
        its middle, so that equal rows become equal numbers. True takes a random place in it: randomised
        quantile residuals, exactly normal if the density is right, and other ones at each call unless
        random_state is an int. `inverse_transform` gives the same rows for both.
    kind : {"coupling", "autoregressive"}, default="coupling"
        Coupling layers map in one pass both ways; autoregressive ones are more flexible a layer, but invert
        one column after the other.
    n_layers : int or "auto", default="auto"
        Number of spline layers. "auto" takes 5, or 2 for a single continuous column.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    max_steps : int, default=3000
        Most steps of the optimiser (AdamW); training stops earlier when the likelihood of validation rows has
        stopped rising.
    batch_size : int, default=512
        Rows a step.
    learning_rate : float, default=2e-3
        Largest learning rate; it warms up, then falls along a cosine.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged but does not learn.
    patience : int or None, default=10
        Evaluations without improvement before training stops; None for never.
    time_budget : float or None, default=None
        Seconds after which training stops.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Mapping is on the CPU, in float64.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible, jitter included.

    Attributes
    ----------
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    context_encoder_ : TableEncoder or None
        The same for the context.
    density_ : TableDensity
        The trained torch module, in float64.
    training_result_ : TrainingResult
        Loss history, and why training stopped.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowDensity : The same density without the transformer.

    Notes
    -----
    Row x has one latent z for each column of the encoded matrix, first those of numbers, then those of codes:

    - A number on a continuous scale: z = f(x) by the flow, given the codes of the row and the context. A
      table of such numbers alone has ``score_samples(X) = log N(transform(X); 0, 1) + log |det dz/dx|``.
    - A number on a lattice: the same, of the middle of its cell (with jitter: of a random place in the cell).
    - A category, a flag, one of few numbers: the normal quantile of a place in the interval [F(k-1), F(k)]
      of its conditional distribution function given the codes before it and the context. The order of the
      codes is that of the categories or numbers, then missing, then anything not seen in `fit`; a constant
      column is one such code, whose latent is about 0.
    - A number that may be missing, or was fitted with jitter and holds values that many rows share exactly
      (zeros, caps), has two latents: that of a code (0: an ordinary number, then missing, then the shared
      values), and that of the number, 0 (with jitter: standard normal noise) in rows where the code says
      that there is none. `inverse_transform` does not read it there. Without jitter, shared values are
      numbers like others.

    A linear map and couplings mix the columns inside the flow: latent j bears the name of column j, with
    which it starts, but depends on all.

    It sees no classes: where these are clusters, it makes one Gaussian of all, and classifiers then lose.

    Numbers come back to about 1e-9 of their column's spread, lattice numbers and codes exactly. What was not
    seen in `fit` (a new category) comes back as missing, or as the most frequent value.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.
    P. K. Dunn, G. K. Smyth (1996), "Randomized Quantile Residuals", Journal of Computational and Graphical
    Statistics.
    S. S. Chen, R. A. Gopinath (2000), "Gaussianization", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowGaussianizer
    >>> angle = np.random.default_rng(0).uniform(0.0, 3.0, 500)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> gaussianizer = FlowGaussianizer(max_steps=100, random_state=0).fit(X)
    >>> Z = gaussianizer.transform(X)
    >>> Z.shape
    (500, 2)
    >>> bool(np.allclose(gaussianizer.inverse_transform(Z), X))
    True
    """

    def __init__(
        self,
        *,
        jitter: bool = False,
        kind: str = "coupling",
        n_layers: int | str = "auto",
        hidden_features: int = 64,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 3000,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 10,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            kind=kind,
            n_layers=n_layers,
            hidden_features=hidden_features,
            n_bins=n_bins,
            dropout=dropout,
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation_fraction=validation_fraction,
            patience=patience,
            time_budget=time_budget,
            device=device,
            verbose=verbose,
            random_state=random_state,
        )
        self.jitter = jitter

    def fit_transform(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> Any:
        """Return ``fit(X, context=context, sample_weight=sample_weight).transform(X, context=context)``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        y : ignored
        context : DataFrame or array-like, optional
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        ndarray of float64 or DataFrame, shape (n_rows, n_latents)

        Raises
        ------
        ValueError, TrainingError
            As `fit` does.
        """
        self.fit(X, y, context=context, sample_weight=sample_weight)
        return self.transform(X, context=context)

    def transform(self, X: Any, *, context: Any = None) -> Any:
        """Map rows to standard normal numbers.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        context : DataFrame or array-like of shape (n_rows, n_context), optional
            Needed just if the map was fitted with context.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_latents)
            Standard normal, all together, for rows like those of `fit`. A DataFrame after
            ``set_output(transform="pandas")``.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        X, context = self._check_scoring(X, context)
        noise = self._noise()
        latents = np.empty((len(X), self._n_features_out))
        for rows in self._chunks(len(X)):
            matrix, _ = self.encoder_.encode(take_rows(X, rows))
            given = None if context is None else self._encode_context(take_rows(context, rows))
            latents[rows] = self._to_latents(matrix, given, noise)
        return latents

    def inverse_transform(self, Z: Any, *, context: Any = None) -> Any:
        """Map numbers back to rows; standard normal numbers become draws from the density.

        Parameters
        ----------
        Z : array-like or DataFrame of shape (n_rows, n_latents)
            Finite. The columns of a DataFrame are found by the names of `get_feature_names_out`.
        context : DataFrame or array-like of shape (n_rows, n_context), optional
            Needed just if the map was fitted with context.

        Returns
        -------
        DataFrame or ndarray of shape (n_rows, n_features)
            Of the kind fitted on: names, dtypes and categories included. A DataFrame has the index of Z if Z
            is one.

        Raises
        ------
        ValueError
            If Z is not a finite table of this width, or context is missing, or given in vain.
        NotFittedError
            Before fit.
        """
        import torch

        from flowdetect.flows import latents_to_rows

        check_is_fitted(self)
        latents = self._check_latents(Z)
        context = self._check_context(context, len(latents))
        parts = []
        for rows in self._chunks(len(latents)):
            given = None if context is None else self._encode_context(take_rows(context, rows))
            parts.append(latents_to_rows(self.density_, torch.from_numpy(latents[rows]), given).numpy())
        X = self.encoder_.decode(np.concatenate(parts))
        return X.set_axis(Z.index) if isinstance(Z, pd.DataFrame) and isinstance(X, pd.DataFrame) else X

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the latents: ``z_`` and the name of the column that each belongs to.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns; those of `fit` by default.

        Returns
        -------
        ndarray of str, shape (n_latents,)
            The second latent of a column, which says whether its number is missing or shared by many rows,
            has ``_kind`` behind its name.

        Raises
        ------
        ValueError
            If the names are others than those of fit.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        columns = self.encoder_.column_of_.tolist()
        found: list[str] = []
        for place, column in enumerate(columns):
            found.append(_free_name(f"z_{names[column]}{'_kind' * (column in columns[:place])}", found))
        return np.array(found, dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.layout_.n_columns

    def _make_encoder(self) -> TableEncoder:
        self._check_jitter()
        # A code for values that many rows share takes the middle of its interval, far from normal, unless
        # there is jitter; the flow stretches such values better among their neighbours.
        return TableEncoder(lattice="decimal", atoms=bool(self.jitter))

    def _check_jitter(self) -> None:
        if not isinstance(self.jitter, bool | np.bool_):
            raise ConfigurationError(f"jitter must be True or False; got {self.jitter!r}.")

    def _noise(self) -> tuple[np.random.Generator, np.random.Generator] | None:
        """Return the streams of places in cells and in intervals; None without jitter."""
        self._check_jitter()
        if not self.jitter:
            return None
        # Streams of their own: what a row gets does not depend on how rows are cut into chunks.
        cells, intervals = np.random.SeedSequence([resolve_seed(self.random_state), 1]).spawn(2)
        return np.random.default_rng(cells), np.random.default_rng(intervals)

    def _to_latents(
        self,
        matrix: np.ndarray,
        context: torch.Tensor | None,
        noise: tuple[np.random.Generator, np.random.Generator] | None,
    ) -> np.ndarray:
        import torch

        from flowdetect.flows import rows_to_latents

        positions = None
        if noise is not None:
            cells, intervals = noise
            matrix = self.encoder_.dequantize(matrix, cells)
            positions = torch.from_numpy(intervals.uniform(_EDGE, 1.0 - _EDGE, size=matrix.shape))
        latents = rows_to_latents(self.density_, torch.from_numpy(matrix), context, positions=positions)
        return latents.numpy()

    def _check_latents(self, Z: Any) -> np.ndarray:
        names = self.get_feature_names_out()
        if isinstance(Z, pd.DataFrame):
            absent = [name for name in names if name not in Z.columns]
            if absent or Z.shape[1] != len(names):
                raise InvalidTableError(
                    f"A DataFrame Z must have the columns of get_feature_names_out(), {list(names)}; got "
                    f"{list(Z.columns)}. Pass an array to go by position."
                )
            Z = Z[names]
        try:
            latents = np.array(Z, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidTableError(f"Z must hold numbers; got text or objects: {error}.") from error
        if latents.ndim != 2 or latents.shape[1] != len(names) or not len(latents):
            raise InvalidTableError(
                f"Z must have shape (n_rows, {len(names)}), one column per latent and at least one row; got "
                f"shape {latents.shape}. Pass what transform returns."
            )
        if not np.isfinite(latents).all():
            row, column = np.argwhere(~np.isfinite(latents))[0]
            raise InvalidTableError(
                f"Z must be finite; got {latents[row, column]} in row {row}, column {names[column]!r}. "
                "Leave such rows out."
            )
        return latents

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = bool(self.jitter) and not isinstance(self.random_state, int | np.integer)
        return tags
