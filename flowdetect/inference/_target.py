"""The caller's log-density, asked in one way: values and gradients of rows, in float64 if it takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowdetect.exceptions import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from flowdetect.training._objectives import LogDensity

__all__ = ["Target"]

# Rows that the function is given at once, at most, where no more are needed.
_CHUNK = 4096


class Target:
    """An unnormalised log-density, checked at the first rows it is asked for.

    Parameters
    ----------
    log_density : callable
        ``Tensor (n, n_features) -> Tensor (n,)``, differentiable by torch.
    rows : ndarray of shape (n, n_features)
        What it is tried on.

    Raises
    ------
    ConfigurationError
        If it is not callable, returns something else, is not differentiable, or is finite nowhere.
    """

    def __init__(self, log_density: Any, rows: np.ndarray) -> None:
        import torch

        if not callable(log_density):
            raise ConfigurationError(
                "log_density must be a function from a tensor (n, n_features) to a tensor (n,); "
                f"got {log_density!r}."
            )
        self._function = log_density
        self.dtype = torch.float64
        given = torch.from_numpy(np.asarray(rows, dtype=np.float64))
        self.dtype = self._accepted_dtype(given)
        values, _ = self(given, True)
        if not bool(torch.isfinite(values).any()):
            raise ConfigurationError(
                f"log_density must be finite somewhere near the start; all of {len(rows)} values were NaN or "
                "infinite. Give start= a point where it is finite, and map bounded parameters to all numbers."
            )

    def __call__(self, rows: Tensor, with_gradients: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return log-densities (n,) of rows (n, n_features), and their gradients (n, n_features) if wanted.

        Both are float64, whatever the rows are.
        """
        import torch

        if not with_gradients:
            with torch.no_grad():
                return self._values(rows.detach().to(self.dtype)).double(), None
        with torch.enable_grad():
            given = rows.detach().to(self.dtype).requires_grad_()
            values = self._values(given)
            gradient = (
                torch.autograd.grad(values.sum(), given, allow_unused=True)[0]
                if values.requires_grad
                else None
            )
        if gradient is None:
            raise ConfigurationError(
                "log_density must be differentiable by torch with respect to its rows; its result does not "
                "depend on them, or was detached, or went through numpy. Use torch's operations throughout."
            )
        return values.detach().double(), gradient.double()

    def in_numpy(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log-densities (n,) and gradients (n, n_features) of rows, as arrays."""
        import torch

        values, gradients = self(torch.from_numpy(rows), True)
        return values.numpy(), np.asarray(gradients)

    def around(self, location: np.ndarray, scale: np.ndarray) -> LogDensity:
        """Return the log-density of u, where rows are ``location + scale u``, scale being triangular."""
        import torch

        centre, root = torch.from_numpy(location), torch.from_numpy(scale)
        log_det = root.diag().log().sum()

        def whitened(rows: Tensor, with_gradients: bool) -> tuple[Tensor, Tensor | None]:
            values, gradients = self(centre + rows.double() @ root.T, with_gradients)
            return values + log_det, None if gradients is None else gradients @ root

        return whitened

    def log_ratios(self, rows: np.ndarray, log_q: np.ndarray) -> np.ndarray:
        """Return log p - log q of rows, in nats; -inf where p is not a number.

        Raises
        ------
        ConfigurationError
            If p is infinite somewhere, or zero or no number in all rows: there are no weights then.
        """
        import torch

        parts = [self(part)[0] for part in torch.from_numpy(rows).split(_CHUNK)]
        values = torch.cat(parts).numpy()
        if np.isposinf(values).any() or not np.isfinite(values).any():
            came = "+infinity in some" if np.isposinf(values).any() else "NaN or -infinity in all"
            raise ConfigurationError(
                f"log_density must be below infinity everywhere and finite where the flow draws; got {came} "
                f"of {len(values)} draws. Map bounded parameters to all numbers, with the log-derivative."
            )
        ratios = values - log_q
        return np.where(np.isnan(ratios), -np.inf, ratios)

    def _values(self, rows: Tensor) -> Tensor:
        import torch

        values = self._function(rows)
        if not isinstance(values, torch.Tensor) or values.shape != (len(rows),):
            came = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ConfigurationError(
                f"log_density must return a tensor of shape ({len(rows)},), one value for each row of "
                f"its ({len(rows)}, {rows.shape[1]}) tensor; got {came}. Sum over the last dimension."
            )
        return values

    def _accepted_dtype(self, rows: Tensor) -> Any:
        """Return float64, or float32 if the function refuses that, having tensors of float32 in it."""
        import torch

        try:
            self._function(rows[:1])
        except RuntimeError as error:
            if "dtype" not in str(error) and "Double" not in str(error):
                raise
            return torch.float32
        return torch.float64
