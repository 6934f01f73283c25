from typing import Any

import pytest
import torch

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import DensityArchitecture, FlowConfig, FlowSettings, TableDensity, build_flow
from flowdetect.flows._build import splits_of

LAYOUT = MatrixLayout(3, cardinalities=(3, 2), gates=(-1, 1))


def density_of(**settings: Any) -> TableDensity:
    shape = FlowSettings(**{"n_layers": 2, "hidden_features": 8, "n_blocks": 1} | settings)
    context = MatrixLayout(1, cardinalities=(4,), gates=(-1,))
    built = TableDensity(
        LAYOUT, context_layout=context, n_extra_context=1, settings=shape, seed=3, smoothing=0.01
    )
    return built.double().eval()


@pytest.mark.parametrize("kind", ["coupling", "autoregressive", "iaf"])
@pytest.mark.parametrize("transform", ["spline", "affine"])
@pytest.mark.parametrize("mixing", ["none", "permutation"])
def test_a_density_is_built_again_from_its_architecture_and_weights(
    kind: str, transform: str, mixing: str
) -> None:
    density = density_of(kind=kind, transform=transform, mixing=mixing)
    architecture = DensityArchitecture.of(density)
    again = DensityArchitecture.from_dict(architecture.to_dict()).build(density.state_dict())
    rows = torch.tensor([[0.3, -1.0, 2.0, 0.0, 1.0], [1.0, 0.0, 0.1, 2.0, 0.0]], dtype=torch.float64)
    context = torch.tensor([[0.5, 3.0, -1.0], [0.1, 0.0, 0.2]], dtype=torch.float64)
    assert torch.equal(again.log_prob(rows, context), density.log_prob(rows, context))
    assert DensityArchitecture.of(again) == architecture


@pytest.mark.parametrize("layout", [MatrixLayout(2), MatrixLayout(0, cardinalities=(3,), gates=(-1,))])
def test_densities_of_one_kind_of_column(layout: MatrixLayout) -> None:
    density = TableDensity(layout, settings=FlowSettings(n_layers=1, hidden_features=4), seed=0).double()
    again = DensityArchitecture.of(density).build(density.state_dict())
    rows = torch.zeros(2, layout.n_columns, dtype=torch.float64)
    assert torch.equal(again.log_prob(rows), density.eval().log_prob(rows))


def test_given_splits_are_taken_as_they_are() -> None:
    config = FlowConfig(3, n_layers=2)
    assert splits_of(build_flow(config, seed=0, splits=[[2], [0, 1]])) == [[2], [0, 1]]


def test_given_orders_of_an_inverse_autoregressive_flow_are_taken_as_they_are() -> None:
    orders = [[2, 0, 1], [0, 1, 2], [1, 2, 0]]
    flow = build_flow(FlowConfig(3, n_layers=3, kind="iaf", mixing="lu"), seed=0, splits=orders)
    assert splits_of(flow) == orders


@pytest.mark.parametrize("splits", [[[0]], [[0], []], [[0], [3]], [[0], [1, 1]], [[0], [1], [2]]])
def test_refuses_splits_that_do_not_fit(splits: list[list[int]]) -> None:
    with pytest.raises(ConfigurationError, match="splits must have 2 entries"):
        build_flow(FlowConfig(3, n_layers=2), seed=0, splits=splits)


def test_refuses_weights_of_another_density() -> None:
    density = density_of()
    state = density.state_dict()
    architecture = DensityArchitecture.of(density)
    with pytest.raises(ConfigurationError, match="absent, or too many"):
        architecture.build({name: weight for name, weight in state.items() if "bias" not in name})
    with pytest.raises(ConfigurationError, match="must be"):
        architecture.build({name: weight.float() for name, weight in state.items()})
