"""Defects of nflows 0.14 that must not exist here."""

import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from flowdetect.flows import (
    AffineAutoregressive,
    FlowConfig,
    LULinear,
    MaskedNetwork,
    SplineAutoregressive,
    build_flow,
    rational_quadratic_spline,
)

CONFIGS = [
    FlowConfig(3, 2, n_layers=2, hidden_features=12, kind=kind, transform=transform, mixing=mixing)
    for kind in ("coupling", "autoregressive")
    for transform in ("spline", "affine")
    for mixing in ("permutation", "lu")
]


class LogProb(nn.Module):
    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, inputs: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.flow.log_prob(inputs, context)


@pytest.mark.parametrize("config", CONFIGS[::2], ids=lambda c: f"{c.kind}-{c.transform}")
def test_exports(config: FlowConfig, shake: Callable) -> None:
    module = LogProb(shake(build_flow(config, seed=0), dtype=torch.float32)).eval()
    example = torch.randn(6, 3), torch.randn(6, 2)
    rows = torch.export.Dim("rows", min=2, max=4096)
    exported = torch.export.export(module, example, dynamic_shapes=({0: rows}, {0: rows}))
    inputs, context = 3.0 * torch.randn(11, 3), torch.randn(11, 2)
    torch.testing.assert_close(exported.module()(inputs, context), module(inputs, context))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{c.transform}-{c.mixing}")
def test_nothing_depends_on_the_values(config: FlowConfig) -> None:
    # Meta tensors have no values: what reads one (.item(), .any() in an if, a boolean index) raises.
    flow = build_flow(config, seed=0).to("meta")
    inputs, context = torch.empty(5, 3, device="meta"), torch.empty(5, 2, device="meta")
    flow.log_prob(inputs, context).sum().backward()
    assert flow._transform.inverse(inputs, context)[0].shape == (5, 3)


def test_inverse_of_one_bad_row_leaves_the_others() -> None:
    # Steep and flat bins side by side: rounding drives a naive discriminant below zero.
    widths, heights = (40.0 * torch.randn(5000, 8) for _ in range(2))
    derivatives, inputs = 30.0 * torch.randn(5000, 7), torch.linspace(-3, 3, 5000)
    outputs, log_det = rational_quadratic_spline(
        inputs, widths, heights, derivatives, inverse=True, tail_bound=3.0
    )
    assert torch.isfinite(outputs).all() and torch.isfinite(log_det).all()
    assert outputs.abs().max() <= 3.0 + 1e-5


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{c.transform}-{c.mixing}")
def test_nan_never_passes_for_a_score(config: FlowConfig) -> None:
    flow = build_flow(config, seed=0)
    rows, context = torch.zeros(4, 3), torch.zeros(4, 2)
    for feature in range(3):
        rows[feature, feature] = torch.nan
    assert torch.isnan(flow.log_prob(rows, context)).tolist() == [True, True, True, False]
    with torch.no_grad():
        expected = flow.log_prob(rows[3:], context[3:])
        assert torch.allclose(flow.log_prob(rows, context)[3:], expected)


@pytest.mark.parametrize("layer", [SplineAutoregressive, AffineAutoregressive])
@pytest.mark.parametrize("residual", [True, False])
def test_context_reaches_the_first_feature(layer: type, residual: bool, shake: Callable) -> None:
    transform = shake(layer(3, n_context=1, hidden_features=8, residual=residual))
    rows = torch.full((2, 3), 0.5).double()
    outputs, _ = transform(rows, torch.tensor([[0.0], [1.0]]).double())
    assert (outputs[0] != outputs[1]).all()


def test_narrow_masked_network_drops_no_input(shake: Callable) -> None:
    degrees = torch.arange(1, 11)
    network = shake(MaskedNetwork(degrees, degrees, hidden_features=3))
    matrix = torch.autograd.functional.jacobian(
        lambda x: network(x[None])[0], torch.randn(10, dtype=torch.float64)
    )
    # Three units cannot lead every input to the very next output, but each reaches the last one.
    assert (matrix[-1, :-1] != 0).all()
    assert (matrix.triu() == 0).all()
    wide = shake(MaskedNetwork(degrees, degrees, hidden_features=9))
    matrix = torch.autograd.functional.jacobian(
        lambda x: wide(x[None])[0], torch.randn(10, dtype=torch.float64)
    )
    below = torch.tril_indices(10, 10, -1)
    assert (matrix[below[0], below[1]] != 0).all()


def test_plain_masked_blocks_read_the_context(shake: Callable) -> None:
    degrees = torch.arange(1, 4)
    network = shake(MaskedNetwork(degrees, degrees, n_context=1, hidden_features=8, residual=False))
    inputs, context = torch.randn(1, 3).double(), torch.zeros(1, 1).double()
    nn.init.zeros_(network.context_layer.weight)
    nn.init.zeros_(network.first_network.final_layer.weight)
    change = network(inputs, context) - network(inputs, context + 1.0)
    assert (change[0, 1:] != 0).all()


def test_nothing_deprecated_is_called(shake: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for config in CONFIGS:
            flow = shake(build_flow(config, seed=0), dtype=torch.float32)
            rows, context = torch.randn(4, 3), torch.randn(4, 2)
            flow.log_prob(rows, context).sum().backward()
            assert flow._transform.inverse(rows, context)[0].isfinite().all()


def test_lu_is_not_stale_after_loading(shake: Callable) -> None:
    one, other, inputs = shake(LULinear(4)).eval(), LULinear(4).double().eval(), torch.randn(3, 4).double()
    other(inputs), other.inverse(inputs)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(inputs)[0], one(inputs)[0])
    assert torch.equal(other.inverse(inputs)[0], one.inverse(inputs)[0])


def test_autoregressive_inverse_maps_each_feature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = SplineAutoregressive(5, hidden_features=8), []
    mapped = layer._map
    monkeypatch.setattr(
        layer, "_map", lambda columns, *rest, **kw: seen.append(len(columns)) or mapped(columns, *rest, **kw)
    )
    layer.inverse(torch.randn(2, 5))
    assert seen == [1] * 5


def test_import_leaves_torch_as_it_was() -> None:
    code = (
        "import torch; state = torch.random.get_rng_state(); default = torch.get_default_dtype();"
        "import flowdetect.flows;"
        "assert torch.equal(torch.random.get_rng_state(), state);"
        "assert torch.get_default_dtype() is default"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
