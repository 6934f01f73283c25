import numpy as np
import pytest
import torch

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import FlowSettings, NoiseWhitenedDensity, TableDensity

SMALL = FlowSettings(n_layers=2, hidden_features=8, n_bins=4)
MIXED = MatrixLayout(2, cardinalities=(2, 3), gates=(1, -1))


def spread(n_values: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, covariance and noise covariance, and the directions and spreads that whiten them."""
    rng = np.random.default_rng(seed)
    mean, root = (
        rng.normal(size=n_values),
        np.tril(rng.normal(size=(n_values, n_values))) + 2 * np.eye(n_values),
    )
    noise = np.diag(rng.uniform(0.2, 2.0, size=n_values))
    towards = np.linalg.solve(root, np.sqrt(noise))
    spreads, vectors = np.linalg.eigh(towards @ towards.T)
    return mean, root @ root.T, noise, vectors.T @ np.linalg.inv(root), spreads


def level(scale: float, n_rows: int) -> torch.Tensor:
    return torch.full((n_rows, 1), 0.5 * np.log(scale), dtype=torch.float64)


@pytest.fixture
def gaussian(monkeypatch):
    """A density that is exactly the standard normal one, of 3 values."""
    density = TableDensity(MatrixLayout(3), n_extra_context=1, settings=SMALL, seed=0).double()
    normal = torch.distributions.Normal(0.0, 1.0)
    monkeypatch.setattr(density, "log_prob", lambda inputs, context: normal.log_prob(inputs).sum(dim=1))
    return density


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_a_standard_normal_density_becomes_the_noisy_gaussian(gaussian, scale):
    mean, covariance, noise, directions, spreads = spread(3)
    rows = torch.randn(20, 3, dtype=torch.float64) * 3.0
    truth = torch.distributions.MultivariateNormal(
        torch.tensor(mean), torch.tensor(covariance + scale**2 * noise)
    )
    found = NoiseWhitenedDensity(gaussian, mean, directions, spreads).log_prob(rows, level(scale, 20))
    torch.testing.assert_close(found, truth.log_prob(rows))


def test_the_gradient_in_the_rows_is_that_of_finite_differences(shake):
    mean, _, _, directions, spreads = spread(2)
    inner = shake(TableDensity(MatrixLayout(2), n_extra_context=1, settings=SMALL, seed=0))
    density = NoiseWhitenedDensity(inner, mean, directions, spreads)
    rows = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: density.log_prob(x, level(0.7, 6)), rows)


def test_it_integrates_to_one(shake):
    inner = shake(TableDensity(MatrixLayout(1), n_extra_context=1, settings=SMALL, seed=0))
    density = NoiseWhitenedDensity(inner, np.ones(1), np.full((1, 1), 0.5), np.full(1, 2.0))
    grid = torch.linspace(-60.0, 60.0, 24001, dtype=torch.float64)[:, None]
    log_p = density.log_prob(grid, level(1.5, len(grid))).detach()
    assert float(torch.trapezoid(log_p.exp(), grid[:, 0])) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_samples_have_the_density_of_their_own_rows(shake, gated):
    layout = MIXED if gated else MatrixLayout(2)
    inner = shake(TableDensity(layout, n_extra_context=1, settings=SMALL, seed=0))
    directions, spreads = np.diag([0.5, 2.0]), np.array([1.0, 3.0])
    density = NoiseWhitenedDensity(inner, np.array([10.0, -10.0]), directions, spreads)
    context, make = level(0.5, 200), torch.Generator().manual_seed
    rows = density.sample_rows(200, context, make(0))
    whitened = inner.sample_rows(200, context, make(0))
    assert rows.shape == (200, layout.n_columns)
    present = torch.ones(200, 2, dtype=torch.bool)
    if gated:
        present[:, 1] = rows[:, 2] == 0
        assert (rows[~present[:, 1], 1] == 0.0).all()
    growth = 1.0 + 0.25 * torch.tensor(spreads)
    factor = torch.log(torch.tensor([0.5, 2.0]) / growth.sqrt())
    expected = inner.log_prob(whitened, context) + (factor * present).sum(dim=1)
    torch.testing.assert_close(density.log_prob(rows, context), expected)


def test_what_stands_in_an_absent_value_is_not_read(shake):
    inner = shake(TableDensity(MIXED, n_extra_context=1, settings=SMALL, seed=0))
    density = NoiseWhitenedDensity(inner, np.ones(2), np.diag([0.5, 2.0]), np.ones(2))
    one = torch.tensor([[0.3, 0.0, 1.0, 2.0]], dtype=torch.float64)
    two = torch.tensor([[0.3, 9.0, 1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(density.log_prob(one, level(1.0, 1)), density.log_prob(two, level(1.0, 1)))


def test_shapes_that_do_not_fit_are_refused():
    inner = TableDensity(MatrixLayout(2), n_extra_context=1, settings=SMALL, seed=0)
    with pytest.raises(ConfigurationError, match="must be of 2 values; got shapes"):
        NoiseWhitenedDensity(inner, np.zeros(3), np.eye(2), np.ones(2))
    gated = TableDensity(MIXED, n_extra_context=1, settings=SMALL, seed=0)
    with pytest.raises(ConfigurationError, match="directions must be diagonal where values may be absent"):
        NoiseWhitenedDensity(gated, np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones(2))


def test_rows_at_even_points_are_those_of_the_noisy_gaussian():
    mean, covariance, noise, directions, spreads = spread(2)
    inner = TableDensity(MatrixLayout(2), n_extra_context=1, settings=SMALL, seed=0)  # untrained: normal
    density = NoiseWhitenedDensity(inner.double(), mean, directions, spreads)
    points = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(4096, dtype=torch.float64)
    found = density.rows_at(points.clamp(1e-9, 1 - 1e-9), level(2.0, 4096)).numpy()
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(found.T), covariance + 4.0 * noise, rtol=0.02, atol=0.05)
