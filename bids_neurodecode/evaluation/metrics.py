"""The metrics table: one row a score, and what its columns and metrics mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_METRIC = 'No metric is called {name!r}. Metrics: {names}.'
BAD_SCORE = 'The {column} of {metric} must lie between 0 and 1: {found}.'

COLUMNS: dict[str, str] = {
    'system': 'Which system made the prediction: movie, reconstruction or encoding.',
    'model': 'The model within the system; names that start with "baseline-" are baselines.',
    'protocol': 'How training and test samples were kept apart, or the name of a published '
    'protocol. Scores of different protocols cannot be compared.',
    'split': 'The part of the data that was scored.',
    'space': 'What was scored: single trials, averages of repeats, images, or a set of voxels.',
    'metric': 'The name of the metric; see Levels.',
    'value': 'The score.',
    'chance': 'What a prediction without any information scores.',
    'ceiling': 'The best score that could be reached, where it is known.',
    'ci_low': 'Lower limit of the confidence interval over stimuli, runs or blocks of time; n/a '
    'with fewer than six.',
    'ci_high': 'Upper limit of the confidence interval.',
    'p': 'Permutation p value, (b + 1) / (m + 1); n/a with fewer than six stimuli or runs, and '
    'where the design allows no test.',
    'n': 'Number of samples, voxels or pictures that the score is over.',
}

METRICS: dict[str, str] = {
    'identification_top1': 'Share of samples whose true stimulus is the most alike of all '
    'candidates; chance is one over their number.',
    'identification_2way': 'Share of pairs (true stimulus, another candidate) in which the true '
    'one is more alike; chance is .5.',
    'retrieval_image_top1': 'Share of responses for which the right picture is the nearest.',
    'retrieval_brain_top1': 'Share of pictures for which the right response is the nearest.',
    'retrieval_image_top1_of300': 'Share of responses for which the right picture is nearest of '
    'itself and 299 others, in the mean over all draws of these.',
    'retrieval_brain_top1_of300': 'Share of pictures for which the right response is nearest of '
    'itself and 299 others, in the mean over all draws of these.',
    'pixel_top1': 'Share of pictures that were made whose pixels correlate most with the true '
    'picture of all candidates; chance is one over their number.',
    'pixel_2way': 'Share of pairs (true picture, another candidate) in which the pixels of the '
    'picture that was made correlate more with the true one; chance is .5.',
    'pixcorr': 'Pearson correlation of the RGB values of truth and reconstruction, mean over '
    'pictures. Rewards blur.',
    'ssim_2d': 'Structural similarity of the luminance (Gaussian window, sigma 1.5), mean over '
    'pictures. Rewards blur.',
    'ssim_columnwise_legacy': 'Structural similarity as scikit-image before 0.20 computed it in '
    'published tables: one-dimensional, averaged over columns. Not comparable with ssim_2d.',
    'mse': 'Mean squared difference of RGB values in [0, 1]; lower is better.',
    'gabor-standin_2way': '2-way identification by Gabor features, in place of a network whose '
    'weights are not there.',
    'gabor-standin_distance': 'Mean correlation distance of Gabor features, in place of a network '
    'whose weights are not there; lower is better.',
    'alexnet2_2way': '2-way identification by AlexNet features after the second ReLU.',
    'alexnet5_2way': '2-way identification by AlexNet features after the fifth ReLU.',
    'inception_2way': '2-way identification by Inception-v3 average-pool features.',
    'clip_2way': '2-way identification by CLIP ViT-L/14 image embeddings.',
    'efficientnet_distance': 'Mean correlation distance of EfficientNet-B1 features; lower is '
    'better.',
    'swav_distance': 'Mean correlation distance of SwAV ResNet-50 features; lower is better.',
    'latent_mse': 'Mean squared error of predicted latents; lower is better.',
    'latent_mae': 'Mean absolute error of predicted latents; lower is better.',
    'voxel_r_median': 'Median over voxels of the correlation of predicted and measured response.',
    'voxel_r_mean': 'Mean over voxels of the correlation of predicted and measured response.',
    'voxel_r2_median': 'Median over voxels of the share of variance explained.',
    'noise_normalized_median': 'Median over voxels of r squared over noise ceiling, voxels with '
    'a ceiling at or below the threshold left out.',
    'noise_normalized_mean': 'Mean over voxels of r squared over noise ceiling, the same voxels '
    'left out.',
    'variance_full': 'Median over voxels of the share of held-out variance that all feature '
    'spaces explain together.',
    'variance_alone': 'Median over voxels of the share of held-out variance that this feature '
    'space explains alone.',
    'variance_unique': 'Median over voxels of the share of held-out variance that is explained '
    'with this feature space and not without it.',
    'variance_shared': 'Median over voxels of the share of held-out variance that more than one '
    'feature space can explain.',
    'noise_normalized_paper': 'The same as the VISION code computes it, in per cent: voxels '
    'without explainable variance count as perfect. For comparison only.',
    'frame_ssim': 'Structural similarity of film frames, mean over frames.',
}


_BOUNDS: tuple[tuple[tuple[str, ...], tuple[float, float]], ...] = (
    (('identification_', 'retrieval_', '_2way', '_top1'), (0.0, 1.0)),
    (('pixcorr', 'ssim', 'frame_ssim', 'voxel_r_'), (-1.0, 1.0)),
    (('_distance',), (0.0, 2.0)),
    (('voxel_r2', 'variance_'), (-math.inf, 1.0)),
    (('noise_normalized_paper',), (0.0, 100.0)),
    (('noise_normalized', 'latent_', 'mse'), (0.0, math.inf)),
)
"""Limits of metrics by the start or the end of their names, the first that fits."""


def bounds_of(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value that a metric can have.

    Examples
    --------
    >>> bounds_of('identification_2way'), bounds_of('pixcorr'), bounds_of('latent_mse')
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf))
    """
    for names, limits in _BOUNDS:
        if metric.startswith(names) or metric.endswith(names):
            return limits
    return -math.inf, math.inf


@dataclass(frozen=True)
class Score:
    """One row of the metrics table; the fields are :data:`COLUMNS`. None is n/a."""

    system: str
    model: str
    protocol: str
    split: str
    space: str
    metric: str
    value: float
    n: int
    chance: float | None = None
    ceiling: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise DataError(UNKNOWN_METRIC.format(name=self.metric, names=', '.join(METRICS)))
        if self.p is not None and not math.isnan(self.p) and not 0 <= self.p <= 1:
            raise DataError(BAD_SCORE.format(column='p', metric=self.metric, found=self.p))


def scores_table(scores: Sequence[Score]) -> pd.DataFrame:
    """Return scores as a table with the columns of :data:`COLUMNS`; None becomes NaN.

    Write it with ``na_rep='n/a'``.
    """
    import pandas as pd

    table = pd.DataFrame([dataclasses.asdict(score) for score in scores], columns=list(COLUMNS))
    numbers = ['value', 'chance', 'ceiling', 'ci_low', 'ci_high', 'p']
    return table.astype(dict.fromkeys(numbers, 'float64'))


def describe(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the JSON sidecar of a metrics table: every column, and every metric in it."""
    columns: dict[str, Any] = {name: {'Description': text} for name, text in COLUMNS.items()}
    used = sorted({score.metric for score in scores})
    columns['metric']['Levels'] = {name: METRICS[name] for name in used}
    return columns
