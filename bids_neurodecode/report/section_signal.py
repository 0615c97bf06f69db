"""The section on the signal: maps of the participant on the brain, each with its distribution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.report import brain
from bids_neurodecode.report.build import Block, Plot, Text
from bids_neurodecode.report.results import ParticipantResults
from bids_neurodecode.report.sheets import Sheet, where_shown
from bids_neurodecode.spaces import like, load_image, space_of

if TYPE_CHECKING:
    import nibabel as nib

SLICES = ' Slices run from the bottom to the top of the mask (z in mm); left is left.'
RIGHT = (
    ' Right panel: distribution over the voxels of the mask (grey) and those used (blue), dashed: '
    'medians.'
)


def signal_section(
    results: ParticipantResults, name: Callable[[str, str], str]
) -> tuple[Block, ...]:
    """Make the figures of the maps that there are.

    Parameters
    ----------
    results
        Of the participant.
    name
        Gives the file name of a figure from its description and suffix.
    """
    maps = {key: path for key, path in results.maps.items() if path.exists()}
    mask = analysis_mask(results)
    if mask is None or not maps:
        return (Text(('No map was made.',)),)
    sheet = sheet_of(results, mask)
    background = None if results.mean_bold is None else _load(results.mean_bold)
    selected = _load(maps['reliable']) if 'reliable' in maps else None
    blocks: list[Block] = []
    for key, spec in brain.MAPS.items():
        if key not in maps:
            continue
        image = _load(maps[key])
        shown = spec
        if key == 'hrfindex':
            image = _times_to_peak(image, results)
            if not (results.betas and results.betas.hrf_times_to_peak):
                shown = brain.MapSpec('Index of the response shape', 'index', spec.how_to_read)
        blocks.append(_map_block(key, image, shown, mask, background, selected, name, sheet))
        if results.in_mni and spec.glass:
            blocks.append(_glass_block(key, image, spec, mask, name))
    if selected is not None:
        blocks.append(_selection_block(results, selected, mask, background, name, sheet))
    if 'dseg' in maps:
        blocks.append(_atlas_block(_load(maps['dseg']), mask, background, name, sheet))
    return tuple(blocks) or (Text(('No map was made.',)),)


def ceiling_text(results: ParticipantResults) -> str:
    """Say how reliable betas are where they are all that was made; nothing elsewhere."""
    if results.system != 'betas':
        return ''
    mask, file = analysis_mask(results), results.maps.get('noiseceiling')
    if mask is None or file is None or not file.exists():
        return 'No stimulus was repeated, so that the reliability of the betas is not known.'
    values = np.asarray(_load(file).dataobj)[np.asarray(mask.dataobj) > 0]
    middle, high = np.quantile(values, [0.5, 0.95])
    return (
        'Betas were estimated, and nothing was decoded. Noise ceiling of the mean over repeats '
        f'(share of variance that the stimulus can explain): {100 * middle:.1f} % in the median '
        f'voxel, {100 * high:.1f} % or more in one of twenty.'
    )


def _map_block(
    key: str,
    image: nib.Nifti1Image,
    spec: brain.MapSpec,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None,
    selected: nib.Nifti1Image | None,
    name: Callable[[str, str], str],
    sheet: Sheet | None = None,
) -> Plot:
    figure = brain.plot_map(
        image, spec, mask=mask, background=background, selected=selected, sheet=sheet
    )
    inside = np.asarray(mask.dataobj) > 0
    volume = np.asarray(image.dataobj)
    values = volume[inside & np.isfinite(volume)]
    unit = ' %' if spec.scale == 100 else ''
    middle = ''
    if values.size:
        middle = f'median {spec.scale * np.median(values):.3g}{unit} over {values.size} voxels'
    if selected is not None and values.size:
        used = volume[inside & (np.asarray(selected.dataobj) > 0) & np.isfinite(volume)]
        if used.size:
            middle += f', {spec.scale * np.median(used):.3g}{unit} over the {used.size} used'
    where = SLICES + RIGHT if sheet is None else where_shown(sheet, values.size) + RIGHT
    caption = f'{spec.title}: {middle}. {spec.how_to_read}{where}'
    kind = 'slices' if sheet is None else 'surfaces'
    return Plot(name(key, 'map'), figure, caption, f'{spec.title} on {kind}; {middle}.')


def _glass_block(
    key: str,
    image: nib.Nifti1Image,
    spec: brain.MapSpec,
    mask: nib.Nifti1Image,
    name: Callable[[str, str], str],
) -> Plot:
    caption = (
        f'{spec.title} seen through a glass brain in MNI space: for each line of sight the '
        'strongest voxel is shown, and only the strongest tenth of all voxels.'
    )
    figure = brain.plot_glass(image, spec, mask=mask)
    return Plot(name(f'{key}glass', 'map'), figure, caption, f'{spec.title}, glass brain.')


def _selection_block(
    results: ParticipantResults,
    selected: nib.Nifti1Image,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None,
    name: Callable[[str, str], str],
    sheet: Sheet | None,
) -> Plot:
    n = int((np.asarray(selected.dataobj) > 0).sum())
    rule = '' if results.voxels is None else f' Rule: {results.voxels.rule.rstrip(".")}.'
    caption = (
        f'The {n} voxels that were used (orange) over the mean BOLD image; white line: edge of '
        f'the mask.{rule}'
    )
    if sheet is not None:
        caption = f'The {n} columns that were used (orange).{where_shown(sheet, n)}{rule}'
    figure = brain.plot_selection(selected, mask=mask, background=background, sheet=sheet)
    kind = 'voxels on slices' if sheet is None else 'columns on surfaces'
    return Plot(name('selected', 'mask'), figure, caption, f'{n} selected {kind}.')


def _atlas_block(
    labels: nib.Nifti1Image,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None,
    name: Callable[[str, str], str],
    sheet: Sheet | None,
) -> Plot:
    regions = np.unique(np.asarray(labels.dataobj))
    n = int((regions > 0).sum())
    caption = (
        f'The {n} regions of the atlas on the grid of the data; colours only tell neighbours '
        'apart. Regions that do not follow the grey matter point to a wrong space.'
    )
    figure = brain.plot_parcels(labels, mask=mask, background=background, sheet=sheet)
    return Plot(name('atlas', 'dseg'), figure, caption, f'Atlas of {n} regions on slices.')


def _times_to_peak(image: nib.Nifti1Image, results: ParticipantResults) -> nib.Nifti1Image:
    """Turn indices of the HRF library into seconds, where the times are known."""
    if results.betas is None or not results.betas.hrf_times_to_peak:
        return image
    times = np.asarray(results.betas.hrf_times_to_peak)
    index = np.asarray(image.dataobj, dtype=np.float64)
    known = np.isfinite(index) & (index >= 0) & (index < times.size)
    seconds = np.where(known, times[np.where(known, index, 0).astype(int)], np.nan)
    return like(image, seconds)


def analysis_mask(results: ParticipantResults) -> nib.Nifti1Image | None:
    """Return the voxels that are in the masks of all runs; else those where a map has values."""
    maps = {key: path for key, path in results.maps.items() if path.exists()}
    masks = [_load(run.mask) for run in results.runs if run.mask.exists()]
    shape = next((_load(p).shape[:3] for k, p in maps.items() if k in brain.MAPS), None)
    masks = [mask for mask in masks if shape is None or mask.shape == shape]
    if masks:
        inside = np.all([np.asarray(mask.dataobj) > 0 for mask in masks], axis=0)
        if inside.any():
            return like(masks[0], inside.astype(np.uint8))
    for key in ('tsnr', 'rsquared', 'pearsonr'):
        if key in maps:
            image = _load(maps[key])
            volume = np.asarray(image.dataobj)
            inside = np.isfinite(volume) & (volume != 0)
            if inside.any():
                return like(image, inside.astype(np.uint8))
    return None


def _load(path: Path) -> nib.Nifti1Image:
    """Read a 3-D image (a fourth axis of length one is dropped)."""
    image = load_image(path)
    if len(image.shape) == 3:
        return image
    return like(image, np.asarray(image.dataobj)[..., 0])


def sheet_of(results: ParticipantResults, image: nib.Nifti1Image) -> Sheet | None:
    """Return the surfaces on which maps of a participant are shown; None for volumes."""
    space = space_of(image)
    return None if space is None else Sheet.of(space, [run.bold.parent for run in results.runs])
