import copy

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flowdetect
from flowdetect import FlowDensity, FlowGaussianizer
from flowdetect.exceptions import ConfigurationError, InvalidTableError

QUICK = {"max_steps": 30, "n_layers": 2, "hidden_features": 8, "n_bins": 4, "batch_size": 64}


def make(**parameters):
    return FlowGaussianizer(**{**QUICK, "random_state": 0, **parameters})


def numbers(n_rows, seed=0):
    """Two dependent columns in different units: an arc."""
    rng = np.random.default_rng(seed)
    angle = rng.normal(1.0, 0.5, n_rows)
    radius = rng.normal(3.0, 0.2, n_rows)
    return np.column_stack([1e6 + 100.0 * radius * np.cos(angle), 1e-3 * radius * np.sin(angle)])


@pytest.fixture(scope="module")
def arc():
    return numbers(1200)


@pytest.fixture(scope="module")
def on_arc(arc):
    return make(max_steps=400, hidden_features=24, batch_size=256).fit(arc)


@pytest.fixture(scope="module")
def on_table(table):
    return make().fit(table)


# --- numbers -----------------------------------------------------------------------------------------------


def test_new_rows_become_jointly_normal(on_arc, arc):
    new = numbers(1000, seed=1)
    Z, scaled = on_arc.transform(new), StandardScaler().fit(arc).transform(new)
    directions = np.column_stack([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]])

    def distance(rows):
        return max(stats.kstest(column, "norm").statistic for column in (rows @ directions).T)

    def dependence(rows):
        return abs(np.corrcoef(rows.T)[0, 1])

    assert distance(Z) < 0.06 < distance(scaled)
    assert dependence(Z) < 0.15 and dependence(scaled) > 0.5


def test_the_map_is_that_of_the_density_and_its_volume_that_of_the_scores(on_arc, arc):
    rows, steps = arc[:5], 1e-6 * arc.std(axis=0)
    slopes = [
        (on_arc.transform(rows + step) - on_arc.transform(rows - step)) / (2 * step.sum())
        for step in np.diag(steps)
    ]
    log_det = np.linalg.slogdet(np.stack(slopes, axis=2))[1]
    normal = stats.norm.logpdf(on_arc.transform(rows)).sum(axis=1)
    assert on_arc.score_samples(rows) == pytest.approx(normal + log_det, abs=1e-6)
    density = FlowDensity(**{k: v for k, v in on_arc.get_params().items() if k != "jitter"}).fit(arc)
    assert np.array_equal(density.score_samples(arc), on_arc.score_samples(arc))


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_rows_come_back(kind, arc):
    gaussianizer = make(kind=kind).fit(arc)
    far = arc[:3] + 40.0 * arc.std(axis=0)
    for rows in (arc, far):
        Z = gaussianizer.transform(rows)
        assert Z.dtype == np.float64 and Z.shape == (len(rows), 2)
        back = gaussianizer.inverse_transform(Z)
        assert (np.abs(back - rows) / arc.std(axis=0)).max() < 1e-7
        assert back == pytest.approx(rows, rel=1e-6)


def test_rows_do_not_depend_on_each_other(on_arc, arc):
    Z = on_arc.transform(arc)
    assert on_arc.transform(arc[::-1]) == pytest.approx(Z[::-1], rel=1e-9, abs=1e-12)
    assert on_arc.transform(arc[:1]) == pytest.approx(Z[:1], rel=1e-9, abs=1e-12)


def test_normal_numbers_become_draws(on_arc, arc):
    drawn = on_arc.inverse_transform(np.random.default_rng(0).normal(size=(1000, 2)))
    for column in range(2):
        assert stats.ks_2samp(drawn[:, column], arc[:, column]).statistic < 0.08


def test_one_column(arc):
    gaussianizer = make(n_layers="auto").fit(arc[:, :1])
    Z = gaussianizer.transform(arc[:, :1])
    assert Z.shape == (1200, 1)
    assert np.array_equal(np.argsort(Z[:, 0]), np.argsort(arc[:, 0]))


def test_float32_comes_back_as_float32(arc):
    X = (arc - arc.mean(axis=0)).astype(np.float32)
    gaussianizer = make().fit(X)
    back = gaussianizer.inverse_transform(gaussianizer.transform(X))
    assert back.dtype == np.float32
    assert back == pytest.approx(X, rel=1e-6)


def test_fit_transform_is_fit_and_transform(blob):
    weights = np.arange(len(blob)) % 3
    one = make().fit_transform(blob, sample_weight=weights)
    assert np.array_equal(one, make().fit(blob, sample_weight=weights).transform(blob))
    assert not np.array_equal(one, make().fit_transform(blob))


# --- mixed tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [False, True])
def test_mixed_rows_come_back(jitter, on_table, table, new_rows):
    gaussianizer = copy.copy(on_table).set_params(jitter=jitter)
    for rows in (table, new_rows):
        Z = gaussianizer.transform(rows)
        assert Z.shape == (len(rows), 7) and np.isfinite(Z).all()
        back = gaussianizer.inverse_transform(Z)
        expected = rows.reset_index(drop=True)
        pd.testing.assert_frame_equal(back, expected, rtol=1e-6)
        pd.testing.assert_frame_equal(
            back[["colour", "count", "old", "day"]], expected[["colour", "count", "old", "day"]]
        )


def test_names_say_which_column(on_table, on_arc):
    names = ["z_size", "z_weight", "z_count", "z_day", "z_weight_kind", "z_colour", "z_old"]
    assert on_table.get_feature_names_out().tolist() == names
    assert on_table.get_feature_names_out(on_table.feature_names_in_).tolist() == names
    assert on_arc.get_feature_names_out().tolist() == ["z_x0", "z_x1"]
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        on_table.get_feature_names_out(["a"] * 6)


def test_names_differ_even_if_columns_look_like_them(table):
    X = table[["weight"]].assign(weight_kind=table["old"])
    names = make(max_steps=1).fit(X).get_feature_names_out()
    assert names.tolist() == ["z_weight", "z_weight_kind", "z_weight_kind_"]


def test_missing_numbers_have_latent_0(on_table, table):
    Z = pd.DataFrame(on_table.transform(table), columns=on_table.get_feature_names_out())
    missing = table["weight"].isna().to_numpy()
    assert (Z["z_weight"].to_numpy() == 0.0).tolist() == missing.tolist()
    assert Z["z_weight_kind"][missing].min() > Z["z_weight_kind"][~missing].max()
    Z.loc[missing, "z_weight"] = 5.0
    assert on_table.inverse_transform(Z)["weight"].isna().tolist() == missing.tolist()


def test_jitter_makes_codes_and_gaps_normal():
    # The densities of the codes start at their frequencies: independent columns need no training.
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.choice(list("xyz"), 3000, p=[0.6, 0.3, 0.1]), "b": rng.random(3000) < 0.2})
    X["c"] = np.where(rng.random(3000) < 0.4, np.nan, rng.normal(size=3000))
    gaussianizer = make(jitter=True, max_steps=60).fit(X)
    Z = gaussianizer.transform(X)
    assert min(stats.kstest(column, "norm").pvalue for column in Z.T) > 1e-3
    assert np.abs(np.corrcoef(Z.T) - np.eye(4)).max() < 4.5 / np.sqrt(3000)
    middle = gaussianizer.set_params(jitter=False).transform(X)
    assert max(stats.kstest(column, "norm").pvalue for column in middle.T[1:]) < 1e-9


def test_jitter_spreads_lattice_numbers_over_their_cells():
    X = np.random.default_rng(0).poisson(3.0, size=(2000, 1)).astype(float)
    gaussianizer = make(max_steps=150, jitter=True).fit(X)
    Z = gaussianizer.transform(X)
    assert len(np.unique(Z)) == 2000
    assert stats.kstest(Z[:, 0], "norm").statistic < 0.05
    assert np.array_equal(gaussianizer.inverse_transform(Z), X)
    assert len(np.unique(gaussianizer.set_params(jitter=False).transform(X))) == len(np.unique(X))


def test_random_state_decides_the_jitter(on_table, table):
    fixed = copy.copy(on_table).set_params(jitter=True)
    free = copy.copy(on_table).set_params(jitter=True, random_state=None)
    assert np.array_equal(fixed.transform(table), fixed.transform(table))
    assert not np.array_equal(free.transform(table), free.transform(table))
    generator = copy.copy(on_table).set_params(jitter=True, random_state=np.random.default_rng(0))
    assert not np.array_equal(generator.transform(table), generator.transform(table))
    assert sklearn.utils.get_tags(free).non_deterministic
    assert not sklearn.utils.get_tags(fixed).non_deterministic
    assert not sklearn.utils.get_tags(on_table).non_deterministic


def test_jitter_does_not_depend_on_chunks(on_table, table, monkeypatch):
    fixed = copy.copy(on_table).set_params(jitter=True)
    whole = fixed.transform(table)
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 17)
    assert fixed.transform(table) == pytest.approx(whole, rel=1e-9, abs=1e-12)


def test_few_numbers_keep_their_order():
    X = np.repeat([[0.0], [2.0], [7.0]], 40, axis=0)
    Z = make(max_steps=3).fit_transform(X)
    assert Z[0, 0] < Z[40, 0] < Z[80, 0]


def test_constant_columns(blob):
    X = np.column_stack([blob, np.full(len(blob), 4.0)])
    gaussianizer = make().fit(X)
    Z = gaussianizer.transform(X)
    assert np.abs(Z[:, 3]).max() < 0.1
    assert gaussianizer.inverse_transform(Z) == pytest.approx(X, rel=1e-6, abs=1e-9)
    only = make(max_steps=1).fit(X[:, 3:])
    assert only.transform(X[:, 3:]).shape == (len(X), 1)
    assert (only.inverse_transform(only.transform(X[:, 3:])) == 4.0).all()


def test_a_category_never_seen_is_far_out(on_table, table):
    Z = on_table.transform(table.head(3).assign(colour=["red", "pink", None]))
    assert Z[0, 5] < 2.0 < Z[1, 5]
    assert on_table.inverse_transform(Z)["colour"].isna().tolist() == [False, True, True]


# --- context -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shifted():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 800)
    return rng.normal(size=(800, 2)) + 6.0 * group[:, None], group


def test_latents_do_not_depend_on_the_context(shifted):
    X, group = shifted
    gaussianizer = make(max_steps=200).fit(X, context=group)
    Z = gaussianizer.transform(X, context=group)
    assert np.abs(Z[group == 1].mean(axis=0) - Z[group == 0].mean(axis=0)).max() < 0.4
    assert gaussianizer.inverse_transform(Z, context=group) == pytest.approx(X, rel=1e-6, abs=1e-9)
    other = gaussianizer.inverse_transform(Z, context=1 - group)
    assert np.abs(other.mean(axis=0) - X.mean(axis=0)).max() < 1.0
    assert other[group == 1].mean() < 2.0 < 4.0 < other[group == 0].mean()


def test_context_in_vain_or_absent(shifted, on_arc, arc):
    X, group = shifted
    gaussianizer = make(max_steps=1).fit(X, context=group)
    for method in (gaussianizer.transform, gaussianizer.inverse_transform, gaussianizer.score_samples):
        with pytest.raises(InvalidTableError, match="This FlowGaussianizer was fitted with context"):
            method(X)
        with pytest.raises(InvalidTableError, match="one row per row of X; got 3 rows of context for 800"):
            method(X, context=group[:3])
    for method in (on_arc.transform, on_arc.inverse_transform):
        with pytest.raises(InvalidTableError, match="This FlowGaussianizer was fitted without context"):
            method(arc, context=arc)


def test_context_is_routed_through_a_pipeline(shifted):
    X, group = shifted
    with sklearn.config_context(enable_metadata_routing=True):
        gaussianizer = make(max_steps=3)
        for method in ("fit", "transform", "inverse_transform"):
            getattr(gaussianizer, f"set_{method}_request")(context=True)
        pipeline = make_pipeline(StandardScaler(), gaussianizer)
        Z = pipeline.fit_transform(X, context=group)
        assert np.array_equal(pipeline.transform(X, context=group), Z)
        assert pipeline.inverse_transform(Z, context=group) == pytest.approx(X, rel=1e-6, abs=1e-9)
        model = make_pipeline(gaussianizer, LinearRegression()).fit(X, group, context=group)
        assert model.predict(X, context=group).shape == (800,)
    scaled = StandardScaler().fit_transform(X)
    assert np.array_equal(make(max_steps=3).fit_transform(scaled, context=group), Z)


# --- containers --------------------------------------------------------------------------------------------


def test_pandas_output_and_back(table):
    gaussianizer = make(max_steps=2).set_output(transform="pandas")
    Z = gaussianizer.fit_transform(table)
    assert Z.columns.tolist() == gaussianizer.get_feature_names_out().tolist()
    assert Z.index.equals(table.index)
    pd.testing.assert_frame_equal(gaussianizer.transform(table), Z)
    back = gaussianizer.inverse_transform(Z[Z.columns[::-1]])
    pd.testing.assert_frame_equal(back, table, rtol=1e-6)
    array = gaussianizer.inverse_transform(Z.to_numpy())
    pd.testing.assert_frame_equal(array, table.reset_index(drop=True), rtol=1e-6)


def test_read_only_latents(on_arc, arc):
    Z = on_arc.transform(arc[:4])
    Z.setflags(write=False)
    assert on_arc.inverse_transform(Z) == pytest.approx(arc[:4], rel=1e-6)
    assert on_arc.inverse_transform(Z.tolist()) == pytest.approx(arc[:4], rel=1e-6)


def test_save_and_load(table, tmp_path):
    gaussianizer = make(max_steps=2, jitter=True).fit(table, context=table["old"])
    flowdetect.save(gaussianizer, tmp_path / "model.flow")
    loaded = flowdetect.load(tmp_path / "model.flow")
    assert type(loaded) is FlowGaussianizer and loaded.get_params() == gaussianizer.get_params()
    Z = loaded.transform(table, context=table["old"])
    assert np.array_equal(Z, gaussianizer.transform(table, context=table["old"]))
    found, expected = (each.inverse_transform(Z, context=table["old"]) for each in (loaded, gaussianizer))
    pd.testing.assert_frame_equal(found, expected)


# --- awkward latents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8.0, 50.0, 1e30, 1e300])
def test_far_latents_have_rows(size, on_table, on_arc, table):
    rows = on_table.inverse_transform(np.full((2, 7), size) * [[1], [-1]])
    assert rows.dtypes.equals(table.dtypes)
    assert rows["count"].between(table["count"].min(), table["count"].max()).all()
    assert np.isfinite(on_arc.inverse_transform(np.full((2, 2), size) * [[1], [-1]])).all()


@pytest.mark.parametrize("Z", [np.zeros((3, 3)), np.zeros(2), np.zeros((0, 2)), [[[0.0, 0.0]]], 1.0])
def test_latents_of_another_shape(on_arc, Z):
    shape = str(np.shape(Z)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InvalidTableError, match=rf"Z must have shape \(n_rows, 2\).*got shape {shape}"):
        on_arc.inverse_transform(Z)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_latents_that_are_not_finite(on_arc, bad):
    with pytest.raises(InvalidTableError, match=f"Z must be finite; got {bad} in row 1, column 'z_x1'"):
        on_arc.inverse_transform([[0.0, 0.0], [0.0, bad]])


def test_latents_of_other_types(on_arc):
    with pytest.raises(InvalidTableError, match="Z must hold numbers; got text or objects"):
        on_arc.inverse_transform([["a", "b"]])
    with pytest.raises(InvalidTableError, match=r"A DataFrame Z must have the columns .*got \['a', 'b'\]"):
        on_arc.inverse_transform(pd.DataFrame({"a": [0.0], "b": [0.0]}))


def test_jitter_must_be_a_truth_value(blob):
    with pytest.raises(ConfigurationError, match="jitter must be True or False; got 'yes'"):
        make(jitter="yes").fit(blob)
    with pytest.raises(ConfigurationError, match="jitter must be True or False; got 1"):
        make(max_steps=1).fit(blob).set_params(jitter=1).transform(blob)


def test_before_fit(arc):
    for call in (
        lambda g: g.transform(arc),
        lambda g: g.inverse_transform(arc),
        lambda g: g.get_feature_names_out(),
    ):
        with pytest.raises(NotFittedError):
            call(make())


def test_rows_that_cannot_be_used(on_arc, on_table, arc, table):
    with pytest.raises(ValueError, match="X has 1 features, but FlowGaussianizer is expecting 2"):
        on_arc.transform(arc[:, :1])
    with pytest.raises(InvalidTableError, match="NaN came in"):
        on_arc.transform(np.where(arc > 0, np.nan, arc))
    with pytest.raises(InvalidTableError, match="colour"):
        on_table.transform(table.drop(columns="colour"))
    with pytest.raises(InvalidTableError, match="minimum of 2 is required"):
        make().fit(arc[:1])


@pytest.mark.parametrize(("jitter", "n_latents"), [(False, 2), (True, 3)])
def test_shared_values_have_a_code_of_their_own_just_with_jitter(jitter: bool, n_latents: int) -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [np.where(rng.random(100) < 0.3, 0.0, rng.gamma(2.0, size=100)), rng.normal(size=100)]
    )
    gaussianizer = FlowGaussianizer(jitter=jitter, max_steps=5, hidden_features=8, random_state=0)
    Z = gaussianizer.fit_transform(X)
    assert Z.shape == (100, n_latents)
    assert np.allclose(gaussianizer.inverse_transform(Z), X)
    X[::5, 0] = np.nan
    Z = gaussianizer.fit_transform(X)
    assert Z.shape == (100, 3)
    assert np.allclose(gaussianizer.inverse_transform(Z), X, equal_nan=True)
