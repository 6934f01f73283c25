from collections.abc import Callable
from itertools import product

import pytest
import torch

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import AutoregressiveCategorical
from flowdetect.flows._draws import codes_at

SIZES = [3, 1, 2, 4]


def states(sizes: list[int]) -> torch.Tensor:
    return torch.tensor(list(product(*map(range, sizes))), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n_context", [0, 2])
def test_probabilities_sum_to_one(smoothing: float, n_context: int, shake: Callable) -> None:
    model = shake(AutoregressiveCategorical(SIZES, n_context=n_context, smoothing=smoothing), 0.5)
    rows = states(SIZES)
    context = torch.tensor([[0.3, -2.0]]).double().expand(len(rows), -1) if n_context else None
    log_prob = model.log_prob(rows, context)
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert log_prob.std() > 0.1
    columns = model.log_prob_columns(rows, context)
    torch.testing.assert_close(columns.sum(1), log_prob)
    assert (columns[:, 1] == 0).all() and (columns <= 0).all()


def test_each_column_sees_those_before_it_alone(shake: Callable) -> None:
    model = shake(AutoregressiveCategorical([3, 2, 4, 3], hidden_features=8), 0.8)
    base = torch.zeros(1, 4).double()
    for column in range(4):
        moved = base.clone()
        moved[0, column] = 1.0
        change = (model.log_prob_columns(moved) - model.log_prob_columns(base))[0]
        assert (change[:column] == 0).all() and (change[column:] != 0).all()


def test_samples_follow_the_probabilities(shake: Callable) -> None:
    model = shake(AutoregressiveCategorical(SIZES, n_context=1, smoothing=0.05), 0.6)
    rows = states(SIZES)
    context = torch.ones(20_000, 1).double()
    with torch.no_grad():
        one, same = (
            model.draw(20_000, context, generator=torch.Generator().manual_seed(1)) for _ in range(2)
        )
        expected = model.log_prob(rows, context[: len(rows)]).exp()
    found = torch.stack([(one == row).all(1).double().mean() for row in rows])
    assert torch.equal(one, same)
    assert (found - expected).abs().max() < 4.5 * (0.25 / 20_000) ** 0.5


@pytest.mark.parametrize("bad", [3.0, -1.0, 0.5, float("nan"), float("inf"), 1e30])
def test_codes_out_of_range_give_nan_for_their_row(bad: float, shake: Callable) -> None:
    model = shake(AutoregressiveCategorical(SIZES))
    rows = torch.zeros(3, 4, dtype=torch.float64)
    expected = model.log_prob(rows)
    rows[1, 0] = bad
    found = model.log_prob(rows)
    assert torch.isnan(found[1])
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_code_out_of_range_in_a_constant_column() -> None:
    for sizes in ([1, 1], [1, 2]):
        found = AutoregressiveCategorical(sizes).log_prob(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        assert torch.isnan(found).tolist() == [False, True]


def test_starts_at_the_marginals() -> None:
    model = AutoregressiveCategorical([2, 3, 2], marginals=[[3, 1], [1, 1, 2], [0, 5]], smoothing=0.0)
    rows = torch.tensor([[0, 2, 1], [1, 0, 1], [0, 0, 0]])
    found = model.log_prob(rows).exp()
    torch.testing.assert_close(found[:2], torch.tensor([0.375, 0.0625]), atol=1e-5, rtol=1e-4)
    assert 0 < found[2] < 1e-5


def test_starts_uniform_without_marginals() -> None:
    model = AutoregressiveCategorical([2, 5])
    torch.testing.assert_close(model.log_prob(torch.zeros(1, 2)).exp(), torch.tensor([0.1]))


def test_many_columns_and_large_cardinalities() -> None:
    sizes = [2] * 195 + [1000] * 5
    model = AutoregressiveCategorical(sizes, hidden_features=32, n_blocks=1)
    rows = torch.zeros(16, 200)
    rows[:, -1] = 999.0
    model.log_prob(rows).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.draw(2).shape == (2, 200)


def test_learns_a_dependence() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(3, (600,), generator=generator)
    rows = torch.stack((first, (first == 1).long(), torch.randint(2, (600,), generator=generator)), dim=1)
    model = AutoregressiveCategorical([3, 2, 2], hidden_features=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        (-model.log_prob(rows).mean()).backward()
        optimizer.step()
    entropy = torch.log(torch.tensor(6.0))
    assert -model.log_prob(rows).mean().item() == pytest.approx(entropy.item(), abs=0.03)


def test_nflows_way_of_sampling() -> None:
    assert AutoregressiveCategorical([2, 3]).sample(4).shape == (4, 2)
    assert AutoregressiveCategorical([2, 3], n_context=1).sample(4, torch.zeros(5, 1)).shape == (5, 4, 2)
    assert AutoregressiveCategorical([1]).sample(4).tolist() == [[0.0]] * 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"cardinalities": []}, "cardinalities must hold at least one number"),
        ({"cardinalities": [2, 0]}, r"each at least 1; got \(2, 0\)"),
        ({"smoothing": 1.0}, r"smoothing must lie in \[0, 1\); got 1\.0"),
        ({"marginals": [[1, 1]]}, r"marginals must hold one frequency per code .* got lengths \(2,\)"),
        ({"marginals": [[1, 1], [0, 0, 0]]}, "marginals must be non-negative with a positive, finite sum"),
        ({"marginals": [[1, -1], [1, 1, 1]]}, "marginals must be non-negative"),
    ],
)
def test_refuses_what_does_not_fit(kwargs: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AutoregressiveCategorical(**{"cardinalities": [2, 3], **kwargs})


# --- draws near given rows ---------------------------------------------------------------------------------


def largest_deviation(found: torch.Tensor, expected: torch.Tensor, rows: torch.Tensor) -> float:
    """Return how far the share of any row is off, in its own binomial standard deviations."""
    shares = torch.stack([(found == row).all(1).double().mean() for row in rows])
    return ((shares - expected).abs() / (expected * (1.0 - expected) / len(found)).sqrt()).max().item()


@pytest.mark.parametrize("noise_scale", [0.0, 0.3, 1.0])
@torch.no_grad()
def test_rows_near_rows_of_the_model_are_rows_of_the_model(noise_scale: float, shake: Callable) -> None:
    model = shake(AutoregressiveCategorical(SIZES, n_context=1, smoothing=0.2), 0.2)
    rows, n = states(SIZES), 20_000
    context = torch.ones(n, 1).double()
    expected = model.log_prob(rows, context[: len(rows)]).exp()
    assert 20 / n < expected.min() and expected.max() < 0.4
    start = model.draw(n, context, generator=torch.Generator().manual_seed(1))
    near, same = (
        model.draw_near(
            start,
            torch.full((n, 1), noise_scale).double(),
            context,
            generator=torch.Generator().manual_seed(2),
        )
        for _ in range(2)
    )
    assert torch.equal(near, same)
    assert near.dtype == torch.float64
    assert largest_deviation(near, expected, rows) < 4.5
    kept = (near == start).double().mean(0)
    free = (near == start.roll(1, 0)).double().mean(0)
    if noise_scale == 0.0:
        assert torch.equal(near, start)
    elif noise_scale == 1.0:
        torch.testing.assert_close(kept, free, atol=4.5 * 0.5 * (2 / n) ** 0.5, rtol=0.0)
    else:
        # The first column stays unless it is drawn anew; the others may also follow those before them.
        chance = free[0].item()
        assert kept[0].item() == pytest.approx(0.7 + 0.3 * chance, abs=4.5 * 0.5 / n**0.5)
        assert (kept[[2, 3]] > free[[2, 3]] + 0.2).all()


@torch.no_grad()
def test_each_row_has_its_own_noise_scale(shake: Callable) -> None:
    model = shake(AutoregressiveCategorical([4, 5]), 0.6)
    start = model.double().draw(2000)
    scale = torch.arange(2000).remainder(2).double()[:, None]
    near = model.draw_near(start, scale)
    assert torch.equal(near[::2], start[::2])
    assert (near[1::2] != start[1::2]).any(1).double().mean() > 0.5


@torch.no_grad()
def test_rows_that_the_model_finds_impossible_are_left_for_possible_ones() -> None:
    model = AutoregressiveCategorical([3, 2], marginals=[[1, 1, 0], [1, 3]], smoothing=0.0).double()
    start = torch.tensor([[2.0, 0.0]]).double().expand(8000, -1)
    near = model.draw_near(start, torch.ones(8000, 1).double())
    assert (near[:, 0] == 2).double().mean() < 1e-3
    assert (near[:, 0] == 1).double().mean() == pytest.approx(0.5, abs=4.5 * 0.5 / 8000**0.5)
    assert near[:, 1].mean().item() == pytest.approx(0.75, abs=4.5 * (3 / 16 / 8000) ** 0.5)


def test_constant_columns_stay_near_themselves() -> None:
    zeros = torch.zeros(5, 2).double()
    assert torch.equal(AutoregressiveCategorical([1, 1]).draw_near(zeros, torch.ones(5, 1)), zeros)
    mixed = AutoregressiveCategorical([1, 3]).double()
    assert (mixed.draw_near(zeros, torch.ones(5, 1).double())[:, 0] == 0).all()


def test_codes_at_are_quantiles() -> None:
    shares = torch.tensor([0.25, 0.25, 0.5]).expand(6, -1)
    uniforms = torch.tensor([0.0, 0.2, 0.25, 0.49, 0.5, 1.0])
    assert codes_at(shares, uniforms).tolist() == [0, 0, 1, 1, 2, 2]
    assert AutoregressiveCategorical([1, 1]).rows_at(torch.rand(2, 2)).tolist() == [[0.0, 0.0]] * 2
