"""Runs paired with their mask, confounds, events and sidecar on all entities; never a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode.bids.description import read_json
from bids_neurodecode.bids.entities import (
    GRID_ENTITIES,
    PARCEL_ENTITIES,
    counted,
    counted_run,
    natural_key,
    nearest,
    parse_entities,
    run_entities,
)
from bids_neurodecode.bids.masks import (
    anatomical_mask,
    from_anatomy,
    from_series,
    given_mask,
    make_mask,
)
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.bids.series import Grid, check_grid, read_header, read_mask
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.spaces import COLUMN, WHERE, form_of, sidecar_of
from bids_neurodecode.tables import count_rows

NO_MASK = (
    'No brain mask for {bold}: no {expected} beside it, and other runs have theirs. Add the mask '
    'of this very run, name one for all runs with --mask, or leave the run out with --run-label '
    'or --bids-filter-file.'
)
NO_VOXELS = (
    'sub-{label}: the series are {where}: what is called a voxel here is {column}, and those that '
    'do not vary are left out.'
)
NO_CONFOUNDS = (
    'No confounds for {bold}: no {expected} beside it. Add the confounds table of this very run, '
    'or leave the run out with --run-label or --bids-filter-file.'
)
NO_CONFOUNDS_OF = (
    'No confounds table belongs to the series {desc} of {folder}: none is regressed out. Where '
    'another dataset holds them, name it with --derivatives too.'
)
NO_EVENTS = (
    'No events for {bold}: no *_events.tsv in {folder} applies to it. '
    'Add one; if its name says which film it shows, give that (events.stimulus = "{{task}}.mp4"); '
    'or leave the run out with --run-label, --session-label or --bids-filter-file.'
)
NO_TR = (
    'No repetition time for {bold}: neither a sidecar nor the header has one. '
    'Add "RepetitionTime" (s) to its JSON sidecar.'
)
BAD_START = (
    '{file} has the StartTime {value!r}; it must be a number (s) from 0 to the repetition time '
    '({longest:g} s), the moment of its first volume to which slices were shifted. Correct it.'
)
BAD_TR = (
    '{file} has the RepetitionTime {value!r}; it must be a number of seconds above 0 and below '
    '{longest:g} (not milliseconds). Correct it.'
)
TR_DISAGREES = (
    'The repetition times of {bold} disagree: {file} says {sidecar:g} s, '
    '{other} says {found:g} s{factor}. Correct the wrong one.'
)
HEADER_OVERRULED = (
    'The header of {bold} says a repetition time of {header:g} s ({why}), and its sidecar '
    '{sidecar:g} s: the sidecar is believed.'
)
HEADER_IMPLAUSIBLE = (
    'The header of {bold} says a repetition time of {header:g} s (milliseconds marked as '
    'seconds?), and no sidecar says another. Add "RepetitionTime" (s) to its JSON sidecar.'
)
FACTOR = 'a factor of 1000: milliseconds and seconds mixed up'
NEVER_SET = 'which is what stands there where nobody set it'
LONGEST_TR = 100.0
"""Seconds; sparse acquisitions wait for some 20 s."""
ROWS = (
    '{confounds} has {rows} rows, but {bold} has {volumes} volumes. '
    'They do not belong together; regenerate the derivatives.'
)
TR_TOLERANCE = 1e-3
"""Seconds; headers hold single precision, and some tools round to milliseconds."""


@dataclass(frozen=True)
class Series:
    """A preprocessed series that was found, by its name alone."""

    path: Path
    derivative: str

    @cached_property
    def entities(self) -> dict[str, str]:
        """Entities that name the run."""
        return run_entities(self.path)

    @property
    def space(self) -> str | None:
        """Label of the space, None where the name has none (the scanner's own space)."""
        return parse_entities(self.path).get('space')

    @property
    def resolution(self) -> str | None:
        """Label of the resolution."""
        return parse_entities(self.path).get('res')

    @property
    def density(self) -> str | None:
        """Label of the density of a surface or of CIFTI."""
        return parse_entities(self.path).get('den')

    @property
    def parcellation(self) -> dict[str, str]:
        """What names the parcels of a series of parcels."""
        own = parse_entities(self.path)
        return {key: own[key] for key in PARCEL_ENTITIES if key in own}

    @property
    def description(self) -> str:
        """Label of what was done to the series (``desc``), empty where the name has none."""
        return parse_entities(self.path).get('desc', '')

    @property
    def order(self) -> tuple[Any, ...]:
        """A key that sorts runs: session, run, then the rest of the name."""
        e = self.entities
        return (natural_key(e.get('ses', '')), natural_key(e.get('run', '')), self.path.name)


@dataclass(frozen=True)
class Candidates:
    """Files that may belong to a series; derived ones by the name of their dataset."""

    bids_dir: Path
    derivatives: Mapping[str, Path]
    masks: Mapping[str, Sequence[Path]]
    confounds: Mapping[str, Sequence[Path]]
    sidecars: Mapping[str, Sequence[Path]]
    events: Sequence[Path]
    raw_sidecars: Sequence[Path]
    mask: Path | None = None
    """One mask for all runs, where it was named."""
    made_dir: Path | None = None
    """Where masks are made that the derivatives lack."""

    sidecars_read: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What sidecars say, each read once a participant: one may be of all runs."""

    def sidecar(self, file: Path) -> Mapping[str, Any]:
        """Return what a sidecar says."""
        name = str(file)  # paths are compared part by part
        if name not in self.sidecars_read:
            self.sidecars_read[name] = read_json(file)
        return self.sidecars_read[name]

    def of(self, label: str) -> Candidates:
        """Keep what may belong to one participant: their files, and those of no one alone."""

        def own(name: str) -> list[Path]:
            groups = self._by_participant[name]
            mine, common = groups.get(label, []), groups.get('', [])
            return sorted([*mine, *common], key=_parts) if common else mine

        return replace(
            self,
            masks={name: own(f'mask {name}') for name in self.masks},
            confounds={name: own(f'confounds {name}') for name in self.confounds},
            sidecars={name: own(f'sidecar {name}') for name in self.sidecars},
            events=own('events'),
            raw_sidecars=own('raw sidecar'),
            sidecars_read={},
        )

    @cached_property
    def masks_by_entities(self) -> Mapping[str, Mapping[frozenset[tuple[str, str]], Path]]:
        """Masks by their dataset and all of their entities."""
        return {name: _by_entities(paths) for name, paths in self.masks.items()}

    @cached_property
    def confounds_by_entities(self) -> Mapping[str, Mapping[frozenset[tuple[str, str]], Path]]:
        """Tables of confounds by their dataset and all of their entities."""
        return {name: _by_entities(paths) for name, paths in self.confounds.items()}

    @cached_property
    def _by_run(self) -> Mapping[str | None, Mapping[tuple[str, str], Sequence[Path]]]:
        """Sidecars by dataset (empty: raw) and events (None), by session and run (empty: all)."""
        found: dict[str | None, dict[tuple[str, str], list[Path]]] = {}
        for name, paths in (*self.sidecars.items(), ('', self.raw_sidecars), (None, self.events)):
            groups = found.setdefault(name, {})
            for path in paths:
                own = counted_run(path.name)
                groups.setdefault((own.get('ses', ''), own.get('run', '')), []).append(path)
        return found

    def sidecars_near(self, series: Series, derivative: str = '') -> list[Path]:
        """Return the sidecars of a dataset that differ from a series in neither session nor run.

        Parameters
        ----------
        series
            The preprocessed series.
        derivative
            Name of the dataset; empty for the raw one.
        """
        return self._near(series, derivative)

    def events_of(self, series: Series) -> Path | None:
        """Return the events that apply to a series, if any do; errors as :func:`nearest`."""
        return nearest(series.path, self.bids_dir, self._near(series, None))

    def _near(self, series: Series, kind: str | None) -> list[Path]:
        own = counted_run(series.path.name)
        sessions, runs = ({'', own.get(key, '')} for key in ('ses', 'run'))
        groups = self._by_run.get(kind, {})
        near = (groups.get((ses, run), ()) for ses in sessions for run in runs)
        return sorted((path for paths in near for path in paths), key=_parts)

    @cached_property
    def _by_participant(self) -> dict[str, dict[str, list[Path]]]:
        """Files by kind and participant, whose label is empty where a file is of all."""
        lists = {'events': self.events, 'raw sidecar': self.raw_sidecars}
        for kind, found in (
            ('mask', self.masks),
            ('confounds', self.confounds),
            ('sidecar', self.sidecars),
        ):
            lists |= {f'{kind} {name}': paths for name, paths in found.items()}
        groups: dict[str, dict[str, list[Path]]] = {}
        for key, paths in lists.items():
            groups[key] = {}
            for path in paths:
                sub = path.name.removeprefix('sub-').split('_')[0]
                owner = sub if path.name.startswith('sub-') else ''
                groups[key].setdefault(owner, []).append(path)
        return groups


def pair_run(
    series: Series, files: Candidates, reader: EventsReader, *, need_confounds: bool = True
) -> RunInput:
    """Find and check what belongs to one series.

    Parameters
    ----------
    series
        The preprocessed series.
    files
        Where to look; mask and confounds are taken from the series' own dataset.
    reader
        Reads the participant's events.
    need_confounds
        Whether a run without a confounds table is an error.

    Raises
    ------
    InputError
        If something is missing or does not fit: entities, grids, rows and volumes, repetition
        times, times of events.
    """
    bold, name = series.path, series.derivative
    header = read_header(bold)
    repetition_time, note = _repetition_time(series, files, header.repetition_time)
    start_time = start_time_of(series.path, repetition_time, files.sidecar)
    mask, mask_source, note_on_mask = _find_mask(series, files, header.grid)
    confounds, owner, note_on_confounds = _find_confounds(series, files, need_confounds)
    if confounds is not None:
        _check_rows(confounds, bold, header.n_volumes)
    events = files.events_of(series)
    if events is None and not reader.needs_no_events:
        check_fetched(_raw_folder(series, files.bids_dir) / 'events.tsv')
        raise InputError(NO_EVENTS.format(bold=bold, folder=files.bids_dir))
    length = header.n_volumes * repetition_time
    shown = reader.read(events, series.entities, length=length, repetition_time=repetition_time)
    root = files.derivatives[name]
    sources = [bids_uri(name, bold, root)]
    sources += [
        bids_uri(other, mask_source, folder)
        for other, folder in files.derivatives.items()
        if mask_source != bold and mask_source.is_relative_to(folder)
    ][:1]
    if confounds is not None:
        sources.append(bids_uri(owner, confounds, files.derivatives[owner]))
    raw = [] if shown.published is None else [bids_uri('raw', shown.published, files.bids_dir)]
    return RunInput(
        entities=series.entities,
        bold=bold,
        mask=mask,
        events=shown.events,
        confounds=confounds,
        repetition_time=repetition_time,
        n_volumes=header.n_volumes,
        start_time=start_time,
        space=series.space,
        resolution=series.resolution,
        density=series.density,
        parcellation=series.parcellation,
        notes=tuple(filter(None, [note, note_on_mask, note_on_confounds])),
        sources=(*sources, *raw),
    )


def _find_mask(series: Series, files: Candidates, grid: Grid) -> tuple[Path, Path, str]:
    """Return the mask of a series on its grid, the file it is made of, and a note on it.

    It is the one named for all runs; else its own; else that of its combined echoes, or of the
    same run in another of the derivatives. Where the participant has no functional mask on that
    grid at all, it is the anatomical one, else voxels that vary. On surfaces it is the vertices
    that vary, which leaves the medial wall out, and in CIFTI all that does.
    """
    bold, name = series.path, series.derivative
    if files.mask is not None:
        mask, note = given_mask(files.mask, bold, grid, files.made_dir)
        return mask, files.mask, note
    places = (name, *(other for other in files.masks if other != name))
    form = form_of(bold)
    if form is not None:  # no pipeline writes masks of these
        label = series.entities.get('sub')
        note = NO_VOXELS.format(label=label, where=WHERE[form], column=COLUMN[form])
        return make_mask(bold, files.made_dir, files.derivatives[name]), bold, note
    for place in places:
        found = _exactly(series, files.masks_by_entities.get(place, {}), GRID_ENTITIES)
        if found is not None:
            _check_mask(found, bold, grid)
            return found, found, ''
    check_fetched(bold.with_name(_expected(series, 'mask')))
    if any(_on_grid(path, series) for path in files.masks.get(name, ())):
        raise InputError(NO_MASK.format(bold=bold, expected=_expected(series, 'mask')))
    root = files.derivatives[name]
    for place in places:
        anatomy = anatomical_mask(bold, files.masks.get(place, ()))
        if anatomy is not None:
            mask, note = from_anatomy(anatomy, bold, grid, files.made_dir, root)
            return mask, anatomy, note
    mask, note = from_series(bold, files.made_dir, root)
    return mask, bold, note


def _on_grid(mask: Path, series: Series) -> bool:
    """Whether a mask is that of some run, in the space and resolution of a series."""
    own, its = parse_entities(series.path), parse_entities(mask)
    return 'task' in its and all(own.get(key) == its.get(key) for key in GRID_ENTITIES)


def _find_confounds(
    series: Series, files: Candidates, needed: bool
) -> tuple[Path | None, str, str]:
    """Return the confounds of a series, the name of the derivatives they are in, and a note.

    Series that were cleaned (``desc-denoised``) come without; confounds of echoes that were
    combined elsewhere (``desc-optcom``) are in the derivatives of fMRIPrep.
    """
    name = series.derivative
    for place in (name, *(other for other in files.confounds if other != name)):
        found = _exactly(series, files.confounds_by_entities.get(place, {}), ())
        if found is not None:
            return found, place, ''
    check_fetched(series.path.with_name(_expected(series, 'confounds')))
    if needed and series.description == 'preproc':
        expected = _expected(series, 'confounds')
        raise InputError(NO_CONFOUNDS.format(bold=series.path, expected=expected))
    note = NO_CONFOUNDS_OF.format(
        desc=f'desc-{series.description}' if series.description else 'without desc',
        folder=files.derivatives[name],
    )
    return None, name, note if needed else ''


def _parts(path: Path) -> tuple[str, ...]:
    """Return what paths are sorted by, many times faster than paths compare themselves."""
    return path.parts


def _by_entities(paths: Sequence[Path]) -> dict[frozenset[tuple[str, str]], Path]:
    """Return files by all of their entities but ``desc``; of several the first by name."""
    return {
        frozenset((k, v) for k, v in counted(parse_entities(path)).items() if k != 'desc'): path
        for path in sorted(paths, key=_parts, reverse=True)
    }


def _exactly(
    series: Series, known: Mapping[frozenset[tuple[str, str]], Path], keep: Sequence[str]
) -> Path | None:
    """Return the candidate with all of the run's entities (and ``keep``), no more, no fewer.

    What several echoes, or magnitude and phase, have in common may leave out which it is.
    """
    own = counted(parse_entities(series.path))
    wanted = {**counted(series.entities), **{key: own[key] for key in keep if key in own}}
    for common in ((), ('echo',), ('part',), ('echo', 'part')):
        found = known.get(frozenset((k, v) for k, v in wanted.items() if k not in common))
        if found is not None:
            return found
    return None


def _expected(series: Series, kind: str) -> str:
    stem = series.path.name.split('_desc-')[0]
    if kind == 'mask':
        return f'{stem}_desc-brain_mask.nii.gz'
    stem = '_'.join(f'{key}-{value}' for key, value in series.entities.items())
    return f'{stem}_desc-confounds_timeseries.tsv'


def _raw_folder(series: Series, bids_dir: Path) -> Path:
    """Return the folder of a run in the raw dataset, which may be a subdataset of its own."""
    entities = series.entities
    session = [f'ses-{entities["ses"]}'] if 'ses' in entities else []
    return bids_dir.joinpath(f'sub-{entities["sub"]}', *session, 'func')


def _check_mask(mask: Path, bold: Path, grid: Grid) -> None:
    _, own = read_mask(mask)
    check_grid(own, mask, grid, bold)


def _check_rows(confounds: Path, bold: Path, n_volumes: int) -> None:
    rows = count_rows(confounds) - 1
    if rows != n_volumes:
        raise InputError(ROWS.format(confounds=confounds, rows=rows, bold=bold, volumes=n_volumes))


def _repetition_time(series: Series, files: Candidates, header: float | None) -> tuple[float, str]:
    """Return the repetition time (s) on which sidecars and header agree, and a note.

    A header that is off by a factor of 1000 (fMRIPrep wrote milliseconds marked as seconds), or
    that holds the 1 of a field never set, is not believed against a sidecar.
    """
    root = files.derivatives[series.derivative]
    said: list[tuple[str, float]] = []
    for folder, candidates in (
        (root, files.sidecars_near(series, series.derivative)),
        (files.bids_dir, files.sidecars_near(series)),
    ):
        found = _sidecar_time(series, folder, candidates, files)
        if found is not None:
            said.append(found)
    note = ''
    if header is not None:
        why = _why_overruled(header, said[0][1]) if said else ''
        if why:
            note = HEADER_OVERRULED.format(
                bold=series.path, header=header, why=why, sidecar=said[0][1]
            )
        else:
            said.append(('its header', header))
    if not said:
        raise InputError(NO_TR.format(bold=series.path))
    first_name, first = said[0]
    for other, value in said[1:]:
        if abs(value - first) > TR_TOLERANCE:
            raise InputError(
                TR_DISAGREES.format(
                    bold=series.path,
                    file=first_name,
                    sidecar=first,
                    other=other,
                    found=value,
                    factor=f' ({FACTOR})' if _thousandfold(first, value) else '',
                )
            )
    if first >= LONGEST_TR:
        raise InputError(HEADER_IMPLAUSIBLE.format(bold=series.path, header=first))
    return first, note


def _why_overruled(header: float, sidecar: float) -> str:
    if abs(header - sidecar) <= TR_TOLERANCE:
        return ''
    if _thousandfold(header, sidecar):
        return FACTOR
    return NEVER_SET if header == 1 else ''


def _thousandfold(a: float, b: float) -> bool:
    return bool(np.isclose(max(a, b), 1000 * min(a, b), rtol=TR_TOLERANCE))


def start_time_of(
    path: Path, repetition_time: float, read: Callable[[Path], Mapping[str, Any]] = read_json
) -> float:
    """Return the ``StartTime`` (s) of a series' own sidecar; 0 where it gives none.

    Slice-timing correction moves all slices to one moment of the volume (half a repetition time
    after its start in fMRIPrep), and says so there.

    Parameters
    ----------
    path
        Of the series.
    repetition_time
        Seconds.
    read
        Returns what a sidecar says.

    Raises
    ------
    InputError
        If it is no time within a volume.
    """
    file = sidecar_of(path)
    check_fetched(file)
    value = read(file).get('StartTime', 0.0) if file.exists() else 0.0
    longest = repetition_time + TR_TOLERANCE
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= longest:
        raise InputError(BAD_START.format(file=file, value=value, longest=repetition_time))
    return float(value)


def _sidecar_time(
    series: Series, root: Path, candidates: Sequence[Path], files: Candidates
) -> tuple[str, float] | None:
    """Return the repetition time that the nearest sidecar with one gives, and its name."""
    own = parse_entities(series.path)
    run = counted_run(series.path.name).items()
    able = [
        path
        for path in candidates
        if counted_run(path.name).items() <= run
        and all(
            its.get(key, own.get(key)) == own.get(key)
            for its in (parse_entities(path),)
            for key in (*GRID_ENTITIES, 'desc', 'hemi')
        )
    ]
    while able:
        file = nearest(series.path, root, _most_alike(able, own))
        if file is None:
            return None
        value = files.sidecar(file).get('RepetitionTime')
        if value is not None:
            a_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not a_number or not 0 < value < LONGEST_TR:
                raise InputError(BAD_TR.format(file=file, value=value, longest=LONGEST_TR))
            return str(file), float(value)
        able.remove(file)
    return None


def _most_alike(candidates: Sequence[Path], own: Mapping[str, str]) -> list[Path]:
    """Of sidecars that differ in grid and desc alone, keep the most exact."""
    best: dict[tuple[Path, tuple[tuple[str, str], ...]], tuple[int, Path]] = {}
    for path in candidates:
        key = (path.parent, tuple(counted_run(path.name).items()))
        score = sum(k in own for k in parse_entities(path))
        if key not in best or score > best[key][0]:
            best[key] = (score, path)
    return [path for _, path in best.values()]
