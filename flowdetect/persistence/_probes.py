"""Rows that a model must score as it did when it was saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowdetect.exceptions import ModelFileError
from flowdetect.flows import TableDensity
from flowdetect.preprocessing import TableEncoder

__all__ = ["check_probes", "write_probes"]

_N_ROWS = 8
_TOLERANCE = 1e-6


def write_probes(estimator: Any, densities: dict[str, TableDensity]) -> dict[str, list[float]]:
    """Return what a model says of its probe rows, by the part of it that is asked.

    Parameters
    ----------
    estimator : fitted estimator
    densities : dict of str to TableDensity
        The densities it is made of, by their place.
    """
    return {name: list(map(float, scores)) for name, scores in _scores(estimator, densities).items()}


def check_probes(estimator: Any, densities: dict[str, TableDensity], probes: Any) -> None:
    """Refuse a model that does not say the same of its probe rows.

    Raises
    ------
    ModelFileError
    """
    found = _scores(estimator, densities)
    if not isinstance(probes, dict) or probes.keys() != found.keys():
        raise ModelFileError("its probes are of other parts than it has.")
    for name, scores in found.items():
        expected = np.array(probes[name], dtype=np.float64)
        if expected.shape != scores.shape or not np.isfinite(scores).all():
            raise ModelFileError(f"the probe rows of {name} have no scores.")
        if not np.allclose(scores, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            worst = float(np.abs(scores - expected).max())
            raise ModelFileError(
                f"{name} scores its probe rows differently than when it was saved, by {worst:.3g}: another "
                "version of a library, or a damaged file."
            )


def _scores(estimator: Any, densities: dict[str, TableDensity]) -> dict[str, np.ndarray]:
    scores = {place: _log_density(density) for place, density in densities.items()}
    encoder = getattr(estimator, "encoder_", None)
    # Of an estimator with context the densities alone are asked: a code of the context may say that an entry
    # is missing in a column whose type cannot say so.
    if encoder is not None and hasattr(estimator, "score_samples") and estimator.context_encoder_ is None:
        scores["score_samples"] = np.asarray(estimator.score_samples(_table(encoder)))
    return scores


def _log_density(density: TableDensity) -> np.ndarray:
    import torch

    embedding = density.context_embedding
    context = _matrix(embedding.layout.n_values, embedding.layout.cardinalities)
    extra = np.full((_N_ROWS, embedding.n_columns - embedding.layout.n_columns), -1.0)
    given = torch.from_numpy(np.hstack([context, extra]))
    rows = torch.from_numpy(_matrix(density.layout.n_values, density.layout.cardinalities))
    with torch.inference_mode():
        found: np.ndarray = density.log_prob(rows, given if given.shape[1] else None).numpy()
    return found


def _table(encoder: TableEncoder) -> pd.DataFrame | np.ndarray:
    layout = encoder.layout_
    return encoder.decode(_matrix(layout.n_values, layout.cardinalities))


def _matrix(n_values: int, cardinalities: tuple[int, ...]) -> np.ndarray:
    """Return rows that spread over an encoded matrix, the same for ever: no random numbers."""
    rows, columns = np.arange(_N_ROWS)[:, None], np.arange(n_values)[None, :]
    values = 2.0 * np.sin(1.0 + 1.7 * rows + 2.3 * columns)
    numbers = np.arange(len(cardinalities))[None, :]
    codes = (rows * (numbers + 1)) % np.array(cardinalities, dtype=np.int64).reshape(1, -1)
    return np.hstack([values, codes.astype(np.float64)])
