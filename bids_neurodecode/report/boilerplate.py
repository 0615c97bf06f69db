"""Methods text for a paper, written from the settings, with the works that it cites.

The texts are templates in ``data/methods``. They hold marks such as ``[@prince2022glmsingle]`` for
keys of the bibliography in the package; only what a run really did is written, and only what the
text cites is listed.
"""

from __future__ import annotations

import functools
import html
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.bids.records import OF_RESPONSES
from bids_neurodecode.errors import ReportError
from bids_neurodecode.extensions import (
    own_systems,
    said_by,
    system_named,
)
from bids_neurodecode.report.facts import Facts
from bids_neurodecode.settings.encoding import TABLE

if TYPE_CHECKING:
    from bids_neurodecode.bids.records import Paradigm
    from bids_neurodecode.config import Config, RidgeSettings
    from bids_neurodecode.report.results import ParticipantResults
    from bids_neurodecode.spaces import Form

AUTHORS = 'The bids_neurodecode developers'
TITLE = 'bids_neurodecode: a BIDS-App that relates what people see to their fMRI, both ways'
PROGRAM = f'To cite the program: {AUTHORS}. {TITLE} (version {{version}}). Computer software.'
BIBTEX = (
    f'@software{{{{bids_neurodecode,\n  author = {{{{{{{{{AUTHORS}}}}}}}}},\n'
    f'  title = {{{{{TITLE}}}}},\n  version = {{{{{{version}}}}}}\n}}}}'
)
"""How the program itself is cited, as in CITATION.cff and README."""
UNKNOWN_KEY = 'The methods text cites {key!r}, which the bibliography does not hold.'

_END = '\x1e'
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
        title = re.sub('[{}]', '', self.fields['title'])  # they keep capitals
        work = f'{", ".join(authors)} ({self.fields["year"]}). {title}.'
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


def cited(texts: Sequence[str]) -> list[Reference]:
    """Return the works that a text cites, in the order of their first mention.

    Raises
    ------
    ReportError
        If one is not in the bibliography.
    """
    known = read_bibliography()
    keys: dict[str, None] = {}
    for text in texts:
        for mark in _MARK.finditer(text):
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


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters['g'] = lambda value: f'{value:g}'
    environment.globals['grid'] = penalties_of
    return environment


def penalties_of(ridge: RidgeSettings) -> str:
    """Say which penalties there were to choose from, and by what one was chosen.

    Examples
    --------
    >>> from bids_neurodecode.config import RidgeSettings
    >>> penalties_of(RidgeSettings(alphas=(1.0, 1000.0)))
    'the least squared error of 2 values from 1 to 1,000'
    """
    low, high = (f'{value:,.15g}' for value in (min(ridge.alphas), max(ridge.alphas)))
    n = len(ridge.alphas)
    return (
        f'the least squared error of {n} values from {low} to {high}' if n > 1 else f'{low} alone'
    )


def paragraphs(template: str, **facts: Any) -> tuple[str, ...]:
    """Return the paragraphs of a template in ``data/methods``; a blank line ends one.

    Parameters
    ----------
    template
        Its name.
    **facts
        What it reads: ``config`` and what settings leave open.
    """
    file = resources.files('bids_neurodecode') / 'data' / 'methods' / f'{template}.j2'
    # blank lines of the template alone, not lines of it that came out empty
    marked = file.read_text('utf-8').replace('\n\n', f'\n{_END}\n')
    written = _templates().from_string(marked).render(**facts)
    # the text is plain: what was escaped on its way in is as it was
    parts = html.unescape(written).split(_END)
    return tuple(' '.join(part.split()) for part in parts if part.strip())


def described_by(band: str) -> str:
    """Return what the features of a space are; ``table:NAME`` is a band of the user's table."""
    kind, _, own = band.partition(':')
    if kind == TABLE:
        return f'features that were given as a table ({own or "all columns"})'
    told = _features().get(kind) or f'the extractor {kind} of another package'
    return f'{told}, layer {own}' if own else told


@functools.cache
def _features() -> Mapping[str, str]:
    file = resources.files('bids_neurodecode') / 'data' / 'methods' / 'features.toml'
    return tomllib.loads(file.read_text('utf-8'))


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
    form: Form | None = None,
    facts: Facts | None = None,
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
    form
        Of the series (surfaces, CIFTI, parcels); None: volumes.
    facts
        Of the data that were analysed; None before a run.
    """

    def named(*texts: str) -> tuple[str, ...]:
        return tuple(in_nouns(text, form) for text in texts)

    recipe = system or config.system
    of_voxels = said_by(recipe).scores == 'voxels'
    if of_voxels and rule is None and not config.atlas.regions:
        rule = 'all voxels of the brain mask'
    fmriprep = any('fmriprep' in name.lower() for name in derivatives)
    texts = paragraphs('inputs', layout=layout, version=version, fmriprep=fmriprep, facts=facts)
    if facts is not None:
        texts += paragraphs('data', facts=facts, paradigm=paradigm, recipe=recipe)
    software = paragraphs('software', versions=versions or {}, config=config)
    if paradigm == 'movie':
        texts += paragraphs('films_data', config=config, rule=rule, facts=facts)
        if recipe == 'responses':
            return named(*texts, *software)
    else:
        if layout in OF_RESPONSES or config.betas.precomputed is not None:
            texts += paragraphs('betas_taken', config=config, layout=layout)
        else:
            model = betas_model or config.betas.model
            folds = None if fold_models is None else list(fold_models)
            models = () if facts is None else facts.models
            used = {model, *(folds or ()), *(each.split()[0] for each in models)}
            held_out = recipe not in {'betas', 'responses'}
            texts += paragraphs(
                'betas',
                config=config,
                model=model,
                folds=folds,
                used=used,
                held_out=held_out,
                models=models,
                several=facts is not None and facts.n_participants > 1,
            )
        if recipe in {'betas', 'responses'}:
            return named(*texts, *paragraphs('ceilings'), *software)
        texts += paragraphs('selection', config=config, rule=rule, form=form, facts=facts)
    tests = {'movie': 'films_statistics', 'conditions': 'conditions_statistics'}
    statistics = paragraphs(tests.get(paradigm, 'statistics'), config=config, facts=facts)
    fitted = _models(config, paradigm, recipe, generator, facts)
    return named(*texts, *fitted, *statistics, *software)


def methods_of(records: Sequence[ParticipantResults], config: Config) -> tuple[str, ...]:
    """Write the methods of participants who were analysed alike, as :func:`methods` does.

    Parameters
    ----------
    records
        Of one participant, or of the group: what differs is then given as a span.
    config
        The settings of the first.
    """
    first, facts = records[0], Facts.of(records, config)
    chosen = [r.betas.fold_models for r in records if r.betas and r.betas.model_scores]
    return methods(
        config,
        paradigm=first.paradigm,
        version=first.version,
        system=first.system,
        derivatives=first.derivatives,
        versions=first.versions,
        rule=' or '.join(facts.rules) or None,
        betas_model=None if first.betas is None else first.betas.model,
        fold_models=[model for models in chosen for model in models] if chosen else None,
        generator='none' if first.generation is None else first.generation.generator,
        layout=first.layout,
        form=first.form,
        facts=facts,
    )


def _models(
    config: Config,
    paradigm: Paradigm,
    recipe: str,
    generator: str | None,
    facts: Facts | None,
) -> tuple[str, ...]:
    """Return the paragraphs on what was fitted."""
    name = own_systems(paradigm)[0] if recipe == 'auto' else recipe
    system = system_named(name)
    told = system.methods(config) if system.methods else ()
    of_images = system.methods_of_images
    images = of_images(config, generator, facts) if of_images else ()
    return (*((told,) if isinstance(told, str) else told), *images)


def citation_files(texts: Sequence[str], version: str) -> dict[str, str]:
    """Return the contents of ``CITATION.md``, ``.bib`` and ``.html``, by extension.

    Parameters
    ----------
    texts
        Paragraphs of methods, with their marks.
    version
        Of the program, which is cited too.
    """
    works = cited(texts)
    program = PROGRAM.format(version=version)
    cite = f'<h2>The program</h2>\n<p>{html.escape(program)}</p>'
    texts = [in_words(text) for text in texts]
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
        f'</head>\n<body>\n<h1>Methods</h1>\n{shown}\n{cite}\n<h2>References</h2>\n<ol>\n{rows}\n</ol>\n</body></html>\n'
    )
    return {
        'md': f'# Methods\n\n{body}\n\n## The program\n\n{program}\n\n## References\n\n{listed}\n',
        'bib': '\n\n'.join([*(w.source for w in works), BIBTEX.format(version=version)]) + '\n',
        'html': page,
    }


def _initials(author: str) -> str:
    if author == 'others':
        return 'et al.'
    family, _, given = author.partition(', ')
    names = [name.split('-') for name in given.split() if name[0].isupper()]
    letters = ['-'.join(f'{part[0]}.' for part in name) for name in names]
    return f'{family}, {" ".join(letters)}' if letters else family
