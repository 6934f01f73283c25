"""Generators of whole tables behind one call: ``fit(train, target, seed)`` returns what draws rows.

Peers are imported where they are asked for, so that one missing package does not stop the others.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from _synthesis_tables import category_columns
from sklearn.compose import make_column_transformer
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler

__all__ = ["GENERATORS", "Draw", "Fit"]

Draw = Callable[[int], pd.DataFrame]
Fit = Callable[[pd.DataFrame, str, int], Draw]

MISSING = "(missing)"
N_NEIGHBOURS = 5


def fit_flowdetect(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of FlowAugmenter with its defaults, classes drawn at their frequencies."""
    from flowdetect import FlowAugmenter

    y = train[target].astype(object).to_numpy()
    augmenter = FlowAugmenter(device="cpu", random_state=seed).fit(train.drop(columns=target), y)

    def draw(n_rows: int) -> pd.DataFrame:
        labels = np.random.RandomState(seed).choice(y, n_rows)
        drawn = augmenter.sample(n_rows, y=labels, random_state=seed)
        drawn[target] = pd.Categorical(labels, dtype=train[target].dtype)
        return drawn[list(train.columns)]

    return draw


def fit_ctgan(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of CTGAN with its defaults."""
    from ctgan import CTGAN

    return _fit_network(CTGAN(enable_gpu=False), train, seed)


def fit_tvae(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of TVAE with its defaults."""
    from ctgan import TVAE

    return _fit_network(TVAE(enable_gpu=False), train, seed)


def _fit_network(model: object, train: pd.DataFrame, seed: int) -> Draw:
    model.set_random_state(seed)
    model.fit(_complete(train), category_columns(train))
    return lambda n_rows: _restore(model.sample(n_rows), train)


def fit_copula(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of a Gaussian copula.

    Notes
    -----
    Numbers keep the package's default, the marginal distribution that fits best: often kernels, which are
    slow to draw from, but serve better than SDV's beta distributions. Categories follow SDV's
    uniform encoding: [0, 1] is cut into one interval for each category, as long as its frequency, and a
    value becomes a uniform draw from its interval; so the marginal distribution is uniform and exact.
    """
    from copulas.multivariate import GaussianMultivariate
    from copulas.univariate import UniformUnivariate

    rng = np.random.RandomState(seed)
    table, categories = _complete(train), category_columns(train)
    shares = {name: table[name].value_counts(normalize=True) for name in categories}
    for name in categories:
        table[name] = _to_interval(table[name], shares[name], rng)
    model = GaussianMultivariate({name: UniformUnivariate for name in categories}, random_state=seed)
    model.fit(table)

    def draw(n_rows: int) -> pd.DataFrame:
        drawn = model.sample(n_rows)
        for name in categories:
            drawn[name] = _from_interval(drawn[name].to_numpy(), shares[name])
        return _restore(drawn, train)

    return draw


def _to_interval(values: pd.Series, shares: pd.Series, rng: np.random.RandomState) -> np.ndarray:
    rank = shares.index.get_indexer(values)
    width = shares.to_numpy()
    return (np.cumsum(width) - width)[rank] + width[rank] * rng.uniform(size=len(values))


def _from_interval(position: np.ndarray, shares: pd.Series) -> np.ndarray:
    rank = np.searchsorted(np.cumsum(shares.to_numpy()), position, side="right")
    return shares.index.to_numpy(dtype=object)[np.minimum(rank, len(shares) - 1)]


def fit_interpolation(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of rows between a real row and one of its neighbours of the same class.

    Notes
    -----
    SMOTE for all classes, drawn at their frequencies. With u uniform on [0, 1], numbers move the share u
    of the way to the neighbour, and each category is the neighbour's with probability u. The majority
    among the neighbours, as in SMOTE-NC, would thin out the rare categories.
    """
    table = _complete(train)
    neighbours = _neighbours_in_class(table, target)

    def draw(n_rows: int) -> pd.DataFrame:
        rng = np.random.RandomState(seed)
        rows = rng.randint(len(table), size=n_rows)
        other = neighbours[rows, rng.randint(neighbours.shape[1], size=n_rows)]
        share = rng.uniform(size=n_rows)
        drawn = {}
        for name in table:
            first, second = (table[name].to_numpy()[chosen] for chosen in (rows, other))
            if name in category_columns(train):
                drawn[name] = np.where(rng.uniform(size=n_rows) < share, second, first)
            else:
                drawn[name] = first + share * (second - first)
        return _restore(pd.DataFrame(drawn), train)

    return draw


def _neighbours_in_class(table: pd.DataFrame, target: str) -> np.ndarray:
    """Return the positions of the nearest rows of the same class, the row itself where it has too few."""
    X, y = table.drop(columns=target), table[target].to_numpy()
    categories = list(X.select_dtypes(exclude="number"))
    # Two different categories are as far apart as two numbers one standard deviation apart.
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), categories), remainder=StandardScaler()
    )
    points = encoder.fit_transform(X)
    points[:, : points.shape[1] - (X.shape[1] - len(categories))] /= np.sqrt(2.0)
    found = np.repeat(np.arange(len(y))[:, None], N_NEIGHBOURS, axis=1)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        n_near = min(N_NEIGHBOURS, len(rows) - 1)
        if n_near:
            near = NearestNeighbors(n_neighbors=n_near).fit(points[rows]).kneighbors(return_distance=False)
            found[rows] = rows[near[:, np.arange(N_NEIGHBOURS) % n_near]]
    return found


def fit_bootstrap(train: pd.DataFrame, target: str, seed: int) -> Draw:
    """Return a drawer of training rows, with replacement."""
    return lambda n_rows: train.sample(n_rows, replace=True, random_state=seed).reset_index(drop=True)


def _complete(train: pd.DataFrame) -> pd.DataFrame:
    """Return numbers as floats with medians for missing values, categories as text with a name for them."""
    table = train.copy()
    for name in train:
        if name in category_columns(train):
            table[name] = train[name].astype(object).where(train[name].notna(), MISSING)
        else:
            table[name] = train[name].astype(float).fillna(train[name].median())
    return table


def _restore(drawn: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Return drawn rows with the types of the training rows: integers rounded, numbers in their range."""
    table = {}
    for name in train:
        values, model = drawn[name], train[name]
        if name in category_columns(train):
            table[name] = values.astype(object).where(values != MISSING).astype(model.dtype)
        else:
            inside = values.clip(model.min(), model.max())
            whole = pd.api.types.is_integer_dtype(model)
            table[name] = inside.round().astype(model.dtype) if whole else inside
    return pd.DataFrame(table)


GENERATORS: dict[str, Fit] = {
    "flowdetect": fit_flowdetect,
    "ctgan": fit_ctgan,
    "tvae": fit_tvae,
    "copula": fit_copula,
    "interpolation": fit_interpolation,
    "bootstrap": fit_bootstrap,
}
