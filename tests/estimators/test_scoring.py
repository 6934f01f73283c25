import io
import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from flowdetect.estimators import _rows
from flowdetect.flows import _passes


def close(scores):
    return pytest.approx(scores, rel=1e-9, abs=0.0)


@pytest.mark.parametrize("rows", [1, 7, 1024, 10**6])
def test_the_chunk_size_does_not_matter(fitted, new_rows, rows, monkeypatch):
    whole = fitted.score_samples(new_rows)
    monkeypatch.setattr(_rows, "_MAX_CHUNK_ROWS", rows)
    monkeypatch.setattr(_rows, "_CHUNK_ELEMENTS", 10**9)
    assert fitted.score_samples(new_rows) == close(whole)


def test_wide_rows_come_in_smaller_chunks(monkeypatch):
    monkeypatch.setattr(_rows, "_CHUNK_ELEMENTS", 100)
    assert [s.stop - s.start for s in _rows.chunk_slices(25, 10)] == [10, 10, 5]
    assert [s.stop - s.start for s in _rows.chunk_slices(2, 10**9)] == [1, 1]
    assert list(_rows.chunk_slices(0, 10)) == []


def test_the_number_of_threads_does_not_matter(fitted, new_rows):
    before = torch.get_num_threads()
    try:
        scores = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            scores.append(fitted.score_samples(new_rows))
    finally:
        torch.set_num_threads(before)
    assert scores[1] == close(scores[0])


def test_neither_order_nor_company_of_a_row_matter(fitted, new_rows):
    scores = fitted.score_samples(new_rows)
    order = np.random.default_rng(0).permutation(len(new_rows))
    assert fitted.score_samples(new_rows.iloc[order]) == close(scores[order])
    assert fitted.score_samples(new_rows.iloc[::5]) == close(scores[::5])
    assert fitted.score_samples(new_rows.iloc[[3]]) == close(scores[[3]])


def test_scores_are_finite_float64(fitted, new_rows):
    scores = fitted.score_samples(new_rows)
    assert scores.dtype == np.float64
    assert scores.shape == (30,)
    assert np.isfinite(scores).all()


def test_nothing_is_built_when_scoring(fitted, new_rows):
    before = pickle.dumps(fitted)
    fitted.score_samples(new_rows)
    if hasattr(fitted, "explain"):
        fitted.explain(new_rows[:2])
    else:
        fitted.sample(2, random_state=0)
    assert pickle.dumps(fitted) == before


def test_a_pickle_scores_the_same(fitted, new_rows):
    file = io.BytesIO()
    pickle.dump(fitted, file)
    file.seek(0)
    again = pickle.load(file)
    assert np.array_equal(again.score_samples(new_rows), fitted.score_samples(new_rows))


def test_the_weights_are_left_in_float64_and_eval_mode(fitted):
    densities = getattr(fitted, "densities_", None) or [fitted.density_]
    for density in densities:
        assert not density.training
        assert {parameter.dtype for parameter in density.parameters()} == {torch.float64}
        assert {parameter.device.type for parameter in density.parameters()} == {"cpu"}


def test_before_fit_there_is_no_score(quick, name, blob):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        quick(name).score_samples(blob)


def test_a_fit_that_fails_leaves_no_older_model(quick, name, blob):
    estimator = quick(name).fit(blob)
    check_is_fitted(estimator)
    estimator.set_params(kind="x")
    with pytest.raises(ValueError, match="kind must be one of"):
        estimator.fit(blob[:, :2])
    with pytest.raises(NotFittedError):
        estimator.score_samples(blob)


# --- random_state ------------------------------------------------------------------------------------------


def scores_of(estimator, X):
    return estimator.fit(X).score_samples(X[:10])


def test_a_whole_number_repeats_bit_by_bit(quick, name, blob):
    first, second = (scores_of(quick(name, random_state=3), blob) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, scores_of(quick(name, random_state=4), blob))


def test_none_differs_each_time(quick, name, blob):
    estimator = quick(name, random_state=None, max_steps=2)
    assert not np.array_equal(scores_of(estimator, blob), scores_of(estimator, blob))


@pytest.mark.parametrize("stream", [np.random.default_rng, np.random.RandomState])
def test_a_stream_advances_with_each_fit(quick, name, blob, stream):
    estimator = quick(name, random_state=stream(5), max_steps=2)
    first, second = scores_of(estimator, blob), scores_of(estimator, blob)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, scores_of(quick(name, random_state=stream(5), max_steps=2), blob))


# --- the progress bar --------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_bar_is_drawn_on_a_terminal_if_wanted(quick, name, blob, verbose, monkeypatch):
    for variable in ("NO_COLOR", "TERM", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    quick(name, verbose=verbose, max_steps=2).fit(blob)
    assert ("fitting" in terminal.getvalue()) == bool(verbose)
    if verbose and name == "detector":
        assert "fitting 2/2" in terminal.getvalue()


def test_nothing_is_written_elsewhere(quick, name, blob, capsys):
    quick(name, verbose=1, max_steps=2).fit(blob)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("name", ["density", "detector"])
def test_a_fit_does_not_depend_on_the_number_of_threads(quick, name, blob, monkeypatch):
    monkeypatch.setattr(_passes, "_WORK_PER_THREAD", 10_000)
    before, scores = torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            scores.append(quick(name).fit(blob).score_samples(blob))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*scores)
