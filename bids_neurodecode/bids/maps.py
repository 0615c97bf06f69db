"""Maps of a value per voxel, each declared once: its name, its sidecar, how pages show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal['score', 'share', 'ceiling', 'agreement', 'reliability', 'signal']
"""What a map is of: how well a model does, alone or over the ceiling; what limits that, from
repeats or participants, or what these share; how reliable responses are; anything else.

Maps of the kinds in front say most of what was found: pages begin with them."""


@dataclass(frozen=True)
class MapSpec:
    """How a map is shown and explained."""

    title: str = ''
    label: str = ''
    """Of the colour bar, with units."""
    how_to_read: str = ''
    colormap: str = 'viridis'
    low: float | None = 0.0
    """Lower end of the colours; None takes the 2nd percentile."""
    high: float | None = None
    """Upper end; None takes the 98th percentile."""
    symmetric: bool = False
    glass: bool = False
    whole: bool = False
    """Whether values are whole numbers, and ticks too."""
    scale: float = 1.0
    """Factor from the file to what is drawn: shares are drawn in percent, as everywhere."""
    of: Literal['mask', 'network'] = 'mask'
    """Which voxels have a value; the files hold 0 for those that a network does not take."""
    description: str = ''
    """In the sidecar, as are the units."""
    units: str = ''
    suffix: str = 'statmap'
    """``mask``: whole numbers, named by a label; else values, named by what they are of."""
    stat: str = ''
    """That name; the key if empty."""
    desc: str = ''
    outside: float = 0.0
    """Value of voxels that have none."""
    product: str = ''
    """Of which it is another (``network_r``: of ``pearsonr``); its own if empty."""
    kind: Kind = 'signal'
    mean: Literal['no', 'file', 'folded', 'shown'] = 'no'
    """Whether it is averaged over participants, and where the group's page shows the mean."""
    median: str = ''
    """A sentence on its median and on one voxel in twenty, where responses are all there is."""


MAPS: dict[str, MapSpec] = {
    'tsnr': MapSpec(
        'Temporal signal-to-noise ratio',
        'tSNR (mean / SD over time)',
        'Mean of each voxel over time divided by its standard deviation, averaged over runs. '
        'Higher is better; drop-out and strong motion show as dark areas. The colours run from '
        'the 2nd to the 98th percentile.',
        'cividis',
        low=None,
        description='Temporal signal-to-noise ratio, mean over runs',
        units='ratio',
        suffix='boldmap',
        mean='folded',
    ),
    'noiseceiling': MapSpec(
        'Noise ceiling',
        'noise ceiling (% of variance)',
        'The share of variance of the averaged responses that differences between stimuli can '
        'explain at best, from the agreement of repeats in all trials. A perfect model would '
        'reach this; noise can pass it. Where voxels were chosen by that agreement, the median '
        'over those selected is optimistic.',
        'magma',
        glass=True,
        scale=100.0,
        description='Noise ceiling of the average over repeats',
        units='fraction of variance',
        kind='ceiling',
        mean='shown',
    ),
    'ncsnr': MapSpec(
        'Noise-ceiling signal-to-noise ratio',
        'ncsnr (signal SD / noise SD)',
        'Standard deviation of the stimulus-driven response over that of the trial-to-trial '
        'noise. 0: no reliable response; 1: signal as large as noise in a single trial.',
        'magma',
        glass=True,
        description='Noise-ceiling signal-to-noise ratio of a single trial',
        units='ratio',
        kind='reliability',
        mean='folded',
    ),
    'rsquared': MapSpec(
        'Variance explained by the trial model',
        'R² (%)',
        'Variance of the series (drift removed) that the single-trial model explains, on the data '
        'that it was fitted to: it shows where the task drives the signal, and is no test.',
        'magma',
        description='Variance explained by the single-trial model, drift removed',
        units='percent',
    ),
    'hrfindex': MapSpec(
        'Time to peak of the haemodynamic response',
        'time to peak (s)',
        'Time from onset to peak of the response to one trial, by the shape that fits each voxel '
        'best out of a fixed library (long trials peak late). In voxels that do not respond to '
        'the task the choice is arbitrary and looks like noise.',
        'viridis',
        low=None,
        description='Index (from 0) of the HRF chosen from the library of 20',
        units='index',
    ),
    'fracridge': MapSpec(
        'Fraction of the unregularised length kept (ridge)',
        'fraction',
        'How much of the ordinary least-squares solution each voxel keeps. 1: no shrinkage; small '
        'values: noisy voxels whose betas were shrunk strongly.',
        'viridis',
        high=1.0,
        description='Fraction of the unregularised length chosen',
        units='fraction',
    ),
    'pearsonr': MapSpec(
        'Prediction accuracy',
        'Pearson r',
        'Correlation of predicted and measured responses on held-out data. Chance is 0.',
        'RdBu_r',
        symmetric=True,
        glass=True,
        description='Correlation of predicted and measured response',
        units='Pearson r',
        kind='score',
        mean='shown',
    ),
    'accuracy': MapSpec(
        'Accuracy of searchlights',
        'balanced accuracy (%)',
        'Share of held-out trials whose condition is decoded from the voxels about each voxel, in '
        'the mean over conditions. Neighbours share voxels, so that blobs as large as a '
        'searchlight say little of where.',
        'magma',
        scale=100.0,
        glass=True,
        description='Balanced accuracy with which conditions are decoded from the voxels about '
        'each voxel (searchlight); 0 where there is none',
        units='share',
        kind='score',
        mean='file',
    ),
    'noisenormalized': MapSpec(
        'Noise-normalised accuracy',
        'r² / noise ceiling (%)',
        'Squared correlation of predicted and measured responses over what the noise allows. '
        '100 %: all that can be explained is explained (noise of the estimates can carry it above '
        'that); 0 where the correlation is negative, and where the ceiling is too low to say.',
        'magma',
        scale=100.0,
        high=100.0,
        glass=True,
        description='Squared correlation of predicted and measured response over the noise '
        'ceiling; 0 where the ceiling is too low to say',
        units='fraction of explainable variance',
        kind='share',
        mean='folded',
    ),
    'network_r': MapSpec(
        'Prediction accuracy of the movie network',
        'Pearson r',
        'Correlation of predicted and measured responses on held-out data. Chance is 0.',
        'RdBu_r',
        symmetric=True,
        glass=True,
        of='network',
        product='pearsonr',
        kind='score',
        mean='file',
    ),
    'saliency': MapSpec(
        'Saliency for the reconstruction',
        'saliency (arbitrary)',
        'How strongly reconstructed frames depend on each voxel (slope of the structural '
        'similarity, summed over held-out volumes). It says what the decoder uses, not what the '
        'brain needs.',
        'magma',
        of='network',
        description='Sum over held-out volumes of the absolute slope of the structural similarity '
        'of decoded and true frames by the response of the voxel (times its deviation: '
        'movie.saliency)',
        units='arbitrary',
    ),
    'ceilingr': MapSpec(
        'Ceiling from the other participants',
        'Pearson r',
        'What a perfect model of the response that participants share would correlate with the '
        'measured one on the held-out volumes. What a participant does not share with the others '
        'is not in it.',
        'magma',
        glass=True,
        description='Correlation with the response of held-out volumes that a perfect model of '
        'what participants share would reach',
        units='Pearson r',
        kind='ceiling',
        mean='file',
    ),
    'isc': MapSpec(
        'Intersubject correlation',
        'Pearson r',
        'Correlation with the average of the other participants, a bound on what a stimulus can '
        'explain in one participant. Chance is 0.',
        'RdBu_r',
        symmetric=True,
        glass=True,
        description='Leave-one-participant-out intersubject correlation',
        units='Pearson r',
        kind='agreement',
        mean='shown',
        median='A participant correlates with the mean of the others at {r:.2f} in the median '
        'voxel, {high:.2f} or more in one of twenty.',
    ),
    'repeatr': MapSpec(
        'Agreement of repeated presentations',
        'Pearson r',
        'Correlation of each presentation of a film with the mean of its other presentations in '
        'the same participant: how reproducible the responses are. Chance is 0.',
        'RdBu_r',
        symmetric=True,
        glass=True,
        description='Correlation of each presentation of a film with the mean of its other '
        'presentations',
        units='Pearson r',
        kind='agreement',
        median='Repeated presentations of a film correlate at {r:.2f} in the median voxel, '
        '{high:.2f} or more in one of twenty.',
    ),
}
BESIDE: dict[str, MapSpec] = {
    'variance': MapSpec(
        description='Variance of held-out responses that feature spaces explain', units='fraction'
    ),
    'pfdr': MapSpec(
        description='p of the correlation against surrogates, adjusted for the false discovery '
        'rate',
        units='probability',
        outside=1.0,
    ),
    'accuracypfdr': MapSpec(
        description='p of the accuracy of searchlights (t test over runs, corrected for shared '
        'training runs), adjusted for the false discovery rate',
        units='probability',
        stat='pfdr',
        desc='searchlight',
        outside=1.0,
    ),
    'meanbold': MapSpec(
        description='Mean of the preprocessed series over all runs',
        units='arbitrary',
        stat='mean',
        suffix='boldmap',
    ),
    'reliable': MapSpec(suffix='mask'),
    'significant': MapSpec(suffix='mask', stat='predicted'),
}
"""Maps that are written and that no page shows as a map of its own."""


def maps_of(*kinds: Kind) -> tuple[str, ...]:
    """Return the maps of some kinds, of all if none is given, the foremost first."""
    order = get_args(Kind)
    ranked = sorted(MAPS, key=lambda key: order.index(MAPS[key].kind))
    return tuple(key for key in ranked if not kinds or MAPS[key].kind in kinds)
