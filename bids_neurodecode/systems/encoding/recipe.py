"""The image encoding pipeline over folds: fit, predict, judge; then one final model.

Everything fitted in a fold (feature components, standardisation, penalties, networks, the voxels
that identify images) is fitted on its training samples, whose betas were tuned on these same
trials. The final model is fitted on everything, for use on new images; no score is computed
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config, EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.partition import VariancePartition, partition_variance
from bids_neurodecode.evaluation.voxels import summary
from bids_neurodecode.mapped import joined
from bids_neurodecode.samples import Fold, Parts, Samples, Split, contents
from bids_neurodecode.systems import baselines
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.comparison import Kept, compare_rows
from bids_neurodecode.systems.encoding.encoders import (
    Bands,
    Encoder,
    EncoderSettings,
    RidgeEncoder,
    fit,
    predict,
)
from bids_neurodecode.systems.encoding.network import NetworkEncoder
from bids_neurodecode.systems.encoding.outcomes import FoldResult, fold_result, pick_samples
from bids_neurodecode.systems.encoding.refitting import FittedFold, refit_encoders
from bids_neurodecode.systems.encoding.scores import (
    SYSTEM,
    EncodingScorer,
    Refitted,
    VoxelMaps,
    centred,
)
from bids_neurodecode.systems.linear import candidate_stimuli
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.pooling import CLOSED_SET, ONE_CANDIDATE, confusion_of, sample_table
from bids_neurodecode.systems.scoring import Pairing
from bids_neurodecode.systems.voxels import (
    Estimates,
    ncsnr_of,
    scored_ceiling,
    scored_ncsnr,
)
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

NO_CEILING = (
    'No stimulus is repeated, so there is no noise ceiling and scores are not noise-normalised.'
)
EXCLUDED = (
    'Noise-normalised scores of {space} responses leave out {share:.0%} of the voxels, whose '
    'noise ceiling is not above {threshold:g}.'
)
WIDENED = (
    'Each pair of folds predicts one another: permuted scores were widened by the root of 2 '
    'before p values were taken, and medians over voxels were not tested. One hold-out needs '
    'neither.'
)
NOT_REFITTED = (
    'Models of the kind {model!r} are not fitted again in permutation tests, although '
    'evaluation.permutation = "refit" asks for it: the labels of held-out samples were permuted.'
)
FEWER = (
    'Models were fitted on {n} training images drawn at random (encoding.n_training), of up to '
    '{total}; the test images are the same whatever that number.'
)

SHUFFLED = 'baseline-shuffled'

SHARED_NOISE = (
    '{some} repeats of a stimulus lie within one run and share its slow noise, which counts as '
    'response: noise ceilings are too high, and noise-normalised scores too low.'
)


@dataclass(frozen=True, eq=False)
class PictureEncoding:
    """The scores of all folds, maps, predictions, and the final model.

    Parameters
    ----------
    evaluation
        Scores, identification of each held-out sample, nulls and notes; ``decoded`` are the
        predictions.
    keep
        Voxels of the mask that were encoded, (n_mask,); all else has one value each of these.
    maps
        Scores of voxels: of averaged repeats where a fold's test samples have them.
    trial_maps
        Of single trials; the same object where there are no averages.
    predictions
        Predicted responses of the held-out trials, (n_trials, n_voxels).
    rows
        Their row numbers among all trials, (n_trials,).
    partition
        What each feature space explains; None unless asked for.
    encoder
        The final model.
    examples
        Samples that ``maps`` are of, with their responses and predictions: see
        :func:`~bids_neurodecode.systems.encoding.outcomes.pick_samples`.
    curves
        Of a network: how its training went in each fold: a row per fold (from 1), epoch and part.
    kept
        What each sample or unit scores, for comparisons with another model on the same folds.
    scored_ceiling
        Median noise ceiling of averaged held-out trials, of the betas that are scored; None where
        these are those of all trials, or no held-out stimulus is repeated.
    """

    evaluation: Evaluation
    keep: BoolArray
    maps: VoxelMaps
    trial_maps: VoxelMaps
    predictions: Float32Array
    rows: IndexArray
    partition: VariancePartition | None
    encoder: Encoder
    examples: tuple[pd.DataFrame, Float32Array]
    curves: tuple[Mapping[str, Any], ...] = ()
    kept: Kept = field(default_factory=dict, repr=False)
    scored_ceiling: float | None = None

    @property
    def scores(self) -> tuple[Score, ...]:
        """Rows of the metrics table."""
        return self.evaluation.scores

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know, each line once."""
        return tuple(dict.fromkeys(self.evaluation.notes))


def encode_pictures(
    estimates: Estimates,
    features: PerStimulus | Bands,
    config: Config,
    *,
    settings: EncoderSettings | None = None,
    regions: Mapping[str, BoolArray] | None = None,
    device: str = 'cpu',
    checkpoint_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PictureEncoding:
    """Run the pipeline.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out. Voxels without finite betas are left out.
    features
        Features of all stimuli; or several feature spaces by name.
    config
        Feature components, ridge, evaluation and seed.
    settings
        The model; ridge with what ``config`` says if left out.
    regions
        Voxels of each region that gets scores of its own, (n_mask,) each.
    device
        ``cpu`` or ``cuda`` of the ridge; a network's is in its own settings.
    checkpoint_dir
        Where networks leave checkpoints, a folder each; None: no checkpoints.
    progress
        Called with (fits done, all fits).

    Raises
    ------
    DataError
        If no voxel is left, a stimulus has no features, or a fold has a single candidate.
    """
    settings, split = settings or EncoderSettings.of(config, device), estimates.split
    bands = {'features': features} if isinstance(features, PerStimulus) else dict(features)
    keep = estimates.usable()
    judge_rng, *fit_rngs = np.random.default_rng(config.seed).spawn(len(split) + 2)
    run = _Run(bands, settings, split, 1 + len(split) * (1 + extra_fits(bands, settings)))
    run.progress, run.checkpoints = progress, checkpoint_dir
    run.evaluation = config.evaluation
    for number, (fold, part) in enumerate(zip(split, estimates.parts(keep), strict=True)):
        run.fold(number, fold, part, fit_rngs[number])
    chosen = estimates.samples.voxels(keep)
    judge = EncodingScorer(
        split,
        config.evaluation,
        settings.threshold,
        ncsnr_of(chosen),
        {name: np.asarray(voxels)[keep] for name, voxels in (regions or {}).items()},
        judge_rng,
        scored_ncsnr(estimates, keep),
    )
    partition = run.partition(judge) if run.parts else None
    evaluation, maps = run.judge(judge, partition)
    final = run.checkpoint('final')
    encoder = fit(chosen, bands, settings, rng=fit_rngs[-1], checkpoint_dir=final)
    run.step()
    best = maps.get(REPEAT_AVERAGE, maps[SINGLE_TRIAL])
    judged = evaluation.samples[evaluation.samples['space'] == best.space]
    return PictureEncoding(
        evaluation,
        keep,
        best,
        maps[SINGLE_TRIAL],
        evaluation.decoded,
        np.concatenate([r.outcome.table['sample'] for r in run.own[SINGLE_TRIAL]]).astype(np.intp),
        partition,
        encoder,
        pick_samples(run.own[best.space], judged),
        tuple(run.curves),
        run.kept,
        scored_ceiling(judge.scored_ncsnr, chosen.table, split),
    )


class _Run:
    """The folds of one split, and what was predicted in them."""

    def __init__(self, bands: Bands, settings: EncoderSettings, split: Split, n_fits: int) -> None:
        self.bands, self.settings, self.split = bands, settings, split
        self.progress: Callable[[int, int], None] | None = None
        self.checkpoints: Path | None = None
        self.curves: list[Mapping[str, Any]] = []
        self.n_fits, self.n_done = n_fits, 0
        self.own: dict[str, list[FoldResult]] = {SINGLE_TRIAL: [], REPEAT_AVERAGE: []}
        self.shuffled: dict[str, list[FoldResult]] = {SINGLE_TRIAL: [], REPEAT_AVERAGE: []}
        self.parts: dict[tuple[str, ...], list[Float32Array]] = {}
        self.closed: list[bool] = []
        self.kept: Kept = {}
        self.evaluation = EvaluationSettings()
        self.refits: list[FittedFold] = []
        self.most = 0

    @property
    def refitting(self) -> bool:
        """Whether permutations fit the models again."""
        asked = self.evaluation.permutation == 'refit' and self.evaluation.n_permutations > 0
        return asked and self.settings.model == 'ridge'

    def checkpoint(self, name: str) -> Path | None:
        return None if self.checkpoints is None else self.checkpoints / name

    def step(self) -> None:
        self.n_done += 1
        if self.progress is not None:
            self.progress(self.n_done, self.n_fits)

    def fold(self, number: int, fold: Fold, part: Parts, rng: np.random.Generator) -> None:
        """Fit and predict one fold."""
        candidates, closed = candidate_stimuli(part.train.table, part.test.table)
        if len(candidates) < 2:
            raise DataError(ONE_CANDIDATE.format(fold=number))
        self.closed.append(closed)
        seed = int(rng.integers(2**32))

        def fitted(train: Samples, bands: Bands) -> Encoder:
            # the same mixtures and held-out stimuli for every model of the fold
            encoder = fit(
                train,
                bands,
                self.settings,
                rng=np.random.default_rng(seed),
                validation=part.validation,
                checkpoint_dir=self.checkpoint(f'fit-{self.n_done:03d}'),
            )
            self.step()
            return encoder

        models = {'own': (fitted(part.train, self.bands), self.own)}
        if has_baseline(self.settings):
            mixed = baselines.shuffled(part.train, rng)
            models['shuffled'] = (fitted(mixed, self.bands), self.shuffled)
        own = models['own'][0]
        if self.refitting and isinstance(own, RidgeEncoder):
            self.refits.append(FittedFold(own, part, candidates, number, fold, seed))
        if isinstance(own, NetworkEncoder) and own.training is not None:
            self.curves += [{'fold': number + 1, **row} for row in own.training.curves]
        self.most = max(self.most, int(part.train.table['stimulus'].nunique()))
        repeats = bool(part.test.table['stimulus'].duplicated().any())
        for name, (encoder, found) in models.items():
            known = predict(encoder, self.bands, candidates, part.test.values)
            label = self.settings.model if name == 'own' else SHUFFLED
            for average in (False, True) if repeats else (False,):
                space = REPEAT_AVERAGE if average else SINGLE_TRIAL
                found[space].append(
                    fold_result(
                        label, encoder, known, candidates, part.test, number, fold, average
                    )
                )
        names = part.test.table['stimulus'].astype(str)
        for spaces in subsets(self.bands, self.settings):
            some = {name: self.bands[name] for name in spaces}
            values = predict(fitted(part.train, some), some, list(names), part.test.values)
            self.parts.setdefault(spaces, []).append(values)

    def judge(
        self, judge: EncodingScorer, partition: VariancePartition | None
    ) -> tuple[Evaluation, dict[str, VoxelMaps]]:
        """Pool the folds into scores."""
        scores: list[Score] = []
        nulls: dict[str, FloatArray] = {}
        maps: dict[str, VoxelMaps] = {}
        refitted: Mapping[str, Refitted] = {}
        if self.refits:
            refitted = refit_encoders(
                self.refits,
                self.split,
                self.bands,
                self.settings,
                n_permutations=self.evaluation.n_permutations,
                rng=judge.rng.spawn(1)[0],
            )
        for space, results in self.own.items():
            if not results:
                continue
            found = judge.judge(
                results,
                model=self.settings.model,
                space=space,
                refitted=refitted.get(space),
            )
            scores += found.scores
            nulls |= found.nulls
            maps[space] = found.maps
            self.kept |= found.kept
            if self.shuffled[space]:
                other = judge.judge(self.shuffled[space], model=SHUFFLED, space=space)
                scores += other.scores
                self.kept |= other.kept
        single = self.own[SINGLE_TRIAL]
        outcomes = [result.outcome for results in self.own.values() for result in results]
        confusion, labels = confusion_of([result.outcome for result in single])
        own, rng = self.settings.model, judge.rng.spawn(1)[0]
        compared = compare_rows(scores, self.kept, own, judge.settings, rng)
        evaluation = Evaluation(
            scores=(*compared, *self._partition_scores(partition)),
            samples=pd.concat([sample_table(o) for o in outcomes], ignore_index=True),
            nulls=nulls,
            confusion=confusion,
            labels=labels,
            decoded=joined([result.predicted for result in single]),
            notes=self._notes(judge, next(reversed(maps.values()))),
        )
        return evaluation, maps

    def partition(self, judge: EncodingScorer) -> VariancePartition:
        """Partition the variance of single trials between feature spaces."""
        single = self.own[SINGLE_TRIAL]
        fold = np.repeat(np.arange(len(single)), [len(r.truth) for r in single])
        shown = np.concatenate([r.outcome.table['stimulus'].astype(str) for r in single])
        stimulus = contents(shown, self.split.table)
        units = np.array([f'{f}/{s}' for f, s in zip(fold, stimulus, strict=True)])

        def together(values: Sequence[Float32Array]) -> Float32Array:
            return centred(np.concatenate(values), fold)

        names = tuple(self.bands)
        return partition_variance(
            together([r.truth for r in single]),
            together([r.predicted for r in single]),
            without={
                name: together(self.parts[tuple(n for n in names if n != name)]) for name in names
            },
            alone={name: together(self.parts[name,]) for name in names},
            units=units,
            n_permutations=judge.settings.n_permutations,
            rng=judge.rng,
        )

    def _partition_scores(self, found: VariancePartition | None) -> tuple[Score, ...]:
        if found is None:
            return ()
        parts = [('variance_full', '', found.full), ('variance_shared', '', found.shared)]
        parts += [('variance_alone', f'/{n}', v) for n, v in found.alone.items()]
        parts += [('variance_unique', f'/{n}', v) for n, v in found.unique.items()]
        return tuple(
            Score(
                system=SYSTEM,
                model=self.settings.model,
                protocol=self.split.protocol,
                split='test',
                space=f'{SINGLE_TRIAL}{suffix}',
                metric=metric,
                value=summary(values)[0],
                n=int(np.isfinite(values).sum()),
            )
            for metric, suffix, values in parts
        )

    def _notes(self, judge: EncodingScorer, maps: VoxelMaps) -> tuple[str, ...]:
        notes = [CLOSED_SET] if all(self.closed) else []
        n = self.settings.n_training
        if n is not None and n < self.most:
            notes.append(FEWER.format(n=n, total=self.most))
        outcomes = [result.outcome for result in self.own[SINGLE_TRIAL]]
        untested = Pairing.of(outcomes, self.split).untested
        if untested is not None:
            notes.append(untested)
        elif len(self.split) > 1 and judge.settings.n_permutations and not self.refits:
            notes.append(WIDENED)
        if self.evaluation.permutation == 'refit' and not self.refits:
            notes.append(NOT_REFITTED.format(model=self.settings.model))
        if judge.ncsnr is None:
            notes.append(NO_CEILING)
        else:
            share, threshold = maps.share_excluded, judge.threshold
            notes.append(EXCLUDED.format(space=maps.space, share=share, threshold=threshold))
            notes += ceiling_notes(self.split.table)
        return tuple(notes)


def ceiling_notes(table: pd.DataFrame) -> tuple[str, ...]:
    """Say which repeats make noise ceilings too high: those that share the noise of a run.

    Parameters
    ----------
    table
        One row per trial, with ``stimulus`` and ``run``.
    """
    if 'run' not in table.columns or not table.duplicated(['stimulus', 'run']).any():
        return ()
    over_runs = bool((table.groupby('stimulus')['run'].nunique() > 1).any())
    return (SHARED_NOISE.format(some='Some' if over_runs else 'All'),)


def subsets(bands: Bands, settings: EncoderSettings) -> list[tuple[str, ...]]:
    """Return the sets of feature spaces that a partition needs: each alone, each left out.

    Parameters
    ----------
    bands
        Feature spaces by name.
    settings
        Whether there is a partition.
    """
    if not settings.partition or len(bands) < 2:
        return []
    names = tuple(bands)
    without = [tuple(n for n in names if n != name) for name in names]
    return list(dict.fromkeys([(name,) for name in names] + without))


def has_baseline(settings: EncoderSettings) -> bool:
    """Tell whether shuffled stimuli are fitted too: regressions only, networks cost too much."""
    return settings.baseline and settings.model in {'ridge', 'banded', 'shared'}


def extra_fits(bands: Bands, settings: EncoderSettings) -> int:
    """Return the number of fits in each fold beside the main one.

    Parameters
    ----------
    bands
        Feature spaces by name.
    settings
        Whether there are a partition and a baseline.
    """
    return int(has_baseline(settings)) + len(subsets(bands, settings))
