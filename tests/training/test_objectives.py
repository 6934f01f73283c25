import math

import numpy as np
import pytest
import torch

from flowdetect.exceptions import ConfigurationError
from flowdetect.training import Batch, MaximumLikelihood, NoiseConditional, noise_context
from flowdetect.training._objectives import trimmed


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder(torch.nn.Module):
    """Keeps what it is asked for."""

    def log_prob(self, inputs, context):
        self.inputs, self.context = inputs, context
        return -inputs.abs().sum(1)


def test_maximum_likelihood_is_minus_log_prob(gaussian):
    module, inputs = gaussian(2), torch.randn(50, 2, generator=generator())
    loss = MaximumLikelihood()(module, Batch(inputs), generator())
    expected = -torch.distributions.Normal(0.0, 1.0).log_prob(inputs).sum(1)
    torch.testing.assert_close(loss, expected)


def test_scales_are_log_uniform_one_per_stratum():
    objective = NoiseConditional(1, scales=(0.01, 4.0))
    scale, rank = objective.draw_scales(torch.zeros(256, 1, dtype=torch.float64), generator())
    position = (scale.log() - math.log(0.01)) / math.log(400.0)
    strata = (position * 256).floor().long()
    assert torch.equal(strata, rank)
    assert sorted(strata.tolist()) == list(range(256))
    # Which row gets which scale is random, too.
    assert abs(float(torch.corrcoef(torch.stack([position, torch.arange(256.0).double()]))[0, 1])) < 0.2


def test_values_get_noise_of_the_scale_written_into_the_context():
    module, n_rows = Recorder(), 200_000
    objective = NoiseConditional(2, scales=(0.1, 4.0))
    context = torch.full((n_rows, 1), 7.0, dtype=torch.float64)
    objective(module, Batch(torch.full((n_rows, 2), 3.0, dtype=torch.float64), context), generator())
    assert module.context.shape == (n_rows, 2)
    assert (module.context[:, 0] == 7.0).all()
    scale = torch.exp(2.0 * module.context[:, 1])
    assert 0.1 <= scale.min() <= scale.max() <= 4.0
    z = (module.inputs - 3.0) / scale[:, None]
    # Mean and variance of standard normals, each inside five standard errors.
    assert abs(z.mean()) < 5 / math.sqrt(2 * n_rows)
    assert abs(z.var() - 1.0) < 5 * math.sqrt(2 / (2 * n_rows))
    assert abs((z[:, 0] * z[:, 1]).mean()) < 5 / math.sqrt(n_rows)


def test_noise_context_is_what_training_uses():
    module = Recorder()
    NoiseConditional(1, scales=(0.3, 0.3))(module, Batch(torch.zeros(4, 1, dtype=torch.float64)), generator())
    torch.testing.assert_close(module.context, noise_context(0.3, 4))
    given = torch.ones(4, 2, dtype=torch.float32)
    together = noise_context(0.3, 4, context=given)
    assert together.dtype == torch.float32
    assert together.shape == (4, 3)
    assert noise_context(1.0, 2, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_codes_are_replaced_at_the_stated_rate_by_draws_from_the_marginal(scale):
    n_rows = 40_000
    codes = torch.from_numpy(np.random.default_rng(0).choice(4, n_rows, p=[0.1, 0.2, 0.3, 0.4])).double()
    inputs = torch.stack([torch.zeros(n_rows), codes], 1)
    objective = NoiseConditional(1, scales=(scale, scale), cardinalities=(4,), gates=(-1,))
    noisy = objective.add_noise(inputs, torch.full((n_rows,), scale, dtype=torch.float64), generator())
    share = torch.bincount(codes.long(), minlength=4) / n_rows
    rate = scale**2 / (1 + scale**2)
    for code in range(4):
        changed = (noisy[codes == code, 1] != code).double().mean()
        expected = rate * (1 - share[code])
        assert changed == pytest.approx(float(expected), abs=5 * 0.5 / math.sqrt(n_rows * float(share[code])))
    marginal = torch.bincount(noisy[:, 1].long(), minlength=4) / n_rows
    torch.testing.assert_close(marginal, share, atol=0.015, rtol=0)


def gated_inputs(n_rows, seed=0):
    """Value 0 gated by code 0 (its value says the row), value 1 free, code 1 free."""
    rng = np.random.default_rng(seed)
    missing = rng.random(n_rows) < 0.4
    value = np.where(missing, 0.0, 1000.0 * (1 + np.arange(n_rows)))
    inputs = np.stack(
        [value, rng.normal(size=n_rows), missing * rng.integers(1, 3, n_rows), rng.integers(5, size=n_rows)]
    )
    return torch.from_numpy(inputs.T.copy())


@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])
def test_a_gate_and_its_value_stay_together(scale):
    inputs = gated_inputs(2000)
    objective = NoiseConditional(2, scales=(scale, scale), cardinalities=(3, 5), gates=(0, -1))
    noisy = objective.add_noise(inputs, torch.full((2000,), scale, dtype=torch.float64), generator())
    missing = noisy[:, 2] != 0
    assert (noisy[missing, 0] == 0.0).all(), "a value that is not there must stay exactly 0"
    # The values are far apart, so each noisy one can be traced to the row it came from.
    row = (noisy[~missing, 0] / 1000.0).round().long() - 1
    assert (inputs[row, 2] == 0).all()
    assert ((noisy[~missing, 0] - inputs[row, 0]).abs() < 6 * scale).all()
    moved = (row != torch.arange(2000)[~missing]).double().mean()
    assert moved == pytest.approx(scale**2 / (1 + scale**2), abs=0.06)
    assert (noisy[:, 1] - inputs[:, 1]).std() == pytest.approx(scale, rel=0.1)


def test_two_gates_of_one_value_move_together():
    inputs = torch.tensor([[float(i), i % 2, i % 2] for i in range(400)], dtype=torch.float64)
    inputs[:, 0] *= inputs[:, 1] == 0
    objective = NoiseConditional(1, cardinalities=(2, 2), gates=(0, 0))
    noisy = objective.add_noise(inputs, torch.full((400,), 3.0, dtype=torch.float64), generator())
    assert torch.equal(noisy[:, 1], noisy[:, 2])


def test_weights_make_noise_of_each_value_its_own_size():
    objective = NoiseConditional(3, weights=(0.5, 2.0, 0.0))
    inputs = torch.zeros(4000, 3)
    noise = objective.add_noise(inputs, torch.full((4000,), 3.0), generator())
    assert noise.std(dim=0).tolist() == pytest.approx([1.5, 6.0, 0.0], rel=0.05)


def test_codes_may_stay_what_they_are():
    inputs = gated_inputs(200)
    objective = NoiseConditional(2, cardinalities=(3, 5), gates=(0, -1), noisy_codes=False)
    noisy = objective.add_noise(inputs, torch.full((200,), 3.0, dtype=inputs.dtype), generator())
    assert torch.equal(noisy[:, 2:], inputs[:, 2:])
    missing = inputs[:, 2] != 0
    assert (noisy[missing, 0] == inputs[missing, 0]).all()
    assert (noisy[~missing, 0] != inputs[~missing, 0]).all()


def test_the_context_takes_one_scale_a_row():
    scales = torch.tensor([1.0, 4.0])
    assert noise_context(scales, 2)[:, 0].tolist() == pytest.approx([0.0, 0.5 * np.log(4.0)])


def test_original_rows_are_not_changed_in_place():
    inputs = gated_inputs(50)
    before = inputs.clone()
    NoiseConditional(2, cardinalities=(3, 5), gates=(0, -1))(Recorder(), Batch(inputs), generator())
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("n_rows", [1, 2])
@pytest.mark.parametrize("n_values", [0, 1])
def test_tiny_batches(n_rows, n_values):
    objective = NoiseConditional(n_values, cardinalities=(2,), gates=(-1,))
    loss = objective(Recorder(), Batch(torch.ones(n_rows, n_values + 1)), generator())
    assert loss.shape == (n_rows,)
    assert loss.isfinite().all()


def test_same_generator_state_same_noise():
    objective, module = NoiseConditional(2, cardinalities=(3, 5), gates=(0, -1)), Recorder()
    inputs = gated_inputs(100)
    one, two, three = (objective(module, Batch(inputs), generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_trimming_leaves_the_least_likely_rows_out():
    loss = torch.arange(10.0)[torch.randperm(10, generator=generator())]
    kept = trimmed(loss, 0.2)
    assert sorted(kept.nonzero().flatten().tolist()) == sorted(
        ((loss > 0) & (loss < 8)).nonzero().flatten().tolist()
    )
    assert kept.mean() == pytest.approx(np.mean(np.arange(8.0)))
    assert trimmed(loss, 0.0) is loss


def test_trimming_compares_rows_of_similar_scale():
    level = torch.randperm(256, generator=generator())
    within = torch.rand(256, generator=generator(1))
    loss = 1.0 + 100.0 * level + within
    kept = trimmed(loss, 0.25, level)
    for group in range(4):
        rows = level // 64 == group
        assert int((kept[rows] == 0).sum()) == 16
        assert loss[rows][kept[rows] == 0].min() >= loss[rows][kept[rows] != 0].max()


def test_trimmed_rows_have_no_gradient():
    loss = torch.arange(1.0, 11.0, requires_grad=True)
    trimmed(loss, 0.3).mean().backward()
    assert loss.grad.tolist() == pytest.approx([1 / 7] * 7 + [0] * 3)


@pytest.mark.parametrize("objective", [MaximumLikelihood(trim=0.5), NoiseConditional(1, trim=0.5)])
def test_objectives_trim(objective):
    loss = objective(Recorder(), Batch(torch.linspace(1, 2, 64)[:, None]), generator())
    assert int((loss == 0).sum()) == 32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaximumLikelihood(trim=1.0), r"trim must lie in \[0, 1\); got 1.0"),
        (lambda: NoiseConditional(1, trim=-0.1), r"trim must lie in \[0, 1\)"),
        (lambda: NoiseConditional(1, scales=(0.0, 1.0)), "0 < low <= high"),
        (lambda: NoiseConditional(1, scales=(2.0, 1.0)), "0 < low <= high"),
        (lambda: NoiseConditional(1, cardinalities=(2,)), "got 0 gates for 1 code columns"),
        (lambda: NoiseConditional(1, cardinalities=(2,), gates=(1,)), r"gates must lie in -1..0"),
        (
            lambda: NoiseConditional(2, weights=(1.0,)),
            "weights must be 2 finite numbers that are not negative",
        ),
        (lambda: NoiseConditional(1, weights=(-1.0,)), "weights must be 1 finite numbers"),
        (lambda: noise_context(0.0, 3), "scale must be positive and finite; got 0.0"),
        (lambda: noise_context(torch.tensor([1.0, 0.0]), 2), "scale must be positive and finite"),
        (
            lambda: NoiseConditional(1)(Recorder(), Batch(torch.ones(3, 2)), generator()),
            "inputs must have 1 value and 0 code columns; got 2 columns",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
