"""The whole analysis of conditions: decode, encode, compare; whole set, regions, searchlights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation import statistics
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Split
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.systems.base import Evaluation, run_labels
from bids_neurodecode.systems.conditions.decoding import (
    SYSTEM,
    classify,
    classify_regions,
    conditions_of,
)
from bids_neurodecode.systems.conditions.encoding import MODEL, predict_runs
from bids_neurodecode.systems.conditions.patterns import pattern_ncsnr, patterns_of
from bids_neurodecode.systems.conditions.searchlight import accuracy_p, searchlight
from bids_neurodecode.systems.conditions.similarity import Dissimilarity, dissimilarity
from bids_neurodecode.systems.encoding.scores import EncodingScorer, VoxelMaps
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE
from bids_neurodecode.systems.scoring import Pairing
from bids_neurodecode.systems.voxels import Estimates, cut_folds
from bids_neurodecode.typing import BoolArray, FloatArray

THRESHOLD = 0.05
"""Noise ceilings at or below this are too low to say how well a voxel is predicted."""
UNEQUAL_TIMES = (
    'Conditions last for different times ({low} {low_s:g} s, {high} {high_s:g} s in the median): '
    'how long they last can be decoded instead of what they are.'
)
LACKING = (
    'Some run lacks a condition, so that not all conditions of a run can be exchanged: the mean '
    'distance of conditions has no p value (those of pairs have), and chance of decoding is what '
    'conditions exchanged within runs score.'
)
ENCODED = frozenset({'voxel_r_median', 'voxel_r_mean', 'noise_normalized_median'})
"""Which scores of the predicted responses are told."""


@dataclass(frozen=True, eq=False)
class ConditionAnalysis:
    """What was found.

    Parameters
    ----------
    classification
        Of single trials by the chosen voxels.
    fold_selections
        The voxels of each fold.
    regions
        The same by the voxels of each region of an atlas; no rows without one.
    maps
        How well each voxel's responses to conditions are predicted from other runs.
    keep
        The voxels of these maps, among all of the mask.
    dissimilarity
        Distances of conditions.
    accuracy, accuracy_fdr
        Balanced accuracy of searchlights, and its p adjusted over them, (n_voxels,) each; None
        without searchlights.
    selection
        Voxels chosen on all trials, to look at.
    scores
        All rows of the metrics table.
    notes
        What a reader should know, one line each.
    """

    classification: Evaluation
    fold_selections: tuple[VoxelSelection, ...]
    regions: pd.DataFrame
    maps: VoxelMaps
    keep: BoolArray
    dissimilarity: Dissimilarity
    accuracy: FloatArray | None
    accuracy_fdr: FloatArray | None
    selection: VoxelSelection
    scores: tuple[Score, ...]
    notes: tuple[str, ...]


def analyse_conditions(
    estimates: Estimates,
    config: Config,
    *,
    regions: Mapping[str, BoolArray] | None = None,
    meshes: Iterable[Path] = (),
) -> ConditionAnalysis:
    """Decode conditions, predict the responses to them, and compare them.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out: whole runs or sessions.
    config
        Selection, ridge, conditions, evaluation and seed.
    regions
        Voxels of each region of the atlas, (n_voxels,).
    meshes
        Folders where surfaces are looked for.

    Raises
    ------
    DataError
        If there is one condition only.
    """
    samples, split = estimates.samples, estimates.split
    features = conditions_of(split.table)
    names = features.stimuli
    rngs = np.random.default_rng(config.seed).spawn(4)
    folds, selections = cut_folds(estimates, features, config)
    found = classify(folds, split, config, rng=rngs[0])
    table, of_regions = classify_regions(estimates, config, regions or {}, rng=rngs[1])
    keep = estimates.usable()
    results = predict_runs(estimates.parts(keep), split, names, [s.keep[keep] for s in selections])
    ratio = pattern_ncsnr(patterns_of(samples.voxels(keep), names))
    judged = EncodingScorer(split, config.evaluation, THRESHOLD, ratio, {}, rngs[2]).judge(
        results, model=MODEL, space=REPEAT_AVERAGE
    )
    pairing = Pairing.of([result.outcome for result in results], split)
    tested = pairing.untested is None
    distances = dissimilarity(
        folds, names, split.protocol, config.evaluation, rng=rngs[3], tested=tested
    )
    accuracy, accuracy_fdr = None, None
    if config.conditions.searchlight is not None:
        spheres = searchlight(estimates, keep, config.conditions.searchlight, meshes)
        accuracy, accuracy_fdr = _of_spheres(spheres, split, keep, tested=tested)
    final = estimates.choose(samples, features, config)
    rows = tuple(
        replace(score, system=SYSTEM) for score in judged.scores if score.metric in ENCODED
    )
    warnings = [w for s in (*selections, final) for w in s.warnings]
    if distances.score.p is None and np.isfinite(distances.p).any():
        warnings.append(LACKING)
    return ConditionAnalysis(
        classification=found,
        fold_selections=tuple(selections),
        regions=table,
        maps=judged.maps,
        keep=keep,
        dissimilarity=distances,
        accuracy=accuracy,
        accuracy_fdr=accuracy_fdr,
        selection=final,
        scores=(*found.scores, *rows, distances.score, *of_regions),
        notes=tuple(dict.fromkeys([*found.notes, *warnings, *_times_note(split.table)])),
    )


def _of_spheres(
    each: FloatArray, split: Split, keep: BoolArray, *, tested: bool
) -> tuple[FloatArray, FloatArray]:
    """Return mean accuracy over folds, (n_voxels,), and its p with false discovery rate."""
    accuracy = np.full(len(keep), np.nan)
    accuracy[keep] = each[:, keep].mean(axis=0)
    p = np.full(len(keep), np.nan)
    if tested:
        n_test = float(np.mean([len(fold.test) for fold in split]))
        p[keep] = accuracy_p(each[:, keep], chance_of(split), n_test)
    return accuracy, statistics.fdr(p)


def chance_of(split: Split) -> float:
    """Return the balanced accuracy of guessing among the conditions that a held-out run has.

    Where runs lack conditions, those that a run has can be told by whatever marks the run.
    """
    rows = np.unique(np.concatenate([fold.test for fold in split]))
    table = split.table.iloc[rows]
    counts = table.groupby(run_labels(table))['stimulus'].nunique()
    return float((1 / counts).mean())


def _times_note(table: pd.DataFrame) -> tuple[str, ...]:
    """Say where conditions differ in how long they last."""
    if 'duration' not in table.columns:
        return ()
    median = table.groupby('stimulus')['duration'].median().sort_values()
    if not median.iloc[-1] > 1.2 * median.iloc[0] + 0.25:
        return ()
    names = median.index.astype(str)
    return (
        UNEQUAL_TIMES.format(
            low=names[0], low_s=median.iloc[0], high=names[-1], high_s=median.iloc[-1]
        ),
    )
