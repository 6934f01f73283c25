"""Exact probabilities of rows of discrete codes."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from nflows.distributions.base import Distribution
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._conditioners import clamp_reach
from flowdetect.flows._draws import codes_at, draw_codes, draw_coupled
from flowdetect.flows._fused_codes import FusedCodes
from flowdetect.flows._masked_networks import MaskedNetwork, hidden_degrees

__all__ = ["AutoregressiveCategorical", "CodeReader"]

# Share given to codes that the marginals have never seen, so that their logarithm exists.
_LEAST_MARGINAL = 1e-6


class CodeReader(nn.Module):
    """Turns codes, stored as numbers, into rows of one table that holds all columns one after the other.

    Parameters
    ----------
    cardinalities : sequence of int
    """

    last: Tensor
    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int]) -> None:
        super().__init__()
        sizes = torch.tensor(list(cardinalities), dtype=torch.long)
        self.n_rows = int(sizes.sum())
        self.register_buffer("last", sizes - 1, persistent=False)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (n, n_codes) as whole numbers within their range, and which of them were valid.

        Codes that are out of range, fractional or NaN are read as the nearest valid one, so that no table is
        read beyond its end; whoever uses the codes makes NaN of the results that are marked as not valid.
        """
        # Cut before the conversion: a number beyond the range of integers would wrap round.
        index = torch.minimum(torch.nan_to_num(codes).clamp_min(0), self.last.to(codes.dtype)).long()
        return index, index == codes


class _CodeLayer(nn.Module):
    """The first masked layer over one-hot codes, without writing the one-hot vectors out."""

    mask: Tensor

    def __init__(self, cardinalities: Sequence[int], out_degrees: Tensor) -> None:
        super().__init__()
        self.reader = CodeReader(cardinalities)
        bound = 1.0 / math.sqrt(len(cardinalities))
        self.weight = nn.Parameter(torch.empty(self.reader.n_rows, len(out_degrees)).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(len(out_degrees)).uniform_(-bound, bound))
        degrees = torch.arange(1, len(cardinalities) + 1).repeat_interleave(self.reader.last + 1)
        self.register_buffer("mask", (out_degrees[None, :] >= degrees[:, None]).float(), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Map valid codes (n, n_codes) to (n, hidden)."""
        return F.embedding_bag(index + self.reader.offsets, self.weight * self.mask, mode="sum") + self.bias

    def column(self, index: Tensor, column: int) -> Tensor:
        """Return the share (n, hidden) that one column's codes (n,) have in the result."""
        rows = index + self.reader.offsets[column]
        return self.weight[rows] * self.mask[rows]


class AutoregressiveCategorical(Distribution):
    r"""Distribution of rows of codes: ``P(c_1) P(c_2 | c_1) P(c_3 | c_1, c_2) ...``, exact, in one pass.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column; codes are ``0 .. cardinality - 1``, stored as numbers of any dtype.
        Columns of cardinality 1 have probability 1.
    n_context : int, default 0
    hidden_features : int, default 64
        See :func:`hidden_degrees` for fewer than columns.
    n_blocks : int, default 2
    smoothing : float, default 1e-4
        Each conditional is ``(1 - smoothing) softmax + smoothing / cardinality``: a log-probability per
        column is at least ``log(smoothing / cardinality)``.
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0
    marginals : sequence of array-like, optional
        For each column the frequency of each code (any positive scale). The model then starts as the
        independent model with these frequencies, otherwise as the uniform one.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range, or the marginals do not fit the cardinalities.

    Notes
    -----
    Probabilities, so log_prob is at most 0. A code out of its range, fractional or NaN makes the
    log-probability of its column, and so of its row, NaN: checking costs nothing on a device that way, and it
    cannot pass as a score.

    Examples
    --------
    >>> model = AutoregressiveCategorical([2, 3], marginals=[[1, 1], [1, 1, 2]])
    >>> round(model.log_prob(torch.tensor([[0.0, 2.0]])).exp().item(), 3)
    0.25
    """

    _restore: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        smoothing: float = 1e-4,
        activation: str = "silu",
        dropout: float = 0.0,
        marginals: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.cardinalities = _check_cardinalities(cardinalities)
        self.smoothing = _check_smoothing(smoothing)
        self.reader = CodeReader(self.cardinalities)
        # Constant columns carry nothing: the network is built over the others, `_columns`.
        self._columns = [i for i, size in enumerate(self.cardinalities) if size > 1]
        sizes = [self.cardinalities[i] for i in self._columns]
        self._groups = _group_by_size(sizes)
        self._starts = _output_starts(self._groups)
        order = [place for _, places in self._groups for place in places]
        self.register_buffer(
            "_restore", torch.argsort(torch.tensor(order, dtype=torch.long)), persistent=False
        )
        self.network: MaskedNetwork | None = None
        self.plan: FusedCodes | None = None
        self._leaves: Sequence[Tensor] | None = None
        if sizes:
            degrees = hidden_degrees(len(sizes), hidden_features)
            self.network = MaskedNetwork(
                torch.arange(1, len(sizes) + 1),
                torch.cat([torch.full((sizes[place],), place + 1) for place in order]),
                n_context=n_context,
                hidden_features=hidden_features,
                n_blocks=n_blocks,
                activation=activation,
                dropout=dropout,
                initial_layer=_CodeLayer(sizes, degrees),
            )
            self._start(self.network, order, marginals)
            self.plan = FusedCodes(self.network, self.cardinalities, order, self.smoothing)

    def flat_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the compiled pass, in the order in which it wants them side by side."""
        return [] if self.plan is None else [self.plan.parameters()]

    def use_flat(self, leaves: Sequence[Sequence[Tensor]] | None) -> None:
        """Take the weights from vectors that the parameters are views of; None: from the parameters."""
        self._leaves = leaves[0] if leaves else None

    def log_prob_columns(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log P(c_j | c_1 .. c_{j-1}, context) for each column; the sum over columns is log_prob.

        Parameters
        ----------
        codes : Tensor of shape (n, n_codes)
        context : Tensor of shape (n, n_context), optional

        Returns
        -------
        Tensor of shape (n, n_codes)
            At most 0, in nats; NaN where the code is not valid.
        """
        if self.plan is not None and self.plan.can_run(self, codes, context):
            return self.plan(self, codes, context, self._leaves)
        index, valid = self.reader(codes)
        if self.network is None:
            return torch.where(valid, 0.0, math.nan).to(self._dtype(codes))
        active = index[:, self._columns]
        context = clamp_reach(context)
        hidden = self.network.hidden(self.network.initial_layer(active), context)
        found = self._read_groups(self.network.outputs(hidden, context), active)
        if len(self._columns) < len(self.cardinalities):
            found = found.new_zeros(index.shape).index_copy(1, self._places(found), found)
        return torch.where(valid, found, math.nan)

    def draw(
        self, n_rows: int, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw one row per row of the context, or n_rows without one, column after column.

        Parameters
        ----------
        n_rows : int
        context : Tensor of shape (n_rows, n_context), optional
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.

        Returns
        -------
        Tensor of shape (n_rows, n_codes)
            Codes, in the dtype of the parameters.
        """
        return self.choose(n_rows, context, lambda shares, _: draw_codes(shares, generator))

    def rows_at(self, uniforms: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the rows at given uniform numbers: each column's quantile, given the columns before it.

        Parameters
        ----------
        uniforms : Tensor of shape (n_rows, n_codes)
            Within 0..1. Independent uniform numbers give rows of this distribution.
        context : Tensor of shape (n_rows, n_context), optional

        Returns
        -------
        Tensor of shape (n_rows, n_codes)
            Codes, in the dtype of the parameters.
        """
        return self.choose(
            len(uniforms), context, lambda shares, column: codes_at(shares, uniforms[:, column])
        )

    def choose(self, n_rows: int, context: Tensor | None, choice: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Fill rows column after column, each given those before it.

        Parameters
        ----------
        n_rows : int
        context : Tensor of shape (n_rows, n_context), optional
        choice : callable (shares, column) -> codes
            Of a column's probabilities, (n_rows, cardinality); not called for columns of cardinality 1.

        Returns
        -------
        Tensor of shape (n_rows, n_codes)
        """
        if self.network is None:
            return torch.zeros(n_rows, len(self.cardinalities), dtype=self._dtype(context))
        context = clamp_reach(context)
        start = self._code_layer.bias.expand(n_rows, -1)
        rows = start.new_zeros(n_rows, len(self.cardinalities))
        for place, column in enumerate(self._columns):
            chosen = choice(self._shares(start, context, place), column)
            rows[:, column] = chosen.to(rows.dtype)
            start = start + self._code_layer.column(chosen, place)
        return rows

    def draw_near(
        self,
        codes: Tensor,
        noise_scale: Tensor,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw one row near each given row: column after column, keep the code where the model lets it.

        Parameters
        ----------
        codes : Tensor of shape (n, n_codes)
            Valid codes.
        noise_scale : Tensor of shape (n, 1)
            Share of the columns drawn anew, whatever the code was; 1 is a free draw.
        context : Tensor of shape (n, n_context), optional
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.

        Returns
        -------
        Tensor of shape (n, n_codes)

        Notes
        -----
        A column is coupled with that of the given row by a maximal coupling of the two conditional
        distributions, given the codes before it in either row: it stays as it is unless the codes
        before it have made it less likely. Rows from the model become rows from the model, whatever the noise
        scale.
        """
        if self.network is None:
            return torch.zeros_like(codes)
        context = clamp_reach(context)
        given = new = self._code_layer.bias.expand(len(codes), -1)
        rows = given.new_zeros(codes.shape)
        index = self.reader(codes)[0]
        for place, column in enumerate(self._columns):
            before, now = (self._shares(start, context, place) for start in (given, new))
            code = index[:, column]
            drawn = draw_coupled(code, before, now, noise_scale, generator)
            rows[:, column] = drawn.to(rows.dtype)
            given = given + self._code_layer.column(code, place)
            new = new + self._code_layer.column(drawn, place)
        return rows

    def _shares(self, start: Tensor, context: Tensor | None, place: int) -> Tensor:
        """Return the probability of each code of an active column, given what the first layer has read."""
        if self.network is None:
            raise ConfigurationError("cardinalities must exceed 1 somewhere for a network; got all constant.")
        size = self.cardinalities[self._columns[place]]
        hidden = self.network.hidden(start, context)
        logits = self.network.select_outputs(hidden, context, self._starts[place], size)
        return self._smooth(logits.softmax(-1))

    def _smooth(self, shares: Tensor) -> Tensor:
        return (1.0 - self.smoothing) * shares + self.smoothing / shares.shape[-1]

    @property
    def _code_layer(self) -> _CodeLayer:
        if self.network is None:
            raise ConfigurationError("cardinalities must exceed 1 somewhere for a network; got all constant.")
        return cast(_CodeLayer, self.network.initial_layer)

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        return self.log_prob_columns(inputs, context).sum(dim=1)

    def _sample(self, num_samples: int, context: Tensor | None) -> Tensor:
        if context is None:
            return self.draw(num_samples)
        rows = self.draw(len(context) * num_samples, context.repeat_interleave(num_samples, dim=0))
        return rows.unflatten(0, (len(context), num_samples))

    def _read_groups(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return the log-probability of each active column's code, (n, n_active)."""
        found, begin = [], 0
        for size, places in self._groups:
            end = begin + size * len(places)
            log_shares = logits[:, begin:end].unflatten(1, (len(places), size)).log_softmax(-1)
            found.append(log_shares.gather(-1, index[:, places].unsqueeze(-1)).squeeze(-1))
            if self.smoothing:
                floor = found[-1].new_tensor(math.log(self.smoothing / size))
                found[-1] = torch.logaddexp(found[-1] + math.log1p(-self.smoothing), floor)
            begin = end
        return torch.cat(found, dim=1).index_select(1, self._restore)

    def _places(self, like: Tensor) -> Tensor:
        return torch.tensor(self._columns, device=like.device)

    def _dtype(self, like: Tensor | None) -> torch.dtype:
        return like.dtype if like is not None and like.is_floating_point() else torch.get_default_dtype()

    def _start(
        self, network: MaskedNetwork, order: list[int], marginals: Sequence[Sequence[float]] | None
    ) -> None:
        nn.init.zeros_(network.final_layer.weight)
        nn.init.zeros_(network.final_layer.bias)
        if marginals is not None:
            logs = _log_marginals(marginals, self.cardinalities)
            network.final_layer.bias.data.copy_(torch.cat([logs[self._columns[place]] for place in order]))


def _group_by_size(sizes: list[int]) -> list[tuple[int, list[int]]]:
    """Group columns of one cardinality, so that each group is one rectangular block of logits."""
    return [(size, [i for i, other in enumerate(sizes) if other == size]) for size in sorted(set(sizes))]


def _output_starts(groups: list[tuple[int, list[int]]]) -> dict[int, int]:
    """Return where the logits of each column begin."""
    starts, begin = {}, 0
    for size, places in groups:
        for place in places:
            starts[place] = begin
            begin += size
    return starts


def _check_cardinalities(cardinalities: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in cardinalities)
    if not sizes or min(sizes) < 1:
        raise ConfigurationError(
            f"cardinalities must hold at least one number, each at least 1; got {sizes!r}. "
            "Leave the discrete part out if there are no discrete columns."
        )
    return sizes


def _check_smoothing(smoothing: float) -> float:
    if not 0.0 <= smoothing < 1.0:
        raise ConfigurationError(f"smoothing must lie in [0, 1); got {smoothing!r}. 0 switches it off.")
    return float(smoothing)


def _log_marginals(marginals: Sequence[Sequence[float]], cardinalities: tuple[int, ...]) -> list[Tensor]:
    shares = [torch.as_tensor(marginal, dtype=torch.float64) for marginal in marginals]
    widths = tuple(share.numel() for share in shares)
    if widths != cardinalities:
        raise ConfigurationError(
            "marginals must hold one frequency per code of each column; "
            f"got lengths {widths!r} for cardinalities {cardinalities!r}."
        )
    if any(bool((share < 0).any()) or not 0.0 < float(share.sum()) < math.inf for share in shares):
        raise ConfigurationError("marginals must be non-negative with a positive, finite sum in each column.")
    return [torch.log(share / share.sum() + _LEAST_MARGINAL) for share in shares]
