"""What the run allows one to claim: by its split, betas, motion, voxels and warnings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_neurodecode.report.build import Tone, Verdict
from bids_neurodecode.report.facts import without_counts
from bids_neurodecode.report.quality import FD_LIMIT, RunMotion
from bids_neurodecode.report.style import percent
from bids_neurodecode.text import span_of

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

MOVED_SHARE = 0.2
"""Share of moved volumes above which motion is called a caution."""
IMAGERY = (
    'Held out were imagined images, and nothing that is named as imagined is in training. Same '
    'images, seen in training: the score says how well imagining one of them is told from '
    'imagining another, not whether images that were never seen can be read from imagery.'
)
NEW = {
    'imagery-unseen': 'Held out were imagined images that were not seen in training; nothing '
    'named as imagined is in training. The score says how well images that are new to the model '
    'are told apart when they are imagined.',
    'stimulus': 'The test stimuli were never seen in training.',
    'film': 'Whole films were held out: no test film was seen in training.',
    'cluster': 'Out of distribution: whole clusters of images that are alike in feature space '
    'were held out, so that no test image has a near neighbour in training. Scores say how far a '
    'model generalises, and are lower as a rule than for images held out at random.',
    'category': 'Out of distribution: whole categories of images were held out, so that nothing '
    'of the kind of a test image was seen in training. Scores say how far a model generalises, '
    'and are lower as a rule than for images held out at random.',
}
"""What splits by these allow one to say."""
IN_TIME = (
    '{why}. The rest of the same films trains the models. Training and held-out volumes share '
    'films and runs, and with them drift, arousal and scenes: the score does not say how well new '
    'films would be predicted or decoded.'
)
"""Of films cut in time; ``why`` says where."""
GIVEN_FILMS = (
    'No moment of a film is in both training and test. Whether other parts of the same films, or '
    'the same runs, are in training is as the split was given.'
)
NAMED_FAR = (
    'By its name, the given split {name} is out of distribution: its test images are meant to be '
    'unlike those of training. Scores are lower as a rule than for images held out at random.'
)
_NAMED_FAR = re.compile(r'(ood|cluster)([_-]|$)')  # as LAION-fMRI calls its splits
OTHER_BETAS = (
    'Scores are of betas of model {scored}, chosen within the training trials. The betas that are '
    'written, the final model and maps of noise ceilings are of model {written}, chosen on all '
    'trials, held-out ones included.'
)
SERIES = (
    'Held-out trials took part in one thing: the series of all runs decide {what}, by when trials '
    'were and not by what they showed. No held-out trial chose a voxel{choices} or trained '
    'a model that is scored.'
)
"""What was fitted on the series of all runs, and what was not."""


def split_verdict(results: ParticipantResults) -> Verdict | None:
    """Say what the way of holding out allows one to claim."""
    if results.split is None:
        return None
    if results.conditions is not None:
        return Verdict(
            'info',
            f'Whole {results.split.by}s were held out. The same conditions are in training and '
            'test: the score says how well these are told apart, not whether what tells them '
            'apart holds for other items of their kind.',
        )
    if results.split.by == 'imagery':
        return Verdict('caution', IMAGERY)
    if results.split.repeats_cross:
        return Verdict(
            'caution',
            f'Whole {results.split.by}s were held out, but the same stimuli occur in training and '
            'test: the score says how well stimuli that were seen before are told apart, not how '
            'well new ones can be decoded.',
        )
    tone: Tone = 'good'
    text = NEW.get(results.split.by, 'No stimulus occurs in both training and test.')
    if results.of_films and results.split.by == 'time':
        why = results.split.why.rstrip('.') or 'parts of every film were held out'
        tone, text = 'caution', IN_TIME.format(why=f'{why[:1].upper()}{why[1:]}')
    elif _NAMED_FAR.match(results.split.protocol):
        tone, text = 'info', NAMED_FAR.format(name=results.split.protocol)
    elif results.of_films and results.split.by == 'given':
        tone, text = 'info', GIVEN_FILMS
    return Verdict(tone, text)


def with_leaks(
    results: ParticipantResults, lines: Sequence[Verdict | None]
) -> tuple[Verdict, ...]:
    """Say first, in red, what of the test was seen in training; then nothing is called good.

    Parameters
    ----------
    results
        Says what of the test was seen in training.
    lines
        Verdicts; None is left out.
    """
    verdicts = [line for line in lines if line is not None]
    if results.leaks:
        verdicts = [replace(x, tone='info') if x.tone == 'good' else x for x in verdicts]
    return (*(Verdict('bad', leak) for leak in results.leaks), *verdicts)


def tuning_verdict(results: ParticipantResults) -> Verdict | None:
    """Warn where test trials took part in tuning the betas."""
    betas = results.betas
    if betas is None or betas.tuning != 'all' or betas.model not in {'C', 'D'}:
        return None
    if not results.fits_models:
        return None  # nothing was tested; the warnings say what follows for tests
    return Verdict(
        'caution',
        'Noise components and fractions of the betas were chosen on all trials, test trials '
        'included (as GLMsingle does); scores may be slightly too good.',
    )


def series_verdict(results: ParticipantResults) -> Verdict | None:
    """Say what of estimating betas was fitted on held-out runs, and what was not."""
    betas = results.betas
    if betas is None or betas.model not in {'B', 'C', 'D'} or results.split is None:
        return None
    what, choices = 'the response shape of each voxel', ''
    if {betas.model, *betas.fold_models} & {'C', 'D'}:
        what += ' and the noise pool (components are those of each run itself)'
        choices = (
            ', a number of noise components, a fraction' if betas.tuning == 'training' else ''
        )
    return Verdict('info', SERIES.format(what=what, choices=choices))


def betas_verdict(results: ParticipantResults) -> Verdict | None:
    """Warn where scores are of other betas than maps, ceilings and the final model."""
    betas = results.betas
    if betas is None or not {*betas.fold_models} - {betas.model}:
        return None
    scored = ' and '.join(sorted({*betas.fold_models}))
    return Verdict('caution', OTHER_BETAS.format(scored=scored, written=betas.model))


def motion_verdict(runs: Sequence[RunMotion]) -> Verdict | None:
    """Judge head motion over all runs."""
    if not runs:
        return None
    n_steps = sum(len(run.displacement) - 1 for run in runs)
    mean = sum(run.mean * (len(run.displacement) - 1) for run in runs) / n_steps
    moved = sum(run.share_moved * (len(run.displacement) - 1) for run in runs) / n_steps
    most = max(runs, key=lambda run: run.maximum)
    text = (
        f'Mean framewise displacement {mean:.2f} mm, at most {most.maximum:.1f} mm '
        f'({most.label}); {percent(moved)} of the volumes moved more than {FD_LIMIT:g} mm (up to '
        f'{percent(MOVED_SHARE)} count as good).'
    )
    return Verdict('caution' if moved > MOVED_SHARE else 'good', text)


def voxel_verdict(results: ParticipantResults) -> Verdict | None:
    """Say how many voxels were used, by the final model and for the scores."""
    voxels = results.voxels
    if voxels is None:
        return None
    share = percent(voxels.n_selected / voxels.n_mask) if voxels.n_mask else 'none'
    final = f'{voxels.n_selected} of {voxels.n_mask} voxels of the mask ({share})'
    rule = without_counts(voxels.rule).rstrip('.')
    if not voxels.n_scored:
        return Verdict('info', f'{final}: {rule}.')
    return Verdict(
        'info',
        f'Scores use {span_of(voxels.n_scored)} voxels, selected on the training samples of '
        f'each fold. Maps show {final}, selected on all samples for the final model, which is '
        f'not scored. The rule of both: {rule}.',
    )


def warning_verdict(results: ParticipantResults) -> Verdict | None:
    """Point to the warnings."""
    n = len(results.warnings)
    if not n:
        return None
    return Verdict('caution', f'The run gave {n} warning{"s" * (n > 1)}, listed below.')
