"""Quality of the data: coverage, carpet, head motion, evoked responses, and what was tuned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.anatomy import tissue_file
from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.bids.records import OF_RESPONSES
from bids_neurodecode.extensions import OWN
from bids_neurodecode.report import brain, evoked, quality
from bids_neurodecode.report.build import Block, Fold, Table, Text, Verdict, Verdicts
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import RESPONSES_ALONE, BetaResults, RunResults
from bids_neurodecode.report.section_signal import load_map
from bids_neurodecode.report.style import percent
from bids_neurodecode.spaces import load_image, space_of

CARPET_VOXELS = 1500
"""The most voxels that the carpet shows, taken evenly over the mask."""
BEST_VOXELS = 100
"""Voxels whose evoked response is shown."""
EVOKED_RUNS = 4
"""The most runs that it is estimated from, spread over all: each is read whole."""
APART = (
    'Chosen ({what}): for scores, on the training trials of each fold; for the betas that are '
    'written, their maps and the final model, which are not scored, on all trials.'
)
TOGETHER = (
    'Chosen ({what}): on all trials, held-out trials included, so that scores may be too good.'
)
ALONE = 'Chosen ({what}): on all trials; nothing was held out.'
SHARED = (
    'The response shape of each voxel and the noise pool come from the series of all runs: they '
    'know when trials were, and not what was shown.'
)
NO_MEAN = (
    'Temporal signal-to-noise ratio: not shown. Series were centred before (z-scored, for '
    'example), so that their mean over time, divided by their deviation, says nothing of them.'
)
NO_CONFOUNDS = 'No confounds table with motion parameters was found.'
NO_TISSUE = (
    'not sorted by tissue (the derivatives hold no anat/*_dseg.nii.gz in the space of the data) '
    'but'
)
TOO_EARLY = (
    'Voxels respond at the onset already, which is faster than blood flow: check that onsets are '
    'counted from the first volume of the series (volumes dropped, events shifted by the delay of '
    'the response).'
)
COLLINEAR = (
    'The evoked response is not shown: the distances of the trials do not tell the responses of '
    'neighbouring trials apart.'
)


def quality_section(reader: Reader) -> tuple[Block, ...]:
    """Show what a reviewer asks of the data; tables and traces by run are folded."""
    return (
        *_coverage(reader),
        *(_of_series(reader) if reader.results.layout not in OF_RESPONSES else ()),
        *_motion(reader),
        *_denoising(reader),
    )


def _of_series(reader: Reader) -> Iterable[Block]:
    """Show what the preprocessed series tell, in layouts that hold any."""
    results = reader.results
    own = results.system in {*OWN, *RESPONSES_ALONE}
    if own and results.runs and 'tsnr' not in results.maps:
        yield Text((NO_MEAN,))
    yield from _carpet(reader)
    yield from _evoked(reader)


def _coverage(reader: Reader) -> Iterable[Block]:
    """Show in how many runs each voxel lies in the mask."""
    masks = [load_map(run.mask) for run in reader.results.runs if run.mask.exists()]
    if not masks or any(mask.shape != masks[0].shape for mask in masks):
        return
    count = np.sum([np.asarray(mask.dataobj) > 0 for mask in masks], axis=0)
    covered = count > 0
    if not covered.any():
        return
    everywhere = int((count == len(masks)).sum())
    n_runs = f'{len(masks)} run{"s" * (len(masks) > 1)}'
    background = reader.results.mean_bold
    share = percent(everywhere / covered.sum())
    if space_of(masks[0]) is not None:
        told = f'{everywhere:,} of {int(covered.sum()):,} voxels ({share})'
        yield Text((f'Coverage: {told} are in all {n_runs}; only these are analysed.',))
        return
    if everywhere == int(covered.sum()):
        yield Text((f'Coverage: all {everywhere:,} voxels are in the mask of all {n_runs}.',))
    grey = load_map(background) if background is not None and background.exists() else None
    if grey is not None and grey.shape != masks[0].shape:
        grey = None
    figure = reader.plot(
        'coverage',
        brain.plot_coverage(
            nib.Nifti1Image(count.astype(np.float32), masks[0].affine), len(masks), grey
        ),
        f'Coverage: mean BOLD image with the edge of the brain mask of all {n_runs} (blue) and '
        'of any run (orange, where it lies elsewhere). '
        f'{everywhere:,} of {int(covered.sum()):,} voxels ({share}) '
        'are in the mask of every run; only these are analysed. Parts of the brain outside of '
        'the blue line were not measured or not kept in all runs.',
        f'{share} of the voxels are covered by all {n_runs}.',
        suffix='mask',
    )
    whole = everywhere == int(covered.sum())
    yield Fold('Coverage on slices', (figure,)) if whole else figure


def _carpet(reader: Reader) -> Iterable[Block]:
    runs = [run for run in reader.results.runs if run.bold.exists() and run.mask.exists()]
    if not runs:
        return
    worst = max(reader.motion, key=lambda run: run.mean) if reader.motion else None
    run = next((run for run in runs if worst is not None and run.label == worst.label), runs[0])
    places = _spread(run.mask, CARPET_VOXELS)
    series = None if places is None else _series(run, places)
    if series is None or places is None or not np.ptp(series, axis=0).any():
        return
    tissue = _tissue(run, places)
    carpet = quality.make_carpet(
        series, tissue, read_table(run.confounds), None if worst is None else worst.displacement
    )
    which = 'The run with the highest mean displacement' if worst is not None else 'The first run'
    order = NO_TISSUE if tissue is None else 'sorted by tissue, and within it'
    yield reader.plot(
        'carpet',
        quality.plot_carpet(carpet, run.repetition_time),
        f'{which} ({run.label}): framewise displacement (dashed: {quality.FD_LIMIT:g} mm), DVARS '
        'and global signal (percent of its mean, or units of series that have none) above '
        f'{carpet.series.shape[1]:,} voxels, {order} by how closely they follow the mean of all. '
        'Each row is one voxel over time, detrended and z-scored. Vertical bands through all '
        'voxels at peaks of displacement are motion artefacts; bands in grey matter alone may be '
        'the task.',
        f'Carpet plot of {run.label}.',
        suffix='carpetplot',
    )


def _evoked(reader: Reader) -> Iterable[Block]:
    """Show the response of the best voxels, estimated without a shape, beside the fitted one."""
    results = reader.results
    trials = read_table(results.trials)
    ranking = next((k for k in ('noiseceiling', 'rsquared') if k in results.maps), None)
    if trials is None or trials.empty or ranking is None or not results.maps[ranking].exists():
        return
    quality_map = np.asarray(load_map(results.maps[ranking]).dataobj, dtype=np.float64)
    known = np.nan_to_num(quality_map, nan=-np.inf)
    best = np.argsort(-known, axis=None, kind='stable')[:BEST_VOXELS]
    best = best[known.reshape(-1)[best] > 0]
    runs = _runs_with_trials(results.runs, trials, known.shape)
    if not best.size or not runs:
        return
    keys = np.unique(np.linspace(0, len(runs) - 1, EVOKED_RUNS).round().astype(int))
    chosen = [runs[i] for i in keys]
    read = [
        (series, onsets)
        for run, onsets in chosen
        if (series := _series(run, best)) is not None and len(series) > 2
    ]
    if not read:
        return
    duration = float(trials['duration'].median())
    found = evoked.finite_impulse_response(read, chosen[0][0].repetition_time, duration)
    if found is None:
        yield Text((COLLINEAR,))
        return
    shown, words = found, ''
    shapes = results.maps.get('hrfindex')
    if shapes is not None and shapes.exists():
        index = np.asarray(load_map(shapes).dataobj, dtype=np.float64).reshape(-1)[best]
        fitted = np.isfinite(index) & (index >= 0)
        if fitted.any():
            shown = evoked.with_library(found, index[fitted].astype(np.intp), duration)
            words = (
                ' Orange: mean of the shapes that were fitted to these voxels, scaled to the blue '
                'curve; where the two part, the library has no shape that suits.'
            )
    title = MAPS[ranking].title.lower()
    yield reader.plot(
        'evoked',
        evoked.plot_evoked(shown, duration),
        f'Response to a trial ({duration:g} s, grey) in the {best.size} voxels with the highest '
        f'{title}, from {len(read)} of {len(results.runs)} runs. Blue: mean over voxels of '
        'responses that assume no shape (all trials taken to be alike), with quartiles; before '
        f'the onset it should be at 0.{words}',
        f'Evoked response of {best.size} voxels.',
    )
    if evoked.begins_early(shown):
        yield Verdicts((Verdict('caution', TOO_EARLY),))


def _motion(reader: Reader) -> Iterable[Block]:
    motion = reader.motion
    if not motion:
        yield Text((NO_CONFOUNDS,))
        return
    rows = tuple(
        (
            str(number),
            run.label,
            f'{run.mean:.3f}',
            f'{run.maximum:.3f}',
            percent(run.share_moved),
            f'{run.drift:.2f}',
        )
        for number, run in enumerate(motion, 1)
    )
    computed = any(run.computed for run in motion)
    origin = 'computed here from the motion parameters' if computed else 'from the confounds'
    table = Table(
        (
            '#',
            'run',
            'mean FD (mm)',
            'largest FD (mm)',
            f'FD > {quality.FD_LIMIT:g} mm',
            'drift (mm)',
        ),
        rows,
        f'Head motion by run. FD: framewise displacement, {origin} (head radius 50 mm); '
        'drift: largest distance from the first volume.',
        frozenset({0, 2, 3, 4, 5}),
    )
    figure = reader.plot(
        'motion',
        quality.plot_motion(motion),
        'Head motion over all runs, end to end (runs are shaded in turn and numbered as in '
        'the table). Top: framewise displacement in mm, dashed line at '
        f'{quality.FD_LIMIT:g} mm. Below: translations (mm) and rotations (degrees) along and '
        'about x (left to right), y (back to front), z (feet to head).',
        f'Motion traces of {len(motion)} runs; largest displacement '
        f'{max(run.maximum for run in motion):.2f} mm.',
    )
    yield Fold('Head motion by run', (table, figure))


def _denoising(reader: Reader) -> Iterable[Block]:
    """Say how the betas were made and which number of noise components was chosen."""
    betas = reader.results.betas
    if betas is None:
        return
    if betas.model == 'precomputed':
        yield Text((f'Betas were there already: {betas.engine}.',))
        return
    text = [f'Betas: model {betas.model} ({betas.engine} engine).']
    if betas.n_noise_pool is not None:
        limit = betas.onoff_threshold
        below = '' if limit is None else f' (bright, ON-OFF R² below {limit:.1f} %)'
        text.append(f'{betas.n_noise_pool} voxels{below} made up the noise pool.')
    text += _choices(reader, betas)
    blocks: list[Block] = [Text((' '.join(text),))]
    if betas.model_scores:
        blocks.append(_compared_models(betas))
    if betas.component_curves and betas.n_components:
        chosen = ', '.join(str(k) for k in betas.n_components)
        blocks.append(
            reader.plot(
                'components',
                quality.plot_components(
                    betas.component_curves, betas.n_components, _fits_of_components(betas)
                ),
                'How much better repeats of a stimulus predict each other when noise '
                'components are regressed out (arbitrary units, higher is better): over all '
                'trials for the final model, over the training trials of each fold for scores. '
                'Dots: the number chosen, the smallest within 5 % of the best. A curve that never '
                'rises means that denoising does not help.',
                f'Gain by number of noise components; chosen: {chosen}.',
            )
        )
    yield Fold('How the betas were made: model, noise components', tuple(blocks))


def _choices(reader: Reader, betas: BetaResults) -> Iterable[str]:
    """Say which trials chose what, for the scores and for the final model."""
    given = reader.config is not None and reader.config.betas.fraction is not None
    chosen = [
        *(['model'] if betas.model_scores else []),
        *(['number of noise components'] if betas.component_curves else []),
        *(
            ['fractions of ridge']
            if 'D' in {betas.model, *betas.fold_models} and not given
            else []
        ),
    ]
    if chosen:
        scored = reader.results.system != 'betas'
        apart = APART if betas.tuning == 'training' else TOGETHER
        yield (apart if scored else ALONE).format(what=', '.join(chosen))
    yield SHARED


def _fits_of_components(betas: BetaResults) -> list[str]:
    """Return of which trials each curve of components is; fits of model B have none."""
    fits = ['all trials', *('training trials of a fold' for _ in betas.fold_models)]
    models = (betas.model, *betas.fold_models)
    found = [fit for fit, model in zip(fits, models, strict=True) if model != 'B']
    n = len(betas.component_curves)
    return found if len(found) == n else ['a fit'] * n


def _compared_models(betas: BetaResults) -> Table:
    fits = ['all trials (final model, no score)']
    fits += [f'training trials of fold {n} (scores)' for n in range(1, len(betas.fold_models) + 1)]
    rows = tuple(
        (fit, *(f'{100 * scores[each]:.1f}' for each in 'BCD'), model)
        for fit, scores, model in zip(
            fits, betas.model_scores, (betas.model, *betas.fold_models), strict=True
        )
    )
    return Table(
        ('chosen on', 'B (%)', 'C (%)', 'D (%)', 'chosen'),
        rows,
        'How the model of the betas was chosen. Among the trials of each row, runs were held out '
        'in turn, and ridge regression on the rest told each held-out presentation from other '
        'stimuli: percent of pairs (chance 50 %). B: response of a library; C: with noise '
        'components; D: with fractional ridge too. These are no scores of the decoder.',
        frozenset({1, 2, 3}),
    )


def _runs_with_trials(
    runs: tuple[RunResults, ...], trials: Any, shape: tuple[int, ...]
) -> list[tuple[RunResults, npt.NDArray[np.float64]]]:
    """Return runs on the grid of the maps, each with the onsets of its trials."""
    found = []
    labels = trials['run_label'] if 'run_label' in trials.columns else None
    for run in runs:
        if labels is None or not run.bold.exists():
            continue
        own = trials['onset'][labels == run.label].to_numpy(dtype=float)
        if own.size and load_image(run.bold).shape[:3] == shape:
            found.append((run, own))
    return found


def _spread(mask: Path, n_voxels: int) -> npt.NDArray[np.intp] | None:
    """Return places of voxels spread over a mask; None where it is empty."""
    places = np.flatnonzero(np.asarray(load_map(mask).dataobj).reshape(-1) > 0)
    if not places.size:
        return None
    spread = np.linspace(0, places.size - 1, min(n_voxels, places.size)).astype(int)
    return np.asarray(places[spread])


def _series(run: RunResults, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64] | None:
    """Read the series of voxels, (n_volumes, n_voxels); None where mask and series differ."""
    data = np.asarray(load_image(run.bold).dataobj)
    if data.ndim != 4 or data.shape[:3] != load_map(run.mask).shape:
        return None
    return np.asarray(data.reshape(-1, data.shape[-1])[places].T, dtype=np.float64)


def _tissue(run: RunResults, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """Return the tissue of voxels (:data:`quality.TISSUES`), where a segmentation is there."""
    from nilearn.image import resample_to_img

    file = None if space_of(load_map(run.mask)) else tissue_file(run.bold)
    if file is None:
        return None
    image = resample_to_img(
        load_map(file), load_map(run.mask), interpolation='nearest', copy_header=True,
        force_resample=True,
    )  # fmt: skip
    labels: npt.NDArray[np.intp] = np.asarray(image.dataobj).reshape(-1).astype(np.intp)
    return np.asarray(labels[places], dtype=np.intp)
