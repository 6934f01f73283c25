import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from flowdetect import FlowDensity
from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._next_value import NextValue, Piece
from flowdetect.timeseries._past import past_features, pasts_of, plan_past

Array = NDArray[np.float64]
PHI = 0.8


def autoregression(n_rows: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    values = np.zeros(n_rows)
    for row in range(1, n_rows):
        values[row] = PHI * values[row - 1] + rng.normal()
    return values


def as_piece(values: Array, known: Array | None = None) -> Piece:
    values = values.reshape(len(values), -1)
    return Piece(values, np.empty((len(values), 0)) if known is None else known)


def fitted(
    *pieces: Piece, cardinalities: tuple[int, ...] = (0,), starts: bool = False, max_steps: int = 60
) -> NextValue:
    plan = plan_past(len(pieces[0]), cardinalities.count(0), window=None, season=None)
    density = FlowDensity(max_steps=max_steps, hidden_features=16, random_state=0)
    return NextValue(plan, cardinalities, density, starts=starts).fit(list(pieces))


def paths_of(model: NextValue, past: Array, n_steps: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_steps):
        drawn = model.draw(past, np.empty((len(past), 0)), rng)
        rows.append(drawn)
        past = np.concatenate([past[:, 1:], model.states(drawn)[:, None]], axis=1)
    return np.stack(rows)


@pytest.fixture(scope="module")
def ar_model() -> NextValue:
    return fitted(as_piece(autoregression(1000)))


class TestLogDensity:
    def test_of_an_autoregression_is_the_exact_gaussian_one(self, ar_model: NextValue) -> None:
        values = autoregression(2000, seed=1)
        scores = ar_model.log_density(as_piece(values))
        exact = norm.logpdf(values[1:], PHI * values[:-1])
        start = ar_model.first_row_
        assert np.isnan(scores[:start]).all() and np.isfinite(scores[start:]).all()
        assert scores[start:].mean() == pytest.approx(exact[start - 1 :].mean(), abs=0.03)
        assert np.corrcoef(scores[start:], exact[start - 1 :])[0, 1] > 0.97

    def test_after_a_past_is_that_of_the_row_in_its_series(self, ar_model: NextValue) -> None:
        values = autoregression(60, seed=2)[:, None]
        rows = np.arange(30, 40)
        past = pasts_of(ar_model.states(values), ar_model.plan.window, rows)
        after = ar_model.log_density_after(past, np.empty((10, 0)), values[rows])
        np.testing.assert_allclose(after, ar_model.log_density(as_piece(values))[rows], rtol=1e-9)

    def test_uses_what_is_known_beforehand(self) -> None:
        rng = np.random.default_rng(0)
        known = rng.integers(2, size=(500, 1)).astype(float)
        values = 5.0 * known[:, 0] + 0.1 * rng.normal(size=500)
        told = fitted(as_piece(values, known)).log_density(as_piece(values, known))
        untold = fitted(as_piece(values)).log_density(as_piece(values))
        assert np.nanmean(told) > np.nanmean(untold) + 1.5

    def test_is_missing_where_nothing_was_observed_and_finite_elsewhere(self) -> None:
        values = np.column_stack([autoregression(400), autoregression(400, seed=1)])
        values[100:110] = np.nan
        values[200:300:3, 0] = np.nan
        model = fitted(as_piece(values), cardinalities=(0, 0))
        scores = model.log_density(as_piece(values))
        assert np.isnan(scores[100:110]).all()
        assert np.isfinite(
            np.delete(scores[model.first_row_ :], np.arange(100, 110) - model.first_row_)
        ).all()

    def test_of_a_piece_without_a_past_is_missing(self, ar_model: NextValue) -> None:
        assert np.isnan(ar_model.log_density(as_piece(np.zeros(3)))).all()


class TestDraw:
    def test_paths_of_an_autoregression_spread_as_exact_ones(self, ar_model: NextValue) -> None:
        values = autoregression(100, seed=3)[:, None]
        past = pasts_of(ar_model.states(values), ar_model.plan.window, np.full(2000, 100))
        paths = paths_of(ar_model, past, 10)[:, :, 0]
        exact = (1.0 - PHI ** (2 * np.arange(1, 11))) / (1.0 - PHI**2)
        np.testing.assert_allclose(paths.var(axis=1), exact, rtol=0.2)
        # Paths return to the mean of the training rows, which is not quite 0.
        mean = autoregression(1000).mean()
        exact_means = mean + (values[-1] - mean) * PHI ** np.arange(1, 11)
        np.testing.assert_allclose(paths.mean(axis=1), exact_means, atol=0.25)

    @pytest.mark.parametrize("start", [0.0, 1e6])
    def test_changes_stay_bounded_wherever_a_path_is(self, ar_model: NextValue, start: float) -> None:
        past = np.full((50, ar_model.plan.window, 1), start)
        paths = paths_of(ar_model, past, 200)[:, :, 0]
        assert np.abs(np.diff(paths, axis=0)).max() < 20.0

    def test_categories_follow_their_transitions(self) -> None:
        rng = np.random.default_rng(0)
        codes = np.zeros(1500)
        for row in range(1, 1500):
            codes[row] = codes[row - 1] if rng.random() < 0.9 else rng.integers(3)
        model = fitted(as_piece(codes), cardinalities=(3,), max_steps=200)
        past = pasts_of(model.states(codes[:, None]), model.plan.window, np.full(200, 1500))
        paths = paths_of(model, past, 60)[:, :, 0]
        assert set(np.unique(paths)) == {0.0, 1.0, 2.0}
        assert (paths[1:] == paths[:-1]).mean() == pytest.approx(0.9 + 0.1 / 3, abs=0.04)

    def test_rows_are_complete_though_training_rows_were_not(self) -> None:
        rng = np.random.default_rng(0)
        values = np.column_stack([autoregression(500), rng.normal(size=500)])
        values[rng.random((500, 2)) < 0.3] = np.nan
        model = fitted(as_piece(values), cardinalities=(0, 0))
        past = pasts_of(model.states(values), model.plan.window, np.full(300, 500))
        assert np.isfinite(model.draw(past, np.empty((300, 0)), rng)).all()

    def test_first_rows_are_drawn_where_series_are_complete(self) -> None:
        rng = np.random.default_rng(0)
        pieces = [as_piece(10.0 + np.arange(20) + 0.1 * rng.normal(size=20)) for _ in range(30)]
        model = fitted(*pieces, starts=True)
        assert model.first_row_ == 0
        drawn = model.draw(np.full((200, model.plan.window, 1), np.nan), np.empty((200, 0)), rng)
        assert drawn.mean() == pytest.approx(10.0, abs=0.3)


class TestFit:
    def test_refuses_too_few_rows(self) -> None:
        with pytest.raises(InvalidTableError, match="at least 8 rows with a row before them; 4 of 5"):
            fitted(as_piece(np.arange(5.0)))

    def test_takes_as_few_rows_as_it_says(self) -> None:
        assert fitted(as_piece(np.arange(9.0))).first_row_ == 1

    def test_tells_trends_from_levels(self) -> None:
        rows = np.arange(400)
        values = np.column_stack([0.1 * rows, autoregression(400)])
        assert fitted(as_piece(values), cardinalities=(0, 0)).levels.tolist() == [False, True]

    def test_takes_a_constant(self) -> None:
        model = fitted(as_piece(np.zeros(50)))
        past = np.zeros((5, model.plan.window, 1))
        assert np.abs(model.draw(past, np.empty((5, 0)), np.random.default_rng(0))).max() < 1e-6


class TestPast:
    def test_features_but_the_last_values_do_not_change_with_the_level(self) -> None:
        plan = plan_past(200, 1, window=None, season=12)
        past = np.random.default_rng(0).normal(size=(10, plan.window, 1))
        here, above = past_features(past, plan), past_features(past + 7.0, plan)
        np.testing.assert_allclose(above[:, 0] - here[:, 0], 7.0)
        np.testing.assert_allclose(above[:, 1:], here[:, 1:], atol=1e-12)

    def test_features_are_zero_before_the_series_began(self) -> None:
        plan = plan_past(200, 2, window=None, season=12)
        assert not past_features(np.full((3, plan.window, 2), np.nan), plan).any()

    @pytest.mark.parametrize(("window", "season"), [(1, None), (2, 7), (30, 7), (None, 7), (None, None)])
    def test_no_more_rows_are_looked_at_than_asked_for(self, window: int | None, season: int | None) -> None:
        plan = plan_past(100, 1, window=window, season=season)
        assert plan.window <= max(2, 100 // 3 if window is None else window)
