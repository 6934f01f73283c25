"""What holds for every layer and flow of images, in one table; and for some of them alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from nflows.transforms import OneByOneConvolution, SqueezeTransform
from nflows.transforms.base import Transform

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import (
    AffineMap,
    CheckerboardCoupling,
    ConvolutionalCoupling,
    ConvolutionalNetwork,
    ImageFlowConfig,
    InvertibleConvolution,
    SplineMap,
    Squeeze,
    build_image_flow,
    sample_flow,
)
from flowdetect.training import ArraySource, TrainingConfig, train

N_CONTEXT = 2
network = partial(ConvolutionalNetwork, n_context=N_CONTEXT, hidden_channels=6, n_blocks=1)
placed = partial(network, size=(3, 2))


def flow(channels: int, height: int, width: int, **settings: object) -> Transform:
    small = {"n_context": N_CONTEXT, "n_steps": 2, "hidden_channels": 6, "n_blocks": 1, "n_bins": 4}
    config = ImageFlowConfig(channels, height, width, **{**small, **settings})
    return build_image_flow(config, seed=1)._transform


# Shape of a row, and how the transform is made; flows take flat rows.
TRANSFORMS: dict[str, tuple[tuple[int, ...], Callable[[], Transform]]] = {
    "squeeze": ((4, 4, 2), Squeeze),
    "convolution": ((3, 3, 2), lambda: InvertibleConvolution(3, seed=1)),
    "spline coupling": ((3, 3, 2), lambda: ConvolutionalCoupling([True, False, True], placed, SplineMap(4))),
    "affine coupling": ((3, 3, 2), lambda: ConvolutionalCoupling([0, 1, 0], network, AffineMap())),
    "spline checkerboard": ((2, 3, 2), lambda: CheckerboardCoupling(2, True, placed, SplineMap(4))),
    "affine checkerboard": ((1, 3, 3), lambda: CheckerboardCoupling(1, False, network, AffineMap())),
    "flow, one level": ((16,), lambda: flow(1, 4, 4, n_levels=1, n_checkerboard=2)),
    "flow, two levels": ((16,), lambda: flow(1, 4, 4, n_levels=2, transform="affine")),
    "flow, odd size": ((15,), lambda: flow(1, 3, 5)),
    "flow, odd size, colours": ((18,), lambda: flow(3, 3, 2, places=False, activation="relu")),
}
COUPLINGS = {name for name in TRANSFORMS if "coupling" in name or "checkerboard" in name}

every = pytest.mark.parametrize("name", TRANSFORMS)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
both_ways = pytest.mark.parametrize("inverse", [False, True])


def build(name: str) -> tuple[Transform, torch.Tensor, torch.Tensor]:
    shape, make = TRANSFORMS[name]
    return make(), 1.5 * torch.randn(5, *shape), torch.randn(5, N_CONTEXT)


@every
@both_dtypes
def test_round_trip(name: str, dtype: torch.dtype, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform, dtype=dtype), inputs.to(dtype), context.to(dtype)
    outputs, log_det = transform(inputs, context)
    again, log_det_back = transform.inverse(outputs, context)
    tolerance = {torch.float32: 2e-3, torch.float64: 1e-8}[dtype]
    torch.testing.assert_close(again, inputs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det, atol=tolerance, rtol=tolerance)
    assert outputs.dtype == log_det.dtype == dtype
    assert log_det.shape == (5,)


@every
@both_ways
def test_log_det_is_that_of_the_jacobian(name: str, inverse: bool, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform), inputs.double()[:2], context.double()[:2]
    apply = transform.inverse if inverse else transform.forward
    if inverse:
        inputs = transform(inputs, context)[0].detach()
    _, log_det = apply(inputs, context)
    for row in range(2):
        here, shape = context[row : row + 1], inputs.shape[1:]
        matrix = torch.autograd.functional.jacobian(
            lambda x, here=here, shape=shape: apply(x.view(1, *shape), here)[0].flatten(),
            inputs[row].flatten(),
        )
        torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], log_det[row], atol=1e-9, rtol=1e-9)


@every
def test_gradient_reaches_every_parameter(name: str, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform = shake(transform)
    if not list(transform.parameters()):
        return
    outputs, log_det = transform(inputs.double(), context.double())
    (outputs.square().sum() + log_det.sum()).backward()
    for parameter_name, parameter in transform.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@every
def test_starts_near_a_reordering(name: str) -> None:
    transform, inputs, context = build(name)
    outputs, log_det = transform(inputs, context)
    if name in COUPLINGS:
        torch.testing.assert_close(outputs, inputs, atol=0.1, rtol=0.0)
    torch.testing.assert_close(
        outputs.flatten(1).sort(dim=1)[0], inputs.flatten(1).sort(dim=1)[0], atol=0.1, rtol=0.0
    )
    torch.testing.assert_close(log_det, torch.zeros(5), atol=0.1, rtol=0.0)


@every
@pytest.mark.parametrize("size", [1e30, 3e38])
@both_ways
def test_extremes_stay_finite(name: str, size: float, inverse: bool, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform = shake(transform, dtype=torch.float32)
    inputs[0], inputs[1], context[2] = size, -size, size
    inputs.requires_grad_()
    outputs, log_det = (transform.inverse if inverse else transform)(inputs, context)
    assert torch.isfinite(outputs).all() and torch.isfinite(log_det).all()
    (outputs.clamp(-1e3, 1e3).mean() + log_det.mean()).backward()
    assert torch.isfinite(inputs.grad).all()


@every
def test_rows_do_not_see_each_other(name: str, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform), inputs.double(), context.double()
    outputs, log_det = transform(inputs, context)
    alone = transform(inputs[2:3], context[2:3])
    torch.testing.assert_close((outputs[2:3], log_det[2:3]), alone, atol=1e-10, rtol=1e-10)
    inputs[3].view(-1)[0] = torch.nan
    others = [0, 1, 2, 4]
    spoilt = transform(inputs, context)
    torch.testing.assert_close(spoilt[0][others], outputs[others], atol=1e-10, rtol=1e-10)
    assert torch.isnan(spoilt[0][3]).any()


@every
def test_context_reaches_the_elements(name: str, shake: Callable) -> None:
    if name in {"squeeze", "convolution"}:
        return
    transform, inputs, context = build(name)
    transform = shake(transform)
    outputs, _ = transform(inputs.double(), context.double())
    moved, _ = transform(inputs.double(), context.double() + torch.tensor([0.0, 1.0]))
    changed = (outputs - moved).abs().amax(dim=0) > 1e-6
    assert changed.all() or (name in COUPLINGS and changed.any())


def test_squeeze_is_that_of_nflows() -> None:
    images = torch.randn(3, 2, 6, 4)
    torch.testing.assert_close(Squeeze()(images), SqueezeTransform()(images))
    torch.testing.assert_close(Squeeze().inverse(Squeeze()(images)[0])[0], images)
    with pytest.raises(ConfigurationError, match=r"images .* of even size; got \(3, 2, 6, 5\)"):
        Squeeze()(torch.zeros(3, 2, 6, 5))


@both_ways
def test_convolution_is_that_of_nflows(inverse: bool, shake: Callable) -> None:
    ours, theirs = shake(InvertibleConvolution(4, seed=0)), OneByOneConvolution(4).double()
    theirs.load_state_dict({**ours.state_dict(), "permutation._permutation": ours._permutation}, strict=False)
    images = torch.randn(3, 4, 5, 2).double()
    if not inverse:
        torch.testing.assert_close(ours(images), theirs(images))
        return
    # nflows' inverse calls what torch no longer has: its own forward is undone instead.
    torch.testing.assert_close(ours.inverse(theirs(images)[0])[0], images)


def test_coupling_keeps_the_channels_it_should_and_sees_only_them(shake: Callable) -> None:
    layer = shake(ConvolutionalCoupling([True, False, False], placed, SplineMap(4)))
    images, context = torch.randn(4, 3, 3, 2).double(), torch.randn(4, N_CONTEXT).double()
    outputs, log_det = layer(images, context)
    assert torch.equal(outputs[:, 1:], images[:, 1:])
    params = layer.transform_net(images[:, 1:], context).view(4, 11, 6).transpose(0, 1)
    expected, change = SplineMap(4)(images[:, 0].flatten(1), params, 6, False)
    torch.testing.assert_close(outputs[:, 0].flatten(1), expected)
    torch.testing.assert_close(log_det, change.sum(dim=1))


def test_network_of_a_place_knows_the_place() -> None:
    images = torch.zeros(1, 1, 9, 9)
    inner = slice(4, 5)
    for size, knows in (((9, 9), True), (None, False)):
        net = ConvolutionalNetwork(1, 1, hidden_channels=4, n_blocks=0, size=size)
        if net.place is not None:
            torch.nn.init.normal_(net.place)
        outputs = net(images)[0, 0]
        assert bool((outputs[inner, inner] != outputs[5, 4]).any()) == knows


def test_rows_are_images_of_their_sizes() -> None:
    config = ImageFlowConfig(1, 28, 28, n_steps=1, hidden_channels=4, n_blocks=1, n_bins=4)
    image_flow = build_image_flow(config, seed=0)
    assert image_flow._transform.parts == [(2, 14, 14), (8, 7, 7)]
    rows = sample_flow(image_flow, 3, generator=torch.Generator().manual_seed(0))
    assert rows.shape == (3, 784) and config.n_features == 784
    assert torch.isfinite(image_flow.log_prob(rows)).all()
    again = build_image_flow(config, seed=0)
    assert torch.equal(again.log_prob(rows), image_flow.log_prob(rows))
    assert not torch.equal(build_image_flow(config, seed=1).log_prob(rows), image_flow.log_prob(rows))


def test_flow_learns_images_of_two_kinds() -> None:
    rng = torch.Generator().manual_seed(0)
    kind = (torch.rand(400, 1, generator=rng) > 0.5).double()
    shade = torch.linspace(-1.0, 1.0, 4).double().repeat(4)
    rows = torch.where(kind > 0.5, shade, -shade) + 0.2 * torch.randn(400, 16, generator=rng).double()
    config = ImageFlowConfig(1, 4, 4, n_context=1, n_steps=2, hidden_channels=8, n_blocks=1, n_bins=4)
    image_flow = build_image_flow(config, seed=0)
    train(
        image_flow,
        ArraySource(rows.numpy(), context=kind.numpy()),
        config=TrainingConfig(max_steps=150, batch_size=100, learning_rate=1e-2, patience=None),
    )
    with torch.no_grad():
        right = image_flow.log_prob(rows.float(), kind.float()).mean()
        wrong = image_flow.log_prob(rows.float(), 1.0 - kind.float()).mean()
        drawn = sample_flow(image_flow, 200, context=torch.ones(200, 1), generator=rng)
    # The exact mean log-density is that of 16 normals of standard deviation 0.2.
    exact = -16 * (0.5 * torch.log(torch.tensor(2.0 * torch.pi)) + torch.log(torch.tensor(0.2)) + 0.5)
    assert exact - 8.0 < right < exact + 1.0
    assert right > wrong + 10.0
    torch.testing.assert_close(drawn.mean(dim=0).double(), shade, atol=0.35, rtol=0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels must be a whole number of at least 1; got 0"),
        ({"n_levels": 3}, r"n_levels must be a whole number, within 0\.\.2; got 3"),
        ({"n_levels": "all"}, "n_levels must be a whole number"),
        ({"transform": "cubic"}, r"transform must be one of \('spline', 'affine'\); got 'cubic'"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"n_bins": 1}, r"n_bins must lie in 2\.\.500"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"n_checkerboard": -1}, "n_checkerboard must be a whole number of at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageFlowConfig(**{"channels": 1, "height": 28, "width": 28, **settings})


@pytest.mark.parametrize("mask", [[True, True], [False, False], [[True, False]]])
def test_masks_without_both_kinds_are_refused(mask: object) -> None:
    with pytest.raises(ConfigurationError, match="with channels to transform and channels to keep"):
        ConvolutionalCoupling(mask, network, AffineMap())


def test_dropout_only_counts_in_training() -> None:
    config = ImageFlowConfig(1, 4, 4, n_steps=1, hidden_channels=4, n_blocks=1, dropout=0.5)
    image_flow = build_image_flow(config, seed=0)
    with torch.no_grad():
        for parameter in image_flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    rows = torch.randn(3, 16)
    assert not torch.equal(image_flow.log_prob(rows), image_flow.log_prob(rows))
    image_flow.eval()
    assert torch.equal(image_flow.log_prob(rows), image_flow.log_prob(rows))
