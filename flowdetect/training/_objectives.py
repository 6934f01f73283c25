"""What is minimised: functions from a module and a batch to a loss per row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.training._data import Batch

__all__ = ["MaximumLikelihood", "NoiseConditional", "Objective", "ReverseKL", "noise_context"]

Objective = Callable[[nn.Module, Batch, torch.Generator], Tensor]
# Takes rows, and whether their gradients are wanted; returns log-densities (n,), and gradients (n, d) or
# None.
LogDensity = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]

# Rows are compared with at least this many others when the least likely of them are left out.
_TRIM_GROUP = 64


@dataclass(frozen=True)
class MaximumLikelihood:
    """Negative log-likelihood, in nats.

    Parameters
    ----------
    trim : float, default=0.0
        Fraction of each batch, its least likely rows, left out of the loss.

    Raises
    ------
    ConfigurationError
        If ``trim`` is not in [0, 1).

    Examples
    --------
    >>> MaximumLikelihood(trim=0.05)
    MaximumLikelihood(trim=0.05)
    """

    trim: float = 0.0

    stochastic = False

    def __post_init__(self) -> None:
        _check_trim(self.trim)

    def __call__(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return ``-log p(inputs | context)``, shape (n,)."""
        return trimmed(-_log_prob(module, batch.inputs, batch.context), self.trim)


@dataclass(frozen=True)
class NoiseConditional:
    r"""Negative log-likelihood of noisy rows, with the noise scale as context.

    Each row gets its own scale :math:`s`, log-uniform in ``scales``. Observed values become
    :math:`x + s\,\epsilon` with standard normal :math:`\epsilon`; each code is replaced, with probability
    :math:`s^2 / (1 + s^2)`, by the code of another row of the batch, that is by a draw from its marginal. A
    code that gates a value and that value are one unit: they are replaced together. The last column of the
    context becomes :math:`\tfrac12 \log s` (see `noise_context`).

    With weights the noise of value j has standard deviation :math:`s\,w_j`: noise that is the same in the
    units of a table is not so in those of its encoded columns.

    The minimiser over all densities is :math:`p_s`, the density of the noisy rows, for every :math:`s`.

    Parameters
    ----------
    n_values : int
        Number of value columns; the other columns of ``inputs`` are codes.
    scales : tuple of two floats, default=(0.01, 4.0)
        Smallest and largest noise scale.
    cardinalities : tuple of int
        Number of codes of each code column.
    gates : tuple of int
        For each code column, the value column that exists only where the code is 0, or -1.
    weights : tuple of float, optional
        Standard deviation of the noise of each value at scale 1; 1 for all without them.
    noisy_codes : bool, default=True
        Whether codes are replaced; otherwise they stay what they are.
    trim : float, default=0.0
        Fraction of least likely rows left out of the loss, taken among rows of similar noise scale.

    Raises
    ------
    ConfigurationError
        If the scales are not ``0 < low <= high``, the layout does not fit together, the weights are not one
        for each value, finite and not negative, or ``trim`` is not in [0, 1).

    Examples
    --------
    >>> NoiseConditional(2, scales=(0.1, 1.0)).scales
    (0.1, 1.0)
    """

    n_values: int
    scales: tuple[float, float] = (0.01, 4.0)
    cardinalities: tuple[int, ...] = ()
    gates: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None
    noisy_codes: bool = True
    trim: float = 0.0

    stochastic = True

    def __post_init__(self) -> None:
        low, high = self.scales
        if not 0.0 < low <= high < math.inf:
            raise ConfigurationError(f"scales must be (low, high) with 0 < low <= high; got {self.scales!r}.")
        if len(self.gates) != len(self.cardinalities):
            raise ConfigurationError(
                f"gates must name one value column (or -1) per code column; got {len(self.gates)} gates "
                f"for {len(self.cardinalities)} code columns."
            )
        if any(not -1 <= gate < self.n_values for gate in self.gates):
            raise ConfigurationError(f"gates must lie in -1..{self.n_values - 1}; got {self.gates!r}.")
        if self.weights is not None and not self._weights_fit(self.weights):
            raise ConfigurationError(
                f"weights must be {self.n_values} finite numbers that are not negative, one for each value; "
                f"got {self.weights!r}."
            )
        _check_trim(self.trim)

    def __call__(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return ``-log p_s(noisy inputs | context, s)`` with fresh noise, shape (n,)."""
        scale, level = self.draw_scales(batch.inputs, generator)
        noisy = self.add_noise(batch.inputs, scale, generator)
        loss = -_log_prob(module, noisy, _with_noise(batch.context, scale))
        return trimmed(loss, self.trim, level)

    def _weights_fit(self, weights: tuple[float, ...]) -> bool:
        return len(weights) == self.n_values and all(0.0 <= weight < math.inf for weight in weights)

    def draw_scales(self, inputs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a scale for each row, shape (n,), and its rank among them.

        One scale falls into each of n equal parts of the log-range, which takes most of the scale's share
        out of the variance of the gradient.
        """
        n_rows, device = inputs.shape[0], inputs.device
        rank = torch.randperm(n_rows, generator=generator, device=device)
        within = torch.rand(n_rows, generator=generator, dtype=inputs.dtype, device=device)
        position = (rank + within) / max(n_rows, 1)
        low, high = (math.log(scale) for scale in self.scales)
        return torch.exp(low + (high - low) * position), rank

    def add_noise(self, inputs: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``inputs`` with codes replaced and noise added to the observed values."""
        if inputs.shape[1] != self.n_values + len(self.cardinalities):
            raise ConfigurationError(
                f"inputs must have {self.n_values} value and {len(self.cardinalities)} code columns; "
                f"got {inputs.shape[1]} columns."
            )
        if self.cardinalities and self.noisy_codes:
            inputs = self._replace_codes(inputs, scale, generator)
        values = inputs[:, : self.n_values]
        noise = torch.randn(values.shape, dtype=values.dtype, device=values.device, generator=generator)
        noise *= scale[:, None]
        if self.weights is not None:
            noise *= noise.new_tensor(self.weights)
        if any(gate >= 0 for gate in self.gates):
            noise *= self._observed(inputs)
        noise += values
        return torch.cat([noise, inputs[:, self.n_values :]], dim=1) if self.cardinalities else noise

    def _observed(self, inputs: Tensor) -> Tensor:
        observed = torch.ones_like(inputs[:, : self.n_values])
        for position, gate in enumerate(self.gates):
            if gate >= 0:
                observed[:, gate] *= (inputs[:, self.n_values + position] == 0).to(inputs.dtype)
        return observed

    def _replace_codes(self, inputs: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
        n_rows, device = inputs.shape[0], inputs.device
        if n_rows < 2:  # there is no other row to take a code from
            return inputs
        units, columns = self._units(device)
        shape = (n_rows, len(self.cardinalities))
        draw = torch.rand(shape, generator=generator, dtype=inputs.dtype, device=device)
        replaced = draw < (scale.square() / (1.0 + scale.square()))[:, None]
        # 1 .. n-1 rows further on, so that the code of a row is never replaced by the same row's.
        shift = torch.randint(1, n_rows, shape, generator=generator, device=device)
        donor = (torch.arange(n_rows, device=device)[:, None] + shift) % n_rows
        other = inputs[donor[:, units], columns.expand(n_rows, -1)]
        return inputs.index_copy(1, columns, torch.where(replaced[:, units], other, inputs[:, columns]))

    def _units(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the columns that can be replaced, and for each the number of its unit.

        A unit is named by its first code column; all codes gating one value share a unit with it.
        """
        first: dict[int, int] = {}
        units, columns = [], []
        for position, gate in enumerate(self.gates):
            units.append(first.setdefault(gate, position) if gate >= 0 else position)
            columns.append(self.n_values + position)
        for gate, unit in first.items():
            units.append(unit)
            columns.append(gate)
        return torch.tensor(units, device=device), torch.tensor(columns, device=device)


@dataclass(frozen=True)
class ReverseKL:
    r"""Divergence of a model from an unnormalised density, less that density's constant: minus the ELBO.

    The rows of a batch are standard normal noise z, the only column of its context a temperature T. With
    x = f(z sqrt(T)), the loss of a row is

    .. math:: \log N(z; 0, 1) - \tfrac{d}{2} \log T - \log |\det f'| - \tfrac{1}{T} \log p(x)

    whose mean is KL(q_T | p^(1/T)) less the constant of p^(1/T). The noise is tempered as the target is: a
    map that is right for a normal target at one temperature is right at all.

    Parameters
    ----------
    log_density : callable
        ``(rows, with_gradients) -> (values (n,), gradients (n, d) or None)``, in nats.
    path : bool, default=True
        Let the gradient take the path through the rows alone, without the score of the model's parameters,
        whose mean is 0. It vanishes where q is p, so nothing of the noise remains there; it takes the map
        back as well.
    most : float, default=50.0
        Largest length of the gradient with respect to one row, in units of sqrt(d), that of standard normal
        rows.

    Raises
    ------
    ConfigurationError
        If ``most`` is not positive.

    Notes
    -----
    The module has ``noise_to_rows(noise)`` and ``rows_to_noise(rows)``, which return what they say and
    log|det|. A row without a finite log-density takes the largest loss of the others and leaves the gradient
    alone.

    References
    ----------
    Roeder, Wu, Duvenaud (2017). Sticking the Landing: Simple, Lower-Variance Gradient Estimators for
    Variational Inference.

    Examples
    --------
    >>> ReverseKL(lambda rows, with_gradients: (-rows.square().sum(1), -2 * rows), path=False).path
    False
    """

    log_density: LogDensity
    path: bool = True
    most: float = 50.0

    stochastic = False

    def __post_init__(self) -> None:
        if not self.most > 0.0:
            raise ConfigurationError(f"most must be positive; got {self.most!r}.")

    def __call__(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return ``log q_T(x) - log p(x) / T``, shape (n,), in float64."""
        if batch.context is None:
            raise ConfigurationError("batch must have temperatures as its context; got none.")
        noise, temperature = batch.inputs, batch.context[:, 0]
        to_rows = cast(Callable[[Tensor], tuple[Tensor, Tensor]], module.noise_to_rows)
        rows, log_det = to_rows(noise * temperature.sqrt()[:, None])
        learning = torch.is_grad_enabled()
        log_p, gradients = self.log_density(rows.detach(), learning)
        log_p, n_features = log_p / temperature, noise.shape[1]
        log_noise = -0.5 * (noise.double().square() + math.log(2.0 * math.pi)).sum(1)
        value = log_noise - 0.5 * n_features * temperature.double().log() - log_det.detach() - log_p
        finite = torch.isfinite(value)
        if gradients is None:
            return _fill(value, finite)
        pull = gradients / temperature[:, None]
        if self.path:
            pull = pull - self._model_gradients(module, rows.detach(), temperature)
        finite &= torch.isfinite(pull).all(dim=1)
        pull = _shorten(torch.where(finite[:, None], pull, 0.0), self.most * math.sqrt(n_features))
        surrogate = -(pull.to(rows.dtype) * rows).sum(1)
        if not self.path:
            surrogate = surrogate - torch.where(finite, log_det, 0.0)
        return _fill(value, finite) + (surrogate - surrogate.detach()).double()

    @staticmethod
    def _model_gradients(module: nn.Module, rows: Tensor, temperature: Tensor) -> Tensor:
        """Return the gradient of log q_T with respect to rows, (n, d)."""
        rows = rows.requires_grad_()
        to_noise = cast(Callable[[Tensor], tuple[Tensor, Tensor]], module.rows_to_noise)
        noise, log_det = to_noise(rows)
        log_q = log_det - 0.5 * noise.square().sum(1) / temperature
        return torch.autograd.grad(log_q.sum(), rows)[0]


def _fill(value: Tensor, finite: Tensor) -> Tensor:
    """Give rows that are not finite the largest of the others; infinity if there are none."""
    worst = torch.where(finite, value, -math.inf).amax()
    return torch.where(finite, value, torch.where(finite.any(), worst, math.inf))


def _shorten(vectors: Tensor, most: float) -> Tensor:
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors * (most / length.clamp(min=most))


def noise_context(
    scale: float | Tensor,
    n_rows: int,
    *,
    context: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the context with which a noise-conditional module gives the density at one noise scale.

    Parameters
    ----------
    scale : float or Tensor of shape (n_rows,)
        The noise scale, in units of the encoded values; of each row, or of all.
    n_rows : int
        Number of rows.
    context : Tensor of shape (n_rows, n_context), optional
        The user's context, which comes first; its dtype and device are then those of the result.
    dtype, device
        Of the result when there is no ``context``.

    Returns
    -------
    Tensor of shape (n_rows, n_context + 1)
        The context with ``0.5 * log(scale)`` as its last column.

    Raises
    ------
    ConfigurationError
        If ``scale`` is not positive and finite.

    Examples
    --------
    >>> noise_context(1.0, 2).tolist()
    [[0.0], [0.0]]
    """
    if context is not None:
        dtype, device = context.dtype, context.device
    scales = torch.as_tensor(scale, dtype=dtype, device=device)
    if not bool(((scales > 0.0) & (scales < math.inf)).all()):
        raise ConfigurationError(f"scale must be positive and finite; got {scale!r}.")
    return _with_noise(context, scales.expand(n_rows))


def trimmed(loss: Tensor, trim: float, level: Tensor | None = None) -> Tensor:
    """Set the largest losses to zero and scale the others so that the mean is the mean of those kept.

    Parameters
    ----------
    loss : Tensor of shape (n,)
        Loss of each row.
    trim : float
        Fraction left out.
    level : Tensor of shape (n,), optional
        A permutation of 0..n-1. Rows are compared only with those of a similar level: losses at different
        noise scales differ for a reason that is not the row.
    """
    if trim == 0.0:
        return loss
    n_rows = loss.shape[0]
    n_groups = 1 if level is None else max(1, n_rows // _TRIM_GROUP)
    position = torch.arange(n_rows, device=loss.device)
    group = position * n_groups // max(n_rows, 1)
    size = torch.bincount(group, minlength=n_groups)
    kept = size - (trim * size).long()
    order = torch.argsort(loss.detach())
    if level is not None:
        order = order[torch.argsort(group[level[order]], stable=True)]
    within = position - (size.cumsum(0) - size)[group]
    keep = torch.zeros_like(position, dtype=torch.bool).index_put((order,), within < kept[group])
    return torch.where(keep, loss, 0.0) * (n_rows / kept.sum())


def _with_noise(context: Tensor | None, scale: Tensor) -> Tensor:
    column = 0.5 * torch.log(scale)[:, None]
    return column if context is None else torch.cat([context, column], dim=1)


def _log_prob(module: nn.Module, inputs: Tensor, context: Tensor | None) -> Tensor:
    log_prob = cast(Callable[[Tensor, Tensor | None], Tensor], module.log_prob)
    return log_prob(inputs, context)


def _check_trim(trim: float) -> None:
    if not 0.0 <= trim < 1.0:
        raise ConfigurationError(f"trim must lie in [0, 1); got {trim!r}.")
