"""Whether new data are among those that a model was trained on, and on its grid.

A run is known by its fingerprint (:mod:`bids_neurodecode.signals.fingerprints`), not by its name,
and an image by its thumbnail (:mod:`bids_neurodecode.stimuli.duplicates`), which finds copies
under other names, re-encoded, resized, mirrored, or cropped by a tenth and less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.errors import DataError
from bids_neurodecode.models.storage import joined, under
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.fingerprints import fingerprint, seen_runs
from bids_neurodecode.stimuli.duplicates import ImageHashes, hash_images, shown_among

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.metrics import Score

RUNS = 'runs.json'
"""Beside the mask of the quality node: the fingerprint of each run of BOLD."""
IN_SAMPLE = 'in-sample'
"""Protocol of scores on runs that trained the model."""
SEEN = (
    '{n} of the {total} runs trained the model {file} (first: {first}), by their content: scores '
    'are in-sample, say nothing of new data and have no p values or intervals. Leave such runs '
    'out with --run-label or --session-label, or give a model of other runs.'
)
UNKNOWN = (
    'The model {file} does not say which runs trained it (a model of an earlier version, or of a '
    'group), so it is not known whether these runs are among them.'
)
SEEN_PICTURES = (
    '{n} of the {total} images trained the model {file}, by their content (first: {first}): '
    'scores say in part how well known images are told apart, and what is predicted of these is '
    'no test.'
)
KNOWN_BY_NAME = (
    'The model {file} does not say what its training images look like (a model of an earlier '
    'version): images are compared with those by name, and copies under other names pass.'
)
OTHER_GRID = (
    'The model {file} was trained on a grid of {model} voxels, these data have {data} (or lie '
    'elsewhere). Apply it to data in the same space and resolution.'
)
VOXELS_MISSING = (
    '{n} of the {total} voxels of the model {file} are outside of the brain masks of these runs. '
    'Apply it to runs that cover the same brain.'
)
PART = 'seen'
"""Of a model: the arrays by which its training images are known."""


@dataclass(frozen=True)
class Seen:
    """What of new data trained a model.

    Parameters
    ----------
    leaks
        Lines in red; none where nothing was seen.
    warnings
        The same, and where it cannot be known.
    """

    leaks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def known_runs(
    marks: Mapping[str, str],
    participant: ParticipantInput,
    betas: npt.NDArray[np.float32] | None = None,
    table: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Return the fingerprint of each run by its label.

    Parameters
    ----------
    marks
        Fingerprints of BOLD, by the labels of the runs; none where there is no record.
    participant
        Of the runs.
    betas, table
        Single-trial betas, (n_trials, n_voxels), and their trials: precomputed ones are what a
        model of them was trained on, and each run of them has a fingerprint of its own.
    """
    precomputed = participant.betas is not None or not participant.has_series
    if not precomputed or betas is None or table is None:
        return dict(marks)
    own = {
        f'ses-{session} {label}': fingerprint(np.asarray(betas[rows.index]).T)
        for (_, session, label), rows in table.groupby(['run', 'session', 'run_label'])
    }
    return {label: mark for label, mark in own.items() if mark}


def compare_runs(new: Mapping[str, str], description: Mapping[str, Any], file: Path | str) -> Seen:
    """Tell whether new runs trained a model.

    Parameters
    ----------
    new
        Fingerprints of the new runs by their labels (:func:`known_runs`).
    description
        Of the model; its training runs are under ``runs``.
    file
        The model, named in what is said.
    """
    name = Path(file).name
    if not new or not description.get('runs'):
        return Seen(warnings=(UNKNOWN.format(file=name),))
    known = seen_runs(new, description['runs'].values())
    if not known:
        return Seen()
    line = SEEN.format(n=len(known), total=len(new), file=name, first=known[0])
    return Seen((line,), (line,))


def pictures_state(files: Sequence[Path]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays by which a model knows the images that trained it.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    return joined({PART: hash_images(files).state()})


def merged_pictures(*models: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return :func:`pictures_state` of the images of several models; none if one has none."""
    states = [under(arrays, PART) for arrays in models]
    if not all(states):
        return {}
    return joined({PART: {x: np.concatenate([s[x] for s in states]) for x in states[0]}})


def seen_pictures(
    stimuli_dir: Path,
    names: Sequence[str],
    arrays: Mapping[str, npt.NDArray[Any]],
    trained: Sequence[str],
) -> tuple[tuple[str, ...], bool]:
    """Return which images trained a model, and whether that is known by their content.

    Parameters
    ----------
    stimuli_dir, names
        Of the images.
    arrays
        Of the model (:func:`pictures_state`).
    trained
        Names of its training images, by which those of earlier versions are known.
    """
    known = under(arrays, PART)
    if not known:
        return tuple(name for name in names if name in set(trained)), False
    hashes = hash_images([stimuli_dir / name for name in names])
    seen = shown_among(hashes, ImageHashes.from_state(known))
    return tuple(name for name, is_seen in zip(names, seen, strict=True) if is_seen), True


def pictures_note(
    participant: ParticipantInput,
    arrays: Mapping[str, npt.NDArray[Any]],
    trained: Sequence[str],
    file: Path | str,
) -> tuple[str, ...]:
    """Say how many of a participant's images trained a model; nothing where none did.

    Parameters
    ----------
    participant
        Whose data.
    arrays
        Of the model: thumbnails of its training images.
    trained
        Names of its training images.
    file
        Of the model.
    """
    names, name = participant.stimuli, Path(file).name
    seen, by_content = seen_pictures(participant.stimuli_dir, names, arrays, trained)
    lines = () if by_content else (KNOWN_BY_NAME.format(file=name),)
    if not seen:
        return lines
    line = SEEN_PICTURES.format(n=len(seen), total=len(names), file=name, first=seen[0])
    return (line, *lines)


def model_columns(voxels: VoxelMask, mask: VoxelMask, file: Path | str) -> npt.NDArray[np.bool_]:
    """Return which voxels of ``mask`` a model of some ``voxels`` takes, (n_voxels,).

    Parameters
    ----------
    voxels
        Those of the model.
    mask
        Voxels of the analysis.
    file
        Of the model.

    Raises
    ------
    DataError
        If the model is of another grid, or takes voxels that the mask does not hold.
    """
    wanted = voxels.mask
    if not voxels.same_grid(mask):
        raise DataError(OTHER_GRID.format(file=file, model=wanted.shape, data=mask.mask.shape))
    outside = int((wanted & ~mask.mask).sum())
    if outside:
        raise DataError(VOXELS_MISSING.format(n=outside, total=int(wanted.sum()), file=file))
    return np.asarray(mask.extract(wanted))


def in_sample(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Return scores of what was seen in training: without p values, intervals and ceilings."""
    nothing: dict[str, Any] = {'p': None, 'ci_low': None, 'ci_high': None, 'ceiling': None}
    return tuple(replace(score, protocol=IN_SAMPLE, **nothing) for score in scores)


def runs_on_card(runs: Mapping[str, str]) -> str:
    """Return the runs as a model card lists them, each with the beginning of a hash."""
    if not runs:
        return 'not recorded'
    hashes = {name: hashlib.sha256(mark.encode()).hexdigest()[:12] for name, mark in runs.items()}
    return ', '.join(f'{name} ({digest})' for name, digest in hashes.items())
