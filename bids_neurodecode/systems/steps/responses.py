"""Steps that every system shares: quality, betas, their reliability, an atlas, features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.systems.steps.betas import betas, part_of_betas, trial_samples
from bids_neurodecode.systems.steps.parcels import clean_run
from bids_neurodecode.systems.steps.plan import Plan, plan_trials
from bids_neurodecode.systems.steps.records import Facts
from bids_neurodecode.systems.steps.seen import RUNS, known_runs
from bids_neurodecode.typing import BoolArray, Float32Array
from bids_neurodecode.workflow.files import (
    common_mask,
    load_map,
    load_regions,
    load_volumes,
    save_json,
    save_labels,
    save_map,
)
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.resources import HELD_GB
from bids_neurodecode.workflow.step import Inputs, step

if TYPE_CHECKING:
    from bids_neurodecode.systems.voxels import Estimates

PASSES = ('responses', 'coordinates', 'judging', 'tuning')
"""Those over the data that betas need: over runs twice, over blocks of voxels twice."""
OF_STIMULI = ('prediction', 'isc', 'none')
"""Measures of voxels that are none of repeats, or none at all."""


@dataclass(frozen=True, kw_only=True)
class Trials(Inputs):
    """What every step takes that trains a model of single-trial betas.

    Parameters
    ----------
    participant, config, plan
        Whose responses, how they are modelled, and what of the trials is held out.
    mask, betas, tuned
        Voxels; betas, (n_trials, n_voxels); the same for each fold.
    run_marks
        What the runs are known by.
    folder
        Where everything is written.
    within, atlas_labels, atlas_table
        Voxels of the chosen regions, (n_voxels,), all without; the parcellation and its names.
    """

    participant: ParticipantInput
    config: Config
    plan: Plan
    mask: VoxelMask
    betas: Float32Array
    tuned: list[Float32Array]
    run_marks: Mapping[str, Any]
    folder: Path
    within: BoolArray | None = None
    atlas_labels: Path | None = None
    atlas_table: Path | None = None

    @property
    def regions(self) -> dict[str, BoolArray]:
        """The voxels of each region of the atlas, (n_voxels,)."""
        return load_regions(self.atlas_labels, self.atlas_table, self.mask)

    @cached_property
    def runs(self) -> dict[str, str]:
        """The fingerprint of each run, by its label."""
        return known_runs(self.run_marks, self.participant, self.betas, self.plan.table)

    def estimates(self, tsnr_runs: Float32Array | None = None) -> Estimates:
        """Return the betas of all trials and of each fold, their sessions joined.

        Parameters
        ----------
        tsnr_runs
            Temporal signal-to-noise ratio, (n_runs, n_voxels), where voxels are chosen.
        """
        settings, plan = self.config.betas, self.plan
        found = trial_samples(self.betas, self.tuned, self.mask, plan, settings, self.folder)
        if tsnr_runs is not None:
            tsnr_runs = tsnr_of(tsnr_runs, self.participant, plan.table)
        return replace(found, tsnr_runs=tsnr_runs, within=self.within)


def add_responses(
    ladder: Ladder, add_features: Callable[[Ladder], None], *, hold_out: bool = True
) -> None:
    """Add features and betas; features come first where stimuli are split by them.

    Parameters
    ----------
    ladder
        That steps are added to.
    add_features
        Adds the step that makes features.
    hold_out
        Whether something is held out.
    """
    first = hold_out and ladder.run.config.split.by == 'cluster'
    if first:
        add_features(ladder)
    add_betas(ladder, hold_out=hold_out)
    if not first:
        add_features(ladder)


def add_betas(ladder: Ladder, *, hold_out: bool = True) -> None:
    """Add what is held out, quality and betas.

    Parameters
    ----------
    ladder
        That steps are added to.
    hold_out
        Whether something is held out.
    """
    ladder.add(plan_trials, hold_out=hold_out)
    ladder.add(quality)
    # only the program's own engine knows a GPU
    own = ladder.participant.betas is None and ladder.run.config.betas.engine == 'native'
    device = ladder.run.device if own else 'cpu'
    apart = ladder.size.series_gb > HELD_GB
    n_parts = ladder.run.blocks if own else 1
    files: list[str] = []
    for stage, name in enumerate(PASSES if n_parts > 1 else ()):
        made = [f'{name}_{number}' for number in range(n_parts)]
        for number, product in enumerate(made):
            ladder.add(
                part_of_betas,
                f'betas_{product}',
                made={'left': product},
                apart=apart,
                device=device,
                share={'stage': stage, 'number': number, 'of': n_parts},
            )
        files += made
        ladder.gather('left', files, name=f'betas_{name}')
    ladder.add(betas, apart=apart, device=device)


def add_picture_features(ladder: Ladder) -> None:
    """Add the features of images."""
    ladder.add(picture_features, cache=str(ladder.run.work_dir / 'features'))


def add_atlas(ladder: Ladder, *, series: bool = True) -> None:
    """Place the atlas on the grid and average series over its parcels, where one was chosen.

    Parameters
    ----------
    ladder
        That steps are added to.
    series
        Whether series are averaged over parcels.
    """
    settings = ladder.run.config.atlas
    if not settings.given:
        return
    ladder.add(place_atlas)
    if series and ladder.participant.has_series:
        ladder.add(parcel_series)


@step(
    'quality',
    makes=('mask', 'mean_bold', 'tsnr', 'tsnr_runs', 'run_marks'),
    memory=lambda size: 4 * size.run_gb,
)
def quality(participant: ParticipantInput, folder: Path) -> Mapping[str, object]:
    """Find the voxels that all runs share, the mean volume, and temporal signal-to-noise ratios.

    ``run_marks`` is what the runs are known by (:mod:`~bids_neurodecode.systems.steps.seen`);
    ``tsnr`` is the mean over runs of ``tsnr_runs``, (n_runs, n_voxels).

    Parameters
    ----------
    participant
        Whose data.
    folder
        That is written into.
    """
    from bids_neurodecode.signals.fingerprints import fingerprint
    from bids_neurodecode.signals.reliability import tsnr

    runs = participant.runs
    mask = common_mask(runs)
    if not participant.has_series:
        from bids_neurodecode.systems.steps.precomputed import quality_without_series

        return quality_without_series(participant, mask, folder)
    ratios = np.empty((len(runs), mask.n_voxels), dtype=np.float32)
    total = np.zeros(mask.n_voxels)
    marks: dict[str, str] = {}
    for number, run in enumerate(runs):
        volumes = load_volumes(run)
        marks[run.label] = fingerprint(volumes.reshape(-1, volumes.shape[-1]))
        series = np.ascontiguousarray(mask.extract(volumes))
        ratios[number] = tsnr(series)
        total += series.sum(axis=0, dtype=np.float64)
    mask.save(folder / 'mask.nii.gz')
    known = {label: mark for label, mark in marks.items() if mark}
    mean = total / sum(run.n_volumes for run in runs)
    return {
        'mask': folder / 'mask.nii.gz',
        'mean_bold': save_map(folder / 'mean_bold.nii.gz', mask, mean),
        'tsnr': save_map(folder / 'tsnr.nii.gz', mask, ratios.mean(axis=0)),
        'tsnr_runs': ratios,
        'run_marks': save_json(folder / RUNS, known),
    }


@step('reliability', makes=('reliability_maps',), many=('reliability_maps',))
def reliability(
    betas: Float32Array, mask: VoxelMask, plan: Plan, folder: Path
) -> Mapping[str, object]:
    """Map reliability over all trials: to look at, never to select voxels by.

    None without repeats.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels), percent signal change.
    mask
        Voxels of the analysis.
    plan
        Trials or samples, and what of them is held out.
    folder
        That is written into.
    """
    from bids_neurodecode.signals.reliability import noise_ceiling
    from bids_neurodecode.systems.voxels import ncsnr_of

    ratio = ncsnr_of(Samples(Responses(betas, mask), plan.table))
    if ratio is None:
        return {'reliability_maps': []}
    ceiling = noise_ceiling(ratio, plan.table['stimulus'].value_counts().to_numpy())
    return {
        'reliability_maps': [
            save_map(folder / 'ncsnr.nii.gz', mask, ratio),
            save_map(folder / 'noiseceiling.nii.gz', mask, ceiling),
        ]
    }


@dataclass(frozen=True, kw_only=True)
class SelectionFacts(Facts):
    """How voxels were chosen."""

    rule: str
    """In words."""
    name: str


@step(
    'reliable',
    makes=('selected',),
    records={'selection_info': SelectionFacts},
    settings=('selection', 'seed'),
    memory=lambda _: 0.3,
)
def reliable_voxels(
    participant: ParticipantInput,
    config: Config,
    plan: Plan,
    mask: VoxelMask,
    betas: Float32Array,
    tsnr_runs: Float32Array,
    folder: Path,
    within: BoolArray | None = None,
) -> Mapping[str, object]:
    """Choose the voxels whose repeats agree, over all trials: a region to use later.

    None where no stimulus is repeated, or repeats cannot choose.

    Parameters
    ----------
    participant, config, plan
        Whose data, settings, and what is held out.
    mask
        Voxels of the analysis.
    betas
        Shape (n_trials, n_voxels), percent signal change.
    tsnr_runs
        Temporal signal-to-noise ratio, (n_runs, n_voxels).
    folder
        That is written into.
    within
        Voxels of the chosen regions, (n_voxels,); None: all.
    """
    from bids_neurodecode.systems.voxels import choose_voxels

    if not plan.table['stimulus'].duplicated().any() or config.selection.measure in OF_STIMULI:
        return {}
    found = choose_voxels(
        Samples(Responses(betas, mask), plan.table),
        None,
        config,
        tsnr_runs=tsnr_of(tsnr_runs, participant, plan.table),
        within=within,
    )
    if found.measure == 'none':
        return {}
    mask.restrict(found.keep).save(folder / 'selected.nii.gz')
    facts = SelectionFacts(rule=found.description, name=found.rule, warnings=(*found.warnings,))
    return {'selected': folder / 'selected.nii.gz', 'selection_info': facts}


def publish_reliable(writer: ProductWriter, selected: Path, info: SelectionFacts) -> Path:
    """Write the mask of the voxels whose repeats agree.

    Parameters
    ----------
    writer
        Of the products of the participant.
    selected
        The mask.
    info
        ``selection_info`` of :func:`reliable_voxels`.
    """
    about = '. '.join([info.rule, *info.warnings])
    return writer.image('reliable', selected, more={'desc': info.name}, Description=about)


@step('atlas', makes=('atlas_labels', 'atlas_table', 'within'), settings=('atlas',))
def place_atlas(
    participant: ParticipantInput, config: Config, mask: VoxelMask, folder: Path
) -> Mapping[str, object]:
    """Bring a parcellation to the grid of the data; find the voxels of the chosen regions.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    mask
        Voxels of the analysis.
    folder
        That is written into.
    """
    from bids_neurodecode.signals.atlas import region_mask
    from bids_neurodecode.signals.regions import place_regions

    settings = config.atlas
    atlas = place_regions(
        settings,
        participant.label,
        shape=mask.mask.shape,
        affine=mask.affine,
        space=participant.runs[0].space or None,
        columns=mask.space,
    )
    labels = atlas.labels
    within = np.ones(mask.n_voxels, dtype=bool)
    if settings.regions:
        within = mask.extract(region_mask(labels, atlas.table, settings.regions))
    write_tsv(folder / 'atlas.tsv', atlas.table)
    return {
        'atlas_labels': save_labels(folder / 'atlas.nii.gz', labels, mask),
        'atlas_table': folder / 'atlas.tsv',
        'within': within,
    }


@step(
    'parcels',
    makes=('parcels',),
    many=('parcels',),
    settings=('clean',),
    memory=lambda size: 4 * size.run_gb,
)
def parcel_series(
    participant: ParticipantInput,
    config: Config,
    mask: VoxelMask,
    atlas_labels: Path,
    atlas_table: pd.DataFrame,
) -> Mapping[str, object]:
    """Average the cleaned series of each parcel: one table per run, one column per parcel.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    mask
        Voxels of the analysis.
    atlas_labels
        Parcellation on the grid of the data.
    atlas_table
        Names of its parcels.
    """
    from bids_neurodecode.signals.atlas import parcel_means

    names = atlas_table.set_index('index')['name']
    voxel_labels = np.rint(load_map(atlas_labels, mask)).astype(int)
    tables = []
    for run in participant.runs:
        means = parcel_means(clean_run(run, mask, config.clean), voxel_labels)
        columns = [str(names[index]) for index in means.ids]
        tables.append(pd.DataFrame(means.values, columns=columns))
    return {'parcels': tables}


@step('features', seconds=4, makes=('features',), settings=('features',), memory=lambda _: 0.8)
def picture_features(
    participant: ParticipantInput, config: Config, cache: str
) -> Mapping[str, object]:
    """Features of images, (n_stimuli, n_features), stimuli in order of their names.

    Each image is read once, however many participants saw it: ``cache`` keeps them by content.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    cache
        Where features are kept by content.
    """
    from bids_neurodecode.stimuli.features import extract_features, get_extractor, image_size_of
    from bids_neurodecode.stimuli.images import load_images
    from bids_neurodecode.systems.steps.own_features import picture_table

    settings = config.features
    if settings.extractor == TABLE:
        own = picture_table(participant, settings)
        bands = own.of_stimuli(participant.stimuli, settings.bands)
        return {'features': np.concatenate([*bands.values()], axis=1)}
    files = [participant.stimuli_dir / name for name in participant.stimuli]
    features = extract_features(
        load_images(files, size=image_size_of(settings.extractor, settings.image_size)),
        get_extractor(settings.extractor),
        cache_dir=Path(cache),
    )
    return {'features': features}


def tsnr_of(
    runs: Float32Array, participant: ParticipantInput, table: pd.DataFrame
) -> Float32Array:
    """Return the temporal signal-to-noise ratio of each run of the betas, (n_runs, n_voxels).

    The runs of precomputed betas need not be the runs of the series.

    Parameters
    ----------
    runs
        Of the runs of the series, (n_runs, n_voxels).
    participant
        Whose data.
    table
        One row per trial.
    """
    if participant.betas is None:
        return runs
    return np.tile(runs.mean(axis=0), (int(table['run'].max()) + 1, 1))
