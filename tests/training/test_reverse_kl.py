import math

import pytest
import torch

from flowdetect.exceptions import ConfigurationError
from flowdetect.training import Batch, ReverseKL

SCALE = torch.tensor([2.0, 0.5], dtype=torch.float64)


class Affine(torch.nn.Module):
    """A Gaussian as a map of noise."""

    def __init__(self, location=(1.0, -1.0), log_scale=(0.0, 0.3)):
        super().__init__()
        self.location = torch.nn.Parameter(torch.tensor(location, dtype=torch.float64))
        self.log_scale = torch.nn.Parameter(torch.tensor(log_scale, dtype=torch.float64))

    def noise_to_rows(self, noise):
        return self.location + noise * self.log_scale.exp(), self.log_scale.sum().expand(len(noise))

    def rows_to_noise(self, rows):
        return (rows - self.location) * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(rows))


def target(rows, with_gradients):
    rows = rows.double()
    values = torch.distributions.Normal(0.0, SCALE).log_prob(rows).sum(1)
    return values, -rows / SCALE**2 if with_gradients else None


def divergence(module, temperature):
    """KL of N(location, T scale^2) from the tempered normal, less that one's constant."""
    normal = torch.distributions.Normal
    q = normal(module.location, module.log_scale.exp() * math.sqrt(temperature))
    p = normal(torch.zeros(2, dtype=torch.float64), SCALE * math.sqrt(temperature))
    constant = (
        0.5 * math.log(temperature) + (1 - 1 / temperature) * torch.log(SCALE * math.sqrt(2 * math.pi))
    ).sum()
    return torch.distributions.kl_divergence(q, p).sum() - constant


def batch(n_rows, temperature, seed=0):
    noise = torch.randn(n_rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Batch(noise, torch.full((n_rows, 1), temperature, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("path", [True, False])
def test_loss_and_gradient_are_those_of_the_divergence(path, temperature):
    module, objective = Affine(), ReverseKL(target, path=path)
    loss = objective(module, batch(400_000, temperature), torch.Generator()).mean()
    expected = divergence(module, temperature)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, expected, atol=0.01, rtol=0.0)
    found, truth = (torch.autograd.grad(each, list(module.parameters())) for each in (loss, expected))
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0.0)


def test_the_gradient_along_the_path_vanishes_at_the_target():
    gradients = {}
    for path in (True, False):
        module = Affine((0.0, 0.0), SCALE.log().tolist())
        loss = ReverseKL(target, path=path)(module, batch(10, 1.0), torch.Generator())
        found = torch.autograd.grad(loss.mean(), list(module.parameters()))
        gradients[path] = torch.cat(found).abs().max()
    assert gradients[True] < 1e-12 < 1e-2 < gradients[False]


@torch.no_grad()
def test_validation_asks_for_no_gradients():
    asked = []

    def remember(rows, with_gradients):
        asked.append(with_gradients)
        return target(rows, with_gradients)

    loss = ReverseKL(remember)(Affine(), batch(5, 1.0), torch.Generator())
    assert asked == [False]
    assert loss.shape == (5,)


@pytest.mark.parametrize("path", [True, False])
def test_rows_without_a_finite_density_take_the_worst_loss_and_no_part_in_the_gradient(path):
    def broken(rows, with_gradients):
        values, gradients = target(rows, True)
        bad = torch.arange(len(rows)) < 3
        return torch.where(bad, torch.nan, values), torch.where(bad[:, None], torch.nan, gradients)

    module, whole = Affine(), batch(50, 1.0)
    found = ReverseKL(broken, path=path)(module, whole, torch.Generator())
    others = ReverseKL(target, path=path)(module, whole, torch.Generator())[3:]
    torch.testing.assert_close(found[3:], others)
    torch.testing.assert_close(found[:3], others.max().expand(3))
    gradients = (torch.autograd.grad(each.sum(), list(module.parameters())) for each in (found, others))
    torch.testing.assert_close(*gradients)
    everywhere = ReverseKL(lambda rows, _: (rows[:, 0] * torch.nan, rows))
    assert torch.isinf(everywhere(module, whole, torch.Generator())).all()


def test_the_gradient_of_a_row_has_a_largest_length():
    def steep(rows, with_gradients):
        return 1e9 * rows[:, 0], torch.tensor([[1e9, 0.0]], dtype=torch.float64).expand(len(rows), -1)

    module = Affine()
    loss = ReverseKL(steep, path=False, most=3.0)(module, batch(4, 1.0), torch.Generator())
    gradient = torch.autograd.grad(loss.mean(), module.location)[0]
    torch.testing.assert_close(gradient, torch.tensor([-3.0 * math.sqrt(2.0), 0.0], dtype=torch.float64))


def test_refuses_what_does_not_fit():
    with pytest.raises(ConfigurationError, match="most must be positive; got 0.0"):
        ReverseKL(target, most=0.0)
    with pytest.raises(ConfigurationError, match="batch must have temperatures as its context"):
        ReverseKL(target)(Affine(), Batch(torch.zeros(2, 2)), torch.Generator())
