"""The section on where in the brain: maps of the participant, each with its distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.anatomy import anatomical_image
from bids_neurodecode.bids.description import read_json
from bids_neurodecode.bids.maps import MAPS, MapSpec, maps_of
from bids_neurodecode.extensions import OWN, said_by
from bids_neurodecode.report import brain
from bids_neurodecode.report.build import Block, Fold, Table, Text, Viewer
from bids_neurodecode.report.cortex import can_turn, surface_viewer
from bids_neurodecode.report.landmarks import REACH, SOURCE, label_voxels
from bids_neurodecode.report.mapblocks import MapBlocks
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.regions import regions_table, regions_text
from bids_neurodecode.report.results import RESPONSES_ALONE, BetaResults, ParticipantResults
from bids_neurodecode.report.sheets import Sheet
from bids_neurodecode.report.style import percent
from bids_neurodecode.spaces import like, load_image, sidecar_of, space_of

MAIN_MAPS = sorted(
    maps_of('score', 'share', 'ceiling', 'agreement'),
    key=lambda key: (MAPS[key].kind != 'score', MAPS[key].of != 'network'),
)
"""Maps that say most of what was found, the foremost first: a network's before ridge's."""
N_MAIN = 2
"""How many of them are shown; the others are folded."""
RELIABILITY = (
    'Reliability: {n:,} of {of:,} voxels ({share}) were selected for their agreement over '
    'repeats. In their median, stimuli can explain {high:.0f} % of the variance of the written '
    'betas averaged over repeats ({low:.0f} % over the mask): even a perfect model of one voxel '
    'would correlate with these at about {r:.2f}. The rest is noise. How well a decoder of all '
    'voxels together could do is not known; more repeats and more such voxels help.'
)
SHARED = (
    'Reliability: responses of the {n:,} voxels correlate between participants at {r:.2f} '
    '(median; {high:.2f} or more in one of twenty), which is about what a perfect model of the '
    'film would reach.'
)
ALIGNED = 'Series were cleaned and put on the clock of the film, and no model was fitted.'
NOT_REPEATED = (
    'No film was shown twice, and no other participant of the call saw the same films, so that '
    'the reliability of the responses is not known.'
)
CEILINGS = frozenset({'noiseceiling', 'noisenormalized'})
"""Maps that rest on a noise ceiling."""
CEILING = (
    ' The noise ceiling is that of the betas of all trials (model {written}), which are written '
    'and mapped'
)
CEILING_APART = (
    '. Scores are of betas of model {scored} that were tuned without the held-out trials'
)
DIVIDED = (
    '. Ceilings in tables of scores are of these betas, where held-out stimuli are repeated; '
    'noise-normalised accuracy divides by the ceiling of the written betas'
)
SCORED_CEILING = (
    ' Of the betas that are scored, which were tuned without the held-out trials, stimuli can '
    'explain {ceiling:.0f} % of the variance of averages of held-out trials (median of {voxels}; '
    'from held-out stimuli alone; nothing was chosen by them).'
)
CHOSEN, ALL_VOXELS = 'voxels chosen by training trials', 'all voxels'
NO_SCORED_CEILING = (
    ' The ceiling of the betas that are scored, which were tuned without the held-out trials, is '
    'not known, as no held-out stimulus is repeated.'
)
WHERE = (
    'Where in the brain: of the {n:,} voxels that the final decoder reads there are '
    '{places}{elsewhere} (no region was decoded by itself).'
)
WHY = (
    'The voxels that the decoder reads were selected {why}, so that where they lie says where '
    'stimuli change responses reliably, not how well each region can be decoded.'
)
ALONE = (
    'Images decoded by ridge regression from all voxels of each region alone, in the same folds '
    'as by the decoder: identification of single trials by decoded features'
)
MEDIANS = 'Noise ceiling, coverage and selected voxels of each region'
BY_AGREEMENT = 'because their responses to repeats of a stimulus agree'
BY_RULE = 'by the rule that is given with their number'
SCORED = maps_of('score')
"""Maps of a score of each voxel, the one that is told of first."""
BEST = (
    'Where in the brain: {title} is highest in {places} (median {label} over the voxels of each '
    'of {n} regions; {middle:.2f} over all voxels). No p value or interval of '
    'these medians is given here.'
)
BEST_PLACES = 3
MOST_PLACES = 6
"""Regions that the summary names."""
LONG = 15
"""Regions from which their table is closed until it is clicked."""
MOST_LANDMARKS, FEWEST_VOXELS = 10, 5
"""Rows of the table of landmarks, and voxels that one needs."""
NO_ATLAS = (
    'No region is named, because no atlas was given and these are no volumes in MNI space. '
    '--atlas (an atlas of TemplateFlow, or a dseg file in the space of the data) adds a table of '
    'regions.'
)
NO_MEASURE = (
    'No region is named: there is no score and no noise ceiling of single voxels to compare them '
    'by.'
)
NEAREST = (
    'Where in the brain? No atlas was given, so that voxels are called after the nearest of 160 '
    'functional landmarks ({source}) within {reach:g} mm: the {n} places with {what}, '
    'of {of}. This is a rough guide; --atlas (an atlas of TemplateFlow, or a dseg file) adds a '
    'table of its regions.'
)
LEFT_OUT = (
    ' Voxels that the network does not take have no value (0 in the file): they are left out of '
    'the map, the median and the distribution.'
)


def brain_section(reader: Reader) -> tuple[Block, ...]:
    """Show where in the brain: the main maps, regions and a viewer; the other maps are folded."""
    results = reader.results
    maps = {key: path for key, path in results.maps.items() if path.exists()}
    mask = analysis_mask(results)
    if mask is None or not maps:
        return (Text(('No map was made.',)),)
    sheet = sheet_of(results, mask)
    background = None if results.mean_bold is None else load_map(results.mean_bold)
    selected = load_map(maps['reliable']) if 'reliable' in maps else None
    atlas = load_map(maps['dseg']) if 'dseg' in maps else None
    draw = MapBlocks(mask, background, sheet, reader.name)
    specs = MAPS | maps_of_extension(results.system, maps)
    main = [key for key in MAIN_MAPS if key in maps][:N_MAIN] or [
        x for x in ('tsnr',) if x in maps
    ]
    main += [key for key in specs if key not in MAPS]
    shown: list[Block] = []
    folded: list[Block] = []
    for key in [*main, *(key for key in specs if key not in main)]:
        if key not in maps:
            continue
        spec, image = _spec_of(results, key, specs[key]), load_map(maps[key])
        if key == 'hrfindex':
            image = _times_to_peak(image, results)
            if not (results.betas and results.betas.hrf_times_to_peak):
                spec = MapSpec('Index of the response shape', 'index', spec.how_to_read)
        blocks = shown if key in main else folded
        borders = atlas if key in main and sheet is not None else None
        used, drawn = selected, image
        whose = _whose(results, key)
        if spec.of == 'network' and results.network is not None:
            used, whose = None, LEFT_OUT
            drawn = _voxels_alone(image, load_map(results.network.voxels))
        blocks.append(draw.on_slices(key, drawn, spec, used, borders, whose))
        if results.in_mni and spec.glass:
            folded.append(draw.whole_brain(key, image, spec, on_cortex=key in main))
        if key in main and (sheet is None or can_turn(sheet)):
            blocks.append(_viewer(reader, key, image, spec, mask, sheet))
    if selected is not None:
        rule = '' if results.voxels is None else results.voxels.rule
        folded.append(draw.selection(selected, rule))
        if results.in_mni:
            folded += draw.selection_on_cortex(selected)
    shown = [*_where_decoded(results, maps), *shown, *_regions(reader, maps, mask)]
    if atlas is not None:
        folded.append(draw.atlas(atlas, region_names(maps['dseg'])))
    more = (Fold('More maps: cortex, glass brains, signal, fits, voxels selected', tuple(folded)),)
    return (*shown, *(more if folded else ()))


def _whose(results: ParticipantResults, key: str) -> str:
    """Say which betas a map of noise ceilings belongs to, and what is known of those scored."""
    if key not in CEILINGS:
        return ''
    of_scores = key == 'noiseceiling' and said_by(results.system).scores == 'voxels'
    return ceiling_of(results) + (scored_ceiling_text(results) if of_scores else '')


def _spec_of(results: ParticipantResults, key: str, spec: MapSpec) -> MapSpec:
    """Return how a map is described; of films a prediction says whose it is: there are two."""
    title = said_by(results.system).titles.get(key)
    return spec if title is None else replace(spec, title=title)


def _voxels_alone(image: nib.Nifti1Image, voxels: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return a map without a value outside of some voxels."""
    inside = np.asarray(voxels.dataobj) > 0
    return like(image, np.where(inside, np.asarray(image.dataobj, dtype=np.float64), np.nan))


def _where_decoded(results: ParticipantResults, maps: Mapping[str, Path]) -> Iterable[Block]:
    """Say what regions in which the voxels of a decoder lie do not say."""
    told = any(key in maps for key in SCORED) or _decoded(results) is not None
    if where_text(results) and not told:
        rule = '' if results.voxels is None else results.voxels.rule
        yield Text((WHY.format(why=BY_AGREEMENT if 'agree' in rule else BY_RULE),))


def _decoded(results: ParticipantResults) -> pd.DataFrame | None:
    """Return what regions score alone; nothing where the test was seen in training."""
    return None if results.leaks else read_table(results.decoded_regions)


def maps_of_extension(system: str, maps: Mapping[str, Path]) -> dict[str, MapSpec]:
    """Describe the maps that a system of another package made by what their sidecars say.

    Parameters
    ----------
    system
        Its name; maps of the systems of this package are described elsewhere.
    maps
        Files by key. A map without a sidecar is called by its key.
    """
    if system in {*OWN, *RESPONSES_ALONE}:
        return {}
    found = {}
    for key in maps.keys() - {*MAPS, 'reliable', 'dseg'}:
        file = sidecar_of(maps[key])
        told = read_json(file) if file.is_file() else {}
        about = str(told.get('Description', key)).rstrip('.')
        label = str(told.get('Units', '')) or key
        found[key] = MapSpec(key.capitalize(), label, f'{about}.', low=None)
    return dict(sorted(found.items()))


def _viewer(
    reader: Reader,
    key: str,
    image: nib.Nifti1Image,
    spec: MapSpec,
    mask: nib.Nifti1Image,
    sheet: Sheet | None,
) -> Viewer:
    """Link a viewer of a map over the anatomical image, the template or the mean BOLD image.

    Of surfaces it shows these, which can be turned.
    """
    results = reader.results
    file = reader.name(key, 'viewer').replace('.svg', '.html')
    if sheet is not None:
        return Viewer(
            file,
            f'Interactive viewer: {spec.title.lower()} on surfaces that can be turned',
            lambda: surface_viewer(image, spec, mask=mask, sheet=sheet),
        )
    anatomy = anatomical_image(results.runs[0].bold) if results.runs else None
    under = anatomy
    if anatomy is None and not results.in_mni:
        under = results.mean_bold
    what = 'the template' if results.in_mni else 'the mean BOLD image'
    what = 'the anatomical image' if anatomy else what
    return Viewer(
        file,
        f'Interactive viewer: {spec.title.lower()} on {what}',
        lambda: brain.viewer(image, spec, mask=mask, background=under),
    )


def _regions(reader: Reader, maps: dict[str, Path], mask: nib.Nifti1Image) -> Iterable[Block]:
    """Write what each region scores, its ceiling and its voxels: of the atlas, else landmarks."""
    inside = np.asarray(mask.dataobj) > 0
    if 'dseg' in maps:
        labels = np.asarray(load_map(maps['dseg']).dataobj)
        if labels.shape == inside.shape:
            medians = _RegionTable.of(maps, labels, inside).of_atlas(region_names(maps['dseg']))
            decoded = _decoded(reader.results)
            if decoded is None:
                yield medians
            else:
                yield regions_table(decoded, 'identification_2way', ALONE)
                yield Fold(MEDIANS, (medians,))
        return
    if not reader.results.in_mni or space_of(mask) is not None:
        yield Text((NO_ATLAS,))
        return
    labels, names = label_voxels(mask)
    table = _RegionTable.of(maps, labels, inside)
    yield table.of_landmarks(names) if table.columns else Text((NO_MEASURE,))


@dataclass(frozen=True)
class _RegionTable:
    """Medians of maps over the voxels of regions."""

    columns: tuple[tuple[str, npt.NDArray[np.float64]], ...]
    """Title and values of each map, on the grid."""
    labels: npt.NDArray[Any]
    inside: npt.NDArray[np.bool_]
    selected: npt.NDArray[np.bool_] | None

    @property
    def scored(self) -> bool:
        """Whether there is a score of each voxel, by which regions are put in order."""
        return any(title.startswith('score') for title, _ in self.columns)

    @property
    def order(self) -> str:
        """Say in which order regions stand."""
        if self.scored or self.selected is None:
            return 'highest first'
        return 'those with most selected voxels first (in brackets: the share of all selected)'

    @classmethod
    def of(
        cls, maps: Mapping[str, Path], labels: npt.NDArray[Any], inside: npt.NDArray[np.bool_]
    ) -> Self:
        columns: list[tuple[str, npt.NDArray[np.float64]]] = []
        for title, keys in (
            ('score', SCORED),
            ('ceiling', ('noiseceiling', 'ceilingr', 'isc')),
        ):
            key = next((key for key in keys if key in maps), None)
            if key is not None:
                spec = MAPS[key]
                values = np.asarray(load_map(maps[key]).dataobj, dtype=np.float64)
                columns.append((f'{title}: {spec.label}', spec.scale * values))
        selected = None
        if 'reliable' in maps:
            selected = np.asarray(load_map(maps['reliable']).dataobj) > 0
        return cls(tuple(columns), labels, inside, selected)

    def of_atlas(self, names: Mapping[int, str]) -> Table:
        """Write all regions, and how much of each was measured."""
        rows = self._rows(names, covered=True)
        caption = (
            f'The {len(rows)} regions of the atlas: medians over the voxels of each, '
            f'{self.order}. Covered: share of the region that lies in the mask of every run.'
        )
        return self._table(rows, caption, covered=True)

    def of_landmarks(self, names: Mapping[int, str]) -> Table:
        """Write the places with the highest medians, or with most voxels of a decoder."""
        rows = self._rows(names, covered=False, fewest=FEWEST_VOXELS)
        shown = rows[:MOST_LANDMARKS]
        by_median = self.scored or self.selected is None
        what = 'the highest median' if by_median else 'most selected voxels'
        told = {'n': len(shown), 'of': len(rows), 'what': what}
        caption = NEAREST.format(source=SOURCE, reach=REACH, **told)
        return self._table(shown, caption, covered=False)

    def _rows(
        self, names: Mapping[int, str], *, covered: bool, fewest: int = 0
    ) -> list[tuple[str, ...]]:
        rows = []
        for label in np.unique(self.labels[self.labels > 0]):
            region = self.labels == label
            own = region & self.inside
            n = int(own.sum())
            if n < fewest:
                continue
            cells = [_median(values[own]) for _, values in self.columns]
            share = (percent(n / int(region.sum()), 0),) if covered else ()
            name = names.get(int(label), f'region {int(label)}')
            order = np.nanmedian(self.columns[0][1][own]) if self.columns and n else -np.inf
            order = float(np.nan_to_num(order, nan=-np.inf))
            chosen: tuple[str, ...] = ()
            if self.selected is not None:
                n_chosen = int((own & self.selected).sum())
                part = n_chosen / max(int((self.inside & self.selected).sum()), 1)
                chosen = (f'{n_chosen} ({percent(part, 0)})',)
                order = order if self.scored else float(n_chosen)
            row = (name, *cells, str(n), *share, *chosen)
            rows.append((order, row))
        rows.sort(key=lambda pair: -pair[0])
        return [row for _, row in rows]

    def _table(self, rows: Sequence[tuple[str, ...]], caption: str, *, covered: bool) -> Table:
        titles = ['region', *(title for title, _ in self.columns), 'voxels']
        titles += ['covered'] if covered else []
        titles += [] if self.selected is None else ['selected']
        numeric = frozenset(range(1, len(titles)))
        return Table(tuple(titles), tuple(rows), caption, numeric, folded=len(rows) > LONG)


def _median(values: npt.NDArray[np.float64]) -> str:
    values = values[np.isfinite(values)]
    return f'{np.median(values):.3g}' if values.size else 'n/a'


def region_names(labels: Path) -> dict[int, str]:
    """Read the names of regions from the table beside a parcellation, where there is one."""
    # the table is of both hemispheres, and not the labels of parcels themselves
    bare = re.sub(r'_hemi-[LR]|_desc-labels', '', labels.name.split('.')[0])
    without_space = re.sub(r'_space-[^_]+|_res-[^_]+', '', bare)
    for name in (bare, without_space):
        table = read_table(file) if (file := labels.with_name(f'{name}.tsv')).exists() else None
        if table is not None and {'index', 'name'} <= set(table.columns):
            return dict(zip(table['index'].astype(int), table['name'].astype(str), strict=True))
    return {}


def where_text(results: ParticipantResults) -> str:
    """Say in a sentence in which regions the voxels of a decoder lie, or are predicted best.

    Parameters
    ----------
    results
        With a map of the voxels that were selected or of a score, and an atlas or a space of
        landmarks.
    """
    maps = {key: path for key, path in results.maps.items() if path.exists()}
    mask = analysis_mask(results)
    labels, names = (None, {}) if mask is None else _labels_of(results, maps, mask)
    if mask is None or labels is None or labels.shape != mask.shape:
        return ''
    score = next((key for key in SCORED if key in maps), None)
    if score is not None:
        spec = _spec_of(results, score, MAPS[score])
        return _best_regions(maps[score], spec, labels, names, mask)
    decoded = _decoded(results)
    if decoded is not None:
        return regions_text(decoded, 'identification_2way')
    if said_by(results.system).scores != 'decoded' or 'reliable' not in maps:
        return ''
    return _places_of(np.asarray(load_map(maps['reliable']).dataobj) > 0, labels, names)


def _places_of(
    chosen: npt.NDArray[np.bool_], labels: npt.NDArray[Any], names: Mapping[int, str]
) -> str:
    """Say in which regions the voxels of a decoder lie."""
    found, counts = np.unique(labels[chosen], return_counts=True)
    order = [i for i in np.argsort(-counts, kind='stable') if found[i] > 0][:MOST_PLACES]
    if not order:
        return ''
    n = int(chosen.sum())
    places = ', '.join(
        f'{percent(counts[i] / n, 0)} in {names.get(int(found[i]), f"region {found[i]}")}'
        for i in order
    )
    left = n - int(counts[order].sum())
    return WHERE.format(
        n=n,
        places=places,
        elsewhere=f', {percent(left / n, 0)} elsewhere' if left else '',
    )


def _best_regions(
    file: Path,
    spec: MapSpec,
    labels: npt.NDArray[Any],
    names: Mapping[int, str],
    mask: nib.Nifti1Image,
) -> str:
    """Say in which regions the median of a score is highest."""
    values = spec.scale * np.asarray(load_map(file).dataobj, dtype=np.float64)
    inside = (np.asarray(mask.dataobj) > 0) & np.isfinite(values)
    medians = {
        int(label): float(np.median(values[own]))
        for label in np.unique(labels[labels > 0])
        if (own := inside & (labels == label)).sum() >= FEWEST_VOXELS
    }
    if not medians:
        return ''
    best = sorted(medians, key=lambda label: -medians[label])[:BEST_PLACES]
    places = ', '.join(
        f'{names.get(label, f"region {label}")} ({medians[label]:.2f})' for label in best
    )
    return BEST.format(
        title=spec.title.lower(),
        label=spec.label,
        places=places,
        n=len(medians),
        middle=float(np.median(values[inside])),
    )


def _labels_of(
    results: ParticipantResults, maps: Mapping[str, Path], mask: nib.Nifti1Image
) -> tuple[npt.NDArray[Any] | None, dict[int, str]]:
    """Return the region of each voxel and their names: of the atlas, else of landmarks."""
    if 'dseg' in maps:
        return np.asarray(load_map(maps['dseg']).dataobj), region_names(maps['dseg'])
    if not results.in_mni or space_of(mask) is not None:
        return None, {}
    labels, names = label_voxels(mask)
    return labels, dict(names)


def ceiling_of(results: ParticipantResults) -> str:
    """Say which betas the mapped noise ceiling belongs to, and whether scores are of these.

    Parameters
    ----------
    results
        With its betas; nothing is said of betas that were given.
    """
    betas = results.betas
    if betas is None or betas.model not in {'B', 'C', 'D'} or results.system == 'betas':
        return ''
    said = CEILING.format(written=betas.model)
    if _tuned_apart(betas):
        scored = sorted({*betas.fold_models}) or [betas.model]
        said += CEILING_APART.format(scored=' and '.join(scored))
        said += DIVIDED if said_by(results.system).scores == 'voxels' else ''
    return f'{said}.'


def _tuned_apart(betas: BetaResults) -> bool:
    """Tell whether the betas that are scored were tuned without the held-out trials."""
    models = {betas.model, *betas.fold_models}
    return betas.tuning == 'training' and bool(models & {'C', 'D'})


def scored_ceiling_text(results: ParticipantResults) -> str:
    """Say what the noise ceiling of the betas that are scored is, where these are others.

    Parameters
    ----------
    results
        With its betas and voxels.
    """
    betas, voxels = results.betas, results.voxels
    of = said_by(results.system).scores
    if betas is None or voxels is None or not of or not _tuned_apart(betas):
        return ''
    if voxels.scored_ceiling is None:
        return NO_SCORED_CEILING
    which = ALL_VOXELS if of == 'voxels' else CHOSEN
    return SCORED_CEILING.format(ceiling=100 * voxels.scored_ceiling, voxels=which)


def ceiling_text(results: ParticipantResults) -> str:
    """Say how reliable responses are where they are all that was made; nothing elsewhere."""
    if results.fits_models:
        return ''
    if results.system != 'betas':
        return _agreement_text(results)
    mask, file = analysis_mask(results), results.maps.get('noiseceiling')
    if mask is None or file is None or not file.exists():
        return 'No stimulus was repeated, so that the reliability of the betas is not known.'
    values = np.asarray(load_map(file).dataobj)[np.asarray(mask.dataobj) > 0]
    middle, high = np.quantile(values, [0.5, 0.95])
    return (
        'Betas were estimated, and nothing was decoded. Noise ceiling of the mean over repeats '
        f'(share of variance that the stimulus can explain): {100 * middle:.1f} % in the median '
        f'voxel, {100 * high:.1f} % or more in one of twenty.'
    )


def _agreement_text(results: ParticipantResults) -> str:
    """Say how well aligned series agree, where they are all that was made."""
    mask, told = analysis_mask(results), [ALIGNED]
    for key in reversed(maps_of('agreement')):
        file = results.maps.get(key)
        if mask is None or file is None or not file.exists():
            continue
        values = np.asarray(load_map(file).dataobj, dtype=np.float64)
        values = values[(np.asarray(mask.dataobj) > 0) & np.isfinite(values)]
        if values.size:
            middle, high = np.quantile(values, [0.5, 0.95])
            told.append(MAPS[key].median.format(r=middle, high=high))
    return ' '.join(told if len(told) > 1 else [*told, NOT_REPEATED])


def reliability_text(results: ParticipantResults) -> str:
    """Say in a sentence how reproducible responses are, and what models can reach by it.

    Parameters
    ----------
    results
        With maps of a noise ceiling and of the voxels selected, or of a ceiling of films.
    """
    maps = {key: path for key, path in results.maps.items() if path.exists()}
    mask = analysis_mask(results)
    if mask is None or not results.fits_models:
        return ''
    inside = np.asarray(mask.dataobj) > 0
    if {'noiseceiling', 'reliable'} <= maps.keys():
        values = np.asarray(load_map(maps['noiseceiling']).dataobj, dtype=np.float64)
        known = inside & np.isfinite(values)
        chosen = known & (np.asarray(load_map(maps['reliable']).dataobj) > 0)
        if not chosen.any() or chosen.sum() == known.sum():
            return ''
        low, high = (100 * float(np.median(values[each])) for each in (known, chosen))
        n, of = int(chosen.sum()), int(known.sum())
        share, r = percent(n / of), (high / 100) ** 0.5
        said = RELIABILITY.format(n=n, of=of, share=share, low=low, high=high, r=r)
        # beside the map, where that stands for itself
        of_voxels = said_by(results.system).scores == 'voxels'
        return said + ('' if of_voxels else scored_ceiling_text(results))
    key = next((key for key in ('ceilingr', 'isc') if key in maps), None)
    if key is None:
        return ''
    values = np.asarray(load_map(maps[key]).dataobj, dtype=np.float64)
    values = values[inside & np.isfinite(values)]
    if not values.size:
        return ''
    r, high = np.quantile(values, [0.5, 0.95])
    return SHARED.format(n=values.size, r=r, high=high)


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
    masks = [load_map(run.mask) for run in results.runs if run.mask.exists()]
    shape = next((load_map(p).shape[:3] for k, p in maps.items() if k in MAPS), None)
    masks = [mask for mask in masks if shape is None or mask.shape == shape]
    if masks:
        inside = np.all([np.asarray(mask.dataobj) > 0 for mask in masks], axis=0)
        if inside.any():
            return like(masks[0], inside.astype(np.uint8))
    for key in ('tsnr', 'rsquared', 'pearsonr'):
        if key in maps:
            image = load_map(maps[key])
            volume = np.asarray(image.dataobj)
            inside = np.isfinite(volume) & (volume != 0)
            if inside.any():
                return like(image, inside.astype(np.uint8))
    return None


def load_map(path: Path) -> nib.Nifti1Image:
    """Read a 3-D image (a fourth axis of length one is dropped)."""
    image = load_image(path)
    if len(image.shape) == 3:
        return image
    return like(image, np.asarray(image.dataobj)[..., 0])


def sheet_of(results: ParticipantResults, image: nib.Nifti1Image) -> Sheet | None:
    """Return the surfaces on which maps of a participant are shown; None for volumes.

    Parameters
    ----------
    results
        The runs say where meshes may lie.
    image
        A map of the participant.
    """
    space = space_of(image)
    return None if space is None else Sheet.of(space, [run.bold.parent for run in results.runs])
