import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries._quality import compare_series


def noise(seed: int, n_rows: int = 600, n_channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_rows, n_channels))


def smoothed(seed: int, n_rows: int = 600) -> np.ndarray:
    values = np.convolve(noise(seed, n_rows + 4)[:, 0], np.ones(5) / np.sqrt(5.0), mode="valid")
    return values[:, None]


def test_series_of_one_law_are_near_their_baseline() -> None:
    measures = compare_series(smoothed(0), smoothed(1), random_state=0)
    assert measures.index.tolist() == ["marginal distance, 0", "autocorrelation error, 0", "C2ST AUROC"]
    assert measures.columns.tolist() == ["value", "baseline"]
    assert measures.loc["marginal distance, 0", "value"] < 0.2
    assert measures.loc["C2ST AUROC", "value"] == pytest.approx(0.5, abs=0.15)


def test_the_order_of_rows_is_seen() -> None:
    real = smoothed(0)
    shuffled = np.random.default_rng(0).permutation(real)
    measures = compare_series(real, shuffled, random_state=0)["value"]
    assert measures["marginal distance, 0"] == 0.0
    assert measures["autocorrelation error, 0"] == pytest.approx(0.8, abs=0.15)
    assert measures["C2ST AUROC"] > 0.9


def test_another_marginal_is_seen() -> None:
    measures = compare_series(noise(0), noise(1) + 2.0, random_state=0)["value"]
    # The Kolmogorov-Smirnov distance of two normals 2 apart is 2 Phi(1) - 1.
    assert measures["marginal distance, 0"] == pytest.approx(0.683, abs=0.06)
    assert measures["autocorrelation error, 0"] < 0.2


def test_another_relation_of_channels_is_seen() -> None:
    real = noise(0, n_channels=2)
    together = np.column_stack([real[:, 0], np.roll(real[:, 0], 3)])
    measures = compare_series(together, noise(1, n_channels=2), window=10, random_state=0)["value"]
    assert measures["cross-correlation error"] == pytest.approx(1.0, abs=0.15)


def test_collections_and_tables_are_understood() -> None:
    collection = np.stack([smoothed(seed, 100) for seed in range(8)])
    assert (
        compare_series(collection, collection[::-1], random_state=0).loc["marginal distance, 0", "value"] == 0
    )
    table = pd.DataFrame({"size": noise(0)[:, 0], "kind": np.where(noise(1)[:, 0] > 0.0, "a", "b")})
    measures = compare_series(table, table[::-1], random_state=0)
    assert "marginal distance, kind = a" in measures.index


def test_many_series_are_parted_by_series() -> None:
    # All change in the middle: earlier rows say little of later ones, some series all of the others.
    rng = np.random.default_rng(0)
    real, drawn = (rng.normal(size=(40, 64, 1)) + 4.0 * (np.arange(64) >= 32)[:, None] for _ in range(2))
    alike = compare_series(real, drawn, random_state=0)
    assert alike.loc["marginal distance, 0", "baseline"] < 0.1
    assert alike.loc["C2ST AUROC"].to_numpy() == pytest.approx([0.5, 0.5], abs=0.1)
    assert compare_series(real, drawn * 1.5, random_state=0).loc["C2ST AUROC", "value"] > 0.7


def test_missing_values_are_left_out() -> None:
    real = noise(0)
    real[100:150] = np.nan
    assert np.isfinite(compare_series(real, noise(1), random_state=0)).all(axis=None)


def test_the_same_seed_gives_the_same() -> None:
    one, two = (compare_series(noise(0), noise(1), random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidTableError, match="at least 16 rows to be compared; one has 10"):
        compare_series(noise(0), noise(1, 10))
    with pytest.raises(InvalidTableError, match="an eighth of the shortest series, 75; got 90"):
        compare_series(noise(0), noise(1), window=90)
    with pytest.raises(ConfigurationError, match="window must be a whole number"):
        compare_series(noise(0), noise(1), window=0)
    with pytest.raises(InvalidTableError, match="columns"):
        compare_series(noise(0), noise(1, n_channels=2))
