"""Methods text of conditions without stimulus files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids_neurodecode.config import Config


def condition_models(config: Config) -> tuple[str, ...]:
    """Write the paragraphs on what was done with conditions: decoded, predicted, compared."""
    return (_decoding(config), _encoding(), _distances())


def condition_statistics(config: Config) -> str:
    """Write how scores of conditions were tested."""
    evaluation = config.evaluation
    parts = []
    if evaluation.n_permutations:
        permuted = {
            'labels': 'the conditions of held-out trials were exchanged within runs, models being '
            'fitted once, and permuted scores were widened for the training runs that folds share',
            'refit': 'the conditions of all trials were exchanged within runs and the classifier '
            'and its penalty fitted again each time (where all conditions have as many trials)',
        }[evaluation.permutation]
        parts.append(
            f'The p values come from {evaluation.n_permutations} permutations, as (b + 1) / (m + '
            f'1) [@phipson2010permutation]: {permuted}; over voxels, regions and pairs of '
            'conditions the false discovery rate was controlled [@benjamini1995fdr]'
        )
    if evaluation.n_bootstrap:
        parts.append(
            f'{100 * evaluation.confidence:g} % confidence intervals are the wider of t and '
            f'bootstrap-t intervals ({evaluation.n_bootstrap} resamplings) over runs, widened '
            'where folds train each other [@nadeau2003inference] (of distances: of jackknife '
            'pseudo-values over runs)'
        )
    parts.append('with fewer than six runs there is neither')
    tested = evaluation.n_permutations or evaluation.n_bootstrap
    return '; '.join(parts) + '.' if tested else 'Scores were not tested.'


def _decoding(config: Config) -> str:
    text = (
        'Conditions (trial_type of the events) were decoded from single trials by a linear '
        'classifier: ridge regression [@dupre2022banded] from standardised voxels to indicators '
        f'of the conditions, its penalty chosen by {config.ridge.n_folds}-fold cross-validation '
        'over runs within the training runs. It was judged by balanced accuracy on held-out runs, '
        'beside a classifier trained on shuffled labels, one that sees the mean response over '
        'voxels only, and the training condition whose mean pattern correlates most '
        '[@haxby2001distributed].'
    )
    if config.atlas.given:
        text += ' The same was done with all voxels of each region of the atlas.'
    if config.conditions.searchlight is not None:
        text += (
            f' Searchlights (radius {config.conditions.searchlight:g} mm) '
            '[@kriegeskorte2006searchlight] were classified with nilearn [@abraham2014nilearn] by '
            'linear discriminant analysis, its covariance shrunk analytically '
            '[@pedregosa2011sklearn], and tested over runs by a t test whose variance is '
            'corrected for shared training runs [@nadeau2003inference].'
        )
    return text


def _encoding() -> str:
    return (
        'The mean response of each voxel to each condition in held-out runs was predicted by that '
        'in the training runs, after the mean over conditions had been taken off each run, and '
        'correlated with it.'
    )


def _distances() -> str:
    return (
        'Response patterns of conditions were compared by squared Mahalanobis distances, '
        'cross-validated over runs (crossnobis) [@walther2016reliability]: differences in '
        'held-out runs times those in training runs, in units of the covariance of training '
        'trials about their condition (shrunk analytically). Pairs were tested by exchanging '
        'their labels in held-out runs.'
    )
