"""The training loop: a step, an epoch, a validation, a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.checkpoints import (
    Checkpoint,
    finish_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    load_random_states,
    prepare_checkpoint,
    save_random_states,
)
from bids_neurodecode.models.precision import dtype_of
from bids_neurodecode.models.trainingsettings import (
    Dataset,
    Progress,
    Training,
    TrainingSettings,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

NO_SAMPLES = 'Training needs at least {need} samples; there are {n}.'
SMALL_BATCH = 'A batch of {size} cannot be shared out among {n} processes. Make it larger.'
NOT_FINITE = (
    'The {part} loss is not finite (epoch {epoch}, batch {batch}). Lower the learning rate, train '
    'in float32, or look for values that are not finite in the data.'
)
DIVERGED = (
    'Training failed at step {step}: {n} steps in a row gave no finite or too large a gradient. '
    'Lower the learning rate.'
)

_MOST_SKIPPED = 50  # steps in a row
_EMA_WARM_UP = 10  # steps: the first averages forget the initial weights


@dataclass
class Position:
    """Where a training stands; all of it is in the checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    n_summed: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float | None = None
    best_epoch: int = 0
    stopped: bool = False
    n_skipped: int = 0
    """Steps in a row, up to this one."""


class TrainingLoop:
    """One training: the objects that a step needs, and the position."""

    def __init__(
        self,
        accelerator: Accelerator,
        objective: nn.Module,
        data: Dataset,
        validation: Dataset | None,
        settings: TrainingSettings,
        checkpoint_dir: Path | None,
    ) -> None:
        self.accelerator, self.settings = accelerator, settings
        self.data, self.validation, self.folder = data, validation, checkpoint_dir
        self.module = objective
        self.module.to(accelerator.device)
        self.model = accelerator.prepare(objective)
        if settings.compile:
            self.model = torch.compile(self.model)
        if settings.batch_size < accelerator.num_processes:
            n = accelerator.num_processes
            raise ArgumentsError(SMALL_BATCH.format(size=settings.batch_size, n=n))
        self.n_batches = len(self._batches(0))
        if self.n_batches == 0:
            need = max(2, accelerator.num_processes)
            raise DataError(NO_SAMPLES.format(need=need, n=len(data)))
        self.optimizer, self.schedule = make_optimizer(objective, settings, self.n_batches)
        self.scaler = torch.amp.GradScaler(
            accelerator.device.type, enabled=settings.precision == 'float16'
        )
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        if settings.ema is not None:
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.waited = 0.0

    def run(self, progress: Progress | None) -> Training:
        """Train to the end and keep the right weights."""
        started = time.monotonic()
        self._resume()
        total = self.settings.n_epochs * self.n_batches
        while self.position.epoch < self.settings.n_epochs and not self.position.stopped:
            self._train_epoch(progress, total)
            self._end_epoch()
            self._save()
        kept = self.position.epoch
        if self.best is not None:
            self.module.load_state_dict(self.best)
            kept = self.position.best_epoch or kept
        self.module.eval()
        seconds = time.monotonic() - started
        return Training(
            tuple(self.position.curves), kept, self.position.stopped, self.position.step,
            str(self.accelerator.device), self.settings.precision, self.accelerator.num_processes,
            seconds, self.waited / max(seconds, 1e-9),
        )  # fmt: skip

    def _train_epoch(self, progress: Progress | None, total: int) -> None:
        """Train on the batches that this epoch still has."""
        at = self.position
        # reading a loss makes a GPU wait: there, look every now and then
        look_every = 1 if self.accelerator.device.type == 'cpu' else 20
        self.model.train()
        recent: list[tuple[dict[str, Tensor], int]] = []
        for batch in self._load(self.data, self._batches(at.epoch)[at.batch :], waiting=True):
            recent.append((self._step(batch), _length(batch)))
            at.batch += 1
            at.step += 1
            every = self.settings.checkpoint_every
            due = every is not None and at.step % every == 0 and at.batch < self.n_batches
            if due or at.batch == self.n_batches or len(recent) >= look_every:
                self._sum_up(recent)
                recent = []
            if due:
                self._save()
            if progress is not None:
                progress(at.step, total)

    def _step(self, batch: Sequence[Any]) -> dict[str, Tensor]:
        with self._precision():
            terms: dict[str, Tensor] = self.model(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(self.scaler.scale(terms['loss']))
        told = {name: term.detach() for name, term in terms.items()}
        norm = None
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = self.accelerator.clip_grad_norm_(
                self.module.parameters(), self.settings.clip_norm
            )
        scale = self.scaler.get_scale()
        if self._is_sound(told['loss'], norm):
            self.scaler.step(self.optimizer)
            self._average()
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # else float16 overflowed and the step was left out
            self.schedule.step()
        return told

    def _is_sound(self, loss: Tensor, norm: Tensor | None) -> bool:
        """Return whether a step is taken; fail after many that were not."""
        if self.settings.skip_norm is None or norm is None:
            return True
        # both come from the device at once: it waits once a step
        value, size = torch.stack([loss, norm]).tolist()
        sound = math.isfinite(value) and size <= self.settings.skip_norm
        at = self.position
        at.n_skipped = 0 if sound else at.n_skipped + 1
        if at.n_skipped >= _MOST_SKIPPED:
            raise DataError(DIVERGED.format(step=at.step + 1, n=_MOST_SKIPPED))
        return sound

    def _average(self) -> None:
        """Move the averaged weights towards those of this step."""
        if self.settings.ema is None or self.best is None:
            return
        step = self.position.step + 1
        average = get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            min(self.settings.ema, step / (step + _EMA_WARM_UP))
        )
        now = self.module.state_dict()
        counts = [name for name, value in now.items() if not value.is_floating_point()]
        self.best |= {name: now[name].clone() for name in counts}
        names = [name for name in now if name not in counts]
        average([self.best[name] for name in names], [now[name] for name in names], None)

    def _sum_up(self, recent: Sequence[tuple[dict[str, Tensor], int]]) -> None:
        """Add batches to the sums of the epoch; refuse what is not finite."""
        at = self.position
        for step, (terms, n) in enumerate(recent, at.step - len(recent) + 1):
            values = {name: float(term) for name, term in terms.items()}
            for name, value in values.items():
                at.sums[name] = at.sums.get(name, 0.0) + value * n
            at.n_summed += n
            if self.settings.curve == 'step':
                at.curves.append({'step': step, 'part': 'training', **values})
        if self.settings.skip_norm is None and not math.isfinite(at.sums['loss']):
            raise DataError(NOT_FINITE.format(part='training', epoch=at.epoch + 1, batch=at.batch))

    def _end_epoch(self) -> None:
        """Write the curves, judge, and set the position to the next epoch."""
        at = self.position
        rate = float(self.optimizer.param_groups[0]['lr'])
        self._share_buffers()
        at.epoch += 1
        means = self._means(at.sums, at.n_summed)
        if self.settings.curve == 'epoch':
            row = {'epoch': at.epoch, 'part': 'training', **means, 'learning_rate': rate}
            at.curves.append(row)
        at.batch, at.sums, at.n_summed = 0, {}, 0
        if self.validation is None:
            return
        means = self._validate(self.validation, tuple(means))
        at.curves.append({'epoch': at.epoch, 'part': 'validation', **means, 'learning_rate': rate})
        if at.best_loss is None or means['loss'] < at.best_loss:
            at.best_loss, at.best_epoch = means['loss'], at.epoch
            if self.settings.keep == 'best':
                state = self.module.state_dict()
                self.best = {name: value.detach().cpu().clone() for name, value in state.items()}
        patience = self.settings.patience
        at.stopped = patience is not None and at.epoch - at.best_epoch >= patience

    def _validate(self, data: Dataset, names: Sequence[str]) -> dict[str, float]:
        """Return the mean of each term over validation samples, in evaluation mode."""
        sums = dict.fromkeys(names, 0.0)  # also of a process that no batch is left for
        n_summed, size = 0, self.settings.batch_size
        batches = [np.arange(k, min(k + size, len(data))) for k in range(0, len(data), size)]
        self.module.eval()
        with torch.no_grad():
            share = batches[self.accelerator.process_index :: self.accelerator.num_processes]
            for batch in self._load(data, share):
                with self._precision():
                    terms = self.module(*batch)
                for name, term in terms.items():
                    sums[name] += float(term) * _length(batch)
                n_summed += _length(batch)
        means = self._means(sums, n_summed)
        if not math.isfinite(means['loss']):
            epoch = self.position.epoch
            raise DataError(NOT_FINITE.format(part='validation', epoch=epoch, batch=len(batches)))
        return means

    def _means(self, sums: Mapping[str, float], n: int) -> dict[str, float]:
        """Divide sums by counts, over all processes."""
        if self.accelerator.num_processes > 1:
            values = torch.tensor(
                [*sums.values(), n], dtype=torch.float64, device=self.accelerator.device
            )
            *totals, n_all = self.accelerator.reduce(values, 'sum').tolist()
        else:
            totals, n_all = list(sums.values()), n
        return {name: total / n_all for name, total in zip(sums, totals, strict=True)}

    def _share_buffers(self) -> None:
        """Average running means (batch normalisation) over processes: each saw its own samples."""
        if self.accelerator.num_processes == 1:
            return
        for buffer in self.module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer.clone(), 'mean'))

    def _batches(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """Return the rows of this process's part of each batch of an epoch."""
        n, size = len(self.data), self.settings.batch_size
        order = np.arange(n)
        if self.settings.shuffle:
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(n)
        rank, n_processes = self.accelerator.process_index, self.accelerator.num_processes
        # a last sample alone in its process is left out: batch normalisation cannot use it
        least = n_processes * min(2, size // n_processes)
        batches = [order[k : k + size] for k in range(0, n, size)]
        return [batch[rank::n_processes] for batch in batches if len(batch) >= least]

    def _load(
        self, data: Dataset, batches: Sequence[Any], *, waiting: bool = False
    ) -> Iterator[Sequence[Any]]:
        """Yield batches on the device; count the time waited for them."""
        device = self.accelerator.device
        loader: DataLoader[Any] = DataLoader(
            data,  # type: ignore[arg-type]
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.settings.n_workers,
            # a process that uses a GPU, or that has decoded a film, must not fork
            multiprocessing_context='forkserver' if self.settings.n_workers else None,
            pin_memory=device.type == 'cuda',
            # its own: else each start of an epoch, or resumption, would move the global one
            generator=torch.Generator().manual_seed(self.settings.seed),
        )
        source = iter(loader)
        while True:
            before = time.monotonic()
            batch = next(source, None)
            if waiting:
                self.waited += time.monotonic() - before
            if batch is None:
                return
            yield [x.to(device, non_blocking=True) for x in batch]

    def _precision(self) -> Any:
        dtype = dtype_of(self.settings.precision)
        enabled = dtype is not torch.float32
        return torch.autocast(self.accelerator.device.type, dtype=dtype, enabled=enabled)

    def _identity(self) -> dict[str, Any]:
        shapes = [[name, *value.shape] for name, value in self.module.state_dict().items()]
        settings = {k: v for k, v in asdict(self.settings).items() if k != 'n_workers'}
        return {
            **settings,
            'n_training': len(self.data),
            'n_validation': len(self.validation) if self.validation is not None else 0,
            'n_processes': self.accelerator.num_processes,
            'network': hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:12],
        }

    def _save(self) -> None:
        if self.folder is None:
            return
        step, main = self.position.step, self.accelerator.is_main_process
        if main:
            prepare_checkpoint(self.folder, step)
        self.accelerator.wait_for_everyone()
        partial = self.folder / f'partial-{step}'
        save_random_states(partial, self.accelerator.process_index)
        self.accelerator.wait_for_everyone()
        if main:
            optimizer = {
                'optimizer': self.optimizer.state_dict(),
                'schedule': self.schedule.state_dict(),
                'scaler': self.scaler.state_dict(),
            }
            content = Checkpoint(
                self.module.state_dict(), self.best, optimizer, asdict(self.position)
            )
            finish_checkpoint(partial, step, content, self._identity())
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = latest_checkpoint(self.folder) if self.folder is not None else None
        if found is None:
            return
        content = load_checkpoint(found, self._identity())
        self.module.load_state_dict(dict(content.weights))
        self.optimizer.load_state_dict(content.optimizer['optimizer'])
        self.schedule.load_state_dict(content.optimizer['schedule'])
        self.scaler.load_state_dict(content.optimizer['scaler'])
        if content.best is not None:
            where = 'cpu' if self.settings.ema is None else self.accelerator.device
            self.best = {name: value.to(where) for name, value in content.best.items()}
        self.position = Position(**content.progress)
        load_random_states(found, self.accelerator.process_index)


def make_optimizer(
    objective: nn.Module, settings: TrainingSettings, n_batches: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Make the optimiser and the schedule of its learning rate.

    Parameters
    ----------
    objective
        Its parameters that need a gradient are trained.
    settings
        Optimiser, learning rate, weight decay, warm-up, epochs.
    n_batches
        Steps of an epoch.
    """
    kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[settings.optimizer]
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimizer = kind(
        parameters,
        settings.learning_rate,
        betas=settings.betas or (0.9, 0.999),
        weight_decay=settings.weight_decay,
        fused=settings.fused or None,
    )
    total = settings.n_epochs * n_batches
    rising = round(settings.warmup * (total if settings.warmup < 1 else 1))

    def rate(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        if settings.schedule == 'constant':
            return 1.0
        done = (step - rising) / max(1, total - rising)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _length(batch: Sequence[Any]) -> int:
    return len(batch[0])
