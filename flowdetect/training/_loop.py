"""The one training loop."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowdetect._utils.threads import serial_torch
from flowdetect.exceptions import TrainingError
from flowdetect.training._callbacks import Callback, ask_to_stop
from flowdetect.training._config import (
    EvaluationRecord,
    StopReason,
    TrainingConfig,
    TrainingResult,
)
from flowdetect.training._data import Batch, RowSource, check_weights, fetch_rows, stream_batches
from flowdetect.training._objectives import MaximumLikelihood, Objective
from flowdetect.training._setup import (
    choose_rows,
    learning_rate_share,
    make_plan,
    own_random_stream,
    resolve_device,
    split_stream,
    trained_dtype,
)
from flowdetect.training._weights import AdamW, AveragedWeights, FlatWeights, Snapshot

__all__ = ["train"]

# Looking at a loss means waiting for the device, so it is done only every so many steps.
_CHECK_EVERY = 20
_MAX_RECOVERIES = 5
# A loss with noise in it is averaged over at least this many draws when it is validated.
_VALIDATION_DRAWS = 1024
_VALIDATION_CHUNK = 4096


def train(
    module: nn.Module,
    source: RowSource,
    *,
    objective: Objective | None = None,
    config: TrainingConfig | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainingResult:
    """Train a module in place.

    The module ends on the CPU, in eval mode, with the weights that validated best (without validation rows:
    the last ones), also when training fails or is interrupted.

    Parameters
    ----------
    module : nn.Module
        Anything with ``log_prob(inputs, context) -> (n,)`` in nats, unless the objective asks for more.
    source : RowSource
        The rows.
    objective : callable, default=MaximumLikelihood()
        ``(module, batch, generator) -> loss per row``.
    config : TrainingConfig, default=TrainingConfig()
        How to train.
    callbacks : sequence of Callback
        Told of every evaluation.

    Returns
    -------
    TrainingResult
        History, and why training ended.

    Raises
    ------
    ConfigurationError
        If the module has nothing to train, or no row has a positive weight.
    TrainingError
        If the loss does not stay finite.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flowdetect.training import ArraySource, TrainingConfig, train
    >>> class Gaussian(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mean = torch.nn.Parameter(torch.zeros(1))
    ...
    ...     def log_prob(self, inputs, context=None):
    ...         return torch.distributions.Normal(self.mean, 1.0).log_prob(inputs).sum(1)
    >>> module = Gaussian()
    >>> rows = np.random.default_rng(0).normal(0.5, 1.0, size=(1000, 1))
    >>> result = train(module, ArraySource(rows), config=TrainingConfig(learning_rate=0.05))
    >>> bool(abs(module.mean.item() - rows.mean()) < 0.1)
    True
    """
    config = config or TrainingConfig()
    run = _Run(module, source, objective or MaximumLikelihood(), config, callbacks)
    result = None
    try:
        threads = serial_torch() if run.weights.compiled else nullcontext()
        with own_random_stream(module, config.seed, run.device), threads:
            result = run.execute()
    finally:
        # Also after an error or an interrupt: what has been learnt so far is kept.
        run.close(result)
    return result


@dataclass
class _Best:
    """The best weights so far; ``stale`` counts the evaluations since they last became clearly better."""

    loss: float = math.inf
    step: int = 0
    weights: Snapshot | None = None
    reference: float = math.inf
    stale: int = 0


class _Run:
    """State of one training run; `execute` and then `close` are called once."""

    def __init__(
        self,
        module: nn.Module,
        source: RowSource,
        objective: Objective,
        config: TrainingConfig,
        callbacks: Sequence[Callback],
    ) -> None:
        self.started = time.monotonic()
        self.module, self.objective = module, objective
        self.config, self.callbacks = config, callbacks
        self.device, self.dtype = resolve_device(config.device), trained_dtype(module)
        _, stream_seed, noise_seed = np.random.SeedSequence(config.seed).spawn(3)
        weights = None if source.weights is None else check_weights(source.weights, len(source))
        training, validation = choose_rows(len(source), weights, config, split_stream(config))
        self.mean_weight = 1.0 if weights is None else float(weights[training].mean())
        self.plan = make_plan(config, len(training), len(validation), self.device)
        self.noise_seed = int(noise_seed.generate_state(1)[0])
        self.generator = torch.Generator(self.device).manual_seed(self.noise_seed)
        self.validation = self._validation_batch(source, validation)
        self.batches = stream_batches(
            source,
            training,
            batch_size=config.batch_size,
            n_steps=self.plan.n_steps,
            rng=np.random.default_rng(stream_seed),
            device=self.device,
            dtype=self.dtype,
        )
        self._prepare_weights()
        self.best = _Best()
        self.history: list[EvaluationRecord] = []
        self.step, self.rate, self.rate_factor = 0, 0.0, 1.0
        self.recoveries = self.recoveries_in_a_row = 0

    def _prepare_weights(self) -> None:
        self.module.to(self.device)
        self.weights = FlatWeights(self.module)
        self.average: AveragedWeights | None = None
        if self.config.average_decay is not None and self.validation is not None:
            self.average = AveragedWeights(self.weights, self.config.average_decay)
        self.optimizer = AdamW(self.weights, self.config.weight_decay)
        self.checkpoint = self.weights.snapshot()
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.n_usable = torch.zeros((), dtype=torch.int64, device=self.device)
        self.n_unusable = torch.zeros((), dtype=torch.int64, device=self.device)

    def _validation_batch(self, source: RowSource, rows: np.ndarray) -> Batch | None:
        if not len(rows):
            return None
        batch = fetch_rows(source, rows, None).to(self.device, self.dtype)
        noisy = bool(getattr(self.objective, "stochastic", True))
        return batch.repeat(-(-_VALIDATION_DRAWS // len(rows)) if noisy else 1)

    # -- the run ----------------------------------------------------------------------------------------

    def execute(self) -> TrainingResult:
        """Train until there is a reason to stop."""
        for callback in self.callbacks:
            callback.on_start(self.plan)
        reason = StopReason.CALLBACK if self._evaluate() else self._all_steps()
        self._check()
        if self.history[-1].step < self.step:
            self._evaluate()
        if self.best.weights is None:
            raise self._error()
        return self._result(reason)

    def close(self, result: TrainingResult | None) -> None:
        """Leave the best weights in the module, on the CPU, in eval mode."""
        self.weights.restore(self.checkpoint if self.best.weights is None else self.best.weights)
        self.weights.release()
        self.module.to("cpu").eval()
        for callback in self.callbacks:
            callback.on_end(result)

    def _all_steps(self) -> StopReason:
        self.module.train()
        for batch in self.batches:
            if self.config.time_budget is not None and self._elapsed() > self.config.time_budget:
                return StopReason.TIME_BUDGET
            self._one_step(batch)
            if self.step % _CHECK_EVERY == 0:
                self._check()
                for callback in self.callbacks:
                    callback.on_step(self.step)
            if self.step % self.plan.evaluate_every == 0 and self._evaluate():
                return StopReason.CALLBACK
            if self.config.patience is not None and self.best.stale >= self.config.patience:
                return StopReason.PATIENCE
        return StopReason.MAX_STEPS

    def _one_step(self, batch: Batch) -> None:
        self.weights.zero_grad()
        loss = self._mean_loss(batch, self.generator)
        loss.backward()
        loss = loss.detach()
        usable = self.weights.clip_gradient(loss, self.config.gradient_clip or math.inf)
        self.rate = self._scheduled_rate()
        self.optimizer.step(self.rate)
        if self.average is not None:
            self.average.update()
        self.loss_sum += torch.where(usable, loss, 0.0)
        self.n_usable += usable
        self.n_unusable += ~usable
        self.step += 1

    def _mean_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        loss = self.objective(self.module, batch, generator)
        if batch.weights is None:
            return loss.mean()
        # Divided by the mean weight of all training rows, not of this batch: then the gradient is, in
        # expectation, exactly that of rows repeated as often as their weight says.
        return (loss * batch.weights).mean() / self.mean_weight

    # -- learning rate ----------------------------------------------------------------------------------

    def _scheduled_rate(self) -> float:
        progress = self.step / self.plan.n_steps
        if self.config.time_budget is not None:
            progress = max(progress, min(1.0, self._elapsed() / self.config.time_budget))
        share = learning_rate_share(progress, self.config.warmup_fraction)
        return self.config.learning_rate * self.rate_factor * share

    # -- evaluation -------------------------------------------------------------------------------------

    def _evaluate(self) -> bool:
        """Validate, remember the best weights, and return whether a callback wants to stop."""
        self._check()
        train_loss = float(self.loss_sum / self.n_usable)
        self.loss_sum.zero_()
        self.n_usable.zero_()
        self.module.eval()
        loss = self._remember_best(train_loss)
        record = EvaluationRecord(
            step=self.step,
            epoch=self.step // self.plan.steps_per_epoch,
            train_loss=train_loss,
            validation_loss=None if self.validation is None else loss,
            learning_rate=self.rate,
            seconds=self._elapsed(),
        )
        self.history.append(record)
        stop = ask_to_stop(self.callbacks, record)
        self.module.train()
        if self.step and not math.isfinite(loss) and self.best.weights is not None:
            self.checkpoint = self.best.weights
            self._recover()
        return stop

    def _remember_best(self, train_loss: float) -> float:
        """Return the loss of the better of current and averaged weights; keep those if they are the best."""
        if self.validation is None:
            # The learning rate has fallen most for the last weights: those are kept.
            self.best.weights, self.best.step = self.weights.snapshot(), self.step
            self._count_progress(train_loss)
            return 0.0 if self.step == 0 else train_loss
        current = self.weights.snapshot()
        losses = [(self._validation_loss(self.validation), current)]
        if self.average is not None and self.step:
            averaged = self.average.snapshot()
            self.weights.restore(averaged)
            losses.append((self._validation_loss(self.validation), averaged))
            self.weights.restore(current)
        loss, weights = min(losses, key=lambda pair: pair[0] if math.isfinite(pair[0]) else math.inf)
        if loss < self.best.loss:
            self.best.loss, self.best.step, self.best.weights = loss, self.step, weights
        self._count_progress(loss)
        return loss

    def _count_progress(self, loss: float) -> None:
        if loss < self.best.reference - self.config.min_improvement:
            self.best.reference, self.best.stale = loss, 0
            self.recoveries_in_a_row = 0
        elif self.validation is not None:
            self.best.stale += 1

    @torch.no_grad()
    def _validation_loss(self, validation: Batch) -> float:
        """Return the mean loss on the validation rows, with the same noise every time."""
        generator = torch.Generator(self.device).manual_seed(self.noise_seed + 1)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for start in range(0, len(validation), _VALIDATION_CHUNK):
            batch = validation[start : start + _VALIDATION_CHUNK]
            loss = self.objective(self.module, batch, generator).double()
            total += (loss if batch.weights is None else loss * batch.weights).sum()
        weight = len(validation) if validation.weights is None else validation.weights.double().sum()
        return float(total / weight)

    # -- losses that are not finite -----------------------------------------------------------------------

    def _check(self) -> None:
        """Remember the weights if all went well since the last look; go back if not."""
        unusable = self.n_unusable > 0
        if bool(unusable | ~self.weights.finite()):
            self._recover()
        else:
            self.checkpoint = self.weights.snapshot()

    def _recover(self) -> None:
        """Go back to good weights and halve the learning rate."""
        if self.recoveries_in_a_row == _MAX_RECOVERIES:
            raise self._error()
        self.recoveries += 1
        self.recoveries_in_a_row += 1
        # The last good weights may already be on their way out: the second time, go back to the best.
        again = self.recoveries_in_a_row > 1 and self.best.weights is not None
        self.checkpoint = self.best.weights if again and self.best.weights else self.checkpoint
        self.weights.restore(self.checkpoint)
        self.optimizer.restart()
        if self.average is not None:
            self.average.restart()
        self.rate_factor *= 0.5
        self.n_unusable.zero_()

    def _error(self) -> TrainingError:
        epoch = self.step // self.plan.steps_per_epoch
        return TrainingError(
            f"The loss did not stay finite: it was NaN or infinite in epoch {epoch} (step {self.step}), at a "
            f"learning rate of {self.rate:.1e} and after {self.recoveries} returns to earlier weights. Look "
            f"for values of extreme size in the rows, or lower the learning rate."
        )

    # -- the outcome ------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _result(self, reason: StopReason) -> TrainingResult:
        too_few = self.validation is None and self.config.validation_fraction > 0
        return TrainingResult(
            history=self.history,
            best_step=self.best.step,
            best_validation_loss=None if self.validation is None else self.best.loss,
            stop_reason=StopReason.FEW_ROWS if too_few and reason is StopReason.MAX_STEPS else reason,
            n_steps=self.step,
            seconds=self._elapsed(),
            recoveries=self.recoveries,
            n_training=self.plan.n_training,
            n_validation=self.plan.n_validation,
        )
