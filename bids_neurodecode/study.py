"""Studies: a file says what is varied; here it becomes a list of variants, each with its settings.

Nothing is run here: see :mod:`bids_neurodecode.levels.studies`.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

from bids_neurodecode.config import Config, build_config, merge, validated
from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, raised_as
from bids_neurodecode.settings.study import NO_REFERENCE, StudySettings, VariantSettings
from bids_neurodecode.text import did_you_mean

SUFFIX = '.toml'
ALL = 'all'
"""Label of the one variant of a study without axes."""
FIXED = ('schema_version', 'system', 'seed', 'betas.precomputed')
"""Settings that variants may not change: what is read is read once, and seeds have their list."""

UNKNOWN_STUDY = 'No study or file is called {name!r}.{near} Studies: {studies}.'
UNREADABLE = 'Cannot read the study {file}: {reason}. Fix the file; studies: {studies}.'
INVALID_STUDY = 'Invalid study {file}: {key}: {reason}. Correct it.'
BAD_NAME = (
    'The name of the study {file} may hold letters, digits, hyphens and underscores only: it '
    'becomes a folder.'
)
NOT_VARIED = (
    'The variant {variant!r} of the study {study} sets {key}, which a variant may not change. '
    'Set it for all ([settings]){seeds}.'
)
BY_SEEDS = ', or list seeds'
SAME_FOLDER = (
    'The variants {first!r} and {second!r} of the study {study} come to the same folder {folder}. '
    'Give them labels that differ in letters or digits.'
)


@dataclass(frozen=True)
class Variant:
    """One combination of settings.

    Parameters
    ----------
    name
        Of its folder.
    label
        As tables show it, without the seed: variants that differ in their seed share it.
    values
        Label on each axis, by the axis's name.
    places
        Place on each axis; None where it has none in numbers.
    seed, config
        Its settings.
    """

    name: str
    label: str
    values: Mapping[str, str]
    places: Mapping[str, float | None]
    seed: int
    config: Config


@dataclass(frozen=True)
class StudyPlan:
    """A study and its variants, in the order in which they are shown."""

    name: str
    text: str
    """The file as it was read."""
    settings: StudySettings
    variants: tuple[Variant, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the variants, seeds aside."""
        return tuple(dict.fromkeys(variant.label for variant in self.variants))

    def with_configs(self, change: Callable[[Config], Config]) -> StudyPlan:
        """Return the plan with the settings of each variant changed."""
        changed = tuple(replace(v, config=change(v.config)) for v in self.variants)
        return replace(self, variants=changed)

    def to_json(self) -> str:
        """Write the plan as JSON."""
        variants = [
            {
                'name': variant.name,
                'label': variant.label,
                'values': dict(variant.values),
                'places': dict(variant.places),
                'seed': variant.seed,
                'config': variant.config.model_dump(mode='json'),
            }
            for variant in self.variants
        ]
        return json.dumps({'name': self.name, 'text': self.text, 'variants': variants})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text)
        variants = tuple(
            Variant(**{**variant, 'config': Config.model_validate(variant['config'])})
            for variant in content['variants']
        )
        settings = StudySettings.model_validate(tomllib.loads(content['text']))
        return cls(content['name'], content['text'], settings, variants)


def study_names() -> list[str]:
    """Return the names of the studies in the package, sorted."""
    folder = resources.files('bids_neurodecode') / 'studies'
    return sorted(p.name.removesuffix(SUFFIX) for p in folder.iterdir() if p.name.endswith(SUFFIX))


def read_study(source: str | Path) -> tuple[str, str, StudySettings]:
    """Read a study of the package (by name) or a file: its name, its text, what it says.

    Raises
    ------
    ArgumentsError
        If it is neither, cannot be read, or says what no study may say.
    """
    names = study_names()
    studies = ', '.join(names)
    if str(source) in names:
        folder = resources.files('bids_neurodecode') / 'studies'
        text = (folder / f'{source}{SUFFIX}').read_text('utf-8')
        return str(source), text, _validated(text, str(source), studies)
    path = Path(source)
    if not path.is_file():
        near = did_you_mean(source, names)
        raise ArgumentsError(UNKNOWN_STUDY.format(name=str(source), near=near, studies=studies))
    if not re.fullmatch(r'[\w-]+', path.stem, flags=re.ASCII):
        raise ArgumentsError(BAD_NAME.format(file=path))
    with raised_as(ArgumentsError, UNREADABLE, *BROKEN_TEXT, file=path, studies=studies):
        text = path.read_text('utf-8-sig')
    return path.stem, text, _validated(text, str(path), studies)


def _validated(text: str, file: str, studies: str) -> StudySettings:
    with raised_as(ArgumentsError, UNREADABLE, *BROKEN_TEXT, file=file, studies=studies):
        values = tomllib.loads(text)
    return validated(StudySettings, values, INVALID_STUDY, file=file)


def plan_study(
    source: str | Path,
    *,
    before: Sequence[Mapping[str, Any]] = (),
    after: Sequence[Mapping[str, Any]] = (),
) -> StudyPlan:
    """Read a study and build the settings of each variant.

    Parameters
    ----------
    source
        See :func:`read_study`.
    before, after
        Nested settings that are weaker (a preset) and stronger (a file, the command line) than
        those of the study; what a variant sets is the strongest.

    Raises
    ------
    ArgumentsError
        For a study that cannot be read, or a variant whose settings are not valid; the line names
        the variant and the key.
    """
    name, text, settings = read_study(source)
    base = merge(*before, settings.settings, *after)
    variants: dict[str, Variant] = {}
    for variant in _variants(name, settings, base):
        # file systems and Nipype tell fewer names apart than people do
        key = re.sub(r'\W', '', variant.name).lower()
        if key in variants:
            first = variants[key].label
            raise ArgumentsError(
                SAME_FOLDER.format(
                    first=first, second=variant.label, study=name, folder=variant.name
                )
            )
        variants[key] = variant
    plan = StudyPlan(name, text, settings, tuple(variants.values()))
    _check_references(plan)
    return plan


def _variants(name: str, settings: StudySettings, base: Mapping[str, Any]) -> Iterator[Variant]:
    """Yield all variants, validated; seeds are the last axis."""
    for entries in combinations(settings):
        pairs = list(zip(settings.axes, entries, strict=True))
        label = ', '.join(entry.label for entry in entries) or ALL
        _check_keys(entries, label, name)
        layers = [base, *(entry.settings for entry in entries), {'system': settings.system}]
        config = build_config(*layers, source=f'the variant {label!r} of the study {name}')
        folder = '_'.join(_word(axis, entry) for axis, entry in pairs) or ALL
        for seed in settings.seeds or (config.seed,):
            yield Variant(
                f'{folder}_seed-{seed}' if settings.seeds else folder,
                label,
                {axis.name: entry.label for axis, entry in pairs},
                {axis.name: entry.at for axis, entry in pairs},
                seed,
                config.model_copy(update={'seed': seed}),
            )


def combinations(settings: StudySettings) -> Iterator[tuple[VariantSettings, ...]]:
    """Yield one entry of each axis: all combinations, or side by side."""
    entries = [axis.entries for axis in settings.axes]
    if settings.combine == 'zip' and entries:
        yield from zip(*entries, strict=True)
    else:
        yield from itertools.product(*entries)


def _word(axis: Any, entry: VariantSettings) -> str:
    """Return the part of a folder's name that an entry stands for."""
    word = re.sub(r'[^a-zA-Z0-9.+]+', '-', entry.label).strip('-')
    if axis.key is not None:
        return f'{axis.key.split(".")[-1]}-{word}'
    # a number says little without what it is of
    first = re.match(r'[a-zA-Z]+', axis.name)
    return word if entry.at is None or first is None else f'{first[0]}-{word}'


def _check_keys(entries: Sequence[VariantSettings], label: str, study: str) -> None:
    for key in FIXED:
        for entry in entries:
            place: Any = entry.settings
            for part in key.split('.'):
                place = place.get(part) if isinstance(place, Mapping) else None
            if place is not None:
                seeds = BY_SEEDS if key == 'seed' else ''
                raise ArgumentsError(
                    NOT_VARIED.format(variant=label, study=study, key=key, seeds=seeds)
                )


def _check_references(plan: StudyPlan) -> None:
    """Refuse names of variants that there are not."""
    named = {'reference': plan.settings.reference}
    named |= {f'published.{n}.variant': p.variant for n, p in enumerate(plan.settings.published)}
    for key, label in named.items():
        if label is not None and label not in plan.labels:
            told = {'known': '; '.join(plan.labels), 'near': did_you_mean(label, plan.labels)}
            reason = NO_REFERENCE.format(name=label, **told)
            raise ArgumentsError(INVALID_STUDY.format(file=plan.name, key=key, reason=reason))
