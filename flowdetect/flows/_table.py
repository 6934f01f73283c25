"""The density of encoded table rows: discrete codes first, then continuous values given the codes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import torch
from nflows.distributions.base import Distribution
from nflows.flows import Flow
from torch import Tensor

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._build import FlowConfig, FlowSettings, build_flow, local_seed
from flowdetect.flows._discrete import AutoregressiveCategorical
from flowdetect.flows._embeddings import CodeEmbedding, ContextEmbedding
from flowdetect.flows._sampling import sample_flow

__all__ = ["TableDensity"]


class TableDensity(Distribution):
    """Density of encoded table rows ``[values | codes]``.

    It is log P(codes | context) + log p(values | codes, context).

    Parameters
    ----------
    layout : MatrixLayout
        Of the rows. Values whose gate's code is not 0 are absent from their row: they are not read, and the
        density is that of the values present.
    context_layout : MatrixLayout, optional
        Of the encoded context columns.
    n_extra_context : int, default 0
        Further context columns behind those, taken as they are (a noise level).
    settings : FlowSettings, optional
        Shape of the flow; its hidden_features, n_blocks, activation and dropout also serve the discrete part.
    seed : int
        Decides the start. Torch's global random stream is neither read nor moved.
    smoothing : float, default 1e-4
        Of the discrete part, see :class:`AutoregressiveCategorical`.
    marginals : sequence of array-like, optional
        Frequencies of the codes, to start at the independent model.
    splits : sequence of sequence of int, optional
        Of the flow's layers, see :func:`build_flow`.

    Raises
    ------
    ConfigurationError
        If the layout has no columns, or settings do not go together.

    Notes
    -----
    The number is a density with respect to Lebesgue measure on the values present, and to counting measure on
    the codes: it integrates and sums to 1 over both. Without codes it is exactly the bare flow.

    Examples
    --------
    >>> from flowdetect._utils.layout import MatrixLayout
    >>> density = TableDensity(MatrixLayout(1, cardinalities=(2,), gates=(0,)), seed=0)
    >>> density.log_prob(torch.tensor([[0.3, 0.0], [0.0, 1.0]])).shape
    torch.Size([2])
    """

    def __init__(
        self,
        layout: MatrixLayout,
        *,
        context_layout: MatrixLayout | None = None,
        n_extra_context: int = 0,
        settings: FlowSettings | None = None,
        seed: int,
        smoothing: float = 1e-4,
        marginals: Sequence[Sequence[float]] | None = None,
        splits: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if layout.n_columns == 0:
            raise ConfigurationError(
                "layout must have at least one column; got none. Pass rows with columns."
            )
        self.layout = layout
        self._gates = [
            [j for j, gate in enumerate(layout.gates) if gate == i] for i in range(layout.n_values)
        ]
        settings = self.settings = settings or FlowSettings()
        with local_seed(seed):
            self.context_embedding = ContextEmbedding(context_layout, n_extra=n_extra_context)
            self.code_embedding: CodeEmbedding | None = None
            self.codes: AutoregressiveCategorical | None = None
            if layout.n_codes:
                self.codes = AutoregressiveCategorical(
                    layout.cardinalities,
                    n_context=self.context_embedding.n_outputs,
                    hidden_features=settings.hidden_features,
                    n_blocks=settings.n_blocks,
                    smoothing=smoothing,
                    activation=settings.activation,
                    dropout=settings.dropout,
                    marginals=marginals,
                )
                if layout.n_values:
                    self.code_embedding = CodeEmbedding(layout.cardinalities)
        self.flow: Flow | None = None
        if layout.n_values:
            self.flow = build_flow(self._flow_config(settings), seed=seed, splits=splits)

    def log_prob_parts(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the two parts of the log-density apart.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_columns)
            ``[values | codes]``.
        context : Tensor of shape (n, n_context_columns), optional
            ``[values | codes | extra]``.

        Returns
        -------
        values_part : Tensor of shape (n,)
            log p(values | codes, context); 0 without values.
        codes_part : Tensor of shape (n,)
            log P(codes | context), at most 0; 0 without codes.

        Raises
        ------
        ConfigurationError
            If the width of the rows or of the context is not the one the density was built for.
        """
        self._check(inputs, context)
        values, codes = inputs.split((self.layout.n_values, self.layout.n_codes), dim=1)
        vectors = self._context_vectors(context)
        values_part = codes_part = inputs.new_zeros(len(inputs))
        if self.flow is not None:
            values_part = self.flow.log_prob(values, self._flow_context(codes, vectors))
        if self.codes is not None:
            codes_part = self.codes.log_prob(codes, vectors)
        return values_part, codes_part

    def code_log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log P(codes | context) alone, without the values.

        Parameters
        ----------
        codes : Tensor of shape (n, n_codes)
        context : Tensor of shape (n, n_context_columns), optional

        Returns
        -------
        Tensor of shape (n,)
            At most 0, in nats.
        """
        self._check(None, context)
        if self.codes is None:
            return codes.new_zeros(len(codes))
        return cast(Tensor, self.codes.log_prob(codes, self._context_vectors(context)))

    @torch.no_grad()
    def sample_rows(
        self, n_rows: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw encoded rows.

        Parameters
        ----------
        n_rows : int
        context : Tensor of shape (n_rows, n_context_columns), optional
            One row is drawn for each row of the context.
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
            0 stands in values that are absent.

        Raises
        ------
        ConfigurationError
            If the width of the context is not the one the density was built for, or it has not n_rows rows.
        """
        self._check_draws(n_rows, context)
        codes = next(self.parameters()).new_zeros(n_rows, 0)
        if self.codes is not None:
            vectors = self._context_vectors(context)
            codes = self.codes.draw(n_rows, vectors, generator=generator).to(codes)
        return self.draw_values(codes, context, generator)

    @torch.no_grad()
    def rows_at(self, uniforms: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the encoded rows at given points of the unit cube.

        Parameters
        ----------
        uniforms : Tensor of shape (n_rows, n_columns)
            Within 0..1, without the ends. Independent uniform numbers give rows of this density, as
            `sample_rows` does; points that fill the cube more evenly give rows that fill the density so.
        context : Tensor of shape (n_rows, n_context_columns), optional

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
            0 stands in values that are absent.

        Raises
        ------
        ConfigurationError
            If the width of the points or of the context is not the one the density was built for, or the
            context has not as many rows.

        Notes
        -----
        It is the inverse of Rosenblatt's transformation for the codes, ``c_j = F^-1(u_j | c_1 .. c_(j-1))``,
        and ``f^-1(Phi^-1(u))`` for the values, with the flow f and the normal distribution function Phi.
        """
        self._check(uniforms, context)
        self._check_draws(len(uniforms), context)
        values, codes = uniforms.split((self.layout.n_values, self.layout.n_codes), dim=1)
        vectors = self._context_vectors(context)
        if self.codes is not None:
            codes = self.codes.rows_at(codes, vectors).to(codes)
        if self.flow is None:
            return codes
        flow_context = self._flow_context(codes, vectors)
        noise = self.flow._distribution.rows_at(torch.special.ndtri(values), flow_context)
        return torch.cat((self.flow._transform.inverse(noise, flow_context)[0], codes), dim=1)

    @torch.no_grad()
    def draw_values(
        self, codes: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw encoded rows with given codes.

        Parameters
        ----------
        codes : Tensor of shape (n_rows, n_codes)
        context : Tensor of shape (n_rows, n_context_columns), optional
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
            0 stands in values that are absent.
        """
        if self.flow is None:
            return codes
        flow_context = self._flow_context(codes, self._context_vectors(context))
        values = sample_flow(self.flow, len(codes), context=flow_context, generator=generator)
        return torch.cat((values, codes), dim=1)

    @torch.no_grad()
    def vary_rows(
        self,
        rows: Tensor,
        noise_scale: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows that lie near given ones: the same rows with part of their noise drawn anew.

        Parameters
        ----------
        rows : Tensor of shape (n, n_columns)
        noise_scale : Tensor of shape (n, 1)
            Within 0..1: the share of codes drawn anew, and of the noise of the values, in standard
            deviations. At 0 the rows are given back, 1 draws freely.
        context : Tensor of shape (n, n_context_columns), optional
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.

        Returns
        -------
        Tensor of shape (n, n_columns)

        Raises
        ------
        ConfigurationError
            If the width of rows or context is not the one the density was built for.

        Notes
        -----
        Values become ``f^-1(sqrt(1 - s^2) f(x) + s e)`` with standard normal ``e`` and the flow f, codes are
        coupled as in :meth:`AutoregressiveCategorical.draw_near`. For every s rows from the model become
        rows from the model: it is the proposal of the preconditioned Crank-Nicolson method (Cotter et al.
        2013), in the space of the noise.
        """
        self._check(rows, context)
        values, codes = rows.split((self.layout.n_values, self.layout.n_codes), dim=1)
        vectors = self._context_vectors(context)
        drawn = codes
        if self.codes is not None:
            drawn = self.codes.draw_near(codes, noise_scale, vectors, generator=generator).to(codes)
        if self.flow is None:
            return drawn
        noise = self.flow._transform.forward(values, self._flow_context(codes, vectors))[0]
        fresh = torch.randn(noise.shape, generator=generator, dtype=noise.dtype, device=noise.device)
        moved = torch.sqrt(1.0 - noise_scale.square()) * noise + noise_scale * fresh
        if self.layout.gated:
            # A value that was absent has no noise of its own; one that is absent now must have none.
            moved = torch.where(self._observed(codes) > 0.5, moved, fresh)
            moved = torch.where(self._observed(drawn) > 0.5, moved, 0.0)
        found = self.flow._transform.inverse(moved, self._flow_context(drawn, vectors))[0]
        return torch.cat((found, drawn), dim=1)

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        values_part, codes_part = self.log_prob_parts(inputs, context)
        return values_part + codes_part

    def _sample(self, num_samples: int, context: Tensor | None) -> Tensor:
        if context is None:
            return self.sample_rows(num_samples)
        rows = self.sample_rows(len(context) * num_samples, context.repeat_interleave(num_samples, dim=0))
        return rows.unflatten(0, (len(context), num_samples))

    def _flow_config(self, settings: FlowSettings) -> FlowConfig:
        code_width = self.code_embedding.n_outputs if self.code_embedding else 0
        return FlowConfig(
            self.layout.n_values,
            n_context=self.context_embedding.n_outputs + code_width,
            masked=self.layout.gated,
            **asdict(settings),
        )

    def _context_vectors(self, context: Tensor | None) -> Tensor | None:
        return None if context is None else self.context_embedding(context)

    def _flow_context(self, codes: Tensor, vectors: Tensor | None) -> Tensor | None:
        """Return what the flow is conditioned on: [observed | context vector | code vector]."""
        parts = [self._observed(codes)] if self.layout.gated else []
        if vectors is not None:
            parts.append(vectors)
        if self.code_embedding is not None and self.code_embedding.n_outputs:
            parts.append(self.code_embedding(codes))
        return torch.cat(parts, dim=1) if parts else None

    def _observed(self, codes: Tensor) -> Tensor:
        """Return 1 where a value is present, (n, n_values)."""
        present = codes == 0
        columns = [
            present[:, gates].all(dim=1) if gates else present.new_ones(len(codes)) for gates in self._gates
        ]
        return torch.stack(columns, dim=1).to(codes.dtype)

    def _check_draws(self, n_rows: int, context: Tensor | None) -> None:
        self._check(None, context)
        if context is not None and len(context) != n_rows:
            raise ConfigurationError(
                f"context must have one row per row to draw; got {len(context)} rows for n_rows={n_rows}. "
                "Repeat the context's rows as often as wanted."
            )

    def _check(self, inputs: Tensor | None, context: Tensor | None) -> None:
        if inputs is not None and (inputs.ndim != 2 or inputs.shape[1] != self.layout.n_columns):
            raise ConfigurationError(
                f"inputs must have shape (n, {self.layout.n_columns}); got {tuple(inputs.shape)}. "
                "Pass rows encoded as [values | codes] for this layout."
            )
        expected = self.context_embedding.n_columns
        width = 0 if context is None else context.shape[1]
        if width != expected:
            raise ConfigurationError(
                f"context must have {expected} columns, as when the density was built; got {width}. "
                "Pass rows encoded as [values | codes | extra]."
            )
