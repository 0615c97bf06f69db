"""What comparing participants gave, under its names: agreement, ceiling, scores beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.report.results import AgreementResults, ParticipantResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.steps.publish import sentence
from bids_neurodecode.systems.steps.records import Facts
from bids_neurodecode.workflow.files import load_map
from bids_neurodecode.workflow.step import Inputs

TEST_ROWS = 'Held-out volumes; each presentation of a film standardised by itself'
ALL_VOXELS = 'voxels'
"""The set of voxels of the linear models in the metrics table."""


@dataclass(frozen=True, kw_only=True)
class CompareFacts(Facts):
    """Who was compared, and how voxels were chosen by it."""

    measure: str
    rule: str
    """In words, how voxels were chosen."""
    n_participants: int
    notes: tuple[str, ...]
    members: tuple[str, ...]
    """Participants of a mean."""
    weights: tuple[float, ...]
    """Held-out volumes of each fold."""


@dataclass(frozen=True, kw_only=True)
class Compared(Inputs):
    """What came of comparing participants; None where there was nobody to compare with.

    Parameters
    ----------
    compare_info
        Who was compared.
    isc
        Map of intersubject correlation.
    ceiling, ceiling_by_fold
        Maps of the ceiling, over all folds and of each.
    """

    compare_info: CompareFacts | None = None
    isc: Path | None = None
    ceiling: Path | None = None
    ceiling_by_fold: Path | None = None


def write_agreement(
    record: ParticipantResults,
    writer: ProductWriter,
    compared: Compared,
    predicted: Path,
    by_fold: Path,
) -> ParticipantResults:
    """Write the maps of agreement and ceiling, and add them to the record and to the scores.

    Parameters
    ----------
    record, writer
        Of a participant, and its products.
    compared
        The comparison.
    predicted
        Mask of the voxels that the linear model predicts.
    by_fold
        Map of its r in each fold.
    """
    info, ceiling = compared.compare_info, compared.ceiling_by_fold
    if info is None or ceiling is None or compared.isc is None or compared.ceiling is None:
        return record
    record = replace(
        record,
        notes=(*record.notes, *(sentence(note) for note in info.notes)),
        warnings=(*record.warnings, *info.warnings),
        members=info.members,
        voxels=None if record.voxels is None else replace(record.voxels, rule=info.rule),
    )
    if info.n_participants < 2:
        return record
    fields = {'Participants': info.n_participants, 'Volumes': TEST_ROWS}
    written = {
        name: writer.image(name, file, more={'desc': 'test'}, **fields)
        for name, file in (('isc', compared.isc), ('ceilingr', compared.ceiling))
    }
    written['reliable'] = writer.image(
        'reliable', predicted, more={'desc': info.measure}, Description=info.rule
    )
    agreement = AgreementResults(
        info.n_participants,
        written['ceilingr'],
        record.maps['pearsonr'],
        written['reliable'],
    )
    if record.metrics is not None:
        sets = {ALL_VOXELS: (predicted, by_fold)}
        add_ceilings(record.metrics, agreement.ceiling, ceiling, sets, info.weights)
    return replace(record, maps={**record.maps, **written}, agreement=agreement)


def add_ceilings(
    metrics: Path,
    ceiling: Path,
    by_fold: Path,
    sets: Mapping[str, tuple[Path, Path]],
    weights: Sequence[float],
) -> None:
    """Give the correlations of a metrics table the ceiling of the voxels they are over.

    Parameters
    ----------
    ceiling, by_fold
        Maps of the ceiling: over all folds, and of each.
    sets
        Of each set of voxels in the table, its mask and the correlation in each fold (NaN in
        voxels that a fold does not use).
    weights
        Held-out volumes of each fold.
    """
    from bids_neurodecode.evaluation.metrics import with_types
    from bids_neurodecode.evaluation.voxels import summary
    from bids_neurodecode.systems.movie.parts import Pool
    from bids_neurodecode.systems.movie.targets import with_ceilings

    ceilings = {}
    for space, (file, correlation) in sets.items():
        mask = VoxelMask.load(file)
        pool = Pool(np.isfinite(load_map(correlation, mask)), np.asarray(weights))
        each = load_map(by_fold, mask).astype(np.float64)
        ceilings[space] = (
            summary(load_map(ceiling, mask))
            if pool.same
            else pool.summary(np.where(pool.used, each, np.nan))
        )
    table = pd.read_csv(metrics, sep='\t', na_values=['n/a'])
    write_tsv(metrics, with_types(with_ceilings(table, ceilings)))
