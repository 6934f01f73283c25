import copy
import math
import pickle
import time

import numpy as np
import pytest
import torch
from torch import nn

from flowdetect.exceptions import ConfigurationError, TrainingError
from flowdetect.training import (
    ArraySource,
    Batch,
    Callback,
    MaximumLikelihood,
    NoiseConditional,
    StopReason,
    TrainingConfig,
    held_out_rows,
    train,
)


def config(**settings):
    usual = {"max_steps": 400, "learning_rate": 0.05, "evaluate_every": 50, "device": "cpu"}
    return TrainingConfig(**{**usual, **settings})


class Recorder(Callback):
    """Keeps all it is told, and stops at a step if asked to."""

    def __init__(self, stop_at=None):
        self.stop_at, self.plan, self.records, self.results, self.steps = stop_at, None, [], [], []

    def on_start(self, plan):
        self.plan = plan

    def on_step(self, step):
        self.steps.append(step)

    def on_evaluation(self, record):
        self.records.append(record)
        return self.stop_at is not None and record.step >= self.stop_at

    def on_end(self, result):
        self.results.append(result)


# -- the optimum ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("average_decay", [None, 0.99])
def test_the_known_optimum_is_reached(gaussian, rows, dtype, average_decay):
    module = gaussian(dtype=dtype)
    settings = config(validation_fraction=0.0, average_decay=average_decay, max_steps=600)
    result = train(module, ArraySource(rows), config=settings)
    assert module.mean.item() == pytest.approx(rows.mean(), abs=0.02)
    assert module.log_scale.exp().item() == pytest.approx(rows.std(), rel=0.01)
    assert result.stop_reason is StopReason.MAX_STEPS
    assert result.n_steps == 600


def test_conditional_mean_is_learnt(gaussian):
    rng = np.random.default_rng(0)
    context = rng.normal(size=(2000, 2))
    inputs = context @ [[1.0], [-2.0]] + 0.5 + 0.1 * rng.normal(size=(2000, 1))
    module = gaussian(1, n_context=2)
    train(module, ArraySource(inputs, context), config=config())
    assert module.slope.flatten().tolist() == pytest.approx([1.0, -2.0], abs=0.02)


def test_weights_act_like_repeated_rows(gaussian):
    inputs = np.array([[0.0]] * 50 + [[1.0]] * 50 + [[9.0]] * 10)
    weights = np.array([3.0] * 50 + [1.0] * 50 + [0.0] * 10)
    repeated = np.repeat(inputs, weights.astype(int), axis=0)
    settings = config(validation_fraction=0.0, batch_size=1000)
    weighted, plain = gaussian(), gaussian()
    train(weighted, ArraySource(inputs, weights=weights), config=settings)
    train(plain, ArraySource(repeated), config=settings)
    torch.testing.assert_close(weighted.mean, plain.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(weighted.log_scale, plain.log_scale, atol=1e-5, rtol=0)
    assert weighted.mean.item() == pytest.approx(0.25, abs=1e-3)


def test_weights_are_not_distorted_by_small_batches(gaussian):
    # Weights normalised within each batch would pull the mean from 0.9 towards 0.5.
    inputs = np.array([[0.0]] * 180 + [[1.0]] * 18)
    weights = np.array([1.0] * 180 + [90.0] * 18)
    module = gaussian()
    module.log_scale.requires_grad_(False)
    settings = config(
        validation_fraction=0.0, batch_size=4, max_steps=1000, learning_rate=0.02, gradient_clip=None
    )
    train(module, ArraySource(inputs, weights=weights), config=settings)
    assert module.mean.item() == pytest.approx(0.9, abs=0.05)


def test_validation_uses_the_weights(gaussian):
    inputs = np.repeat([[0.0], [1.0]], 500, axis=0)
    weights = np.repeat([1.0, 3.0], 500)
    module = gaussian()
    recorder = Recorder()
    train(module, ArraySource(inputs, weights=weights), config=config(), callbacks=[recorder])
    # Standard normal at the start: 0.5 log(2 pi) + 0.5 * P(1), where P(1) is 3/4 up to the split.
    assert recorder.records[0].validation_loss == pytest.approx(0.919 + 0.375, abs=0.05)


def test_noise_conditional_learns_the_noisy_density(gaussian, rows):
    module = gaussian(n_context=1)
    train(module, ArraySource(rows), objective=NoiseConditional(1, scales=(3.0, 3.0)), config=config())
    assert module.log_scale.exp().item() == pytest.approx(math.sqrt(rows.var() + 9.0), rel=0.1)


def test_trim_ignores_outliers(gaussian, rows):
    dirty = np.vstack([rows, np.full((30, 1), 1000.0)])
    module = gaussian()
    train(module, ArraySource(dirty), objective=MaximumLikelihood(trim=0.05), config=config())
    assert module.mean.item() == pytest.approx(3.0, abs=0.5)


# -- validation ---------------------------------------------------------------------------------------------


class Watching(ArraySource):
    """Remembers which rows were asked for, for validation and for training."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.validation, self.training = [], set()

    def rows(self, index, rng):
        if rng is None:
            self.validation.append(sorted(index))
        else:
            self.training |= set(index)
        return super().rows(index, rng)


@pytest.mark.parametrize(("n_rows", "expected"), [(10, 2), (40, 10), (100, 25), (128, 32), (1000, 100)])
def test_validation_rows_are_fixed_and_never_trained_on(gaussian, n_rows, expected):
    source = Watching(np.random.default_rng(0).normal(size=(n_rows, 1)))
    result = train(gaussian(), source, config=config(max_steps=100))
    assert len(source.validation) == 1
    assert len(source.validation[0]) == expected == result.n_validation
    assert source.training == set(range(n_rows)) - set(source.validation[0])
    assert source.validation[0] == held_out_rows(source, config(max_steps=100)).tolist()
    assert result.n_training == n_rows - expected


def test_rows_without_weight_are_never_asked_for(gaussian):
    weights = np.arange(100) % 2
    source = Watching(np.zeros((100, 1)), weights=weights)
    result = train(gaussian(), source, config=config(max_steps=10))
    asked = source.training | set(source.validation[0])
    assert asked == set(range(1, 100, 2))
    assert result.n_training + result.n_validation == 50


def test_validation_loss_is_the_mean_over_all_validation_rows(gaussian):
    source = Watching(np.random.default_rng(0).normal(size=(40_000, 1)))
    recorder = Recorder()
    train(
        gaussian(),
        source,
        config=config(max_steps=1, max_validation_rows=9001, validation_fraction=0.5),
        callbacks=[recorder],
    )
    chosen = source.inputs[source.validation[0]]
    assert len(chosen) == 9001
    expected = 0.5 * math.log(2 * math.pi) + 0.5 * (chosen**2).mean()
    assert recorder.records[0].validation_loss == pytest.approx(expected, rel=1e-5)


def test_validation_noise_is_the_same_every_time(gaussian, rows):
    module = gaussian(n_context=1)
    recorder = Recorder()
    settings = config(learning_rate=1e-30, max_steps=200, patience=None)
    train(module, ArraySource(rows), objective=NoiseConditional(1), config=settings, callbacks=[recorder])
    assert len({record.validation_loss for record in recorder.records}) == 1


class Worse(nn.Module):
    """The density at the origin: training pushes the parameter up, the validation rows say down."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))

    def log_prob(self, inputs, context=None):
        slope = 1.0 if self.training else -1.0
        return slope * self.level.expand(len(inputs)) - (self.level - 0.1).square() * (not self.training)


@pytest.mark.parametrize("average_decay", [None, 0.99])
def test_the_best_weights_are_restored(average_decay, rows):
    module = Worse()
    settings = config(evaluate_every=5, max_steps=100, patience=None, average_decay=average_decay)
    result = train(module, ArraySource(rows), config=settings)
    assert result.best_step == 0
    assert module.level.item() == 0.0
    assert result.n_steps == 100
    losses = [record.validation_loss for record in result.history]
    assert losses == sorted(losses)
    assert result.best_validation_loss == losses[0]


def test_the_module_ends_usable(gaussian, rows):
    module = gaussian()
    train(module, ArraySource(rows), config=config(max_steps=30))
    assert not module.training
    assert module.mean.grad is None
    assert module.mean.untyped_storage().nbytes() == 4
    twin = pickle.loads(pickle.dumps(module))
    assert torch.equal(twin.mean, module.mean)
    assert torch.equal(copy.deepcopy(module).mean, module.mean)


# -- why it stops -------------------------------------------------------------------------------------------


def test_patience(rows):
    result = train(Worse(), ArraySource(rows), config=config(evaluate_every=10, max_steps=1000, patience=3))
    assert result.stop_reason is StopReason.PATIENCE
    assert result.n_steps == 30
    assert "had stopped falling" in result.message


def test_tiny_improvements_do_not_count_for_patience(gaussian, rows):
    settings = config(learning_rate=1e-9, evaluate_every=10, max_steps=1000, patience=3)
    assert train(gaussian(), ArraySource(rows), config=settings).n_steps == 30


def test_without_patience_all_steps_are_done(rows):
    result = train(Worse(), ArraySource(rows), config=config(evaluate_every=10, max_steps=200, patience=None))
    assert result.stop_reason is StopReason.MAX_STEPS
    assert result.n_steps == 200


def test_time_budget_and_its_schedule(gaussian, rows):
    class Slow(gaussian):
        def log_prob(self, inputs, context=None):
            time.sleep(0.002)
            return super().log_prob(inputs, context)

    settings = config(time_budget=0.5, max_steps=10**6, patience=None)
    result = train(Slow(), ArraySource(rows), config=settings)
    assert result.stop_reason is StopReason.TIME_BUDGET
    assert 0.4 < result.seconds < 2.0
    assert result.history[-1].learning_rate < 0.05 * settings.learning_rate
    assert "time budget" in result.message


def test_max_epochs(gaussian, rows):
    result = train(gaussian(), ArraySource(rows), config=config(max_epochs=3, max_steps=10**6))
    assert result.n_steps == 3 * 4
    assert result.history[-1].epoch == 3


def test_a_callback_stops(gaussian, rows):
    stopper, other = Recorder(stop_at=50), Recorder()
    result = train(gaussian(), ArraySource(rows), config=config(), callbacks=[stopper, other])
    assert result.stop_reason is StopReason.CALLBACK
    assert result.n_steps == 50
    assert other.records == stopper.records == result.history
    assert other.results == [result]
    assert other.steps == [20, 40]
    assert train(gaussian(), ArraySource(rows), config=config(), callbacks=[Recorder(stop_at=0)]).n_steps == 0


@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_few_rows_are_not_validated(gaussian, n_rows):
    module = gaussian(2)
    result = train(module, ArraySource(np.ones((n_rows, 2))), config=config(max_steps=2000))
    assert result.stop_reason is StopReason.FEW_ROWS
    assert result.n_steps == 20 * n_rows
    assert result.best_validation_loss is None
    assert result.history[-1].validation_loss is None
    assert "too few rows" in result.message
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_ten_rows_are(gaussian):
    result = train(gaussian(), ArraySource(np.arange(10.0)[:, None]), config=config())
    assert result.n_validation == 2
    assert math.isfinite(result.best_validation_loss)


@pytest.mark.parametrize(("max_steps", "looks"), [(120, 13), (300, 13), (3000, 61)])
def test_a_short_run_is_looked_at_as_often_as_a_longer_one(gaussian, rows, max_steps, looks):
    settings = config(max_steps=max_steps, evaluate_every=None, patience=None)
    result = train(gaussian(), ArraySource(rows), config=settings)
    assert len(result.history) == looks


def test_history_and_plan(gaussian, rows):
    recorder = Recorder()
    result = train(gaussian(), ArraySource(rows), config=config(patience=None), callbacks=[recorder])
    assert [record.step for record in result.history] == list(range(0, 401, 50))
    assert len(result.history) <= recorder.plan.n_evaluations
    assert recorder.plan.n_steps == 400
    assert recorder.plan.steps_per_epoch == 4
    assert math.isnan(result.history[0].train_loss)
    assert result.history[-1].train_loss < result.history[1].train_loss
    assert result.best_validation_loss == min(record.validation_loss for record in result.history)
    rates = [record.learning_rate for record in result.history[1:]]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-3
    assert all(a.seconds <= b.seconds for a, b in zip(result.history, result.history[1:], strict=False))


# -- losses that are not finite -----------------------------------------------------------------------------


class Failing:
    """Maximum likelihood with losses that are not finite in some training steps."""

    stochastic = False

    def __init__(self, fails, value=math.nan):
        self.fails, self.value, self.step = fails, value, 0

    def __call__(self, module, batch, generator):
        loss = MaximumLikelihood()(module, batch, generator)
        if not module.training:
            return loss
        self.step += 1
        return loss * (self.value if self.fails(self.step) else 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 33, 400])
def test_one_bad_loss_is_recovered_from(gaussian, rows, value, step):
    module = gaussian()
    settings = config(max_steps=400, patience=None, learning_rate=0.1)
    result = train(module, ArraySource(rows), objective=Failing(lambda s: s == step, value), config=settings)
    assert result.recoveries == 1
    assert module.mean.item() == pytest.approx(rows.mean(), abs=0.3)
    assert all(math.isfinite(record.validation_loss) for record in result.history)
    assert "returned 1 x to earlier weights" in result.message
    after = [record for record in result.history if record.step > step]
    assert all(record.learning_rate <= 0.05 for record in after)


def test_bad_losses_far_apart_are_all_recovered_from(gaussian, rows):
    objective = Failing(lambda step: step % 100 == 0)
    settings = config(
        max_steps=900, patience=None, learning_rate=0.2, min_improvement=0.0, average_decay=None
    )
    module = gaussian()
    with torch.no_grad():
        module.mean.fill_(-40.0)
    result = train(module, ArraySource(rows), objective=objective, config=settings)
    assert result.recoveries == 9


def test_a_loss_that_stays_bad_is_an_error_and_keeps_the_best_weights(gaussian, rows):
    module, recorder = gaussian(), Recorder()
    with pytest.raises(TrainingError, match=r"NaN or infinite in epoch \d+ \(step \d+\).* after 5 returns"):
        train(
            module,
            ArraySource(rows),
            objective=Failing(lambda s: s > 100),
            config=config(),
            callbacks=[recorder],
        )
    assert recorder.results == [None]
    best = min(recorder.records, key=lambda record: record.validation_loss)
    assert best.step >= 50
    loss = -module.log_prob(torch.from_numpy(rows).float()).mean().item()
    assert loss == pytest.approx(best.validation_loss, abs=0.3)
    assert not module.training


def test_a_validation_loss_that_is_never_finite_is_an_error(gaussian, rows):
    class Nowhere(gaussian):
        def log_prob(self, inputs, context=None):
            return super().log_prob(inputs, context) - (0.0 if self.training else math.inf)

    with pytest.raises(TrainingError, match="did not stay finite"):
        train(Nowhere(), ArraySource(rows), config=config(max_steps=100))


def test_a_validation_loss_that_becomes_bad_goes_back_to_the_best(gaussian, rows):
    class Fragile(gaussian):
        def log_prob(self, inputs, context=None):
            bad = not self.training and self.mean.item() > 1.0
            return super().log_prob(inputs, context) * (math.nan if bad else 1.0)

    module = Fragile()
    with pytest.raises(TrainingError, match="did not stay finite"):
        train(module, ArraySource(rows), config=config(max_steps=5000, patience=None, evaluate_every=10))
    assert 0.0 <= module.mean.item() <= 1.0


def test_bad_gradients_of_a_good_loss_do_not_reach_the_weights(gaussian, rows):
    class Kink(gaussian):
        def log_prob(self, inputs, context=None):
            # The gradient of sqrt at 0 is infinite: times 0 it is NaN, though the value is a plain 0.
            return super().log_prob(inputs, context) + 0.0 * torch.sqrt(self.mean * 0.0).sum()

    module = Kink()
    with pytest.raises(TrainingError, match="did not stay finite"):
        train(module, ArraySource(rows), config=config())
    assert module.mean.isfinite().all()


# -- randomness ---------------------------------------------------------------------------------------------


class WithDropout(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.drop = nn.Dropout(p)
        self.mean = nn.Parameter(torch.zeros(4))

    def log_prob(self, inputs, context=None):
        return -(inputs - self.drop(self.mean)).square().sum(1)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(p):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        source = ArraySource(np.random.default_rng(0).normal(size=(700, 4)))
        means = []
        for seed in (0, 0, 1):
            module = WithDropout(p)
            objective = NoiseConditional(4) if p == 0.0 else MaximumLikelihood()
            train(module, source, objective=objective, config=config(max_steps=60, seed=seed))
            means.append(module.mean.detach())
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(means[0], means[1])
    assert not torch.equal(means[0], means[2])


def test_dequantisation_noise_comes_with_training_rows_only(gaussian):
    class Integers(ArraySource):
        def rows(self, index, rng):
            batch = super().rows(index, rng)
            noise = 0.5 if rng is None else torch.from_numpy(rng.random(batch.inputs.shape))
            return Batch(batch.inputs + noise)

    module = gaussian()
    train(module, Integers(np.zeros((1000, 1))), config=config(validation_fraction=0.0))
    assert module.mean.item() == pytest.approx(0.5, abs=0.02)
    assert module.log_scale.exp().item() == pytest.approx(math.sqrt(1 / 12), rel=0.05)


# -- what is refused, and interrupts -------------------------------------------------------------------------


def test_an_interrupt_keeps_the_best_weights(rows):
    class Interrupt(Recorder):
        def on_evaluation(self, record):
            super().on_evaluation(record)
            if record.step == 50:
                raise KeyboardInterrupt

    module, callback = Worse(), Interrupt()
    with pytest.raises(KeyboardInterrupt):
        train(module, ArraySource(rows), config=config(evaluate_every=10), callbacks=[callback])
    assert module.level.item() == 0.0
    assert not module.training
    assert callback.results == [None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("max_steps", 2.5),
        ("max_epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -1.0),
        ("warmup_fraction", 1.0),
        ("gradient_clip", 0.0),
        ("validation_fraction", 1.0),
        ("min_validation_rows", -1),
        ("max_validation_rows", 3),
        ("patience", 0),
        ("min_improvement", -1.0),
        ("evaluate_every", 0),
        ("average_decay", 1.0),
        ("time_budget", 0.0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name} must .*; got {value}"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize("name", ["nonsense", "cuda:x"])
def test_unknown_device(gaussian, rows, name):
    with pytest.raises(ConfigurationError, match="device must be 'auto' or a name that torch knows"):
        train(gaussian(), ArraySource(rows), config=config(device=name))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens on a machine without CUDA")
def test_cuda_without_a_device(gaussian, rows):
    with pytest.raises(ConfigurationError, match="torch finds no CUDA device here"):
        train(gaussian(), ArraySource(rows), config=config(device="cuda"))


def test_nothing_to_train(rows):
    with pytest.raises(ConfigurationError, match="must have parameters to train; Identity has none"):
        train(nn.Identity(), ArraySource(rows))


def test_no_rows(gaussian):
    with pytest.raises(ConfigurationError, match="at least one row"):
        train(gaussian(), ArraySource(np.empty((0, 1))))


@pytest.mark.parametrize("weights", [np.zeros(5), -np.ones(5)])
def test_bad_weights_of_any_source(gaussian, weights):
    source = ArraySource(np.ones((5, 1)))
    source.weights = weights
    with pytest.raises(ConfigurationError, match="weights must"):
        train(gaussian(), source)


def test_no_optimizer_of_torch_is_made(gaussian, rows, monkeypatch):
    # Making the first one imports torch's compiler, which takes longer than fitting a small table.
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", None)
    assert train(gaussian(), ArraySource(rows), config=config(max_steps=5)).n_steps == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_on_a_gpu(gaussian, rows, device):
    module = gaussian(n_context=1)
    result = train(module, ArraySource(rows), objective=NoiseConditional(1), config=config(device=device))
    assert module.mean.device.type == "cpu"
    assert math.isfinite(result.best_validation_loss)
