"""`CompletionModel`: exact conditional distributions, draws that invert the density."""

import numpy as np
import pytest
import torch

from flowdetect.flows import (
    ABSENT,
    GIVEN,
    TARGET,
    CompletionModel,
    FlowSettings,
    TableDensity,
    completion_layouts,
)

COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 2.0, 0.1], [0.3, 0.1, 0.5]])
MEAN = np.array([0.5, -1.0, 0.2])


def gaussian_model(seed: int = 0) -> CompletionModel:
    rows, context = completion_layouts(3, [], 3)
    settings = FlowSettings(n_layers=2, hidden_features=8)
    density = TableDensity(rows, context_layout=context, settings=settings, seed=seed).double()
    return CompletionModel(
        density,
        value_units=[0, 1, 2],
        code_units=[],
        gates=[-1, -1, -1],
        n_drawn=[],
        coordinates=[],
        mean=MEAN,
        covariance=COVARIANCE,
    ).double()


def mixed_model() -> CompletionModel:
    """Two values, the second of which exists where a code is 0, and a column of two levels."""
    rows, context = completion_layouts(2, [3, 4], 4)
    settings = FlowSettings(n_layers=2, hidden_features=8)
    density = TableDensity(rows, context_layout=context, settings=settings, seed=0).double()
    return CompletionModel(
        density,
        value_units=[0, 1],
        code_units=[1, 2],
        gates=[-1, 0],
        n_drawn=[2, 2],
        coordinates=[np.eye(3, 1), np.eye(4, 1)],
        mean=np.zeros(4),
        covariance=np.eye(4) + 0.2,
    ).double()


def test_starts_as_the_exact_conditional_normal() -> None:
    model = gaussian_model()
    inputs = torch.tensor([[0.3, -0.5, 0.9], [1.0, 2.0, -1.0]], dtype=torch.float64)
    roles = torch.tensor([[GIVEN, TARGET, TARGET], [TARGET, ABSENT, GIVEN]])
    found = model.log_prob(inputs, roles).detach().numpy()
    for row, (given, asked) in enumerate([([0], [1, 2]), ([2], [0])]):
        weights = np.linalg.solve(COVARIANCE[np.ix_(given, given)], COVARIANCE[np.ix_(given, asked)])
        values = inputs[row].numpy()
        mean = MEAN[asked] + (values[given] - MEAN[given]) @ weights
        rest = COVARIANCE[np.ix_(asked, asked)] - COVARIANCE[np.ix_(asked, given)] @ weights
        off = values[asked] - mean
        size = np.linalg.slogdet(2 * np.pi * rest)[1] + off @ np.linalg.solve(rest, off)
        # The flow starts near the identity, not at it.
        assert found[row] == pytest.approx(-0.5 * size, abs=0.05)


def test_density_of_what_is_asked_for_integrates_to_one() -> None:
    model = gaussian_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(-15, 15, 6001, dtype=torch.float64)
    inputs = torch.tensor([0.3, 0.0, 0.9], dtype=torch.float64).repeat(len(grid), 1)
    inputs[:, 1] = grid
    roles = torch.tensor([GIVEN, TARGET, ABSENT]).repeat(len(grid), 1)
    with torch.no_grad():
        total = torch.trapezoid(model.log_prob(inputs, roles).exp(), grid)
    assert float(total) == pytest.approx(1.0, abs=1e-3)


def test_what_is_absent_is_not_read() -> None:
    model = mixed_model()
    inputs = torch.tensor([[0.3, 0.4, 0.0, 1.0]], dtype=torch.float64)
    other = torch.tensor([[0.3, 9.0, 1.0, 1.0]], dtype=torch.float64)
    roles = torch.tensor([[TARGET, ABSENT, GIVEN]])
    assert torch.equal(model.log_prob(inputs, roles), model.log_prob(other, roles))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            model.log_prob(inputs, torch.tensor([[TARGET, GIVEN, GIVEN]])),
            model.log_prob(other, torch.tensor([[TARGET, GIVEN, GIVEN]])),
        )


def test_nothing_asked_for_has_probability_one() -> None:
    inputs = torch.tensor([[0.3, 0.4, 0.0, 1.0]], dtype=torch.float64)
    assert mixed_model().log_prob(inputs, torch.tensor([[GIVEN, ABSENT, GIVEN]])).item() == 0.0


def test_draws_keep_what_is_given_and_hold_only_codes_an_entry_can_be() -> None:
    model = mixed_model()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.tensor([[0.3, 0.4, 0.0, 1.0]] * 2, dtype=torch.float64)
    roles = torch.tensor([[GIVEN, TARGET, TARGET], [TARGET, GIVEN, GIVEN]])
    noise = torch.randn(2, 500, 2, generator=generator, dtype=torch.float64)
    uniform = torch.rand(2, 500, 2, generator=generator, dtype=torch.float64)
    drawn = model.complete(inputs, roles, noise, uniform)
    assert drawn.shape == (2, 500, 4)
    assert bool((drawn[0, :, 0] == 0.3).all())
    assert bool((drawn[1, :, 1:] == inputs[1, 1:]).all())
    assert set(drawn[0, :, 2].tolist()) == set(drawn[0, :, 3].tolist()) == {0.0, 1.0}
    # A value exists just where its code says so.
    assert torch.equal(drawn[0, :, 1] != 0.0, drawn[0, :, 2] == 0.0)


def test_draws_have_the_moments_of_the_conditional_normal() -> None:
    model = gaussian_model()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.tensor([[0.3, 0.0, 0.0]], dtype=torch.float64)
    noise = torch.randn(1, 20_000, 3, generator=generator, dtype=torch.float64)
    roles = torch.tensor([[GIVEN, TARGET, TARGET]])
    drawn = model.complete(inputs, roles, noise, noise.new_zeros(1, 20_000, 0))[0, :, 1:].numpy()
    weights = COVARIANCE[0, 1:] / COVARIANCE[0, 0]
    rest = COVARIANCE[1:, 1:] - np.outer(COVARIANCE[1:, 0], weights)
    assert np.allclose(drawn.mean(axis=0), MEAN[1:] + (0.3 - MEAN[0]) * weights, atol=0.04)
    assert np.allclose(np.cov(drawn, rowvar=False), rest, atol=0.06)
