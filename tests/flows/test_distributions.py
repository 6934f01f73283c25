import math
from collections.abc import Callable

import pytest
import torch

from flowdetect.flows import DiagonalNormal, StandardNormal


def test_standard_normal_is_exact() -> None:
    inputs = torch.randn(8, 3, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(inputs).sum(1)
    torch.testing.assert_close(StandardNormal(3).log_prob(inputs), expected)


@pytest.mark.parametrize("n_context", [0, 2])
def test_diagonal_normal_is_exact(n_context: int, shake: Callable) -> None:
    base = shake(DiagonalNormal(3, n_context=n_context), 0.5)
    inputs, context = torch.randn(8, 3).double(), torch.randn(8, 2).double() if n_context else None
    mean, log_std = base.mean_, base.log_std_
    if context is not None:
        change = context @ base.context_layer.weight.T
        mean, log_std = mean + change[:, :3], log_std + change[:, 3:]
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(inputs).sum(1)
    torch.testing.assert_close(base.log_prob(inputs, context), expected)
    torch.testing.assert_close(base.mean(context), mean if n_context else mean[0])


@pytest.mark.parametrize(
    "base", [StandardNormal(3, masked=True), DiagonalNormal(3, n_context=3, masked=True)]
)
def test_unobserved_features_have_no_share(base: StandardNormal) -> None:
    observed = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    inputs = torch.tensor([[0.5, 7.0, -1.0], [1.0, 2.0, 3.0]])
    expected = -0.5 * (0.25 + 1.0) - math.log(2.0 * math.pi)
    torch.testing.assert_close(base.log_prob(inputs, observed), torch.tensor([expected, 0.0]))
    assert (base.draw(2, observed)[observed == 0] == 0).all()


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_log_density_stays_finite(size: float) -> None:
    inputs = torch.full((2, 4), size, requires_grad=True)
    log_density = StandardNormal(4).log_prob(inputs)
    log_density.sum().backward()
    assert torch.isfinite(log_density).all() and torch.isfinite(inputs.grad).all()
    assert (log_density < -1e37).all()


def test_draws_follow_the_generator(shake: Callable) -> None:
    base = shake(DiagonalNormal(2))
    base.mean_.data[:], base.log_std_.data[:] = 3.0, math.log(0.5)
    one, same = (
        base.draw(5000, generator=torch.Generator().manual_seed(4), like=base.mean_) for _ in range(2)
    )
    assert torch.equal(one, same) and one.dtype == torch.float64
    torch.testing.assert_close(one.mean(0), torch.full((2,), 3.0).double(), atol=0.04, rtol=0.0)
    torch.testing.assert_close(one.std(0), torch.full((2,), 0.5).double(), atol=0.03, rtol=0.0)


def test_nflows_way_of_sampling() -> None:
    context = torch.ones(4, 2)
    assert StandardNormal(2).sample(3).shape == (3, 2)
    assert StandardNormal(2).sample(3, context).shape == (4, 3, 2)
    assert StandardNormal(2).mean(context).shape == (4, 2)
    assert StandardNormal(2).mean().shape == (2,)
