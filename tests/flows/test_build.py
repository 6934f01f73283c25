import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product

import pytest
import torch
from nflows.flows import Flow

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import FlowConfig, build_flow, sample_flow
from flowdetect.flows._build import _splits

SMALL = {"n_layers": 3, "hidden_features": 12}
KINDS = list(product(["coupling", "autoregressive", "iaf"], ["spline", "affine"]))


def grid(n_points: int, n_features: int, reach: float = 7.0) -> tuple[torch.Tensor, float]:
    axis = torch.linspace(-reach, reach, n_points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * n_features).reshape(-1, n_features), float(axis[1] - axis[0])


@pytest.mark.parametrize(("kind", "transform"), KINDS)
@pytest.mark.parametrize("mixing", ["none", "permutation", "lu"])
@pytest.mark.parametrize("n_context", [0, 2])
@torch.no_grad()
def test_integrates_to_one_in_one_and_two_dimensions(
    kind: str, transform: str, mixing: str, n_context: int, shake: Callable
) -> None:
    for n_features, n_points in ((1, 4001), (2, 181)):
        config = FlowConfig(n_features, n_context, kind=kind, transform=transform, mixing=mixing, **SMALL)
        flow = shake(build_flow(config, seed=1), 0.08)
        rows, step = grid(n_points, n_features)
        context = torch.tensor([[0.7, -1.2]]).double().expand(len(rows), -1) if n_context else None
        total = flow.log_prob(rows, context).exp().sum() * step**n_features
        assert total == pytest.approx(1.0, abs=3e-3)


@pytest.mark.parametrize(("kind", "transform"), KINDS)
@pytest.mark.parametrize("base", ["normal", "diagonal"])
@torch.no_grad()
def test_masked_flow_is_a_density_of_what_is_observed(
    kind: str, transform: str, base: str, shake: Callable
) -> None:
    config = FlowConfig(3, 1, masked=True, kind=kind, transform=transform, base=base, **SMALL)
    flow = shake(build_flow(config, seed=1), 0.08)
    seen, step = grid(181, 2)
    rows = torch.stack((seen[:, 0], torch.full_like(seen[:, 0], torch.nan), seen[:, 1]), dim=1)
    context = torch.tensor([[1.0, 0.0, 1.0, 0.4]]).double().expand(len(rows), -1)
    log_density = flow.log_prob(rows, context)
    assert log_density.exp().sum() * step**2 == pytest.approx(1.0, abs=3e-3)
    # What stands at an unobserved feature is not read: NaN above, another number here.
    rows[:, 1] = 5.0
    assert torch.equal(flow.log_prob(rows, context), log_density)
    context = torch.tensor([[0.0, 0.0, 0.0, 0.4]]).double()
    assert flow.log_prob(rows[:1], context) == 0.0


@torch.no_grad()
def test_masked_flow_samples_zero_where_nothing_is_observed(shake: Callable) -> None:
    flow = shake(build_flow(FlowConfig(3, masked=True, **SMALL), seed=1))
    observed = torch.tensor([[1.0, 0.0, 1.0]] * 5).double()
    rows = sample_flow(flow, 5, context=observed)
    assert (rows[:, 1] == 0).all() and (rows[:, [0, 2]] != 0).all()


@pytest.mark.parametrize(("kind", "transform"), KINDS)
def test_recovers_a_gaussian(kind: str, transform: str) -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    truth = torch.distributions.MultivariateNormal(torch.tensor([0.5, -0.5]), scale_tril=root)
    rows = torch.randn(4000, 2, generator=generator) @ root.T + truth.mean
    config = FlowConfig(2, kind=kind, transform=transform, n_layers=2, hidden_features=16, n_bins=6)
    flow = build_flow(config, seed=0)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    n_steps = 80 if kind == "iaf" else 150  # whose density takes a pass for each feature
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1.0 - step / n_steps)
        batch = rows[torch.randint(3000, (512,), generator=generator)]
        optimizer.zero_grad()
        (-flow.log_prob(batch).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        gap = truth.log_prob(rows[3000:]) - flow.log_prob(rows[3000:])
    assert abs(gap.mean()) < 0.04
    assert gap.abs().median() < 0.12


def test_is_an_nflows_flow_that_starts_at_its_base() -> None:
    flow = build_flow(FlowConfig(3), seed=0)
    rows = torch.randn(5, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(rows).sum(1)
    assert isinstance(flow, Flow)
    torch.testing.assert_close(flow.log_prob(rows), expected, atol=0.15, rtol=0.0)


def test_seed_decides_and_the_global_stream_rests() -> None:
    config, state = FlowConfig(4, **SMALL), torch.random.get_rng_state()
    one, same, other = (build_flow(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("n_features", [2, 3, 16, 43])
def test_splits_part_every_pair_and_transform_every_feature(n_features: int) -> None:
    masks = torch.stack(_splits(FlowConfig(n_features, n_layers=12), torch.Generator().manual_seed(0)))
    assert (masks[:2].sum(0) == 1).all()
    parted = (masks[:, :, None] ^ masks[:, None, :]).any(0)
    assert parted[~torch.eye(n_features, dtype=torch.bool)].float().mean() > 0.98


def test_without_mixing_one_split_alternates() -> None:
    splits = _splits(FlowConfig(6, n_layers=5, mixing="none"), torch.Generator().manual_seed(0))
    assert all(torch.equal(splits[i], splits[i + 2]) for i in range(3))
    assert torch.equal(splits[0], ~splits[1])


@pytest.mark.parametrize("n_context", [0, 2])
def test_samples_follow_the_density(n_context: int, shake: Callable) -> None:
    flow = shake(build_flow(FlowConfig(1, n_context, **SMALL), seed=1), 0.3)
    context = torch.ones(20_000, n_context).double() if n_context else None
    with torch.no_grad():
        rows = sample_flow(flow, 20_000, context=context, generator=torch.Generator().manual_seed(0))
        axis, step = grid(4001, 1)
        here = None if context is None else context[:4001]
        mean = (flow.log_prob(axis, here).exp() * axis[:, 0]).sum() * step
    assert rows.mean().item() == pytest.approx(mean.item(), abs=0.05)


def test_nflows_way_of_sampling() -> None:
    flow = build_flow(FlowConfig(2, 1, **SMALL), seed=0)
    assert flow.sample(3, torch.zeros(4, 1)).shape == (4, 3, 2)


def test_config_survives_json() -> None:
    config = FlowConfig(3, n_context=2, masked=True, tail_bound=3.0)
    assert FlowConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert config.context_width == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 0}, "n_features must be a whole number of at least 1; got 0"),
        ({"n_features": 2.0}, r"n_features must be a whole number of at least 1; got 2\.0"),
        ({"n_context": -1}, "n_context must be a whole number of at least 0; got -1"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1; got 0"),
        ({"n_bins": 1}, r"n_bins must be a whole number, within 2\.\.500; got 1"),
        ({"hidden_features": True}, "hidden_features must be a whole number"),
        ({"kind": "planar"}, "kind must be one of .* got 'planar'"),
        ({"transform": "cubic"}, "transform must be one of .* got 'cubic'"),
        ({"mixing": "svd"}, "mixing must be one of .* got 'svd'"),
        ({"conditioner": "mlp"}, "conditioner must be one of .* got 'mlp'"),
        ({"activation": "gelu"}, "activation must be one of .* got 'gelu'"),
        ({"base": "uniform"}, "base must be one of .* got 'uniform'"),
        ({"tail_bound": float("nan")}, "tail_bound must be positive and finite; got nan"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\); got 1\.0"),
        ({"masked": True, "mixing": "lu"}, "mixing must not be 'lu' in a masked flow"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FlowConfig(**{"n_features": 2, **settings})


def test_masked_flow_asks_for_its_indicator() -> None:
    flow = build_flow(FlowConfig(2, masked=True), seed=0)
    with pytest.raises(ConfigurationError, match="context must start with the observed indicator"):
        flow.log_prob(torch.zeros(1, 2))


def test_building_in_threads_is_reproducible_and_leaves_the_global_stream() -> None:
    config = FlowConfig(3, n_layers=2, hidden_features=8)
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        flows = list(pool.map(lambda _: build_flow(config, seed=5), range(12)))
    assert torch.equal(before, torch.random.get_rng_state())
    first = flows[0].state_dict()
    for flow in flows[1:]:
        assert all(torch.equal(value, first[name]) for name, value in flow.state_dict().items())
