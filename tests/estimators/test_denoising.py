"""Scores, samples and denoising by a density that was trained with noise."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import flowdetect
from flowdetect import FlowDensity
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError
from flowdetect.persistence._checks import check_object

DEVIATIONS = np.array([0.5, 20.0, 3.0])
CORRELATION = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.4], [0.0, 0.4, 1.0]])
COVARIANCE = CORRELATION * np.outer(DEVIATIONS, DEVIATIONS)
MEAN = np.array([1.0, -300.0, 0.0])


def gaussian_rows(n_rows, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, size=n_rows)


def conditional_mean(noisy, deviations):
    """Return E[x | noisy] where each column has Gaussian noise of its own standard deviation."""
    gain = COVARIANCE @ np.linalg.inv(COVARIANCE + np.diag(np.square(deviations)))
    return MEAN + (noisy - MEAN) @ gain.T


@pytest.fixture(scope="module")
def pixels(quick):
    """Noise that is the same in all columns, in their own units."""
    return quick("density", noise_scales=(0.2, 10.0)).fit(gaussian_rows(4000))


# --- the conditional mean ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0, 10.0])
def test_the_mean_of_a_gaussian_given_its_noisy_self_is_met(pixels, scale):
    X = gaussian_rows(4000, seed=1)
    noisy = X + scale * np.random.default_rng(2).normal(size=X.shape)
    exact, found = conditional_mean(noisy, np.full(3, scale)), pixels.denoise(noisy, scale)
    for column in range(3):
        bound = np.mean((exact - X)[:, column] ** 2)
        assert np.mean((found - X)[:, column] ** 2) < 1.02 * bound
    assert np.sqrt(np.mean((found - exact) ** 2, axis=0)) == pytest.approx(np.zeros(3), abs=0.1 * scale)


@pytest.mark.parametrize(
    ("unit", "deviations"),
    [("scale", DEVIATIONS), ([0.1, 10.0, 0.0], [0.1, 10.0, 0.0]), ({1: 30.0}, [0.0, 30.0, 0.0])],
    ids=["scale", "sequence", "dict"],
)
def test_units_of_noise(quick, unit, deviations):
    density = quick("density", noise_scales=(0.5, 1.0), noise_unit=unit).fit(gaussian_rows(4000))
    assert density.noise_.units == pytest.approx(np.array(deviations), rel=0.06)
    X = gaussian_rows(2000, seed=1)
    sizes = 0.7 * density.noise_.units
    noisy = X + sizes * np.random.default_rng(2).normal(size=X.shape)
    exact, found = conditional_mean(noisy, sizes), density.denoise(noisy, 0.7)
    still = sizes == 0.0
    assert np.array_equal(found[:, still], noisy[:, still])
    error = np.mean((found - X) ** 2, axis=0)[~still] / np.mean((exact - X) ** 2, axis=0)[~still]
    assert (error < 1.03).all()


def test_each_row_may_have_a_scale_of_its_own(pixels):
    X = gaussian_rows(9, seed=1)
    scales = np.geomspace(0.2, 10.0, 9)
    apart = [pixels.denoise(X[[k]], scales[k])[0] for k in range(9)]
    np.testing.assert_allclose(pixels.denoise(X, scales), apart, rtol=1e-9)
    one_by_one = [pixels.score_samples(X[[k]], noise_scale=scales[k])[0] for k in range(9)]
    np.testing.assert_allclose(pixels.score_samples(X, noise_scale=scales), one_by_one, rtol=1e-9)


def test_two_heaps_pull_towards_the_nearer_one(quick):
    rng = np.random.default_rng(0)
    X = np.where(rng.random(2000) < 0.5, -3.0, 3.0)[:, None] + 0.3 * rng.normal(size=(2000, 1))
    density = quick("density", noise_scales=1.0, max_steps=250, hidden_features=16, n_bins=8).fit(X)
    heap = rng.choice([-3.0, 3.0], size=2000)
    clean = heap + 0.3 * rng.normal(size=2000)
    noisy = clean + rng.normal(size=2000)
    variance = 0.09 + 1.0
    right = 1.0 / (1.0 + np.exp(-6.0 * noisy / variance))
    inside = [0.09 * (noisy - m) / variance + m for m in (-3.0, 3.0)]
    bound = np.mean(((1.0 - right) * inside[0] + right * inside[1] - clean) ** 2)
    linear = np.mean((noisy * 9.09 / 10.09 - clean) ** 2)
    error = np.mean((density.denoise(noisy[:, None], 1.0)[:, 0] - clean) ** 2)
    assert error < 1.4 * bound < 0.5 * linear


# --- scores and samples ------------------------------------------------------------------------------------


def test_scores_are_those_of_noisy_rows_in_the_units_of_the_table(pixels):
    X = gaussian_rows(300, seed=1)
    for asked, scale in ((None, 0.2), (5.0, 5.0)):
        covariance = COVARIANCE + scale**2 * np.eye(3)
        away = X - MEAN
        truth = -0.5 * np.sum(away @ np.linalg.inv(covariance) * away, axis=1)
        truth -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
        assert pixels.score_samples(X, noise_scale=asked) == pytest.approx(truth, abs=0.5)
    assert pixels.score(X) == pytest.approx(pixels.score_samples(X, noise_scale=0.2).mean())


def test_samples_have_the_noise_asked_for(pixels):
    for scale in (None, 10.0):
        drawn = pixels.sample(4000, noise_scale=scale, random_state=0)
        spread = np.sqrt(DEVIATIONS**2 + (0.2 if scale is None else scale) ** 2)
        assert drawn.std(axis=0) == pytest.approx(spread, rel=0.06)
    assert np.array_equal(pixels.sample(3, random_state=1), pixels.sample(3, random_state=1))


def test_fully_believed_the_shift_is_the_gradient_of_the_score(pixels, monkeypatch):
    X, step = gaussian_rows(4, seed=1), 1e-4
    monkeypatch.setattr(pixels.noise_, "trust", np.ones_like(pixels.noise_.trust))
    moved = pixels.denoise(X, 2.0) - X
    for column in range(3):
        shift = step * DEVIATIONS[column] * np.eye(3)[column]
        up, down = (pixels.score_samples(X + sign * shift, noise_scale=2.0) for sign in (1, -1))
        slope = (up - down) / (2 * step * DEVIATIONS[column])
        assert moved[:, column] == pytest.approx(4.0 * slope, rel=1e-3, abs=1e-5)


def test_the_context_is_used(quick):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 1500)
    X = np.where(kind == 1, 4.0, -4.0)[:, None] + 0.2 * rng.normal(size=(1500, 1))
    density = quick("density", noise_scales=4.0, max_steps=250, hidden_features=16).fit(X, context=kind)
    found = density.denoise(np.zeros((2, 1)), 4.0, context=[0, 1])[:, 0]
    assert found == pytest.approx([-4.0, 4.0], abs=0.4)
    assert density.sample(2, context=[0, 1], random_state=0).shape == (4, 1)
    with pytest.raises(InvalidTableError, match="fitted with context, so it needs one"):
        density.denoise(np.zeros((2, 1)), 4.0)


def test_a_density_that_misleads_is_not_believed(quick, monkeypatch):
    X = gaussian_rows(3000)
    density = quick("density", noise_scales=(0.2, 10.0)).fit(X)
    gradient = type(density)._noisy_gradient
    wiggles = np.random.default_rng(3)

    def wrong(self, matrix, context):
        found = gradient(self, matrix, context)
        return found + wiggles.normal(size=found.shape)

    monkeypatch.setattr(type(density), "_noisy_gradient", wrong)
    misled = quick("density", noise_scales=(0.2, 10.0)).fit(X)
    assert density.noise_.trust.max() <= 1.0
    noisiest = misled.noise_.shares < 0.5
    assert misled.noise_.trust[noisiest].max() < 0.1
    noisy = X + 5.0 * np.random.default_rng(2).normal(size=X.shape)
    linear = conditional_mean(noisy, np.full(3, 5.0))
    assert np.sqrt(np.mean((misled.denoise(noisy, 5.0) - linear) ** 2, axis=0)) == pytest.approx(0.0, abs=0.5)


# --- tables ------------------------------------------------------------------------------------------------


def test_only_numbers_move(quick, table, new_rows):
    density = quick("density", noise_scales=(0.1, 1.0), noise_unit="scale").fit(table)
    found = density.denoise(new_rows, 0.5)
    assert list(found.columns) == list(new_rows.columns)
    assert found.index.equals(new_rows.index)
    for name in ("colour", "old", "day"):
        pd.testing.assert_series_equal(found[name], new_rows[name])
    for name in ("size", "weight", "count"):
        assert found[name].dtype == np.float64
        assert (found[name].isna() == new_rows[name].isna()).all()
        assert (found[name] != new_rows[name]).any()
    assert np.isfinite(density.score_samples(new_rows)).all()
    drawn = density.sample(50, random_state=0)
    assert (drawn.dtypes == table.dtypes).all()


def test_columns_are_found_by_name_in_whatever_order(quick):
    rows = pd.DataFrame(gaussian_rows(200), columns=["a", "b", "c"])
    density = quick("density", noise_scales=(0.2, 1.0), max_steps=5).fit(rows)
    whole = density.denoise(rows, 0.5)
    turned = density.denoise(rows[["c", "a", "b"]], 0.5)
    assert turned.columns.tolist() == ["c", "a", "b"]
    pd.testing.assert_frame_equal(turned[["a", "b", "c"]], whole)
    unnamed = quick("density", noise_scales=(0.2, 1.0), max_steps=5).fit(rows.to_numpy())
    assert np.array_equal(unnamed.denoise(rows, 0.5), unnamed.denoise(rows.to_numpy(), 0.5))


def test_constant_repeated_and_few_valued_columns_are_numbers_like_others(quick):
    rng = np.random.default_rng(0)
    few = rng.integers(0, 3, 500).astype(float)
    X = np.column_stack([np.full(500, 7.0), few, few])
    density = quick("density", noise_scales=(0.5, 2.0)).fit(X)
    assert density.encoder_.layout_.n_values == 3
    noisy = X + rng.normal(size=X.shape)
    found = density.denoise(noisy, 1.0)
    assert found[:, 0] == pytest.approx(np.full(500, 7.0), abs=0.01)
    # The two hold the same number, so that their noise is averaged.
    assert found[:, 1] == pytest.approx(found[:, 2], abs=0.01)
    assert np.mean((found[:, 1] - few) ** 2) < 0.4
    assert np.isfinite(density.score_samples(noisy)).all()


def test_whole_numbers_become_floats_and_weights_count(quick):
    X = np.random.default_rng(0).integers(0, 200, size=(400, 2)).astype(np.uint8)
    weights = np.where(X[:, 0] < 100, 1.0, 0.0)
    density = quick("density", noise_scales=(5.0, 50.0)).fit(X, sample_weight=weights)
    found = density.denoise(X.astype(float), 50.0)
    assert found.dtype == np.float64
    assert found[:, 0].mean() < 80.0
    drawn = density.sample(200, random_state=0)
    assert drawn.dtype == np.uint8


def test_more_columns_than_rows(quick):
    X = np.random.default_rng(0).normal(size=(12, 20))
    density = quick("density", noise_scales=(0.1, 1.0)).fit(X)
    assert np.isfinite(density.denoise(X, 0.1)).all()
    assert np.isfinite(density.score_samples(1e6 * X)).all()


def test_chunks_do_not_matter(pixels, monkeypatch):
    X = gaussian_rows(50, seed=1)
    whole = pixels.denoise(X, 1.0)
    monkeypatch.setattr(type(pixels), "_chunks", lambda self, n: (slice(k, k + 7) for k in range(0, n, 7)))
    np.testing.assert_allclose(pixels.denoise(X, 1.0), whole, rtol=1e-9)


# --- parameters --------------------------------------------------------------------------------------------


def test_a_fit_without_noise_forgets_the_noise(quick, blob):
    density = quick("density", noise_scales=(0.1, 1.0)).fit(blob)
    assert density.noise_.scales == (0.1, 1.0)
    density.set_params(noise_scales=None).fit(blob)
    assert not hasattr(density, "noise_")
    assert np.array_equal(density.score_samples(blob), quick("density").fit(blob).score_samples(blob))


@pytest.mark.parametrize("scales", [0.0, -1.0, (2.0, 1.0), (1.0,), "a", True, (0.1, float("inf")), ("a", 1)])
def test_noise_scales_that_are_none(quick, blob, scales):
    with pytest.raises(ConfigurationError, match="noise_scales must be None, a positive number, or"):
        quick("density", noise_scales=scales).fit(blob)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("pixel", "noise_unit must be 'column', 'scale', or a standard deviation for each column"),
        ([1.0, 1.0], "a standard deviation for each of the 3 columns"),
        (["a", "b", "c"], "a standard deviation for each of the 3 columns"),
        ([1.0, -1.0, 0.0], "finite standard deviations that are not negative"),
        ([0.0, 0.0, 0.0], "one at least above 0"),
        ({"size": 1.0}, r"noise_unit must name columns of the table; got \['size'\]"),
    ],
)
def test_noise_units_that_are_none(quick, blob, unit, message):
    with pytest.raises(ConfigurationError, match=message):
        quick("density", noise_scales=1.0, noise_unit=unit).fit(blob)


def test_noise_is_for_numbers(quick, table):
    with pytest.raises(ConfigurationError, match="column 'colour' does not"):
        quick("density", noise_scales=1.0, noise_unit={"colour": 1.0}).fit(table)
    with pytest.raises(ConfigurationError, match="needs at least one column of numbers"):
        quick("density", noise_scales=1.0).fit(table[["colour", "old", "day"]])


@pytest.mark.parametrize("scale", [0.1, 11.0, [1.0] * 3 + [12.0]])
def test_a_scale_outside_of_training(pixels, scale):
    with pytest.raises(
        ConfigurationError, match=r"must lie within noise_scales=\(0.2, 10\).*Fit with a wider"
    ):
        pixels.denoise(gaussian_rows(4), scale)


@pytest.mark.parametrize("scale", ["a", None, [1.0, 1.0], float("nan"), [[1.0]]])
def test_a_scale_that_is_none(pixels, scale):
    with pytest.raises(
        ConfigurationError, match="noise_scale must be a number, or one for each of the 4 rows"
    ):
        pixels.denoise(gaussian_rows(4), scale)


def test_a_density_without_noise_cannot_denoise(density, new_rows):
    for call in (density.denoise, lambda X, s: density.score_samples(X, noise_scale=s)):
        with pytest.raises(ConfigurationError, match="was fitted with noise_scales=None. Fit with"):
            call(new_rows, 1.0)
    with pytest.raises(ConfigurationError, match="was fitted with noise_scales=None"):
        density.sample(2, noise_scale=1.0)
    with pytest.raises(NotFittedError):
        FlowDensity(noise_scales=1.0).denoise(new_rows, 1.0)


# --- files -------------------------------------------------------------------------------------------------


def test_a_loaded_density_denoises_as_the_saved_one(quick, table, new_rows, tmp_path):
    parameters = {"noise_scales": (0.1, 1.0), "noise_unit": {"size": 1.0, "weight": 0.5}}
    density = quick("density", **parameters).fit(table)
    flowdetect.save(density, tmp_path / "model.flow")
    loaded = flowdetect.load(tmp_path / "model.flow")
    assert loaded.get_params() == density.get_params()
    assert clone(loaded).noise_unit == parameters["noise_unit"]
    pd.testing.assert_frame_equal(loaded.denoise(new_rows, 0.5), density.denoise(new_rows, 0.5))
    pd.testing.assert_frame_equal(loaded.sample(5, random_state=0), density.sample(5, random_state=0))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scales", (1.0, 0.5), "the noise scales are no range"),
        ("reference", 0.0, "the unit of the noise is not positive"),
        ("spreads", np.array([1.0, -1.0, 0.0]), "a size of the noise is negative"),
        ("shares", np.array([0.5, 0.2]), "the shares are no shares in order"),
        ("mean", np.zeros(2), "the noise's shapes differ"),
        ("directions", np.zeros((3, 3)), "no basis"),
    ],
)
def test_noise_that_does_not_fit_is_refused(quick, blob, name, value, message):
    noise = quick("density", noise_scales=1.0, max_steps=1).fit(blob).noise_
    setattr(noise, name, value)
    with pytest.raises(ModelFileError, match=message):
        check_object("NoiseModel", noise)


def test_noise_of_other_columns_is_refused(quick, blob):
    density = quick("density", noise_scales=1.0, max_steps=1).fit(blob)
    density.noise_.units = np.ones(2)
    with pytest.raises(ModelFileError, match="the noise is of other columns"):
        check_object("FlowDensity", density)
