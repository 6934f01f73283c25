from collections.abc import Callable
from itertools import product

import pytest
import torch

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import CodeEmbedding, FlowConfig, FlowSettings, TableDensity, build_flow

SMALL = FlowSettings(n_layers=3, hidden_features=12)
MIXED = MatrixLayout(1, cardinalities=(3, 2), gates=(-1, 0))
CONTEXT = MatrixLayout(1, cardinalities=(2,), gates=(0,))


def column(value: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, value)


def test_without_codes_it_is_the_bare_flow() -> None:
    rows = torch.randn(6, 3)
    density = TableDensity(MatrixLayout(3), settings=SMALL, seed=5)
    flow = build_flow(FlowConfig(3, n_layers=3, hidden_features=12), seed=5)
    assert torch.equal(density.log_prob(rows), flow.log_prob(rows))
    assert (density.log_prob_parts(rows)[1] == 0).all()


def test_discrete_only_sums_to_one(shake: Callable) -> None:
    density = shake(TableDensity(MatrixLayout(0, (3, 2, 2), (-1, -1, -1)), settings=SMALL, seed=0), 0.5)
    rows = torch.tensor(list(product(range(3), range(2), range(2))), dtype=torch.float64)
    assert density.log_prob(rows).exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert density.sample_rows(4).shape == (4, 3)


@pytest.mark.parametrize("with_context", [False, True])
@torch.no_grad()
def test_mixed_table_sums_and_integrates_to_one(with_context: bool, shake: Callable) -> None:
    made = {"context_layout": CONTEXT, "n_extra_context": 1} if with_context else {}
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0, **made), 0.1)
    axis = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    context = torch.tensor([[0.3, 0.0, -1.0]]).double() if with_context else None
    total = 0.0
    for code in range(3):
        rows = torch.stack((axis, column(code, axis), column(0, axis)), dim=1)
        here = None if context is None else context.expand(len(rows), -1)
        total += torch.trapezoid(density.log_prob(rows, here).exp(), axis).item()
        total += density.log_prob(torch.tensor([[0.0, code, 1.0]]).double(), context).exp().item()
    assert total == pytest.approx(1.0, abs=1e-3)


def test_absent_value_is_not_read_and_codes_reach_the_values(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0))
    rows = torch.tensor([[0.0, 1, 1], [9.0, 1, 1], [0.4, 1, 0], [0.4, 2, 0]]).double()
    values, codes = density.log_prob_parts(rows)
    assert values[0] == values[1] == 0.0
    assert values[2] != values[3]
    torch.testing.assert_close(values + codes, density.log_prob(rows))


def test_every_context_column_matters(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, context_layout=CONTEXT, n_extra_context=1, settings=SMALL, seed=0))
    rows = torch.tensor([[0.4, 1, 0]]).double()
    contexts = [[0.5, 0, 0.1], [0.6, 0, 0.1], [0.5, 1, 0.1], [0.5, 0, 0.2]]
    parts = [density.log_prob_parts(rows, torch.tensor([c]).double()) for c in contexts]
    assert len({values.item() for values, _ in parts}) == 4
    assert len({codes.item() for _, codes in parts}) == 4


def test_samples_are_rows_of_the_layout(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0), dtype=torch.float32)
    context = torch.zeros(200, 2)
    one, same = (density.sample_rows(200, context, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, same)
    assert set(one[:, 1].tolist()) <= {0.0, 1.0, 2.0} and set(one[:, 2].tolist()) == {0.0, 1.0}
    assert (one[one[:, 2] == 1, 0] == 0).all() and (one[one[:, 2] == 0, 0] != 0).all()
    assert torch.isfinite(density.log_prob(one, context)).all()
    assert density.sample(3, context[:5]).shape == (5, 3, 3)


def test_gradient_reaches_every_parameter_and_double_scores_alike(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0), dtype=torch.float32)
    rows, context = density.sample_rows(50, torch.zeros(50, 2)), torch.zeros(50, 2)
    context[::2, 1], context[1::2, 0] = 1.0, 0.5
    log_prob = density.log_prob(rows, context)
    log_prob.sum().backward()
    unreached = [
        name for name, p in density.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ]
    assert not unreached
    torch.testing.assert_close(
        density.double().log_prob(rows.double(), context.double()).float(), log_prob, atol=1e-3, rtol=1e-3
    )


def test_code_that_is_not_valid_gives_nan(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0))
    rows = torch.tensor([[0.4, 1, 0], [0.4, 3, 0], [0.4, 1, 0]]).double()
    context = torch.tensor([[0.1, 0], [0.1, 0], [0.1, 2]]).double()
    assert torch.isnan(density.log_prob(rows, context)).tolist() == [False, True, True]


@pytest.mark.parametrize("sizes", [(1,), (1, 1)])
def test_constant_codes_change_nothing(sizes: tuple[int, ...]) -> None:
    layout = MatrixLayout(2, sizes, (-1,) * len(sizes))
    density = TableDensity(layout, settings=SMALL, seed=5)
    rows = torch.cat((torch.randn(4, 2), torch.zeros(4, len(sizes))), dim=1)
    bare = TableDensity(MatrixLayout(2), settings=SMALL, seed=5)
    assert torch.equal(density.log_prob(rows), bare.log_prob(rows[:, :2]))
    assert CodeEmbedding(sizes)(rows[:, 2:]).shape == (4, 0)


def test_start_is_the_marginals_and_the_global_stream_rests() -> None:
    state = torch.random.get_rng_state()
    density = TableDensity(
        MatrixLayout(1, (2,), (-1,)), settings=SMALL, seed=0, marginals=[[9, 1]], smoothing=0.0
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    _, codes = density.log_prob_parts(torch.tensor([[0.0, 1.0]]))
    assert codes.exp().item() == pytest.approx(0.1, abs=1e-4)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigurationError, match="layout must have at least one column"):
        TableDensity(MatrixLayout(0), seed=0)
    with pytest.raises(ConfigurationError, match="mixing must not be 'lu' in a masked flow"):
        TableDensity(MIXED, settings=FlowSettings(mixing="lu"), seed=0)
    density = TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0)
    with pytest.raises(ConfigurationError, match=r"inputs must have shape \(n, 3\); got \(2, 4\)"):
        density.log_prob(torch.zeros(2, 4), torch.zeros(2, 2))
    with pytest.raises(ConfigurationError, match="context must have 2 columns, .* got 0"):
        density.log_prob(torch.zeros(2, 3))
    with pytest.raises(ConfigurationError, match="got 2 rows for n_rows=3"):
        density.sample_rows(3, torch.zeros(2, 2))
