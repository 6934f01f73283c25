"""One code for each row of shares: drawn, at a given quantile, or equal to a given one where it can be."""

import torch
from torch import Tensor

__all__ = ["codes_at", "draw_codes", "draw_coupled"]


def draw_codes(shares: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one code (n,) for each row of shares (n, cardinality)."""
    return torch.multinomial(shares, 1, generator=generator).squeeze(1)


def codes_at(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Return the quantile (n,) of each row of shares (n, cardinality) at the uniform numbers (n,).

    It is the number of codes whose cumulated share lies at or below the uniform number.
    """
    passed = shares.cumsum(1) <= uniforms.unsqueeze(1)
    # The shares may sum to a little less than a uniform number near 1.
    return passed.sum(1).clamp_max(shares.shape[1] - 1)


def draw_coupled(
    code: Tensor, before: Tensor, now: Tensor, noise_scale: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw from the shares ``now``, if possible equal to ``code``, a draw from the shares ``before``."""
    kept, renewed = (
        torch.rand(len(code), generator=generator, dtype=now.dtype, device=now.device) for _ in range(2)
    )
    had, has = (shares.gather(1, code[:, None]).squeeze(1) for shares in (before, now))
    gained = (now - before).clamp_min(0.0)
    gained = torch.where(gained.sum(dim=1, keepdim=True) > 1e-12, gained, now)
    near = torch.where(kept * had < has, code, draw_codes(gained, generator))
    return torch.where(renewed < noise_scale.squeeze(1), draw_codes(now, generator), near)
