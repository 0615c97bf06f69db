"""Methods text for a paper, written from the settings, with the works that it cites.

The text holds marks such as ``[@prince2022glmsingle]`` for keys of the bibliography in the
package; only what a run really did is written, and only what the text cites is listed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from bids_neurodecode.bids.records import OF_RESPONSES
from bids_neurodecode.errors import ReportError
from bids_neurodecode.report.boilerplate_conditions import (
    condition_models,
    condition_statistics,
)
from bids_neurodecode.report.boilerplate_encoding import described_by, encoding_model
from bids_neurodecode.report.boilerplate_generation import generated_pictures
from bids_neurodecode.report.boilerplate_layouts import published_inputs, taken_betas
from bids_neurodecode.report.boilerplate_movie import film_models, film_voxels
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.stimuli.features import image_size_of

if TYPE_CHECKING:
    from bids_neurodecode.bids.records import Paradigm
    from bids_neurodecode.config import Config
from bids_neurodecode.extensions import OWN, find_system

PERMUTED = {
    'labels': 'of the stimulus labels of held-out samples, models being fitted once and not again',
    'refit': 'of the stimulus labels of all samples (within runs where runs were held out, else '
    'stimuli as a whole), the linear decoder and its penalty being fitted again each time; betas '
    'and the choice of voxels were kept (other models were fitted once, and the labels of '
    'held-out samples permuted)',
}
"""What is permuted, by ``evaluation.permutation``."""
UNKNOWN_KEY = 'The methods text cites {key!r}, which the bibliography does not hold.'

_MARK = re.compile(r'\[(@[\w]+(?:; @[\w]+)*)\]')
_ENTRY = re.compile(r'@(\w+)\{(\w+),\n(.*?)\n\}', re.DOTALL)
_FIELD = re.compile(r'^\s*(\w+) = \{(.*)\},?$', re.MULTILINE)


@dataclass(frozen=True)
class Reference:
    """One work of the bibliography."""

    key: str
    fields: Mapping[str, str]
    source: str
    """The entry as it is in the file."""

    @property
    def short(self) -> str:
        """How the text cites it, such as ``Prince et al., 2022``."""
        families = [a.split(',')[0] for a in self.fields['author'].split(' and ')]
        if len(families) > 2 or 'others' in families:
            name = f'{families[0]} et al.'
        else:
            name = ' & '.join(families)
        return f'{name}, {self.fields["year"]}'

    @property
    def address(self) -> str:
        """Where to find it."""
        doi = self.fields.get('doi')
        return f'https://doi.org/{doi}' if doi else self.fields['url']

    @property
    def text(self) -> str:
        """The work as a reference list shows it, without its address."""
        authors = [_initials(a) for a in self.fields['author'].split(' and ')]
        work = f'{", ".join(authors)} ({self.fields["year"]}). {self.fields["title"]}.'
        if 'eprint' in self.fields:
            return f'{work} arXiv:{self.fields["eprint"]}.'
        pages = self.fields['pages'].replace('--', '–')
        return f'{work} {self.fields["journal"]} {self.fields["volume"]}, {pages}.'


def read_bibliography() -> dict[str, Reference]:
    """Read the bibliography of the package, by key."""
    path = resources.files('bids_neurodecode') / 'data' / 'bibliography.bib'
    return {
        m.group(2): Reference(m.group(2), dict(_FIELD.findall(m.group(3))), m.group(0))
        for m in _ENTRY.finditer(path.read_text('utf-8'))
    }


def cited(paragraphs: Sequence[str]) -> list[Reference]:
    """Return the works that a text cites, in the order of their first mention.

    Raises
    ------
    ReportError
        If one is not in the bibliography.
    """
    known = read_bibliography()
    keys: dict[str, None] = {}
    for paragraph in paragraphs:
        for mark in _MARK.finditer(paragraph):
            keys |= dict.fromkeys(part.strip(' @') for part in mark.group(1).split(';'))
    missing = [key for key in keys if key not in known]
    if missing:
        raise ReportError(UNKNOWN_KEY.format(key=missing[0]))
    return [known[key] for key in keys]


def in_words(paragraph: str) -> str:
    """Replace the marks by author and year.

    Examples
    --------
    >>> in_words('Betas [@prince2022glmsingle].')
    'Betas (Prince et al., 2022).'
    """
    known = read_bibliography()

    def write(mark: re.Match[str]) -> str:
        keys = [part.strip(' @') for part in mark.group(1).split(';')]
        return '(' + '; '.join(known[key].short for key in keys) + ')'

    return _MARK.sub(write, paragraph)


CEILINGS = (
    'Noise ceilings follow the definition of the Natural Scenes Dataset [@allen2022nsd], for the '
    'mean over the repeats of each stimulus.'
)


def methods(
    config: Config,
    *,
    paradigm: Paradigm,
    version: str,
    system: str | None = None,
    derivatives: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    rule: str | None = None,
    betas_model: str | None = None,
    fold_models: Sequence[str] | None = None,
    generator: str | None = None,
    layout: str = 'bids',
) -> tuple[str, ...]:
    """Write the methods of a run as paragraphs with citation marks.

    Parameters
    ----------
    config
        The settings of the run.
    paradigm
        Single images, a film, or conditions alone.
    version
        Of this program.
    system
        The recipe that ran, where the settings leave it open.
    derivatives
        Names of the derivatives datasets that the series came from.
    versions
        Of the libraries, by name.
    rule
        How voxels were chosen, in words, where the settings leave it open.
    betas_model
        Which of the models of the betas was used (B, C, D), where the settings leave it open.
    fold_models
        Of each fold, where it was chosen by comparison within training trials; else None.
    generator
        What made images (``none``: they were retrieved), where the settings leave it open.
    layout
        Of the dataset: ``bids``, or ``nsd`` or ``emofilm`` as they are published.
    """
    recipe = system or config.system
    if recipe == 'encoding' and rule is None and not config.atlas.regions:
        rule = 'all voxels of the brain mask'
    published = layout != 'bids'
    paragraphs = [
        published_inputs(layout, version) if published else _inputs(derivatives, version)
    ]
    if paradigm != 'movie':
        taken = layout in OF_RESPONSES or config.betas.precomputed is not None
        betas = taken_betas(config, layout) if taken else ''
        held_out = recipe != 'betas'
        model = betas_model or config.betas.model
        paragraphs += [betas or _betas(config, model, fold_models, held_out=held_out)]
        if recipe == 'betas':
            return (*paragraphs, CEILINGS, _software(versions or {}))
        paragraphs += [_selection(config, rule)]
    else:
        paragraphs += [_series(config), film_voxels(config, rule)]
    statistics = {'movie': _film_statistics, 'conditions': condition_statistics}.get(
        paradigm, _statistics
    )(config)
    models: tuple[str, ...]
    if recipe not in {'auto', *OWN}:
        models = _model_of_extension(config, recipe)
    elif paradigm == 'movie':
        models = (_film_model(config), *film_models(config))
    elif paradigm == 'conditions':
        models = condition_models(config)
    elif recipe == 'encoding':
        models = encoding_model(config)
    else:
        models = (_model(config), *generated_pictures(config, generator))
    paragraphs += [*models, statistics, _software(versions or {})]
    return tuple(paragraphs)


def _model_of_extension(config: Config, name: str) -> tuple[str, ...]:
    """Return what a system of another package says of its model."""
    system = find_system(name)
    return (system.methods(config),) if system and system.methods else ()


def citation_files(paragraphs: Sequence[str]) -> dict[str, str]:
    """Return the contents of ``CITATION.md``, ``.bib`` and ``.html``, by extension."""
    works = cited(paragraphs)
    texts = [in_words(p) for p in paragraphs]
    body = '\n\n'.join(texts)
    listed = '\n'.join(f'{n}. {w.text} {w.address}' for n, w in enumerate(works, 1))
    rows = '\n'.join(
        f'<li>{html.escape(w.text)} <a href="{html.escape(w.address)}">'
        f'{html.escape(w.address)}</a></li>'
        for w in works
    )
    shown = '\n'.join(f'<p>{html.escape(text)}</p>' for text in texts)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Methods</title>'
        f'</head>\n<body>\n<h1>Methods</h1>\n{shown}\n<h2>References</h2>\n<ol>\n{rows}\n</ol>\n'
        '</body></html>\n'
    )
    return {
        'md': f'# Methods\n\n{body}\n\n## References\n\n{listed}\n',
        'bib': '\n\n'.join(w.source for w in works) + '\n',
        'html': page,
    }


def _initials(author: str) -> str:
    if author == 'others':
        return 'et al.'
    family, _, given = author.partition(', ')
    names = [name.split('-') for name in given.split() if name[0].isupper()]
    letters = ['-'.join(f'{part[0]}.' for part in name) for name in names]
    return f'{family}, {" ".join(letters)}' if letters else family


def _inputs(derivatives: Sequence[str], version: str) -> str:
    source = ''
    if any('fmriprep' in name.lower() for name in derivatives):
        source = ' in the layout of fMRIPrep [@esteban2019fmriprep]'
    return (
        f'Data were organised according to BIDS [@gorgolewski2016bids] and analysed with '
        f'bids_neurodecode {version}, a BIDS-App [@gorgolewski2017bidsapps], from preprocessed '
        f'series{source}. Quality was judged by framewise displacement (sum of absolute changes '
        f'of the six motion parameters, head radius 50 mm) [@power2012motion] and temporal '
        f'signal-to-noise ratio [@murphy2007tsnr].'
    )


def _betas(
    config: Config, model: str, folds: Sequence[str] | None = None, *, held_out: bool = True
) -> str:
    betas = config.betas
    used = {model, *(folds or ())}
    among = 'the training trials of each fold' if held_out else 'all trials'
    where = ('In C and D, p', 'In D, b') if len(used) > 1 else ('P', 'B')
    engine = 'the glmsingle package' if betas.engine == 'glmsingle' else "the program's own engine"
    text = (
        f'Single-trial response amplitudes were estimated as in GLMsingle '
        f'[@prince2022glmsingle] with {engine}. One regressor per trial was convolved with each '
        f'of 20 haemodynamic response functions derived from the Natural Scenes Dataset '
        f'[@allen2022nsd], and each voxel kept the one that explained most variance; slow drift '
        f'was modelled by polynomials per run.'
    )
    if model == 'auto' or folds is not None:
        text += (
            ' Whether betas were denoised too (model C), or denoised and regularised (model D), '
            f'or neither (model B), was chosen within {among}: groups of '
            'their runs were held out in turn, components and fractions were chosen without '
            'these, and presentations in these were identified by ridge regression onto which '
            'stimulus it was.'
        )
    if folds is not None:
        counts = [f'{each} in {list(folds).count(each)}' for each in sorted(set(folds))]
        scored = f'{", ".join(counts)} of {len(folds)} fold(s); ' if folds else ''
        text += f' Model by fold: {scored}the final model used {model}.'
    if used & {'C', 'D'}:
        number = (
            'their number was chosen by cross-validation over repeats'
            if betas.n_components is None
            else f'their number was fixed at {betas.n_components}'
        )
        text += (
            f' {where[0]}rincipal components of voxels that did not respond to the task were '
            f'added as nuisance regressors [@kay2013glmdenoise]; {number}.'
        )
    if 'D' in used:
        how = (
            'chosen for each voxel by cross-validation over repeats'
            if betas.fraction is None
            else f'fixed at {betas.fraction:g}'
        )
        text += (
            f' {where[1]}etas were regularised by fractional ridge regression '
            f'[@rokem2020fracridge], the fraction {how}.'
        )
    parts = [*config.clean.strategy, *config.clean.columns]
    if parts:
        text += f' Confounds ({", ".join(parts)}) were regressed out in the same model.'
    if used & {'C', 'D'} and (betas.n_components is None or betas.fraction is None):
        text += (
            ' These choices were made on all trials.'
            if not held_out
            else ' These choices were made on the training trials of each fold only.'
            if betas.tuning == 'training' and betas.engine == 'native'
            else ' These choices were made on all trials, test trials included.'
        )
    units = 'percent signal change, or the units of the series where these have no mean'
    return f'{text} Betas are in {units}.'


def _series(config: Config) -> str:
    clean = config.clean
    parts = [*clean.strategy, *clean.columns]
    regressed = (
        f'Confounds ({", ".join(parts)}) were regressed out'
        if parts
        else ('No confounds were regressed out')
    )
    high_pass = (
        '' if not clean.high_pass else f', and series were high-passed at {clean.high_pass:g} Hz'
    )
    scaled = {
        'psc': 'as percent signal change',
        'zscore': 'as z-scores',
        'none': 'in their own units',
    }
    return (
        f'{regressed}{high_pass} with nilearn [@abraham2014nilearn], {scaled[clean.scaling]}. '
        f'For agreement between participants (leave-one-participant-out intersubject correlation '
        '[@hasson2004isc]) series were put on the clock of the film; those that are written, and '
        'those that the movie network learns, were shifted back by a haemodynamic delay of '
        f'{config.delay.seconds:g} s, between volumes by cubic convolution.'
    )


def _film_model(config: Config) -> str:
    features = config.features
    count = f'at most {features.n_components} ' if features.n_components else 'all '
    delays = ', '.join(f'{delay:g}' for delay in config.delay.fir_seconds)
    described = (
        f'Frames ({features.image_size} x {features.image_size} pixels, four a volume) were '
        f'described by {features.extractor} features, averaged over each volume and reduced to '
        f'{count}principal components fitted on training samples. Responses were predicted from '
        'these components'
    )
    if features.extractor == TABLE:
        most = features.n_components
        reduced = f' (more than {most} of them: as principal components)' if most else ''
        described = (
            'Films were described by features that were given as tables: a row holds until the '
            'next one, a volume has the mean over the time that it lasts, and features were '
            f'standardised by training samples{reduced}. Responses were predicted from these '
            'features'
        )
    return (
        f'{described} at delays of {delays} s (finite impulse response '
        '[@nishimoto2011movies]) by ridge regression [@dupre2022banded], its penalty chosen by '
        f'{config.ridge.n_folds}-fold cross-validation over blocks of the training samples.'
    )


def _film_statistics(config: Config) -> str:
    if not config.evaluation.n_permutations:
        return 'Scores were not tested.'
    return (
        'Predictions were correlated with responses voxel by voxel over held-out samples, each '
        'held-out part of a presentation standardised. The p values come from surrogates of the '
        'predictions: the phases of the predicted series of each whole film were drawn anew, the '
        'same for all voxels, and the held-out part was cut from it. They are (b + 1) / (m + 1) '
        '[@phipson2010permutation], given from 60 s of held-out time on, over '
        'voxels with the false discovery rate controlled [@benjamini1995fdr], and by the maximum '
        'over voxels. Intervals of medians and means over voxels come from resampled blocks '
        'of 30 s of held-out time, not from voxels, by the t distribution for that many blocks, '
        'where there are six or more. With several folds, whose training data overlap, the null '
        'and the intervals were widened by the square root of two.'
    )


def _selection(config: Config, rule: str | None) -> str:
    selection = config.selection
    atlas = ''
    if config.atlas.name:
        works = ' [@schaefer2018atlas]' if 'Schaefer2018' in config.atlas.name else ''
        atlas = (
            f'The atlas {config.atlas.name}{works} was taken from TemplateFlow '
            '[@ciric2022templateflow] and resampled to the grid of the data by nearest neighbour. '
        )
    if config.atlas.rois:
        atlas = f'The regions {", ".join(config.atlas.rois)} were given as files of the study. '
    if selection.measure == 'none':
        return atlas + 'All voxels of the brain mask were used.'
    if rule is not None:
        return f'{atlas}Voxel selection: {rule.rstrip(".")}.'
    if selection.rule == 'fdr':
        which = (
            'whose responses to repeats in different runs agreed more than chance (stimuli '
            f'exchanged within runs, false discovery rate {selection.fdr:g} [@benjamini1995fdr])'
        )
    elif selection.rule == 'top':
        which = f'in the top {100 * selection.fraction:g} % by reliability'
    else:
        which = f'with a reliability above {selection.threshold:g}'
    return (
        f'{atlas}Voxels {which} were used; the choice was made on the training samples of each '
        'fold only. Noise ceilings follow the definition of the Natural Scenes Dataset '
        '[@allen2022nsd].'
    )


def _model(config: Config) -> str:
    features = config.features
    count = (
        f'at most {features.n_components} principal components of '
        if features.n_components
        else ''
    )
    if features.extractor == TABLE:
        pictures = 'given as a table'
    else:
        pictures = ' and '.join(
            f'{described_by(part)}, images of {image_size_of(part, features.image_size)} pixels '
            'a side'
            for part in features.extractor.split('+')
        )
    return (
        f'Each image was described by {count}its features ({pictures}; components were fitted '
        'on training stimuli). Ridge regression [@dupre2022banded] from voxels to features was '
        f'fitted on training samples, its penalty chosen by {config.ridge.n_folds}-fold '
        'cross-validation within them. A held-out sample was identified as the candidate whose '
        'features were most like the decoded ones [@kay2008identifying].'
    )


def _statistics(config: Config) -> str:
    evaluation = config.evaluation
    parts = []
    if evaluation.n_permutations:
        parts.append(
            f'The p values come from {evaluation.n_permutations} permutations '
            f'{PERMUTED[evaluation.permutation]}, as (b + 1) / (m + 1) '
            '[@phipson2010permutation]'
        )
    if evaluation.n_bootstrap:
        parts.append(
            f'{100 * evaluation.confidence:g} % confidence intervals are the wider of t and '
            f'bootstrap-t intervals ({evaluation.n_bootstrap} resamplings) over stimuli or runs, '
            'widened where folds train each other [@nadeau2003inference]'
        )
        parts.append(
            'models were compared by differences that were averaged within independent units '
            '(stimuli, or runs where runs were held out), with intervals over these units and '
            'two-sided p values by flips of their signs (over runs by a t test whose variance is '
            'corrected for the training runs that folds share), not corrected for the number of '
            'comparisons'
        )
    return '; '.join(parts) + '.' if parts else 'Scores were not tested.'


def _software(versions: Mapping[str, str]) -> str:
    def name(library: str) -> str:
        version = versions.get(library, '')
        return f'{library} {version}'.strip()

    return (
        f'The workflow runs on {name("nipype")} [@gorgolewski2011nipype]; it uses PyBIDS '
        f'[@yarkoni2019pybids], {name("nilearn")} [@abraham2014nilearn], {name("scikit-learn")} '
        f'[@pedregosa2011sklearn], {name("numpy")} [@harris2020numpy] and {name("scipy")} '
        '[@virtanen2020scipy].'
    )
