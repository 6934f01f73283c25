import io

import numpy as np
import pytest
import torch
from rich.console import Console

from flowdetect.estimators._callbacks import CallbackSupportMixin, with_callbacks
from flowdetect.training import (
    ArraySource,
    Callback,
    ProgressBar,
    SklearnCallbacks,
    TrainingConfig,
    sklearn_fit_task,
    train,
)

SETTINGS = TrainingConfig(max_steps=200, learning_rate=0.05, evaluate_every=50, patience=None, device="cpu")


def test_progress_is_drawn_on_a_terminal_and_vanishes(gaussian, rows):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    train(gaussian(), ArraySource(rows), config=SETTINGS, callbacks=[ProgressBar("fitting", console)])
    text = console.file.getvalue()
    assert "fitting" in text
    assert "200/200" in text
    assert "nats" in text
    assert text.endswith("\x1b[2K"), "the last thing done is to erase the line"


def test_progress_is_silent_elsewhere(gaussian, rows, capsys):
    train(gaussian(), ArraySource(rows), config=SETTINGS, callbacks=[ProgressBar()])
    assert capsys.readouterr() == ("", "")


def test_progress_without_validation_rows(gaussian):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    train(
        gaussian(), ArraySource(np.ones((3, 1))), config=SETTINGS, callbacks=[ProgressBar("fitting", console)]
    )
    assert "60/60" in console.file.getvalue()


def test_progress_ends_when_training_fails(gaussian, rows):
    class Failing(Callback):
        def on_evaluation(self, record):
            raise RuntimeError("stop here")

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar = ProgressBar("fitting", console)
    with pytest.raises(RuntimeError, match="stop here"):
        train(gaussian(), ArraySource(rows), config=SETTINGS, callbacks=[bar, Failing()])
    assert bar._progress.finished or not bar._progress.live.is_started


# -- scikit-learn --------------------------------------------------------------------------------------------


def make_estimator(module, rows, n_trainings=1):
    class Estimator(CallbackSupportMixin):
        @with_callbacks
        def fit(self, X, y=None):
            with sklearn_fit_task(self, n_trainings=n_trainings, X=X, y=y) as fit_context:
                for _ in range(n_trainings):
                    bridge = SklearnCallbacks(
                        self, fit_context, X=X, y=y, attributes=lambda: {"mean_": module.mean.item()}
                    )
                    self.result_ = train(module, ArraySource(X), config=SETTINGS, callbacks=[bridge])
                self.mean_ = module.mean.item()
            return self

    return Estimator()


class Recording:
    """A scikit-learn callback that keeps the names of tasks, and may ask to stop."""

    def __init__(self, stop_after=None):
        self.begun, self.ended, self.calls, self.stop_after = [], [], [], stop_after

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append((context.task_name, context.task_id, getattr(fitted_estimator, "mean_", None)))
        return self.stop_after is not None and len(self.ended) >= self.stop_after


def test_scikit_learn_callbacks_are_told(gaussian, rows):
    pytest.importorskip("sklearn.callback")
    estimator, callback = make_estimator(gaussian(), rows), Recording()
    estimator.set_callbacks(callback).fit(rows)
    n = len(estimator.result_.history)
    assert callback.begun == [("fit", 0), ("train", 0), *(("evaluation", i) for i in range(n))]
    assert [name for name, _, _ in callback.ended] == ["evaluation"] * n + ["train", "fit"]
    means = [mean for name, _, mean in callback.ended if name == "evaluation"]
    assert means[0] == 0.0
    assert means[-1] > means[1] > 0.0
    assert callback.ended[-1][2] == estimator.mean_
    assert callback.calls == ["setup", "teardown"]


def test_scikit_learn_callbacks_stop_training(gaussian, rows):
    pytest.importorskip("sklearn.callback")
    estimator = make_estimator(gaussian(), rows).set_callbacks(Recording(stop_after=3))
    estimator.fit(rows)
    assert estimator.result_.stop_reason == "callback"
    assert estimator.result_.n_steps == 100


def test_scikit_learn_callbacks_with_several_trainings(gaussian, rows):
    pytest.importorskip("sklearn.callback")
    callback = Recording()
    make_estimator(gaussian(), rows, n_trainings=3).set_callbacks(callback).fit(rows)
    assert [task for task in callback.begun if task[0] == "train"] == [("train", i) for i in range(3)]


def test_scikit_learn_progress_bar(gaussian, rows, capsys):
    callbacks = pytest.importorskip("sklearn.callback")
    make_estimator(gaussian(), rows).set_callbacks(callbacks.ProgressBar()).fit(rows)
    assert "train" in capsys.readouterr().out


def test_teardown_after_a_failure(gaussian, rows):
    pytest.importorskip("sklearn.callback")
    callback = Recording()
    module = gaussian()
    module.log_prob = lambda inputs, context: (inputs * torch.nan * module.mean).sum(1)
    with pytest.raises(Exception, match="did not stay finite"):
        make_estimator(module, rows).set_callbacks(callback).fit(rows)
    assert callback.calls == ["setup", "teardown"]


def test_without_callback_support_nothing_happens(gaussian, rows):
    with sklearn_fit_task(object()) as fit_context:
        assert fit_context is None
        train(gaussian(), ArraySource(rows), config=SETTINGS, callbacks=[SklearnCallbacks(None, fit_context)])


def test_without_callbacks_set_the_estimator_fits(gaussian, rows):
    assert make_estimator(gaussian(), rows).fit(rows).mean_ != 0.0
