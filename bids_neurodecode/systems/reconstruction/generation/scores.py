"""Scores of reconstructions: pixels, features, latents, identification, retrieval.

Whatever compares each reconstruction with each candidate is a table (n_samples, n_candidates) a
fold, of what each sample would score were each candidate true; a permuted score is then a look-up.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import identification, networks
from bids_neurodecode.evaluation.images import ssim_table
from bids_neurodecode.evaluation.metrics import (
    BASELINE,
    METRICS,
    PIXEL_METRICS,
    REFERENCE,
    Score,
)
from bids_neurodecode.evaluation.protocols import PictureProtocol
from bids_neurodecode.mapped import blocks, joined, room, rows_of
from bids_neurodecode.samples import Split
from bids_neurodecode.systems.base import AT_ONCE
from bids_neurodecode.systems.comparison import Kept
from bids_neurodecode.systems.outcomes import Outcome, look_up
from bids_neurodecode.systems.scoring import Pairing, Scorer
from bids_neurodecode.typing import FloatArray, IndexArray, Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.networks import FeatureNetwork

LATENTS, FEATURES = 'latents', 'features'
POOL = 300
"""Candidates of published retrieval (MindEye): the truth among 299 others drawn at random."""
MANY_PAIRS = (
    'Structural similarity has no p value: it would need {n} pairs of images (at most {limit} '
    'are compared).'
)

_MOST_CANDIDATES = 300  # whose pixels are held at once
_MOST_PAIRS = 1500  # of structural similarity, over all folds

Pictures = Callable[[Uint8Array], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class Judged:
    """What one model made of the test samples of one fold.

    Parameters
    ----------
    outcome
        Samples, candidates, and the similarity of each (generated) image's features with each
        candidate's.
    pictures
        What was made, (n_samples, s, s, 3).
    candidates
        True images of the candidates, (n_candidates, h, w, 3).
    """

    outcome: Outcome
    pictures: Uint8Array
    candidates: Uint8Array

    @property
    def truth(self) -> Uint8Array:
        """The true image of each sample."""
        return rows_of(self.candidates, self.outcome.truth, self.candidates, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Table:
    """What each sample would score in one metric, were each candidate true.

    Parameters
    ----------
    metric, model, space
        Columns of the row.
    values
        One a fold, (n_samples, n_candidates).
    outcomes
        Samples and candidates of each fold.
    chance
        Known chance level; None: the mean over permutations.
    """

    metric: str
    model: str
    space: str
    values: Sequence[FloatArray]
    outcomes: Sequence[Outcome]
    chance: float | None = None


@dataclass(frozen=True, eq=False)
class ReconstructionScorer:
    """Turns tables into rows, all with the same pairing, permutations and intervals.

    Parameters
    ----------
    split
        What was held out.
    settings
        Permutations, bootstrap, confidence.
    protocol
        How images are brought to size and compared.
    stand_in
        Features of images in place of networks without weights.
    nets
        Networks with weights.
    rng
        Source of randomness.
    seen
        Features of images by digest.
    kept
        What each sample scores, by model, space and metric.
    """

    split: Split
    settings: EvaluationSettings
    stand_in: Pictures
    nets: Mapping[str, FeatureNetwork]
    rng: np.random.Generator
    protocol: PictureProtocol
    seen: dict[bytes, npt.NDArray[Any]] = dataclasses.field(default_factory=dict, repr=False)
    kept: Kept = dataclasses.field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The protocol of the rows: of the split, and of images."""
        return f'{self.split.protocol}/{self.protocol.name}'

    def described(self, pictures: Uint8Array) -> npt.NDArray[np.floating[Any]]:
        """Return the stand-in's features of images; those of equal images are found once."""
        keys = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest() for x in pictures]
        new = [*{key: row for row, key in enumerate(keys) if key not in self.seen}.values()]
        for at in range(0, len(new), AT_ONCE):
            rows = new[at : at + AT_ONCE]
            first = networks._first(pictures[rows], self.protocol)
            sized = networks._resize(first, 224, self.protocol, 'bilinear')
            found = self.stand_in(np.round(sized * 255).astype(np.uint8))
            self.seen.update(zip([keys[row] for row in rows], found, strict=True))
        return np.stack([self.seen[key] for key in keys])

    def scorer(self, model: str, space: str, outcomes: Sequence[Outcome]) -> Scorer:
        """Make what turns values into rows.

        Parameters
        ----------
        model, space
            Of the rows.
        outcomes
            Of each fold.
        """
        pairing = Pairing.of(outcomes, self.split)
        return Scorer(model, space, self.name, pairing, self.settings, self.rng, self.kept)

    def image_size(self, metric: str) -> int | None:
        """Return the pixels along a side at which a metric compares images; None: no matter."""
        return self.protocol.pixel_size if metric in PIXEL_METRICS else None

    def row(self, table: Table) -> tuple[Score, FloatArray]:
        """Score a table; return the row and its permuted scores."""
        scorer = self.scorer(table.model, table.space, table.outcomes)
        truth = np.concatenate([o.truth for o in table.outcomes])

        def permuted(index: IndexArray) -> float:
            return float(look_up(table.values, truth[index]).mean())

        row, null = scorer.score(
            table.metric,
            look_up(table.values, truth),
            permuted,
            chance=table.chance,
            image_size=self.image_size(table.metric),
        )
        if all(map(_one_for_all, table.values, [o.truth for o in table.outcomes])):
            row = _exact(row)
        return row, null

    def pairs(self, score: networks.PictureScore, parts: Sequence[Judged]) -> Score:
        """Score what compares all reconstructions with all images, with a test.

        Parameters
        ----------
        score
            Values of all pairs.
        parts
            Reconstructions of each fold.
        """
        outcomes = [p.outcome for p in parts]
        scorer = self.scorer(outcomes[0].model, outcomes[0].space, outcomes)
        every, table = np.arange(len(score.values)), score.table
        row, _ = scorer.score(
            score.metric,
            score.values,
            None if table is None else lambda index: float(table[every, index].mean()),
            chance=score.chance,
        )
        return _exact(row) if table is not None and _one_for_all(table, every) else row

    def values(self, metric: str, values: FloatArray, parts: Sequence[Judged]) -> Score:
        """Score values without a test.

        Parameters
        ----------
        metric
            Of the row.
        values
            One per image, (n,).
        parts
            Reconstructions of each fold.
        """
        outcomes = [p.outcome for p in parts]
        scorer = self.scorer(outcomes[0].model, outcomes[0].space, outcomes)
        return scorer.score(metric, values, None, image_size=self.image_size(metric))[0]

    def notes(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Return what a reader of p values should know."""
        untested = Pairing.of(outcomes, self.split).untested
        return [] if untested is None else [untested]


def score_pictures(
    board: ReconstructionScorer, parts: Sequence[Judged], *, thorough: bool
) -> tuple[list[Score], dict[str, FloatArray], list[str]]:
    """Score the images that one model made in all folds.

    Parameters
    ----------
    board
        What makes rows.
    parts
        One a fold, of one model and space.
    thorough
        All metrics; else identification and pixel correlation only.

    Returns
    -------
    tuple
        Rows, permuted scores by metric, and notes.
    """
    scores: list[Score] = []
    nulls: dict[str, FloatArray] = {}
    for table in _tables(board, parts, thorough=thorough):
        row, nulls[table.metric] = board.row(table)
        scores.append(row)
    if not thorough:
        return scores, nulls, []
    rows, remarks = _similarity(board, parts, nulls)
    return scores + rows + _by_networks(board, parts), nulls, remarks


def picture_values(
    board: ReconstructionScorer, parts: Sequence[Judged], *, similarity: bool
) -> dict[str, FloatArray]:
    """Return pixel correlation and, if wanted, structural similarity (2-D) of each image.

    Parameters
    ----------
    board
        Protocol of the comparison, and what was scored by it already.
    parts
        Reconstructions of each fold.
    similarity
        Whether structural similarity is wanted.
    """
    first, names = parts[0].outcome, ('pixcorr', 'ssim_2d') if similarity else ('pixcorr',)
    known = {
        name: board.kept[first.model, first.space, name][0]
        for name in names
        if (first.model, first.space, name) in board.kept
    }
    lacking = set(names) - {*known}
    if lacking:
        protocol = dataclasses.replace(board.protocol, ssim=('ssim_2d',))
        known |= {
            s.metric: s.values for s in networks.pixel_scores(*_joined(parts), protocol, lacking)
        }
    return {name: known[name] for name in names}


def latent_tables(
    model: str, predicted: Sequence[Any], true: Sequence[Any], outcomes: Sequence[Outcome]
) -> list[Table]:
    """Compare predicted latents (n_samples, length) with the candidates', fold by fold.

    Parameters
    ----------
    model
        Of the rows.
    predicted
        Latents of each fold, (n_samples, length).
    true
        The candidates' latents of each fold, (n_candidates, length).
    outcomes
        Of each fold.
    """
    from scipy.spatial.distance import cdist

    distances = {'latent_mse': 'sqeuclidean', 'latent_mae': 'cityblock'}
    found: dict[str, list[Any]] = {metric: [] for metric in distances}
    for ours, theirs in zip(predicted, true, strict=True):
        n, length = ours.shape
        for values in found.values():
            values.append(room(ours, (n, len(theirs))))
        for rows, columns in product(blocks(n, length), [*blocks(len(theirs), length)]):
            pair = ours[rows].astype(np.float64), theirs[columns].astype(np.float64)
            for metric, distance in distances.items():
                found[metric][-1][rows, columns] = cdist(*pair, distance) / length
    return [Table(metric, model, LATENTS, values, outcomes) for metric, values in found.items()]


def retrieval_tables(
    model: str, similarities: Sequence[FloatArray], outcomes: Sequence[Outcome]
) -> list[Table]:
    """Retrieve images by responses, and responses by images, by decoded features.

    Parameters
    ----------
    model
        Of the rows.
    similarities
        Of each fold, (n_samples, n_candidates).
    outcomes
        Of each fold.
    """
    image = [identification.outcomes_top1(s) for s in similarities]
    chance = float(np.concatenate([np.full(len(s), 1 / s.shape[1]) for s in similarities]).mean())
    tables = [Table('retrieval_image_top1', model, FEATURES, image, outcomes, chance)]
    if min(s.shape[1] for s in similarities) >= POOL:
        values = [identification.outcomes_top1_of(s, POOL) for s in similarities]
        tables.append(
            Table(f'retrieval_image_top1_of{POOL}', model, FEATURES, values, outcomes, 1 / POOL)
        )
    if all(
        s.shape[0] == s.shape[1] == len(set(o.truth))
        for s, o in zip(similarities, outcomes, strict=True)
    ):
        brain = [identification.outcomes_top1(s.T).T for s in similarities]
        tables.append(Table('retrieval_brain_top1', model, FEATURES, brain, outcomes, chance))
        if min(s.shape[0] for s in similarities) >= POOL:
            values = [identification.outcomes_top1_of(s.T, POOL).T for s in similarities]
            tables.append(
                Table(
                    f'retrieval_brain_top1_of{POOL}', model, FEATURES, values, outcomes, 1 / POOL
                )
            )
    return tables


def _tables(
    board: ReconstructionScorer, parts: Sequence[Judged], *, thorough: bool
) -> list[Table]:
    outcomes = [p.outcome for p in parts]
    model, space = outcomes[0].model, outcomes[0].space
    widths = np.concatenate([np.full(len(p.pictures), len(p.candidates)) for p in parts])
    alike = [o.similarities for o in outcomes]
    top1, two_way = identification.outcomes_top1, identification.outcomes_2way

    def table(metric: str, values: Sequence[FloatArray], chance: float | None) -> Table:
        return Table(metric, model, space, values, outcomes, chance)

    tables = [
        table('identification_top1', [top1(s) for s in alike], float((1 / widths).mean())),
        table('identification_2way', [two_way(s) for s in alike], 0.5),
    ]
    if widths.max() <= _MOST_CANDIDATES:
        pixels = [_pixel_table(board, p) for p in parts]
        chance = float((1 / widths).mean())
        tables.append(table('pixcorr', pixels, None))
        # features of coarse or grainy images may all lie nearest to one candidate
        tables.append(table('pixel_top1', [top1(r) for r in pixels], chance))
        tables.append(table('pixel_2way', [two_way(r) for r in pixels], 0.5))
    if thorough and _lacks_networks(board):
        values = [two_way(_correlations(board, p)) for p in parts]
        tables.append(table(f'{networks.STAND_IN}_2way', values, 0.5))
    return tables


def _similarity(
    board: ReconstructionScorer, parts: Sequence[Judged], nulls: dict[str, FloatArray]
) -> tuple[list[Score], list[str]]:
    """Score structural similarity, with a test where there are few pairs."""
    first, rows, remarks = parts[0].outcome, [], []
    n_pairs = sum(len(p.pictures) * len(p.candidates) for p in parts)
    # pairs cost most: those that ours is compared with are not tested
    is_compared = first.model.startswith((BASELINE, REFERENCE))
    tested = {'ssim_2d'} if n_pairs <= _MOST_PAIRS and not is_compared else set()
    wanted = [name for name in ('pixcorr', *board.protocol.ssim) if name not in nulls]
    found = networks.pixel_scores(*_joined(parts), board.protocol, {*wanted} - tested)
    values = {score.metric: score.values for score in found}
    for metric in wanted:
        if metric in tested:
            pairs = [
                ssim_table(_sized(board, p.pictures), _sized(board, p.candidates)) for p in parts
            ]
            table = Table(metric, first.model, first.space, pairs, [p.outcome for p in parts])
            row, nulls[metric] = board.row(table)
            rows.append(row)
        else:
            rows.append(board.values(metric, values[metric], parts))
    if n_pairs > _MOST_PAIRS and not is_compared:
        remarks.append(MANY_PAIRS.format(n=n_pairs, limit=_MOST_PAIRS))
    return rows, remarks


def _by_networks(board: ReconstructionScorer, parts: Sequence[Judged]) -> list[Score]:
    if not board.nets:
        return []
    truth, made = _joined(parts)
    found = networks.network_scores(truth, made, board.protocol, board.nets)
    return [board.pairs(score, parts) for score in found]


def _lacks_networks(board: ReconstructionScorer) -> bool:
    return any(metric.network not in board.nets for metric in board.protocol.metrics)


def _pixel_table(board: ReconstructionScorer, part: Judged) -> FloatArray:
    made, true = (_sized(board, x) for x in (part.pictures, part.candidates))
    return networks.correlations(made.reshape(len(made), -1), true.reshape(len(true), -1))


def _correlations(board: ReconstructionScorer, part: Judged) -> FloatArray:
    made, true = (board.described(x) for x in (part.pictures, part.candidates))
    return networks.correlations(made, true)


def _sized(board: ReconstructionScorer, pictures: Uint8Array) -> npt.NDArray[np.float32]:
    first = networks._first(pictures, board.protocol)
    return networks._resize(first, board.protocol.pixel_size, board.protocol)


def _joined(parts: Sequence[Judged]) -> tuple[Uint8Array, Uint8Array]:
    return joined([p.truth for p in parts]), joined([p.pictures for p in parts])


def _one_for_all(outcomes: FloatArray, truth: IndexArray) -> bool:
    """Return whether all samples got one image, which says the same of all candidates.

    Each candidate has to be true as often as the others.
    """
    n_true = np.bincount(truth, minlength=outcomes.shape[1])
    parts = blocks(*outcomes.shape)
    same = all((outcomes[rows] == outcomes[:1]).all() for rows in parts)
    return same and bool((n_true == n_true[0]).all())


def _exact(row: Score) -> Score:
    """Return a row of identification by one image for all without the width of its interval.

    Candidates share all places then: their mean is fixed, though that of single ones is not.
    """
    if not METRICS[row.metric].share or row.ci_low is None:
        return row
    return dataclasses.replace(row, ci_low=row.value, ci_high=row.value)
