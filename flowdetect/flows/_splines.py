"""Monotone rational-quadratic splines: pure functions, both directions, with log|derivative|."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowdetect.flows._kernels import fused_spline, is_fusable

__all__ = ["identity_derivative", "packed_spline", "plain_spline", "rational_quadratic_spline"]


def rational_quadratic_spline(
    inputs: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    inverse: bool = False,
    tail_bound: float,
    min_bin_width: float = 1e-3,
    min_bin_height: float = 1e-3,
    min_derivative: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    r"""Map each input through its own rational-quadratic spline, the identity outside the box.

    Parameters
    ----------
    inputs : Tensor of shape S
        Values to transform; float32 or float64, any finite size.
    widths, heights : Tensor of shape S + (K,)
        Unnormalised sizes of the K bins (softmax makes them positive and sum to the box).
    derivatives : Tensor of shape S + (K - 1,)
        Unnormalised derivatives at the inner knots (softplus makes them positive). At the two ends of
        the box the derivative is 1, so that the spline continues smoothly into the identity.
    inverse : bool, default False
        Apply the inverse map; the log-determinant is then that of the inverse.
    tail_bound : float
        The box is ``[-tail_bound, tail_bound]`` on both axes.
    min_bin_width, min_bin_height : float, default 1e-3
        Smallest bin, as a share of the box; at most 1 / K.
    min_derivative : float, default 1e-3
        Smallest derivative at an inner knot; below 1.

    Returns
    -------
    outputs : Tensor of shape S
    log_det : Tensor of shape S
        ``log |d outputs / d inputs|`` in nats; 0 outside the box.

    Notes
    -----
    With :math:`\theta = (x - x_k) / w_k`, :math:`s_k = h_k / w_k` and
    :math:`D = s_k + (d_k + d_{k+1} - 2 s_k)\,\theta (1 - \theta)`,

    .. math::
        y = y_k + h_k \frac{s_k \theta^2 + d_k \theta (1 - \theta)}{D}, \qquad
        \frac{dy}{dx} = \Big(\frac{s_k}{D}\Big)^2
            \big(d_{k+1} \theta^2 + 2 s_k \theta (1 - \theta) + d_k (1 - \theta)^2\big).

    There is no data-dependent control flow: inputs are clamped into the box before the spline and
    replaced by themselves behind it, so values and gradients stay finite for every finite input. NaN
    gives NaN, in the output and in the log-determinant, for that element only. The parametrisation is
    that of ``nflows.transforms.splines.unconstrained_rational_quadratic_spline`` with linear tails.

    References
    ----------
    Durkan, Bekasov, Murray, Papamakarios (2019). Neural Spline Flows. Equations 4 to 8.

    Examples
    --------
    >>> x, bins = torch.tensor([-9.0, 0.5]), torch.zeros(2, 4)
    >>> y, log_det = rational_quadratic_spline(x, bins, bins, torch.zeros(2, 3), tail_bound=3.0)
    >>> y.tolist()[0], log_det.tolist()[0]
    (-9.0, 0.0)
    """
    params = torch.cat((widths, heights, derivatives), dim=-1).movedim(-1, 0).contiguous()
    return packed_spline(
        inputs,
        params,
        n_bins=widths.shape[-1],
        inverse=inverse,
        tail_bound=tail_bound,
        min_sizes=(min_bin_width, min_bin_height),
        min_derivative=min_derivative,
    )


def packed_spline(
    inputs: Tensor,
    params: Tensor,
    *,
    n_bins: int,
    inverse: bool = False,
    tail_bound: float,
    size_scale: float = 1.0,
    min_sizes: tuple[float, float] = (1e-3, 1e-3),
    min_derivative: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Evaluate splines whose parameters lie along the first axis, ``[widths | heights | derivatives]``.

    What :func:`rational_quadratic_spline` does, in the layout in which it is fast: with the elements on the
    inner, contiguous axes every operation, also a sum or a broadcast over the bins, runs along them.

    Parameters
    ----------
    inputs : Tensor of shape S
    params : Tensor of shape (3 * n_bins - 1,) + S
    n_bins : int
    inverse, tail_bound, min_derivative
        As in :func:`rational_quadratic_spline`.
    size_scale : float, default 1.0
        Factor on the unnormalised widths and heights; nflows divides them by sqrt(hidden_features).
    min_sizes : (float, float)
        Smallest bin width and height.

    Returns
    -------
    outputs, log_det : Tensor of shape S
    """
    least = {*min_sizes, min_derivative}
    if len(least) == 1 and inputs.ndim == 2 and is_fusable(inputs, params):
        return fused_spline(
            inputs,
            params,
            inverse=inverse,
            tail_bound=tail_bound,
            size_scale=size_scale,
            least=min_derivative,
        )
    return plain_spline(
        inputs,
        params,
        n_bins=n_bins,
        inverse=inverse,
        tail_bound=tail_bound,
        size_scale=size_scale,
        min_sizes=min_sizes,
        min_derivative=min_derivative,
    )


def plain_spline(
    inputs: Tensor,
    params: Tensor,
    *,
    n_bins: int,
    inverse: bool = False,
    tail_bound: float,
    size_scale: float = 1.0,
    min_sizes: tuple[float, float] = (1e-3, 1e-3),
    min_derivative: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Evaluate splines as :func:`packed_spline` does, by torch's own operations on any device."""
    inside = inputs.clamp(-tail_bound, tail_bound)
    place = inside.detach() * (0.5 / tail_bound) + 0.5
    ends, sizes, slopes = _select_bin(
        place, params, n_bins, size_scale, min_sizes, int(inverse), min_derivative
    )
    sizes = sizes * (2.0 * tail_bound)
    low = ends * (2.0 * tail_bound) - tail_bound - sizes
    slope_low, slope_high = (F.softplus(slopes) + min_derivative).unbind(0)
    evaluate = _evaluate_inverse if inverse else _evaluate
    outputs, log_det = evaluate(inside, low, sizes, slope_low, slope_high)
    # NaN compares false: it takes the spline's branch, where it stays NaN in both results.
    outside = inputs.abs() > tail_bound
    return torch.where(outside, inputs, outputs), torch.where(outside, 0.0, log_det)


def identity_derivative(min_derivative: float = 1e-3) -> float:
    """Return the unnormalised derivative that stands for the derivative 1."""
    return math.log(math.expm1(1.0 - min_derivative))


def _select_bin(place: Tensor, params: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Find the bin of each element, by its place (S) in the box as a share of it.

    Returns the bin's upper ends and its sizes, both (2, S) for the two axes as shares of the box, and the
    unnormalised derivatives (2, S) at its lower and upper knot.
    """
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if traced or not (torch.is_grad_enabled() and params.requires_grad):
        ends, sizes, slopes = _select_bin_plainly(place, params, *settings)[:3]
    else:
        ends, sizes, slopes = _BinSelection.apply(place, params, *settings)
    return ends, sizes, slopes


def _select_bin_plainly(
    place: Tensor,
    params: Tensor,
    n_bins: int,
    size_scale: float,
    min_sizes: tuple[float, float],
    side: int,
    min_derivative: float,
) -> tuple[Tensor, ...]:
    """Select in operations that autograd and exporters know; also return what the fast gradient needs."""
    least, spread = _least_and_spread(place, n_bins, min_sizes)
    steps = torch.arange(1, n_bins, dtype=place.dtype, device=place.device)
    steps = steps.view(-1, *[1] * place.ndim)
    # exp of numbers within the dtype's range: softmax without the search for the largest one.
    limit = math.log(torch.finfo(params.dtype).max) - 8.0
    weights = (params[: 2 * n_bins] * size_scale).clamp(-limit, limit).exp().unflatten(0, (2, n_bins))
    sums = weights.cumsum(1)
    factor = spread / sums[:, -1]
    knots = sums[side, :-1] * factor[side] + steps * min_sizes[side]
    index = (place >= knots).sum(0)
    both = index.expand(2, 1, *index.shape)
    weight, total = weights.gather(1, both).squeeze(1), sums.gather(1, both).squeeze(1)
    ends = total * factor + least * (index + 1).to(place.dtype)
    sizes = weight * factor + least
    pair = torch.stack((index - 1, index))
    edge = torch.stack((index == 0, index == n_bins - 1))
    pair = pair.clamp(0, n_bins - 2)
    slopes = params[2 * n_bins :].gather(0, pair).masked_fill(edge, identity_derivative(min_derivative))
    return ends, sizes, slopes, weights, factor, index, pair, edge, weight, total


def _least_and_spread(
    like: Tensor, n_bins: int, min_sizes: tuple[float, float]
) -> tuple[float | Tensor, float | Tensor]:
    """Return the smallest size per axis, and what of the box is left to share out."""
    if min_sizes[0] == min_sizes[1]:
        return min_sizes[0], 1.0 - n_bins * min_sizes[0]
    least = like.new_tensor(min_sizes).view(2, *[1] * like.ndim)
    return least, 1.0 - n_bins * least


class _BinSelection(torch.autograd.Function):
    r"""The selection with its gradient in closed form: one buffer instead of a dozen.

    With the shares :math:`p_j = e^{z_j} / \sum_i e^{z_i}` and the bin k, sizes are :math:`m + c\,p_k` and
    upper ends :math:`m (k + 1) + c \sum_{j \le k} p_j`; with the gradients a of the ends, b of the sizes

    .. math::
        \frac{\partial L}{\partial z_j} = c\,p_j \Big(a\,[j \le k] + b\,[j = k]
            - a \sum_{i \le k} p_i - b\,p_k\Big).
    """

    @staticmethod
    def forward(ctx: Any, place: Tensor, params: Tensor, *settings: Any) -> tuple[Tensor, ...]:
        found = _select_bin_plainly(place, params, *settings)
        ctx.settings = settings
        ctx.save_for_backward(place, params, *found[3:])
        return found[:3]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        place, params, *found = ctx.saved_tensors
        none = (None,) * len(ctx.settings)
        if torch.is_grad_enabled():
            # A gradient of the gradient is wanted: let autograd see the operations.
            with torch.enable_grad():
                outputs = _select_bin_plainly(place, params, *ctx.settings)[:3]
            gradient = torch.autograd.grad(outputs, params, gradients, create_graph=True)[0]
        else:
            gradient = _selection_gradient(params, found, gradients, ctx.settings)
        return None, gradient, *none


def _selection_gradient(
    params: Tensor, found: list[Tensor], gradients: tuple[Tensor, ...], settings: tuple[Any, ...]
) -> Tensor:
    weights, factor, index, pair, edge, weight, total = found
    n_bins, size_scale, min_sizes = settings[:3]
    _, spread = _least_and_spread(factor[0], n_bins, min_sizes)
    of_ends, of_sizes, of_slopes = gradients
    of_ends, of_sizes = of_ends * (factor * size_scale), of_sizes * (factor * size_scale)
    mean = (of_ends * total + of_sizes * weight) * (factor / spread)
    gradient = torch.empty_like(params)
    below = (torch.arange(n_bins, device=index.device).view(-1, *[1] * index.ndim) <= index).to(params.dtype)
    sizes = gradient[: 2 * n_bins].unflatten(0, (2, n_bins))
    torch.mul(below, of_ends.unsqueeze(1), out=sizes).sub_(mean.unsqueeze(1)).mul_(weights)
    sizes.scatter_add_(1, index.expand(2, 1, *index.shape), (of_sizes * weight).unsqueeze(1))
    slopes = gradient[2 * n_bins :].zero_()
    slopes.scatter_add_(0, pair, of_slopes.masked_fill(edge, 0.0))
    return gradient


def _evaluate(x: Tensor, low: Tensor, size: Tensor, d_low: Tensor, d_high: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate equations 4 and 5 of Durkan et al. inside one bin."""
    width, height = size.unbind(0)
    slope = height / width
    theta = (x - low[0]) / width
    mixed = theta * (1.0 - theta)
    # At least slope / 2, as mixed <= 1/4 and derivatives are positive: the quotients are safe.
    denominator = slope + (d_low + d_high - 2.0 * slope) * mixed
    outputs = low[1] + height * (slope * theta * theta + d_low * mixed) / denominator
    return outputs, _log_derivative(theta, mixed, slope, d_low, d_high, denominator)


def _evaluate_inverse(
    y: Tensor, low: Tensor, size: Tensor, d_low: Tensor, d_high: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Solve the quadratic of Durkan et al. (equations 6 to 8) inside one bin, without cancellation.

    With the share of the rise :math:`\xi = (y - y_k) / h_k` and
    :math:`b = d_k - \xi (d_k + d_{k+1} - 2 s_k)`, the discriminant is
    :math:`(d_k - \xi (d_k + d_{k+1}))^2 + 4 s_k^2 \xi (1 - \xi)`, a sum of terms that are not negative; the
    root is taken in the form that adds terms of one sign.
    """
    width, height = size.unbind(0)
    slope = height / width
    share = ((y - low[1]) / height).clamp(0.0, 1.0)
    both = d_low + d_high
    bend = both - 2.0 * slope
    b = d_low - share * bend
    square = (d_low - share * both).square() + 4.0 * slope.square() * (share * (1.0 - share))
    # sqrt has no gradient at 0, which rounding may reach.
    total = b.abs() + square.clamp_min(torch.finfo(y.dtype).tiny).sqrt()
    theta = torch.where(b >= 0, 2.0 * slope * share / total, total / (2.0 * (slope + b.abs())))
    theta = theta.clamp(0.0, 1.0)
    mixed = theta * (1.0 - theta)
    log_det = _log_derivative(theta, mixed, slope, d_low, d_high, slope + bend * mixed)
    return theta * width + low[0], -log_det


def _log_derivative(
    theta: Tensor, mixed: Tensor, slope: Tensor, d_low: Tensor, d_high: Tensor, denominator: Tensor
) -> Tensor:
    """Return log dy/dx with a single logarithm; slope / denominator <= 2 keeps the product in range."""
    ratio = slope / denominator
    rest = 1.0 - theta
    inner = d_high * theta * theta + 2.0 * slope * mixed + d_low * rest * rest
    return torch.log(ratio * ratio * inner)
