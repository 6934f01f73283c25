"""Which direction of a flow takes how many passes, and what comes with a draw."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from nflows.flows import Flow
from torch import Tensor

from flowdetect.flows import FlowConfig, _chain, build_flow, sample_flow, sample_flow_and_log_prob
from flowdetect.flows._passes import plain_layers

D, LAYERS = 4, 3
ONE, MANY = LAYERS, LAYERS * D  # evaluations of conditioner networks: one a layer, or one a feature and layer
KINDS = ["coupling", "autoregressive", "iaf"]
TRANSFORMS = ["spline", "affine"]


def build(**settings: object) -> Flow:
    return build_flow(FlowConfig(D, n_layers=LAYERS, hidden_features=12, **settings), seed=2)  # type: ignore[arg-type]


@contextmanager
def counted(flow: Flow) -> Iterator[list[int]]:
    """Count how often a conditioner network reads its inputs."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    first_layers = [part for name, part in flow.named_modules() if name.endswith("initial_layer")]
    assert len(first_layers) == LAYERS
    hooks = [layer.register_forward_hook(count) for layer in first_layers]
    with plain_layers():
        yield calls
    for hook in hooks:
        hook.remove()


def draw(flow: Flow, n_rows: int = 5) -> tuple[Tensor, Tensor]:
    return sample_flow_and_log_prob(flow, n_rows, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("kind", "passes_of_density", "passes_of_draws"),
    [("coupling", ONE, ONE), ("autoregressive", ONE, MANY), ("iaf", MANY, ONE)],
)
def test_passes_of_each_direction(
    kind: str, passes_of_density: int, passes_of_draws: int, transform: str, shake: Callable
) -> None:
    flow = shake(build(kind=kind, transform=transform))
    with counted(flow) as calls:
        rows, log_prob = draw(flow)
    assert calls == [passes_of_draws]
    with counted(flow) as calls:
        again = flow.log_prob(rows)
    assert calls == [passes_of_density]
    # Both directions are exact: the density on the way there is that on the way back.
    torch.testing.assert_close(again, log_prob, rtol=0, atol=1e-9)


def test_the_compiled_passes_go_the_same_ways(shake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, inverted = _chain.load_kernels(), []

    class Recorded:
        def __getattr__(self, name: str) -> object:
            if name == "order_inverse":
                inverted.append(name)
            return getattr(kernels, name)

    flow = shake(build(kind="iaf"))
    monkeypatch.setattr(_chain, "load_kernels", Recorded)
    with torch.no_grad():
        rows, log_prob = draw(flow)
        assert not inverted
        torch.testing.assert_close(flow.log_prob(rows), log_prob, rtol=0, atol=1e-9)
        assert len(inverted) == LAYERS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"n_context": 2, "base": "diagonal"}, {"masked": True}], ids=str)
def test_log_density_of_draws_is_that_of_the_rows(kind: str, settings: dict, shake: Callable) -> None:
    flow = shake(build(kind=kind, **settings))
    context = None
    if settings:
        width = 2 if "n_context" in settings else D
        context = (torch.rand(6, width) < 0.6).double()
    generator = torch.Generator().manual_seed(1)
    rows, log_prob = sample_flow_and_log_prob(flow, 6, context=context, generator=generator)
    torch.testing.assert_close(flow.log_prob(rows, context), log_prob, rtol=0, atol=1e-8)
    alone = sample_flow(flow, 6, context=context, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(alone, rows, rtol=0, atol=1e-12)
    if "masked" in settings:
        assert context is not None
        assert (rows[context == 0] == 0).all() and (rows[context == 1] != 0).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_differentiable_in_the_parameters(kind: str, transform: str, shake: Callable) -> None:
    flow = shake(build(kind=kind, transform=transform, mixing="lu"))
    found = []
    for plain in (False, True):
        for parameter in flow.parameters():
            parameter.grad = None
        if plain:
            with plain_layers():
                rows, log_prob = draw(flow)
        else:
            rows, log_prob = draw(flow)
        (rows.square().sum() + log_prob.sum()).backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in flow.parameters())
        found.append([parameter.grad.clone() for parameter in flow.parameters()])
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-8, atol=1e-9)


def test_an_inverse_autoregressive_flow_draws_in_float32_with_a_compiled_gradient(shake: Callable) -> None:
    flow = shake(build(kind="iaf"), dtype=torch.float32)
    rows, log_prob = draw(flow, 200)
    assert rows.dtype == log_prob.dtype == torch.float32
    assert type(rows.grad_fn.next_functions[0][0]).__name__ == "_FusedMapBackward"
    torch.testing.assert_close(flow.log_prob(rows), log_prob, rtol=0, atol=2e-3)
