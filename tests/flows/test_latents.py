from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import FlowSettings, TableDensity, latents_to_rows, rows_to_latents

SMALL = FlowSettings(n_layers=2, hidden_features=12, n_bins=5)
CODES = MatrixLayout(0, (3, 1, 2), (-1, -1, -1))
MIXED = MatrixLayout(2, cardinalities=(3, 2), gates=(-1, 0))
CONTEXT = MatrixLayout(1, cardinalities=(2,), gates=(0,))


def states(*sizes: int) -> Tensor:
    return torch.tensor(list(product(*map(range, sizes))), dtype=torch.float64)


def mixed_rows(n_rows: int) -> Tensor:
    codes = states(3, 2).repeat(n_rows // 6 + 1, 1)[:n_rows]
    values = torch.randn(n_rows, 2, dtype=torch.float64)
    return torch.cat((values, codes), dim=1)


def present(rows: Tensor) -> Tensor:
    """Return mixed rows with 0 where a value is absent."""
    return torch.cat((torch.where(rows[:, 3:] == 0, rows[:, :1], 0.0), rows[:, 1:]), dim=1)


def test_codes_own_the_intervals_of_their_distribution_function() -> None:
    layout = MatrixLayout(0, (4,), (-1,))
    density = TableDensity(layout, seed=0, smoothing=0.0, marginals=[[1, 4, 3, 2]]).double()
    found = rows_to_latents(density, states(4)).ravel()
    assert found.numpy() == pytest.approx(stats.norm.ppf([0.05, 0.3, 0.65, 0.9]), abs=1e-5)
    quarter = torch.full((4, 1), 0.25, dtype=torch.float64)
    found = rows_to_latents(density, states(4), positions=quarter).ravel()
    assert found.numpy() == pytest.approx(stats.norm.ppf([0.025, 0.2, 0.575, 0.85]), abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_intervals_are_conditional_on_the_codes_before(smoothing: float, shake: Callable) -> None:
    density = shake(TableDensity(CODES, settings=SMALL, seed=0, smoothing=smoothing), 0.3)
    rows = states(3, 1, 2)
    with torch.no_grad():
        p = density.log_prob(rows).exp().reshape(3, 2).numpy()
    first, second = p.sum(axis=1), p / p.sum(axis=1, keepdims=True)
    middles = [
        np.repeat(first.cumsum() - first / 2, 2),
        np.full(6, 0.5),
        (second.cumsum(1) - second / 2).ravel(),
    ]
    found = rows_to_latents(density, rows).numpy()
    np.testing.assert_allclose(stats.norm.cdf(found), np.column_stack(middles), rtol=1e-9)
    assert second.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("place", [1e-6, 0.5, 1 - 1e-6])
@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
@pytest.mark.parametrize("with_context", [False, True])
def test_rows_come_back(place: float, kind: str, with_context: bool, shake: Callable) -> None:
    made = {"context_layout": CONTEXT, "n_extra_context": 1} if with_context else {}
    settings = FlowSettings(kind=kind, n_layers=2, hidden_features=12, n_bins=5)
    density = shake(TableDensity(MIXED, settings=settings, seed=0, **made), 0.3)
    rows = mixed_rows(24)
    context = torch.tensor([[0.3, 0.0, -1.0], [0.0, 1.0, 2.0]]).double().repeat(12, 1)
    given = context if with_context else None
    latents = rows_to_latents(density, rows, given, positions=torch.full_like(rows, place))
    back = latents_to_rows(density, latents, given)
    torch.testing.assert_close(back, present(rows), atol=1e-8, rtol=1e-8)
    assert latents.dtype == torch.float64
    if with_context:
        assert not torch.allclose(rows_to_latents(density, rows, context.flip(0)), latents)


def test_rare_codes_among_many_come_back() -> None:
    shares = np.r_[1.0, np.full(998, 1e-7), 1.0]
    layout = MatrixLayout(0, (1000,), (-1,))
    density = TableDensity(layout, seed=0, smoothing=1e-9, marginals=[shares]).double()
    rows = states(1000)
    for place in (1e-6, 0.5, 1 - 1e-6):
        latents = rows_to_latents(density, rows, positions=torch.full_like(rows, place))
        assert torch.equal(latents_to_rows(density, latents), rows)
        assert (latents.diff(dim=0) > 0).all()


def test_tails_keep_their_digits() -> None:
    layout = MatrixLayout(0, (3,), (-1,))
    rare = 1e-11
    density = TableDensity(layout, seed=0, smoothing=3 * rare, marginals=[[0, 1, 0]]).double()
    density.codes.network.final_layer.bias.data = torch.tensor([-100.0, 0.0, -100.0]).double()
    rows = states(3)
    found = rows_to_latents(density, rows).ravel().numpy()
    assert found == pytest.approx([stats.norm.ppf(rare / 2), 0.0, -stats.norm.ppf(rare / 2)], rel=1e-6)
    assert torch.equal(latents_to_rows(density, torch.from_numpy(found[:, None])), rows)


def test_latents_of_rows_from_the_model_are_jointly_normal(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.3)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    rows = density.sample_rows(4000, generator=generator)
    latents = rows_to_latents(density, rows, positions=torch.from_numpy(rng.random(rows.shape))).numpy()
    directions = np.vstack([np.eye(4), np.ones(4) / 2, [0.6, 0.0, -0.8, 0.0], [0.0, 0.6, 0.0, 0.8]])
    assert min(stats.kstest(latents @ along, "norm").pvalue for along in directions) > 1e-3
    # Products see what projections do not: size depending on another latent.
    squares = np.corrcoef((latents**2).T)[np.triu_indices(4, 1)]
    assert np.abs(squares).max() < 4.5 / np.sqrt(4000)


def test_normal_latents_become_rows_from_the_model(shake: Callable) -> None:
    density = shake(TableDensity(CODES, settings=SMALL, seed=0), 0.6)
    latents = torch.from_numpy(np.random.default_rng(0).normal(size=(20_000, 3)))
    drawn = latents_to_rows(density, latents)
    rows = states(3, 1, 2)
    with torch.no_grad():
        expected = density.log_prob(rows).exp()
    found = torch.stack([(drawn == row).all(1).double().mean() for row in rows])
    assert (found - expected).abs().max() < 4.5 * (0.25 / 20_000) ** 0.5


def test_what_stands_for_an_absent_value_is_not_read(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.3)
    rows = torch.tensor([[0.0, 0.4, 1, 1], [9.0, 0.4, 1, 1]]).double()
    latents = rows_to_latents(density, rows)
    torch.testing.assert_close(latents[0], latents[1], atol=1e-12, rtol=1e-12)
    assert (latents[:, 0] == 0.0).all()
    moved = rows_to_latents(density, rows, positions=torch.full_like(rows, 0.9))
    assert moved[:, 0].numpy() == pytest.approx(stats.norm.ppf(0.9))
    torch.testing.assert_close(moved[:, 1], latents[:, 1], atol=1e-12, rtol=1e-12)
    back = latents_to_rows(density, torch.cat((moved[:, :2], latents[:, 2:]), dim=1))
    torch.testing.assert_close(back, torch.tensor([[0.0, 0.4, 1, 1]]).double().expand(2, -1))


@pytest.mark.parametrize("size", [9.0, 40.0, 1e30, 1e300])
def test_far_latents_have_rows(size: float, shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.3)
    rows = latents_to_rows(density, torch.tensor([[size] * 4, [-size] * 4, [0, size, -size, -size]]).double())
    assert torch.isfinite(rows).all()
    assert rows[:, 2].tolist() == [2.0, 0.0, 0.0] and rows[:, 3].tolist() == [1.0, 0.0, 0.0]


def test_a_base_that_is_not_standard_is_refused() -> None:
    settings = FlowSettings(n_layers=2, hidden_features=8, base="diagonal")
    density = TableDensity(MatrixLayout(2), settings=settings, seed=0).double()
    for function in (rows_to_latents, latents_to_rows):
        with pytest.raises(ConfigurationError, match="base must be 'normal' .* got 'diagonal'"):
            function(density, torch.zeros(1, 2).double())


def test_widths_are_checked() -> None:
    density = TableDensity(MIXED, settings=SMALL, seed=0).double()
    for function in (rows_to_latents, latents_to_rows):
        with pytest.raises(ConfigurationError, match=r"inputs must have shape \(n, 4\); got \(1, 3\)"):
            function(density, torch.zeros(1, 3).double())
        with pytest.raises(ConfigurationError, match="context must have 0 columns"):
            function(density, torch.zeros(1, 4).double(), torch.zeros(1, 1).double())


def test_no_gradient_is_kept(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0))
    assert not rows_to_latents(density, mixed_rows(6)).requires_grad
    assert not latents_to_rows(density, mixed_rows(6)).requires_grad
