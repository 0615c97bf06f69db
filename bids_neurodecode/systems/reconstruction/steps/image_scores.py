"""Reconstructions of any program scored against what was seen: one way for tool and library."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import networks
from bids_neurodecode.evaluation.metrics import PIXEL_METRICS, Score
from bids_neurodecode.evaluation.protocols import PictureProtocol, get_protocol, without
from bids_neurodecode.systems.comparison import Kept, compare_rows
from bids_neurodecode.systems.outcomes import Outcome
from bids_neurodecode.systems.protocol import held_out
from bids_neurodecode.systems.reconstruction.generation import scores as scoring
from bids_neurodecode.typing import Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.networks import FeatureNetwork

NOT_KNOWN = (
    'It is not known which networks had a part in these reconstructions. A network that described '
    'images for the decoder, guided the generator or chose between images judges its own work, '
    'and its scores are too good: {networks}. Name those that had a part (--guided-by NAME ..., '
    'none of these: --guided-by none).'
)
HELD_OUT = 'Networks that had a part in the reconstructions do not judge them: {networks}.'
NO_JUDGE = (
    'No network of protocol {name} is left to judge by: the scores are of pixels alone. Another '
    'protocol (--protocol) has others.'
)
MODEL, SPACE = 'reconstructions', 'images'
MEAN_IMAGE, BLURRED = 'baseline-mean-image', 'baseline-blurred-truth'
BLUR = 32
"""Of the blurred truth: its side over the deviation of the Gaussian."""
MOST_SHUFFLED = 1500
"""Shuffled pairs that a chance level without a permutation test is the mean of."""
WHAT_BASELINES_ARE = (
    f'{MEAN_IMAGE} shows the mean of the true images each time, {BLURRED} each true image blurred '
    f'by a Gaussian of 1/{BLUR} of its side: neither was read from a brain.'
)


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of reconstructions under one protocol.

    Parameters
    ----------
    protocol
        Its name.
    scores
        Rows of the metrics table, of the reconstructions first.
    notes
        What their reader should know, one line each.
    kept
        What each image scores, by model, space and metric.
    warnings
        Why scores may be too good, one line each.
    """

    protocol: str
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    kept: Kept
    warnings: tuple[str, ...] = ()


def score_images(
    truth: Uint8Array,
    made: Uint8Array,
    names: Sequence[str],
    protocol: str,
    nets: Mapping[str, FeatureNetwork],
    *,
    baselines: bool,
    n_permutations: int,
    seed: int,
    guided_by: Collection[str] | None = None,
) -> ImageScores:
    """Score reconstructions beside chance, and beside what no brain was needed for.

    Parameters
    ----------
    truth, made
        Shape (n, h, w, 3), uint8; the two may differ in size.
    names
        Of the true images, (n,): reconstructions of one image have the same, and are no
        independent samples.
    protocol
        See :mod:`bids_neurodecode.evaluation.protocols`.
    nets
        Networks of the protocol that there are.
    baselines
        Whether the mean image and the blurred truth are scored too.
    n_permutations
        Of images among reconstructions.
    seed
        Of permutations and intervals.
    guided_by
        Networks that had a part in the reconstructions, and do not judge them; None: it is not
        known, which is a warning where networks judge.

    Raises
    ------
    ArgumentsError, DataError
        If there is no such protocol, or images do not match.
    """
    from bids_neurodecode.stimuli.features import get_extractor

    chosen = get_protocol(protocol)
    able = {metric.network for metric in chosen.metrics}
    chosen = without(chosen, guided_by or ())
    nets = {name: net for name, net in nets.items() if name not in (guided_by or ())}
    board = scoring.ReconstructionScorer(
        split=held_out(names),
        settings=EvaluationSettings(n_permutations=n_permutations),
        stand_in=get_extractor('gabor').transform,
        nets=nets,
        rng=np.random.default_rng(seed),
        protocol=chosen,
    )
    models = {MODEL: made}
    if baselines:
        models |= {MEAN_IMAGE: mean_image(truth), BLURRED: blurred(truth)}
    scores: list[Score] = []
    notes: list[str] = []
    warnings: tuple[str, ...] = ()
    if guided_by is None and able & set(nets):
        warnings = (NOT_KNOWN.format(networks=', '.join(sorted(able & set(nets)))),)
    elif able & set(guided_by or ()):
        notes.append(HELD_OUT.format(networks=', '.join(sorted(able & set(guided_by or ())))))
        if not chosen.metrics:
            notes.append(NO_JUDGE.format(name=protocol))
    for model, images in models.items():
        outcome = _outcome(model, names)
        first = [names.index(name) for name in outcome.candidates]
        part = scoring.Judged(outcome, images, truth[first])
        rows, _, remarks = scoring.score_pictures(board, [part], thorough=True)
        chance = shuffled_pairs(truth, images, names, chosen, np.random.default_rng(seed))
        scores += [_row(row, chance, protocol) for row in rows]
        if model == MODEL:
            notes += remarks + board.notes([outcome])
    stand_in = bool(chosen.metrics)
    notes += networks.notes_on(chosen, nets, len(set(names)), stand_in=stand_in)
    if baselines:
        notes.append(WHAT_BASELINES_ARE)
    rng = np.random.default_rng(seed)
    scores = list(compare_rows(scores, board.kept, MODEL, board.settings, rng))
    # there are no decoded features to identify images by
    shown = [s for s in scores if not s.metric.startswith('identification_')]
    lines = tuple(dict.fromkeys(notes))
    return ImageScores(protocol, tuple(shown), lines, board.kept, warnings)


def protocol_networks(protocol: str, weights_dir: Path | None) -> dict[str, FeatureNetwork]:
    """Read the networks of a protocol whose weights are on this machine.

    Parameters
    ----------
    protocol
        Its name.
    weights_dir
        Pretrained weights; None: the default folder.
    """
    from bids_neurodecode.systems.reconstruction.generation.steps.choice import metric_weights
    from bids_neurodecode.systems.reconstruction.generation.steps.training import load_networks

    return load_networks(metric_weights(weights_dir, protocol), 'cpu')


def mean_image(truth: Uint8Array) -> Uint8Array:
    """Return the mean of images as often as there are images, (n, h, w, 3)."""
    mean = np.rint(truth.mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return np.broadcast_to(mean, truth.shape).copy()


def blurred(truth: Uint8Array) -> Uint8Array:
    """Blur images (n, h, w, 3) by a Gaussian with a deviation of their height / :data:`BLUR`."""
    from scipy.ndimage import gaussian_filter

    sigma = 1 / BLUR * truth.shape[1]
    return np.stack([gaussian_filter(image, (sigma, sigma, 0)) for image in truth])


def shuffled_pairs(
    truth: Uint8Array,
    made: Uint8Array,
    names: Sequence[str],
    protocol: PictureProtocol,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return what pixel metrics are in the mean over reconstructions beside other images.

    Parameters
    ----------
    truth
        Shape (n, h, w, 3), uint8.
    made
        Reconstructions, (n, h, w, 3).
    names
        One per pair.
    protocol
        Sizes and interpolation.
    rng
        Draws the order.
    """
    order = rng.permutation(len(names))
    # each beside the next of a random round: never beside its own unless images repeat
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    rows = [row for row in order if names[row] != names[other[row]]][:MOST_SHUFFLED]
    if not rows:
        return {}
    found = networks.pixel_scores(truth[other[rows]], made[rows], protocol)
    return {score.metric: score.value for score in found}


def _row(row: Score, chance: Mapping[str, float], protocol: str) -> Score:
    known = row.chance
    if known is None and row.metric in PIXEL_METRICS:
        known = chance.get(row.metric)
    return dataclasses.replace(row, chance=known, protocol=protocol, units='images')


def _outcome(model: str, names: Sequence[str]) -> Outcome:
    n, candidates = len(names), tuple(dict.fromkeys(names))
    table = pd.DataFrame({'sample': np.arange(n), 'stimulus': names, 'run': '1'})
    return Outcome(model, SPACE, 0, table, candidates, np.zeros((n, len(candidates))))
