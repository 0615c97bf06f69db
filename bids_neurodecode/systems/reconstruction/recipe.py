"""Linear decoding: responses to image features, then which image it was.

Ridge regression from standardised voxels to whitened feature components, all of it fitted on
training samples. A held-out response is identified among candidates by the cosine of its
predicted components with theirs, and the nearest training image is its reconstruction. This is
the baseline that any other reconstruction is compared with.

``fit``, ``predict`` and ``evaluate`` are the verbs for one fold; :func:`evaluate_folds` runs them
over a split, with baselines, and pools the scores. :func:`decode_pictures` is the whole pipeline:
each fold selects its voxels and fits its decoder on its own training samples, whose betas were
tuned on these same trials; the final model is fitted on everything, for use on new data, and no
score is computed from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bids_neurodecode.config import Config, EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.models.ridge import fit_ridges
from bids_neurodecode.samples import Parts, Samples, Split
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems import baselines
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.linear import (
    DecoderSettings,
    LinearDecoder,
    candidate_stimuli,
    group_labels,
)
from bids_neurodecode.systems.outcomes import MEAN_IMAGE, OWN_MODEL, Outcome, judge
from bids_neurodecode.systems.pooling import CLOSED_SET, ONE_CANDIDATE, pool
from bids_neurodecode.systems.refitting import refitted_nulls
from bids_neurodecode.systems.voxels import Estimates, cut_folds
from bids_neurodecode.typing import Float32Array, IndexArray, RealArray

FOLD_COUNT = 'There are {parts} cut folds for a split of {folds}; they must be one to one.'


SATURATED = (
    'With {n} training stimuli, the {n_components} components that are kept hold all that tells '
    'them apart, and all are equally far apart: each stimulus is recognised by itself, and what '
    'stimuli have in common is not used. One ridge penalty serves all components. To change that, '
    'keep fewer components (features.n_components).'
)
AT_EDGE = (
    'For {share:.0%} of the components, the ridge penalty that was chosen is the {end} on offer: '
    'offer a wider range (ridge.alphas).'
)

# From this many training stimuli on, penalties are chosen for stimuli not seen; below, a
# held-out stimulus lies outside of what the others span, and runs are held out instead.
_EDGE_SHARE = 0.5


def fit(
    train: Samples,
    features: PerStimulus,
    settings: DecoderSettings | None = None,
    *,
    space: FeatureSpace | None = None,
) -> LinearDecoder:
    """Fit a linear decoder on training samples.

    Parameters
    ----------
    train
        Training samples only, single trials or averages, with the voxels already chosen.
    features
        Features of (at least) the training stimuli; others are not looked at.
    settings
        How; the defaults if left out. Where the stimuli span no more components than are kept,
        one penalty serves all of them, whatever ``ridge.per_target`` says.
    space
        Components of the features of the training stimuli, where they are known.

    Raises
    ------
    DataError
        If a stimulus has no features, or there is nothing to hold out for the penalty.
    """
    return fit_orders(train, features, [None], settings, space=space)[0]


def fit_orders(
    train: Samples,
    features: PerStimulus,
    orders: Sequence[IndexArray | None],
    settings: DecoderSettings | None = None,
    *,
    space: FeatureSpace | None = None,
) -> list[LinearDecoder]:
    """Fit linear decoders on the same training samples, their responses in several orders.

    Parameters
    ----------
    train, features, settings, space
        As in :func:`fit`.
    orders
        The sample whose response each row of the table gets, (n_samples,); None: its own.
    """
    settings = settings or DecoderSettings()
    names = train.table['stimulus'].astype(str)
    library = tuple(dict.fromkeys(names))
    space = space or FeatureSpace.fit(features.of(library), settings.n_components)
    voxels = Standardizer.fit(train.values)
    # where all stimuli are equally far apart the axes are arbitrary, so the penalty must not
    # depend on them
    saturated = space.n_components >= len(library) - 1
    found = fit_ridges(
        voxels.apply(train.values),
        space.transform(features.of(names)),
        orders,
        alphas=settings.ridge.alphas,
        groups=group_labels(train, len(library), settings.groups),
        n_folds=settings.ridge.n_folds,
        per_target=settings.ridge.per_target and not saturated,
        device=settings.device,
    )
    return [LinearDecoder(voxels, space, ridge, library, settings.measure) for ridge in found]


def predict(decoder: LinearDecoder, responses: RealArray) -> Float32Array:
    """Predict features (n_samples, n_features) from responses (n_samples, n_voxels).

    Parameters
    ----------
    decoder
        Fitted.
    responses
        Of the decoder's voxels.
    """
    return decoder.space.inverse(decoder.components(responses))


def evaluate_folds(
    parts: Iterable[Parts],
    split: Split,
    features: PerStimulus,
    settings: DecoderSettings | None = None,
    *,
    evaluation: EvaluationSettings | None = None,
    pictures: PerStimulus | None = None,
    rng: np.random.Generator,
) -> Evaluation:
    """Fit and judge the decoder and its baselines in every fold, and pool the scores.

    Parameters
    ----------
    parts
        The samples of each fold of ``split``, in its order, with the voxels already chosen (on
        training samples).
    split
        What was held out.
    features
        Features of all stimuli.
    settings
        How the decoder is fitted.
    evaluation
        Permutations, bootstrap and confidence.
    pictures
        Images of all stimuli, (n_stimuli, h, w, 3) uint8, to score the retrieved ones.
    rng
        Source of randomness of baselines, permutations and bootstrap.

    Returns
    -------
    Evaluation
        Candidates are the distinct test stimuli of the fold; where all of them were seen in
        training too (the same few stimuli in every run), all distinct stimuli.
    """
    settings, testing = settings or DecoderSettings(), evaluation or EvaluationSettings()
    outcomes: list[Outcome] = []
    decoders: list[LinearDecoder] = []
    closed: list[bool] = []
    shuffle_rng, pool_rng = rng.spawn(2)
    folds = _all(parts, split)
    for number, (fold, cut) in enumerate(zip(split, folds, strict=True)):
        candidates, is_closed = candidate_stimuli(cut.train.table, cut.test.table)
        if len(candidates) < 2:
            raise DataError(ONE_CANDIDATE.format(fold=number))
        order = shuffle_rng.permutation(cut.train.n_samples)
        decoder, shuffled = fit_orders(cut.train, features, [None, order], settings)
        models = {
            OWN_MODEL: decoder.components,
            'baseline-shuffled': shuffled.components,
            'baseline-nearest': baselines.nearest(decoder, cut.train, features),
            MEAN_IMAGE: baselines.mean_image(decoder),
        }
        repeats = bool(cut.test.table['stimulus'].duplicated().any())
        test = partial(judge, fold=number, rows=fold.test)
        outcomes += [
            test(name, model, decoder, cut.test, features, candidates, average=average)
            for name, model in models.items()
            for average in ((False, True) if repeats else (False,))
        ]
        decoders.append(decoder)
        closed.append(is_closed)
    notes = [CLOSED_SET] if all(closed) else []
    notes += _decoder_notes(decoders, settings)
    refitted = {}
    if testing.permutation == 'refit':
        n, own_rng = testing.n_permutations, pool_rng.spawn(1)[0]
        refitted = refitted_nulls(
            decoders, folds, split, features, settings, n_permutations=n, rng=own_rng
        )
    return pool(
        outcomes,
        split=split,
        settings=testing,
        pictures=pictures,
        notes=notes,
        refitted=refitted,
        rng=pool_rng,
    )


@dataclass(frozen=True, eq=False)
class Decoding:
    """The scores of all folds, and the final model.

    Parameters
    ----------
    evaluation
        Scores, per-sample outcomes and nulls.
    selection
        The voxels of the final model, among all voxels of the mask.
    fold_selections
        The voxels of each fold.
    decoder
        The final model, on the selected voxels.
    """

    evaluation: Evaluation
    selection: VoxelSelection
    fold_selections: tuple[VoxelSelection, ...]
    decoder: LinearDecoder

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know, each line once."""
        lines = [w for s in (*self.fold_selections, self.selection) for w in s.warnings]
        return tuple(dict.fromkeys([*self.evaluation.notes, *lines]))


def decode_pictures(
    estimates: Estimates,
    features: PerStimulus,
    config: Config,
    *,
    pictures: PerStimulus | None = None,
    device: str = 'cpu',
) -> Decoding:
    """Run the pipeline.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    features
        Features of all stimuli.
    config
        Selection, feature components, ridge, evaluation and seed.
    pictures
        Images of all stimuli, uint8.
    device
        ``cpu`` or ``cuda``.
    """
    settings = DecoderSettings.of(config, device)
    folds, selections = cut_folds(estimates, features, config, device)
    evaluation = evaluate_folds(
        folds,
        estimates.split,
        features,
        settings,
        evaluation=config.evaluation,
        pictures=pictures,
        rng=np.random.default_rng(config.seed),
    )
    final = estimates.choose(estimates.samples, features, config, device)
    decoder = fit(estimates.samples.voxels(final.keep), features, settings)
    return Decoding(evaluation, final, tuple(selections), decoder)


def _all(parts: Iterable[Parts], split: Split) -> list[Parts]:
    folds = list(parts)
    if len(folds) != len(split):
        raise DataError(FOLD_COUNT.format(parts=len(folds), folds=len(split)))
    return folds


def _decoder_notes(decoders: Sequence[LinearDecoder], settings: DecoderSettings) -> list[str]:
    notes = []
    first = decoders[0]
    if first.space.n_components >= len(first.library) - 1:
        notes.append(SATURATED.format(n=len(first.library), n_components=first.space.n_components))
    chosen = np.concatenate([decoder.ridge.alphas for decoder in decoders])
    ends = {'smallest': min(settings.ridge.alphas), 'largest': max(settings.ridge.alphas)}
    for end, alpha in ends.items():
        share = float(np.isclose(chosen, alpha).mean())
        if share > _EDGE_SHARE and len(settings.ridge.alphas) > 1:
            notes.append(AT_EDGE.format(end=end, share=share))
    return notes
