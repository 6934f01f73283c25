"""Base distributions: normals with exact log-densities, able to leave unobserved features out."""

import math

import torch
from nflows.distributions.base import Distribution
from torch import Tensor, nn

from flowdetect.flows._conditioners import clamp_reach

__all__ = ["DiagonalNormal", "StandardNormal"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_MAX_LOG_STD = 15.0


class _Normal(Distribution):
    """What the normals share: (log-)density by feature, the mask of observed features, sampling."""

    def __init__(self, n_features: int, masked: bool) -> None:
        super().__init__()
        self.n_features = n_features
        self.masked = masked

    def noise_to_rows(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Turn standard normal noise (n, n_features) into rows of this distribution."""
        raise NotImplementedError

    def draw(
        self,
        n_rows: int,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        like: Tensor | None = None,
    ) -> Tensor:
        """Draw one row per row of the context, or n_rows without one.

        Parameters
        ----------
        n_rows : int
        context : Tensor of shape (n_rows, n_context), optional
        generator : torch.Generator, optional
            On the device of the result; torch's global stream if None.
        like : Tensor, optional
            Gives dtype and device if there is no context.

        Returns
        -------
        Tensor of shape (n_rows, n_features)
            0 where a feature is not observed.
        """
        model = context if context is not None else like
        dtype, device = (torch.get_default_dtype(), None) if model is None else (model.dtype, model.device)
        noise = torch.randn(n_rows, self.n_features, generator=generator, dtype=dtype, device=device)
        return self.rows_at(noise, context)

    def rows_at(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the rows that standard normal noise (n, n_features) stands for; 0 where not observed."""
        rows = self.noise_to_rows(noise, context)
        observed = self._observed(context)
        return rows if observed is None else torch.where(observed, rows, 0.0)

    def _observed(self, context: Tensor | None) -> Tensor | None:
        if not self.masked or context is None:
            return None
        return context[:, : self.n_features] > 0.5

    def _sample(self, num_samples: int, context: Tensor | None) -> Tensor:
        # nflows' shapes: (num_samples, features), or (contexts, num_samples, features) with a context.
        if context is None:
            return self.draw(num_samples, like=next(self.parameters(), None))
        rows = self.draw(len(context) * num_samples, context.repeat_interleave(num_samples, dim=0))
        return rows.unflatten(0, (len(context), num_samples))

    def _log_density(self, standardised: Tensor, log_std: Tensor | None, context: Tensor | None) -> Tensor:
        # Cut where the sum of squares would overflow: exp of it has long been 0, the gradient stays finite.
        reach = math.sqrt(torch.finfo(standardised.dtype).max / (4.0 * self.n_features))
        terms = standardised.clamp(-reach, reach).square() * -0.5 - _HALF_LOG_TWO_PI
        if log_std is not None:
            terms = terms - log_std
        observed = self._observed(context)
        return (terms if observed is None else torch.where(observed, terms, 0.0)).sum(dim=1)


class StandardNormal(_Normal):
    """Independent standard normal features.

    Parameters
    ----------
    n_features : int
    masked : bool, default False
        The first n_features columns of the context then say which features are observed (1): the density is
        that of these alone, and samples are 0 elsewhere.

    Examples
    --------
    >>> round(StandardNormal(1).log_prob(torch.zeros(1, 1)).item(), 4)
    -0.9189
    """

    def __init__(self, n_features: int, *, masked: bool = False) -> None:
        super().__init__(n_features, masked)

    def noise_to_rows(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Return the noise: it has this distribution already."""
        return noise

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        return self._log_density(inputs, None, context)

    def _mean(self, context: Tensor | None) -> Tensor:
        if context is None:
            return torch.zeros(self.n_features)
        return context.new_zeros(len(context), self.n_features)


class DiagonalNormal(_Normal):
    """Independent normal features with learnt means and standard deviations.

    Parameters
    ----------
    n_features : int
    n_context : int, default 0
        With a context, means and log standard deviations also depend on it, linearly.
    masked : bool, default False
        As in :class:`StandardNormal`; the mask is part of the n_context columns.

    Notes
    -----
    Log standard deviations are kept within -15 .. 15. Parameters are named as in nflows' DiagonalNormal.
    """

    def __init__(self, n_features: int, *, n_context: int = 0, masked: bool = False) -> None:
        super().__init__(n_features, masked)
        self.mean_ = nn.Parameter(torch.zeros(1, n_features))
        self.log_std_ = nn.Parameter(torch.zeros(1, n_features))
        self.context_layer = nn.Linear(n_context, 2 * n_features, bias=False) if n_context else None
        if self.context_layer is not None:
            nn.init.zeros_(self.context_layer.weight)

    def noise_to_rows(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Scale and shift the noise."""
        mean, log_std = self._moments(context)
        return mean + noise * log_std.exp()

    def _moments(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.mean_, self.log_std_
        if self.context_layer is not None and context is not None:
            change_mean, change_log_std = self.context_layer(clamp_reach(context)).chunk(2, dim=1)
            mean, log_std = mean + change_mean, log_std + change_log_std
        return mean, log_std.clamp(-_MAX_LOG_STD, _MAX_LOG_STD)

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        mean, log_std = self._moments(context)
        return self._log_density((inputs - mean) * torch.exp(-log_std), log_std, context)

    def _mean(self, context: Tensor | None) -> Tensor:
        mean = self._moments(context)[0]
        return mean.squeeze(0) if context is None else mean.expand(len(context), -1)
