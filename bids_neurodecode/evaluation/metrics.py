"""The metrics table: one row per score, and what its columns and metrics mean.

:data:`METRICS` is the one declaration of every metric: the table, its sidecar, the axes of
figures, captions and verdicts all read its name, unit, limits and direction here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bids_neurodecode.errors import DataError
from bids_neurodecode.tables import column_texts

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_METRIC = 'No metric is called {name!r}. Metrics: {names}.'
BAD_SCORE = 'The {column} of {metric} must lie between 0 and 1: {found}.'

COLUMNS = tuple(column_texts('metrics'))

Unit = Literal['share', 'r', 'index', 'error', 'distance']
UNITS: dict[Unit, str] = {
    'share': 'share (1 is 100 %)',
    'r': 'Pearson r',
    'index': 'index without unit',
    'error': 'error',
    'distance': 'correlation distance',
}
BASELINE, REFERENCE = 'baseline-', 'reference-'
"""Beginnings of the names of what stands beside a model: what knows less, and what is given the
truth in the place of what was decoded."""
TRUE_FEATURES = f'{REFERENCE}true-features'
TRUE_LATENTS, TRUE_TARGETS = f'{REFERENCE}true-latents', f'{REFERENCE}true-latents-and-features'
TRUE_IMAGE = f'{REFERENCE}true-image'
REFERENCES = {
    TRUE_FEATURES: 'the training image whose features are nearest to the true ones, which perfect '
    'decoding would retrieve and which need not match pixel by pixel',
    TRUE_LATENTS: 'the first stage given the true latents',
    TRUE_TARGETS: 'both stages given the true latents and features',
    TRUE_IMAGE: 'the true image, seen by the same encoding model',
}
"""None is a ceiling: with noise in what is decoded, or from another image, a score can be higher.
A ceiling is what noise in the responses allows, and has a column."""
_NO_LIMIT = math.inf


@dataclass(frozen=True)
class Metric:
    """What a metric means, and how it is written wherever it stands.

    Parameters
    ----------
    title
        Its name on pages.
    meaning
        One or two sentences.
    unit
        Of the values in the table; shares are written as percent on pages.
    low, high
        Least and greatest value that is possible.
    higher_is_better
        Its direction.
    by_pixels
        Whether it depends on the size at which images are compared.
    """

    title: str
    meaning: str = ''
    unit: Unit = 'index'
    low: float = -_NO_LIMIT
    high: float = _NO_LIMIT
    higher_is_better: bool = True
    by_pixels: bool = False

    @property
    def share(self) -> bool:
        """Whether it is written as percent."""
        return self.unit == 'share'

    @property
    def scale(self) -> float:
        """Factor from the table to the axes of figures."""
        return 100.0 if self.share else 1.0

    @property
    def label(self) -> str:
        """Title with the unit of figures and columns."""
        return self.labelled(self.title)

    def labelled(self, title: str) -> str:
        """Return a title with the unit of figures and columns."""
        return title + {'share': ' (%)', 'r': ' (Pearson r)'}.get(self.unit, '')

    @property
    def description(self) -> str:
        """Meaning, unit, limits and direction, for the sidecar."""
        limits = [f'{x:g}' for x in (self.low, self.high) if math.isfinite(x)]
        span = {0: '', 1: f', at {"least" if math.isfinite(self.low) else "most"} ', 2: ', '}
        text = span[len(limits)] + ' to '.join(limits)
        better = '' if self.higher_is_better else ' Lower is better.'
        return f'{self.meaning} Unit: {UNITS[self.unit]}{text}.{better}'.strip()

    def write(self, value: float) -> str:
        """Write a value as pages show it.

        Examples
        --------
        >>> METRICS['identification_top1'].write(0.78125), METRICS['pixcorr'].write(0.3)
        ('78.1 %', '0.300')
        >>> METRICS['swav_distance'].write(-1e-9)
        '0.000'
        """
        if not math.isfinite(value):
            return 'n/a'
        return f'{100 * value:z.1f} %' if self.share else f'{value:z.3f}'

    def write_difference(self, value: float, *, unit: bool = True) -> str:
        """Write a difference of two values, with its sign.

        Parameters
        ----------
        value
            In the units of the metric.
        unit
            Whether shares are followed by ``points``.

        Examples
        --------
        >>> METRICS['identification_top1'].write_difference(0.125)
        '+12.5 points'
        >>> METRICS['ssim_2d'].write_difference(-0.0811)
        '-0.081'
        """
        if not math.isfinite(value):
            return 'n/a'
        if not self.share:
            return f'{value:+.3f}'
        return f'{100 * value:+.1f} points' if unit else f'{100 * value:+.1f}'

    def clip(self, values: Any) -> Any:
        """Cut values at what is possible."""
        import numpy as np

        return np.clip(values, self.low, self.high)

    def better(self, difference: float) -> bool:
        """Return whether a value that differs by this is the better one."""
        return difference > 0 if self.higher_is_better else difference < 0


def _share(title: str, meaning: str, **more: Any) -> Metric:
    return Metric(title, meaning, 'share', **{'low': 0.0, 'high': 1.0, **more})


def _r(title: str, meaning: str, **more: Any) -> Metric:
    return Metric(title, meaning, 'r', -1.0, 1.0, **more)


def _index(title: str, meaning: str, *, by_pixels: bool = True) -> Metric:
    return Metric(title, meaning, 'index', -1.0, 1.0, by_pixels=by_pixels)


def _error(title: str, meaning: str, unit: Unit = 'error', **more: Any) -> Metric:
    limits = {'low': 0.0, 'high': 2.0 if unit == 'distance' else _NO_LIMIT}
    return Metric(title, meaning, unit, higher_is_better=False, **{**limits, **more})


_PACKAGED = {
    f'{name.lower().replace("-", "_")}_{kind}': metric
    for name in ('EfficientNet-Lite0', 'EfficientNet-Lite2', 'MobileNetV2')
    for kind, metric in (
        (
            '2way',
            _share(
                f'Identification by {name}, two-way',
                f'2-way identification by {name} pooled features.',
            ),
        ),
        (
            'distance',
            _error(
                f'{name} distance',
                f'Mean correlation distance of {name} pooled features.',
                'distance',
            ),
        ),
    )
}

METRICS: dict[str, Metric] = {
    'balanced_accuracy': _share(
        'Balanced accuracy',
        'Share of held-out trials whose condition is decoded, in the mean over conditions, so '
        'that each counts the same however many trials it has; chance is one over their number.',
    ),
    'crossnobis_mean': Metric(
        'Cross-validated distance of conditions (mean)',
        'Squared Mahalanobis distance of the response patterns of two conditions a voxel, '
        'cross-validated over runs, in the mean over all pairs; 0 on average where they do not '
        'differ, so that it can be negative.',
    ),
    'identification_top1': _share(
        'Identification, among all candidates',
        'Share of samples whose true stimulus is the most similar of all candidates; chance is '
        'one over their number.',
    ),
    'identification_2way': _share(
        'Identification, two-way',
        'Share of pairs (true stimulus, another candidate) in which the true one is more similar; '
        'chance is .5.',
    ),
    'retrieval_image_top1': _share(
        'Image retrieval', 'Share of responses for which the right image is the nearest.'
    ),
    'retrieval_brain_top1': _share(
        'Brain retrieval', 'Share of images for which the right response is the nearest.'
    ),
    'retrieval_image_top1_of300': _share(
        'Image retrieval among 300',
        'Share of responses for which the right image is nearest of itself and 299 others, in '
        'the mean over all draws of these.',
    ),
    'retrieval_brain_top1_of300': _share(
        'Brain retrieval among 300',
        'Share of images for which the right response is nearest of itself and 299 others, in '
        'the mean over all draws of these.',
    ),
    'alexnet2_2way': _share(
        'Identification by AlexNet(2), two-way',
        '2-way identification by AlexNet features after the second ReLU.',
    ),
    'alexnet5_2way': _share(
        'Identification by AlexNet(5), two-way',
        '2-way identification by AlexNet features after the fifth ReLU.',
    ),
    'inception_2way': _share(
        'Identification by Inception, two-way',
        '2-way identification by Inception-v3 average-pool features.',
    ),
    'clip_2way': _share(
        'Identification by CLIP, two-way',
        '2-way identification by CLIP ViT-L/14 image embeddings.',
    ),
    'pixcorr': _r(
        'Pixel correlation',
        'Pearson correlation of the RGB values of truth and reconstruction, mean over images. '
        'Rewards blur.',
        by_pixels=True,
    ),
    'pixel_top1': _share(
        'Identification by pixels, among all',
        'Share of reconstructions whose pixels correlate most with the true image of all '
        'candidates; chance is one over their number.',
        by_pixels=True,
    ),
    'pixel_2way': _share(
        'Identification by pixels, two-way',
        'Share of pairs (true image, another candidate) in which the pixels of the '
        'reconstruction correlate more with the true one; chance is .5.',
        by_pixels=True,
    ),
    'ssim_2d': _index(
        'SSIM',
        'Structural similarity of the luminance (Gaussian window, sigma 1.5 pixels), mean over '
        'images. Rewards blur.',
    ),
    'ssim_columnwise_legacy': _index(
        'SSIM (column-wise, legacy)',
        'Structural similarity as scikit-image before 0.20 computed it in published tables: '
        'one-dimensional, averaged over columns. Not comparable with ssim_2d.',
    ),
    'efficientnet_distance': _error(
        'EfficientNet distance',
        'Mean correlation distance of EfficientNet-B1 features.',
        'distance',
    ),
    'swav_distance': _error(
        'SwAV distance', 'Mean correlation distance of SwAV ResNet-50 features.', 'distance'
    ),
    'noise_normalized_median': _share(
        'Noise-normalised accuracy (median)',
        'Median over voxels of r squared (0 where r is negative) over noise ceiling, voxels with '
        'a ceiling at or below the threshold left out: the share of the explainable variance that '
        'is explained.',
        high=_NO_LIMIT,
    ),
    'voxel_r_median': _r(
        'Voxel-wise correlation (median)',
        'Median over voxels of the correlation of predicted and measured response.',
    ),
    'voxel_r_mean': _r(
        'Voxel-wise correlation (mean)',
        'Mean over voxels of the correlation of predicted and measured response.',
    ),
    'voxel_r2_median': _share(
        'Voxel-wise R² (median)',
        'Median over voxels of the share of variance explained.',
        low=-_NO_LIMIT,
    ),
    'frame_ssim': _index('Frame SSIM', 'Structural similarity of film frames, mean over frames.'),
    'noise_normalized_mean': _share(
        'Noise-normalised accuracy (mean)',
        'Mean over voxels of r squared (0 where r is negative) over noise ceiling, the same '
        'voxels left out as for the median. Chance is above 0, as squares are.',
        high=_NO_LIMIT,
    ),
    'noise_normalized_paper': _share(
        'Noise-normalised accuracy (as in the challenge)',
        'Median over voxels of r squared (0 where r is negative) over noise ceiling as the VISION '
        'code computes it: voxels without explainable variance count as perfect. For comparison '
        'only.',
    ),
    'latent_mse': _error(
        'Latent squared error',
        'Mean squared error of predicted latents as they are decoded: with the spread of training '
        'latents (reconstruction.renorm), which it punishes.',
    ),
    'latent_mae': _error(
        'Latent absolute error',
        'Mean absolute error of predicted latents as they are decoded: with the spread of '
        'training latents (reconstruction.renorm), which it punishes.',
    ),
    'caption_2way': _share(
        'Identification by captions, two-way',
        '2-way identification by the captions of the training image that a network finds nearest '
        'to the reconstruction, beside those of the images shown; chance is .5.',
    ),
    'caption_similarity': _index(
        'Caption similarity',
        'Cosine of the embeddings (WordLlama) of the captions of what was shown and of the '
        'training image that a network finds nearest to the reconstruction, mean over images.',
        by_pixels=False,
    ),
    'brain_correlation': _r(
        'Brain correlation',
        'Correlation over voxels of the response that an encoding model predicts to the '
        'reconstruction of a single trial with the mean response to its image in other held-out '
        'runs, mean over trials. Beside it: what the true image scores, seen by the same model.',
    ),
    'gabor-standin_2way': _share(
        'Identification by Gabor energies (stand-in), two-way',
        '2-way identification by Gabor features, in place of a network whose weights are not '
        'there.',
    ),
    **_PACKAGED,
    'variance_full': _share(
        'Variance explained (all feature spaces)',
        'Median over voxels of the share of held-out variance that all feature spaces explain '
        'together.',
        low=-_NO_LIMIT,
    ),
    'variance_alone': _share(
        'Variance explained (one feature space)',
        'Median over voxels of the share of held-out variance that this feature space explains '
        'alone.',
        low=-_NO_LIMIT,
    ),
    'variance_unique': _share(
        'Unique variance',
        'Median over voxels of the share of held-out variance that is explained with this '
        'feature space and not without it.',
        low=-_NO_LIMIT,
        high=_NO_LIMIT,
    ),
    'variance_shared': _share(
        'Shared variance',
        'Median over voxels of the share of held-out variance that more than one feature space '
        'can explain.',
        low=-_NO_LIMIT,
        high=_NO_LIMIT,
    ),
}
"""Every metric, in the order in which pages prefer them as their headline."""
IDENTIFIED_BY = {
    'initial': "the decoder's features",
    'final': "the decoder's features",
}
"""By what ``identification_...`` tells stimuli apart, by the space of images; systems say it
of their own scores."""
JUDGES = (
    *('inception_2way', 'efficientnet_lite0_2way', 'efficientnet_lite2_2way', 'mobilenetv2_2way'),
    *('alexnet5_2way', 'alexnet2_2way'),
)
"""Networks whose score may head a page of images, the first that was scored: last layers before
early ones, as they are what sees objects and shapes. CLIP and the Gabor stand-in guide images."""
PIXEL_METRICS = frozenset(name for name, metric in METRICS.items() if metric.by_pixels)
"""Those that depend on the size at which images are compared."""
SAMPLE_COLUMNS = {
    'identification_top1': 'identified',
    'identification_2way': 'two_way',
    'pixcorr': 'pixcorr_final',
    'ssim_2d': 'ssim_final',
}
"""Columns of the tables of held-out samples that hold what a metric is the mean of."""


def bounds_of(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value that a metric can have.

    Examples
    --------
    >>> bounds_of('identification_2way'), bounds_of('pixcorr'), bounds_of('latent_mse')
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf))
    """
    known = METRICS.get(metric, Metric(metric))
    return known.low, known.high


def sample_column(metric: str) -> str:
    """Return the column of a table of held-out samples that holds what a metric is the mean of.

    Examples
    --------
    >>> sample_column('pixcorr'), sample_column('mobilenetv2_2way')
    ('pixcorr_final', 'mobilenetv2_two_way')
    """
    return SAMPLE_COLUMNS.get(metric, metric.replace('_2way', '_two_way'))


def difference_bounds_of(metric: str) -> tuple[float, float]:
    """Return the least and the greatest difference that two values of a metric can have.

    Examples
    --------
    >>> difference_bounds_of('identification_2way'), difference_bounds_of('latent_mse')
    ((-1.0, 1.0), (-inf, inf))
    """
    low, high = bounds_of(metric)
    return low - high, high - low


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
    n_units: int | None = None
    units: str | None = None
    test: str | None = None
    image_size: int | None = None
    compared_model: str | None = None
    compared_space: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    difference_p: float | None = None

    def __post_init__(self) -> None:
        metric = METRICS.get(self.metric)
        if metric is None:
            raise DataError(UNKNOWN_METRIC.format(name=self.metric, names=', '.join(METRICS)))
        for column in ('p', 'difference_p'):
            p = getattr(self, column)
            if p is not None and not math.isnan(p) and not 0 <= p <= 1:
                raise DataError(BAD_SCORE.format(column=column, metric=self.metric, found=p))


def _typed(kind: str) -> tuple[str, ...]:
    return tuple(x.name for x in dataclasses.fields(Score) if str(x.type).startswith(kind))


COUNTS = _typed('int')
"""Columns of whole numbers."""
NUMBERS = (*_typed('float'), *COUNTS)
"""Columns of numbers; the others are text."""


def scores_table(scores: Sequence[Score]) -> pd.DataFrame:
    """Return scores as a table with the columns of :data:`COLUMNS`; None becomes NaN.

    Write it with ``na_rep='n/a'``.
    """
    import pandas as pd

    rows = [dataclasses.asdict(score) for score in scores]
    return with_types(pd.DataFrame(rows, columns=list(COLUMNS)))


def scores_of(table: pd.DataFrame) -> tuple[Score, ...]:
    """Return the scores that a table made by :func:`scores_table`, or read back, holds."""
    rows = []
    for _, row in table[[name for name in COLUMNS if name in table]].iterrows():
        known: dict[str, Any] = {str(name): value for name, value in row.dropna().items()}
        for name in {*COUNTS} & known.keys():
            known[name] = int(known[name])
        rows.append(Score(**({'value': float('nan')} | known)))
    return tuple(rows)


def with_types(table: pd.DataFrame) -> pd.DataFrame:
    """Return a metrics table, just made or read back, with counts whole where some are missing."""
    kinds: dict[str, Any] = dict.fromkeys(NUMBERS, 'float64')
    kinds |= dict.fromkeys(COUNTS, 'Int64')
    return table.astype({name: kind for name, kind in kinds.items() if name in table})


def describe(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the JSON sidecar of a metrics table: every column, and every metric in it."""
    return describe_columns(score.metric for score in scores)


def describe_columns(metrics: Iterable[str]) -> dict[str, Any]:
    """Return the descriptions of the columns of a table that holds these metrics."""
    columns = column_texts('metrics')
    levels = {name: METRICS[name].description for name in sorted(set(metrics))}
    columns['metric']['Levels'] = levels
    return columns
