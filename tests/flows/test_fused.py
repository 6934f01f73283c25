"""Layers as one compiled pass against the same layers by plain operations, and when the pass steps aside."""

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from torch import Tensor, nn

from flowdetect.flows import AutoregressiveCategorical, FlowConfig, _passes, build_flow
from flowdetect.flows._chain import can_fuse
from flowdetect.flows._fused import FusedLayer
from flowdetect.flows._kernels import load_kernels
from flowdetect.flows._passes import plain_layers
from flowdetect.training._weights import FlatWeights

Shake = Callable[..., nn.Module]
D = 5
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
KINDS = ["coupling", "autoregressive"]


def build(shake: Shake, dtype: torch.dtype = torch.float64, **settings: object) -> nn.Module:
    config = FlowConfig(**{"n_features": D, "n_layers": 2, "hidden_features": 12, **settings})  # type: ignore[arg-type]
    return shake(build_flow(config, seed=1), dtype=dtype)


def draw(
    n_rows: int, dtype: torch.dtype = torch.float64, n_context: int = 0, masked: bool = False
) -> tuple[Tensor, Tensor | None]:
    inputs = (2.0 * torch.randn(n_rows, D, dtype=torch.float64)).to(dtype)
    observed = (torch.rand(n_rows, D) < 0.7).to(dtype) if masked else torch.empty(n_rows, 0, dtype=dtype)
    context = torch.cat((observed, torch.randn(n_rows, n_context).to(dtype)), dim=1)
    return inputs, context if context.shape[1] else None


def used(flow: nn.Module) -> list[FusedLayer]:
    return [layer.plan for layer in flow._transform._transforms if getattr(layer, "plan", None)]


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_context", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_plain_layers(
    shake: Shake, dtype: torch.dtype, kind: str, n_context: int, masked: bool, activation: str
) -> None:
    flow = build(shake, dtype, kind=kind, n_context=n_context, masked=masked, activation=activation, n_bins=4)
    inputs, context = draw(131, dtype, n_context, masked)
    inputs.requires_grad_()
    asked = [inputs, *flow.parameters()] if context is None else [inputs, context, *flow.parameters()]
    if context is not None:
        context.requires_grad_()
    found = []
    for plain in (False, True):
        outputs, log_det = run(flow, inputs, context, plain)
        share = torch.linspace(-1.0, 1.0, outputs.numel(), dtype=dtype).view_as(outputs)
        loss = (share * outputs).sum() + (log_det * share[:, 0]).sum()
        gradients = torch.autograd.grad(loss, asked, allow_unused=True)
        found.append((outputs, log_det, *(g for g in gradients if g is not None)))
    assert len(found[0]) == len(found[1])
    assert len(used(flow)) == 2
    for ours, reference in zip(*found, strict=True):
        scale = 1.0 + float(reference.detach().abs().max())
        torch.testing.assert_close(ours / scale, reference / scale, rtol=0, atol=TOLERANCE[dtype])


def run(flow: nn.Module, inputs: Tensor, context: Tensor | None, plain: bool) -> tuple[Tensor, Tensor]:
    if not plain:
        return flow._transform(inputs, context)
    with plain_layers():
        return flow._transform(inputs, context)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_context", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_inverse_undoes_forward(shake: Shake, kind: str, n_context: int, masked: bool) -> None:
    flow = build(shake, kind=kind, n_context=n_context, masked=masked)
    inputs, context = draw(70, n_context=n_context, masked=masked)
    if masked and context is not None:
        inputs = inputs * context[:, :D]
    with torch.no_grad():
        noise, log_det = flow._transform(inputs, context)
        again, back = flow._transform.inverse(noise, context)
    torch.testing.assert_close(again, inputs, rtol=0, atol=1e-9)
    torch.testing.assert_close(back, -log_det, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [1, 2, 40])
def test_few_and_many_features(shake: Shake, kind: str, n_features: int) -> None:
    flow = build(shake, kind=kind, n_features=n_features, n_context=1)
    inputs, context = torch.randn(3, n_features, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    ours, reference = (run(flow, inputs, context, plain) for plain in (False, True))
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-11)
    with torch.no_grad():
        again = flow._transform.inverse(ours[0], context)[0]
    # Rounding grows from one feature to the next of forty.
    torch.testing.assert_close(again, inputs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_and_gradgradcheck_pass(shake: Shake, kind: str) -> None:
    flow = build(shake, kind=kind, n_context=1, hidden_features=4, n_bins=3, activation="silu", n_layers=1)
    inputs, context = draw(2, n_context=1)
    assert context is not None
    asked = (inputs.requires_grad_(), context.requires_grad_())
    assert torch.autograd.gradcheck(flow._transform, asked)
    assert torch.autograd.gradgradcheck(flow._transform, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_through_the_inverse_is_that_of_the_plain_layers(shake: Shake, kind: str) -> None:
    flow = build(shake, kind=kind)
    inputs, _ = draw(9)
    found = []
    for plain in (False, True):
        noise = inputs.clone().requires_grad_()
        if plain:
            with plain_layers():
                outputs, log_det = flow._transform.inverse(noise)
        else:
            outputs, log_det = flow._transform.inverse(noise)
        found.append(torch.autograd.grad(outputs.square().sum() + log_det.sum(), noise)[0])
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(
    shake: Shake, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = build(shake, kind=kind, n_context=1)
    inputs, context = draw(2000, n_context=1)
    assert context is not None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with torch.no_grad():
        together = flow._transform(inputs, context)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        for rows in (slice(None), slice(7, 8), slice(1500, 1999)):
            alone = flow._transform(inputs[rows], context[rows])
            assert torch.equal(alone[0], together[0][rows])
            assert torch.equal(alone[1], together[1][rows])


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_the_gradient(shake: Shake, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_passes, "_WORK_PER_THREAD", 100_000)
    flow = build(shake, kind=kind, n_context=1)
    inputs, context = draw(2100, n_context=1)
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        found.append(torch.autograd.grad(flow.log_prob(inputs, context).mean(), list(flow.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("smoothing", [0.0, 1e-2])
@pytest.mark.parametrize("n_context", [0, 3])
@pytest.mark.parametrize("sizes", [[3, 1, 2, 7, 2], [4], [1, 5, 3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_have_the_values_and_gradients_of_plain_operations(
    shake: Shake, dtype: torch.dtype, sizes: list[int], n_context: int, smoothing: float, activation: str
) -> None:
    model = AutoregressiveCategorical(
        sizes, n_context=n_context, hidden_features=9, smoothing=smoothing, activation=activation
    )
    shake(model, size=0.5, dtype=dtype)
    codes, context = draw_codes(150, sizes, dtype), torch.randn(150, n_context, dtype=dtype)
    given = context.requires_grad_() if n_context else None
    asked = [*([context] if n_context else []), *model.parameters()]
    found = []
    for plain in (False, True):
        with plain_layers() if plain else nullcontext():
            columns = model.log_prob_columns(codes, given)
        share = torch.linspace(-1.0, 1.0, columns.numel(), dtype=dtype).view_as(columns)
        gradients = torch.autograd.grad((share * columns).sum(), asked, allow_unused=True)
        blank = [torch.zeros_like(one) for one in asked]
        found.append((columns, *(g if g is not None else b for g, b in zip(gradients, blank, strict=True))))
    assert type(found[0][0].grad_fn) is not type(found[1][0].grad_fn)
    for ours, reference in zip(*found, strict=True):
        scale = 1.0 + float(reference.detach().abs().max())
        torch.testing.assert_close(ours / scale, reference / scale, rtol=0, atol=TOLERANCE[dtype])


def draw_codes(n_rows: int, sizes: list[int], dtype: torch.dtype) -> Tensor:
    return torch.stack([torch.randint(size, (n_rows,)) for size in sizes], dim=1).to(dtype)


def test_gradient_of_the_gradient_of_codes(shake: Shake) -> None:
    model = shake(
        AutoregressiveCategorical([3, 2], n_context=2, hidden_features=5, activation="silu"), size=0.5
    )
    codes, context = draw_codes(3, [3, 2], torch.float64), torch.randn(3, 2, dtype=torch.float64)
    run = partial(model.log_prob_columns, codes)
    assert torch.autograd.gradcheck(run, (context.requires_grad_(),))
    assert torch.autograd.gradgradcheck(run, (context,))


def test_weights_may_come_from_vectors_that_hold_them(shake: Shake) -> None:
    flow = build(shake, kind="autoregressive", n_context=1)
    inputs, context = draw(70, n_context=1)
    expected = [*torch.autograd.grad(flow.log_prob(inputs, context).sum(), list(flow.parameters()))]
    names = [name for name, _ in flow.named_parameters()]
    weights = FlatWeights(flow)
    assert sum(len(leaf) for leaf in flow._transform._leaves[0]) == sum(map(torch.numel, expected))
    leaves = flow._transform._leaves[0]
    # By the compiled pass, and by plain operations for a gradient of the gradient.
    for again in (False, True):
        weights.zero_grad()
        found = torch.autograd.grad(flow.log_prob(inputs, context).sum(), leaves, create_graph=again)
        for leaf, gradient in zip(leaves, found, strict=True):
            leaf.grad.copy_(gradient.detach())
        for name, wanted in zip(names, expected, strict=True):
            torch.testing.assert_close(flow.get_parameter(name).grad, wanted, rtol=0, atol=1e-10)
    # A copy whose parameters have moved does not read the vectors any more.
    twin, reference = copy.deepcopy(flow).float(), flow.log_prob(inputs, context)
    for parameter in twin.parameters():
        parameter.data.mul_(0.5)
    assert twin.log_prob(inputs.float(), context.float()).dtype == torch.float32
    assert not torch.allclose(twin.log_prob(inputs.float(), context.float()).double(), reference, atol=1e-2)
    weights.release()
    torch.testing.assert_close(flow.log_prob(inputs, context), reference, rtol=0, atol=0)


def test_extreme_and_missing_numbers(shake: Shake) -> None:
    for kind in KINDS:
        flow = build(shake, kind=kind)
        inputs, _ = draw(4)
        inputs[0], inputs[1, 0], inputs[2, 1] = 1e30, -1e300, torch.nan
        outputs, log_det = flow._transform(inputs)
        assert bool(outputs[[0, 1, 3]].isfinite().all() & log_det[[0, 1, 3]].isfinite().all())
        assert bool(log_det[2].isnan())


def test_no_rows_give_no_rows(shake: Shake) -> None:
    for kind in KINDS:
        outputs, log_det = build(shake, kind=kind)._transform(torch.zeros(0, D, dtype=torch.float64))
        assert outputs.shape == (0, D)
        assert log_det.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_have_weights_of_their_own(shake: Shake, kind: str) -> None:
    flow = build(shake, kind=kind)
    inputs, _ = draw(3)
    before = flow.log_prob(inputs)
    for twin in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert len(used(twin)) == 2
        torch.testing.assert_close(twin.log_prob(inputs), before, rtol=0, atol=0)
        for parameter in twin.parameters():
            parameter.data.mul_(0.5)
        assert not torch.allclose(twin.log_prob(inputs), before)
    torch.testing.assert_close(flow.log_prob(inputs), before, rtol=0, atol=0)


def test_copies_need_no_kernels_of_their_own(shake: Shake, tmp_path: Path) -> None:
    kernels = load_kernels()
    compiled = (kernels.layer_forward, kernels.layer_backward, kernels.order_inverse, kernels.codes_forward)
    inputs, _ = draw(3)
    codes = torch.tensor([[0.0, 2.0], [1.0, 0.0]], dtype=torch.float64)
    modules = [build(shake, kind=kind) for kind in KINDS]
    modules.append(shake(AutoregressiveCategorical([2, 3]), dtype=torch.float64))

    def use(flow: nn.Module) -> None:
        if isinstance(flow, AutoregressiveCategorical):
            flow.log_prob(codes)
            return
        flow.log_prob(inputs).sum().backward()
        with torch.no_grad():
            flow._transform.inverse(inputs)

    for flow in modules:
        use(flow)
        before = [kernel.signatures for kernel in compiled]
        joblib.dump(flow, tmp_path / "flow.joblib")
        for twin in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
            use(twin)
        use(joblib.load(tmp_path / "flow.joblib", mmap_mode="r"))
        assert [kernel.signatures for kernel in compiled] == before


def test_masks_are_not_pickled(shake: Shake) -> None:
    flow = build(shake, kind="autoregressive")
    before = len(pickle.dumps(flow))
    flow.log_prob(draw(3)[0])
    assert used(flow)[0].chain_masks
    assert len(pickle.dumps(flow)) < before + 1000


def test_it_steps_aside(shake: Shake) -> None:
    flow = build(shake, dropout=0.5)
    layers = list(flow._transform._transforms)
    inputs, _ = draw(3)
    flow.eval()
    assert can_fuse(layers, inputs, None, inverse=False)
    with plain_layers():
        assert not can_fuse(layers, inputs, None, inverse=False)
    assert can_fuse(layers, inputs, None, inverse=False)
    assert not can_fuse(layers, inputs.float(), None, inverse=False)
    assert not can_fuse(layers, inputs, inputs, inverse=False)
    assert not can_fuse(layers, inputs.to("meta"), None, inverse=False)
    flow.train()
    assert not can_fuse(layers, inputs, None, inverse=False)
    flow.eval()
    layers[1].transform_net = copy.deepcopy(layers[1].transform_net)
    assert not can_fuse(layers, inputs, None, inverse=False)
    assert build(shake, transform="affine")._transform._transforms[0].plan is None
    assert build(shake, conditioner="plain")._transform._transforms[0].plan is None
