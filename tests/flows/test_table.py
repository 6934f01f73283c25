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


# --- rows near given ones, and values of given codes -------------------------------------------------------


def scales(n: int, value: float) -> torch.Tensor:
    return torch.full((n, 1), value, dtype=torch.float64)


# The middle value is absent where the first code is 1, or the second is not 0.
WIDE = MatrixLayout(3, cardinalities=(2, 3), gates=(1, 1))


def noise_of(density: TableDensity, rows: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
    values, codes = rows.split((density.layout.n_values, density.layout.n_codes), dim=1)
    flow_context = density._flow_context(codes, density._context_vectors(context))
    return density.flow._transform.forward(values, flow_context)[0]


@pytest.mark.parametrize("layout", [MatrixLayout(3), MatrixLayout(0, (3, 4), (-1, -1)), MIXED, WIDE])
@torch.no_grad()
def test_without_noise_rows_are_given_back(layout: MatrixLayout, shake: Callable) -> None:
    density = shake(TableDensity(layout, context_layout=CONTEXT, settings=SMALL, seed=0))
    context = torch.zeros(300, 2).double()
    rows = density.sample_rows(300, context)
    same = density.vary_rows(rows, scales(300, 0.0), context)
    assert same.dtype == torch.float64
    torch.testing.assert_close(same, rows, atol=1e-6, rtol=1e-6)
    moved = density.vary_rows(rows, scales(300, 0.5), context)
    assert not torch.equal(moved, rows)


@torch.no_grad()
def test_noise_mixes_with_that_of_the_row(shake: Callable) -> None:
    density = shake(TableDensity(MatrixLayout(2), settings=SMALL, seed=0))
    n, s = 20_000, 0.6
    rows = density.sample_rows(n)
    varied = density.vary_rows(rows, scales(n, s))
    before, after = noise_of(density, rows), noise_of(density, varied)
    for j in range(2):
        correlation = torch.corrcoef(torch.stack((before[:, j], after[:, j])))[0, 1].item()
        assert correlation == pytest.approx((1 - s**2) ** 0.5, abs=4.5 * s**2 / n**0.5)
        assert after[:, j].mean().item() == pytest.approx(0.0, abs=4.5 / n**0.5)
        assert after[:, j].var().item() == pytest.approx(1.0, abs=4.5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("layout", [MIXED, WIDE])
@pytest.mark.parametrize("s", [0.3, 1.0])
@torch.no_grad()
def test_varied_rows_of_the_model_are_rows_of_the_model(
    layout: MatrixLayout, s: float, shake: Callable
) -> None:
    density = shake(TableDensity(layout, context_layout=CONTEXT, settings=SMALL, seed=0), 0.2)
    n = 10_000
    context = torch.tensor([[0.4, 0.0]]).double().expand(n, -1)
    rows, fresh = (density.sample_rows(n, context, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    varied, same = (
        density.vary_rows(rows, scales(n, s), context, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(varied, same)
    observed = density._observed(varied[:, layout.n_values :]) > 0.5
    assert 0.1 < observed.double().mean() < 0.9
    assert (varied[:, : layout.n_values][~observed] == 0).all()
    noise = noise_of(density, varied, context)
    for j in range(layout.n_values):
        found = noise[observed[:, j], j]
        assert found.mean().item() == pytest.approx(0.0, abs=4.5 / len(found) ** 0.5)
        assert found.var().item() == pytest.approx(1.0, abs=4.5 * (2 / len(found)) ** 0.5)
    for codes in product(*map(range, layout.cardinalities)):
        here = torch.tensor([codes]).double()
        expected = density.code_log_prob(here, context[:1]).exp().item()
        share = (varied[:, layout.n_values :] == here).all(1).double().mean().item()
        assert share == pytest.approx(expected, abs=4.5 * (expected * (1 - expected) / n) ** 0.5)
    levels = [density.log_prob(drawn, context) for drawn in (varied, fresh)]
    spread = (levels[0].var() + levels[1].var()).sqrt().item() / n**0.5
    assert (levels[0].mean() - levels[1].mean()).abs().item() < 4.5 * spread


@torch.no_grad()
def test_a_value_that_appears_is_drawn_and_one_that_was_absent_is_not_read(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.3)
    rows = torch.tensor([[0.0, 1.0, 1.0], [1e9, 1.0, 1.0]]).double().repeat_interleave(500, 0)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    low, high = (
        density.vary_rows(part, scales(500, 1.0), None, generator)
        for part, generator in zip((rows[:500], rows[500:]), generators, strict=True)
    )
    torch.testing.assert_close(low, high)
    appeared = low[low[:, 2] == 0, 0]
    assert len(appeared) > 50
    assert len(appeared.unique()) == len(appeared)
    assert torch.isfinite(low).all()


@torch.no_grad()
def test_values_are_drawn_for_given_codes(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.3)
    codes = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double().repeat_interleave(4000, 0)
    rows, same = (density.draw_values(codes, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(rows, same)
    assert torch.equal(rows[:, 1:], codes)
    assert (rows[4000:, 0] == 0).all()
    noise = noise_of(density, rows)[:4000, 0]
    assert noise.mean().item() == pytest.approx(0.0, abs=4.5 / 4000**0.5)
    assert noise.var().item() == pytest.approx(1.0, abs=4.5 * (2 / 4000) ** 0.5)
    only = TableDensity(MatrixLayout(0, (3,), (-1,)), seed=0)
    assert torch.equal(only.draw_values(codes[:, :1]), codes[:, :1])


def test_refuses_rows_and_context_of_another_width() -> None:
    density = TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0)
    with pytest.raises(ConfigurationError, match=r"inputs must have shape \(n, 3\); got \(2, 4\)"):
        density.vary_rows(torch.zeros(2, 4), torch.ones(2, 1), torch.zeros(2, 2))
    with pytest.raises(ConfigurationError, match="context must have 2 columns, .* got 0"):
        density.vary_rows(torch.zeros(2, 3), torch.ones(2, 1))


@pytest.mark.parametrize("base", ["normal", "diagonal"])
@torch.no_grad()
def test_rows_at_points_of_the_cube_have_the_density(base: str, shake: Callable) -> None:
    settings = FlowSettings(n_layers=2, hidden_features=12, base=base)
    density = shake(TableDensity(MIXED, context_layout=CONTEXT, settings=settings, seed=0), 0.2)
    context = torch.tensor([[0.4, 0.0]]).double().expand(400, -1)
    uniforms = (torch.arange(400).double() + 0.5) / 400
    rows = density.rows_at(uniforms[:, None].expand(-1, 3).contiguous(), context)
    # The first code sees the points themselves, so each of its codes takes its probability of them.
    for code in range(3):
        given = torch.tensor([[code, 0.0], [code, 1.0]]).double()
        share = density.code_log_prob(given, context[:2]).exp().sum().item()
        assert (rows[:, 1] == code).double().mean().item() == pytest.approx(share, abs=0.005)
    assert (rows[rows[:, 2] == 1, 0] == 0).all()
    # Back through the flow: the noise is the normal quantile of the point.
    seen = rows[:, 2] == 0
    flow_context = density._flow_context(rows[:, 1:], density._context_vectors(context))
    noise = density.flow._transform(rows[:, :1], flow_context)[0]
    if base == "normal":
        torch.testing.assert_close(torch.special.ndtr(noise[seen, 0]), uniforms[seen], atol=1e-7, rtol=0.0)


def test_independent_points_give_the_rows_of_the_density(shake: Callable) -> None:
    density = shake(TableDensity(MIXED, settings=SMALL, seed=0), 0.2)
    uniforms = torch.rand(20_000, 3, dtype=torch.float64)
    rows, drawn = density.rows_at(uniforms), density.sample_rows(20_000)
    for part in (lambda r: r.mean(0), lambda r: r.square().mean(0), lambda r: (r[:, :1] * r[:, 1:]).mean(0)):
        torch.testing.assert_close(part(rows), part(drawn), atol=0.05, rtol=0.0)
    only_codes = TableDensity(MatrixLayout(0, (2, 3), (-1, -1)), settings=SMALL, seed=0)
    assert only_codes.rows_at(torch.tensor([[0.1, 0.9], [0.6, 0.4]])).tolist() == [[0.0, 2.0], [1.0, 1.0]]


def test_points_and_context_must_fit() -> None:
    density = TableDensity(MIXED, context_layout=CONTEXT, settings=SMALL, seed=0)
    with pytest.raises(ConfigurationError, match=r"inputs must have shape \(n, 3\); got \(4, 2\)"):
        density.rows_at(torch.rand(4, 2), torch.zeros(4, 2))
    with pytest.raises(ConfigurationError, match="one row per row to draw; got 3 rows for n_rows=4"):
        density.rows_at(torch.rand(4, 3), torch.zeros(3, 2))
