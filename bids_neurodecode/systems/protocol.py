"""Which split a dataset gets when the settings leave it open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, cast

import numpy as np
import pandas as pd

from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import (
    BY_CONTENT,
    Fold,
    Split,
    content_column,
    split_as_given,
    split_as_published,
    split_by_group,
    split_in_time,
)
from bids_neurodecode.stimuli.duplicates import Repeat
from bids_neurodecode.typing import FloatArray, RealArray

PARTS = ('train', 'validation', 'test')
FEW_STIMULI = 20
"""With at most this many stimuli, all of them in every run, runs are the split."""
SMALL_SET = 500
"""Up to this many stimuli, every one is tested once (five folds)."""
DEFAULT_FOLDS = 5

NOTHING_TO_HOLD_OUT = (
    'The trials show {stimuli} stimulus(i) in {runs} run(s): nothing can be held out. '
    'At least two runs, or two stimuli, are needed.'
)
NO_SUCH_FILM = 'No film is called {name!r} (split.whole_films). Films: {films}.'
SHORT_FILMS = 'split by film: most are too short to hold out a part of each, {gap:g} s apart'
FILM_FOLDS = 5
NOT_OF_FILMS = (
    'split.by = "{by}" is for images; these are films. Choose "time", "film", "run" or "auto".'
)
NOT_OF_PICTURES = (
    'split.by = "{by}" is for films; these are images. Choose "stimulus", "run" or "auto".'
)
NOT_OF_CONDITIONS = (
    'split.by = "{by}" is not for conditions, which are in training and test: whole runs are held '
    'out. Choose "run", "session", "given" or "auto".'
)
CUT_RUNS = (
    'The given split does not hold out whole runs of conditions that are in training too: trials '
    'of one run share its noise, and only what was trained can be decoded. Give each run to one '
    'part, with all conditions in each.'
)
NO_CATEGORY = (
    'split.by = "category" takes the category of an image from {where}, and there {reason}. '
    'Write it there, name another place (split.category = "trial_type" or "folder"), or give the '
    'parts in a file (split.file).'
)
NO_KINDS = frozenset({'shared', 'unique', 'exp', 'test', 'train', 'training', 'validation'})
"""Values of ``trial_type`` that say whom or what part images are for, and not what they show."""
WHERE: Mapping[str, str] = {
    'trial_type': 'the column trial_type of the events',
    'folder': 'the folder of its file below stimuli/',
}
NO_IMAGERY = (
    'split.by = "{by}" needs to know which trials were imagined. Name them by columns of the '
    'events or entities of the run, such as split.test = {{task = ["imagery"]}}, or in split.file.'
)
IMAGINED = (
    'held out are {n} imagined trials of {images} images; nothing that is named as imagined is in '
    'training. Same images, seen in training: {known} of {images}'
)
UNSEEN = (
    'held out are {n} imagined trials of {images} images in {n_folds} fold(s); nothing that is '
    'named as imagined is in training, and no image that is tested in the fold'
)
FEW_IMAGES = (
    'split.by = "cluster" makes {n_clusters} clusters (split.n_clusters), and there are {n} '
    'different images. Ask for fewer clusters.'
)
KEPT_TOGETHER = (
    '{n} images show the same as others under another name (first: {first} and {other}) and were '
    'kept on one side of the split with them'
)
COPIES_ACROSS = (
    '{n} test image(s) were seen in training under another name, by their content (first: '
    '{test} is {train}): scores say in part how well known images are told apart. Use '
    'split.by = "stimulus", which keeps copies together.'
)
REPEATS_LEFT_OUT = (
    '{n} training volumes were left out, because their scenes are shown in held-out parts too '
    '(first: {film} from {start:.1f} s, and {other} from {other_start:.1f} s)'
)
REPEATS_ACROSS = (
    '{n} held-out volumes show scenes that were seen in training (first: {film} from '
    '{start:.1f} s, and {other} from {other_start:.1f} s): scores say in part how well a known '
    'film is told. Use split.by = "time", which leaves such training volumes out.'
)
ALL_REPEATED = (
    'Everything that is held out is shown in training too (first: {film} from {start:.1f} s, and '
    '{other} from {other_start:.1f} s), and without these scenes nothing is left to train on. '
    'Films that are loops, or one film under two names, cannot be held out in part.'
)
NO_PARTS = (
    'split.by = "given" needs the part of each sample. Add a column "part" (train, validation, '
    'test) to the events, or name test samples: split.test = {COLUMN = ["VALUE"]}, or split.file.'
)
EMPTY_PART = (
    'No sample is of the part {part!r} ({why}). Correct split.test and split.train (values of '
    'columns of the events, or of entities), the column "part", or the split file.'
)
PAPER = (
    'split as in arXiv 2507.12009: the last {share} of every film{whole}, without a gap; every '
    'fifth volume before that is for validation and lies between training volumes. For comparison '
    'with that publication only'
)


def choose_split(table: pd.DataFrame, settings: SplitSettings, seed: int) -> tuple[Split, str]:
    """Make the split that the settings ask for, or that the trials allow.

    Parameters
    ----------
    table
        One row per trial (columns ``stimulus``, ``run``, ``session``).
        ``content`` (what shows the same has the same value) and, of a split by cluster,
        ``cluster`` where they are known.
    settings
        ``auto`` takes the parts that the dataset gives (column ``part``), splits by run where
        every run shows the same few stimuli, else by stimulus.
    seed
        Shuffles stimuli.

    Returns
    -------
    Split
        Its folds, checked for leaks.
    str
        Why this one, for the log and the report.
    """
    by, why = _resolve(table, settings)
    if by in {'film', 'paper'}:
        raise DataError(NOT_OF_PICTURES.format(by=by))
    if by == 'given':
        return _as_given(table, why), why
    if by == 'imagery':
        return _imagined(table, why)
    if by == 'imagery-unseen':
        return _imagined_unseen(table, settings, seed, why)
    if by == 'category':
        table = with_categories(table, settings.category)
    if by == 'time':
        return split_in_time(
            table,
            gap=settings.gap,
            test_fraction=settings.test_fraction,
            n_folds=settings.n_folds or 1,
        ), why
    n_folds = settings.n_folds
    n_groups = table[content_column(table) if by == 'stimulus' else by].nunique()
    small = by in {'cluster', 'category'} or (by == 'stimulus' and n_groups <= SMALL_SET)
    if n_folds is None and small:
        n_folds = default_folds(n_groups) if by == 'stimulus' else min(DEFAULT_FOLDS, n_groups)
    split = split_by_group(
        table,
        cast(Literal['run', 'session', 'film', 'stimulus', 'cluster', 'category'], by),
        n_folds=n_folds,
        test_fraction=settings.test_fraction,
        rng=np.random.default_rng(seed),
    )
    return split, why + _kept_together(split)


def default_folds(n_images: int) -> int:
    """Return in how many folds images are held out: each tests two, told apart, if it can.

    Examples
    --------
    >>> [default_folds(n) for n in (2, 3, 4, 6, 9, 10, 500)]
    [2, 2, 2, 3, 4, 5, 5]
    """
    return min(DEFAULT_FOLDS, max(n_images // 2, min(n_images, 2)))


def _kept_together(split: Split) -> str:
    """Say which images of the same content were kept together, where any were."""
    if split.by not in BY_CONTENT or 'content' not in split.table.columns:
        return ''
    names = split.table[['stimulus', 'content']].astype(str).drop_duplicates()
    copies = names[names['stimulus'] != names['content']]
    if copies.empty:
        return ''
    first = copies.iloc[0]
    text = KEPT_TOGETHER.format(n=len(copies), first=first['content'], other=first['stimulus'])
    return f'. {text}'


def copies_note(split: Split) -> tuple[str, ...]:
    """Say which test images were seen in training under another name; nothing where none was."""
    pairs = split.copies_across
    if not pairs:
        return ()
    test, train = pairs[0]
    n = len({name for name, _ in pairs})
    return (COPIES_ACROSS.format(n=n, test=test, train=train),)


def with_content(table: pd.DataFrame, groups: dict[str, str]) -> pd.DataFrame:
    """Add the column ``content`` to a table of trials, where stimuli show the same.

    Parameters
    ----------
    table
        One row per trial, with ``stimulus``.
    groups
        The first stimulus (by name) that shows the same as each stimulus does.
    """
    content = table['stimulus'].astype(str).map(groups)
    return table if (content == table['stimulus']).all() else table.assign(content=content)


def choose_condition_split(table: pd.DataFrame, settings: SplitSettings) -> tuple[Split, str]:
    """Hold out whole runs (or sessions) of conditions, which are in both parts.

    Parameters
    ----------
    table
        One row per trial (columns ``stimulus``, the condition, ``run`` and ``session``).
    settings
        ``auto`` takes the parts that the dataset gives (column ``part``), else runs.

    Raises
    ------
    DataError
        If another split is asked for, or the given parts cut runs.
    """
    given = settings.file is not None or settings.by == 'given'
    if given or (settings.by == 'auto' and _has_parts(table)):
        used = table[table['part'].isin(PARTS)] if 'part' in table.columns else table
        if 'part' in used.columns and (used.groupby('run')['part'].nunique() > 1).any():
            raise DataError(CUT_RUNS)
        split, why = split_as_given(table), _given_by(table, settings)
        if split.by != 'run':
            raise DataError(CUT_RUNS)
        return split, why
    if settings.by not in {'auto', 'run', 'session'}:
        raise DataError(NOT_OF_CONDITIONS.format(by=settings.by))
    by: Literal['run', 'session'] = 'session' if settings.by == 'session' else 'run'
    n = table[by].nunique()
    folds = settings.n_folds
    split = split_by_group(table, by, n_folds=folds, test_fraction=settings.test_fraction)
    n_conditions = table['stimulus'].nunique()
    return split, f'split by {by}: {n_conditions} conditions in {n} {by}s'


def with_categories(table: pd.DataFrame, where: Literal['trial_type', 'folder']) -> pd.DataFrame:
    """Add the column ``category`` of each stimulus; what shows the same has one category.

    Parameters
    ----------
    table
        One row per trial, with ``stimulus``, ``trial_type`` and, where known, ``content``.
    where
        ``trial_type``, or the ``folder`` of the image.

    Raises
    ------
    DataError
        If there are fewer than two, or an image has several, none or one of its own.
    """
    names = table['stimulus'].astype(str)
    folders = names.map(lambda name: PurePosixPath(name).parent.as_posix())
    category = table['trial_type'].astype(str) if where == 'trial_type' else folders
    n_each = category.groupby(names).nunique()
    first = category.groupby(names).first()
    shown = table[content_column(table)].astype(str)
    of = shown.map(first)
    # where the events have no such column, it repeats what was shown
    none = names[(category == names) | (category == 'n/a')] if where == 'trial_type' else names[:0]
    reason = ''
    if not none.empty:
        reason = f'is none for {none.iloc[0]!r}'
    elif category.nunique() < 2:
        reason = f'is one only ({category.iloc[0]!r})'
    elif (n_each > 1).any():
        reason = f'are {n_each.max()} for {n_each.idxmax()!r}'
    elif of.nunique() == shown.nunique():
        reason = 'each image has its own'
    elif where == 'trial_type' and set(category) <= NO_KINDS:
        reason = f'stands whom or what part images are for ({", ".join(sorted(set(category)))})'
    if reason:
        raise DataError(NO_CATEGORY.format(where=WHERE[where], reason=reason))
    return table.assign(category=of)


def check_clusters(table: pd.DataFrame, settings: SplitSettings) -> None:
    """Check that there are enough images for a split by cluster.

    Parameters
    ----------
    table
        One row per trial.
    settings
        Of ``split``.

    Raises
    ------
    DataError
        If there are fewer than clusters.
    """
    n = table[content_column(table)].nunique()
    if settings.by == 'cluster' and n < settings.n_clusters:
        raise DataError(FEW_IMAGES.format(n_clusters=settings.n_clusters, n=n))


def cluster_stimuli(
    table: pd.DataFrame,
    stimuli: Sequence[str],
    features: Sequence[RealArray],
    n_clusters: int,
    seed: int,
) -> pd.DataFrame:
    """Add the column ``cluster`` to a table of trials: k-means on features of stimuli alone.

    Test images that are far from all training images in the space that is decoded (or encoded
    from) show how far a model generalises; in NSD many test images have near neighbours in
    training (Shirakawa et al. 2024, arXiv 2405.10078).

    Parameters
    ----------
    table
        One row per trial, with ``stimulus`` and, where known, ``content``.
    stimuli
        Names of the rows of the features.
    features
        Feature spaces, (n_stimuli, n_features) each; columns are standardised, and each space has
        the same weight.
    n_clusters, seed
        Of k-means.

    Raises
    ------
    DataError
        If there are fewer different images than clusters.
    """
    from sklearn.cluster import KMeans

    shown = table.assign(content=table[content_column(table)].astype(str))
    names = sorted(set(shown['content']))
    if len(names) < n_clusters:
        raise DataError(FEW_IMAGES.format(n_clusters=n_clusters, n=len(names)))
    place = {name: row for row, name in enumerate(stimuli)}
    rows = [place[name] for name in names]
    spaces = []
    for values in features:
        space = np.asarray(values[rows], dtype=np.float64)
        scale = space.std(axis=0)
        varied = scale > 1e-9 * max(float(scale.max()), 1e-30)
        spaces.append((space - space.mean(axis=0))[:, varied] / scale[varied])
        spaces[-1] /= np.sqrt(max(1, spaces[-1].shape[1]))
    found = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(np.hstack(spaces))
    of = dict(zip(names, found.tolist(), strict=True))
    return table.assign(cluster=shown['content'].map(of).to_numpy())


def choose_film_split(table: pd.DataFrame, settings: SplitSettings) -> tuple[Split, str]:
    """Make the split of films: blocks in time with a gap, unless the settings ask for another.

    Parameters
    ----------
    table
        One row per sample (columns ``film``, ``run``, ``session``, ``onset``).
    settings
        ``auto`` holds out the end of every film, or whole films where most are too short for a
        gap; ``film`` whole films; ``paper`` is the published split.

    Raises
    ------
    DataError
        If a film of ``whole_films`` is not there, or the split is one of images.
    """
    by = settings.by
    if by == 'auto':
        by = 'given' if settings.test or _has_parts(table) else 'time'
        if by == 'time' and not settings.whole_films and _are_short(table, settings.gap):
            folds = settings.n_folds or FILM_FOLDS
            split = split_by_group(
                table, 'film', n_folds=folds, test_fraction=settings.test_fraction
            )
            return split, SHORT_FILMS.format(gap=settings.gap)
    if by in {'stimulus', 'cluster', 'category', 'imagery', 'imagery-unseen'}:
        raise DataError(NOT_OF_FILMS.format(by=by))
    if by == 'given' or settings.file is not None:
        why = _given_by(table, settings)
        return _as_given(table, why), why
    whole = named_films(table, settings.whole_films)
    share = f'{settings.test_fraction:.0%}'
    and_whole = f', and all of {", ".join(whole)}' if whole else ''
    if by == 'paper':
        split = split_as_published(table, test_fraction=settings.test_fraction, whole=whole)
        return split, PAPER.format(share=share, whole=and_whole)
    if by == 'time':
        split = split_in_time(
            table,
            gap=settings.gap,
            test_fraction=settings.test_fraction,
            n_folds=settings.n_folds or 1,
            whole=whole,
        )
        if len(split) > 1:
            return split, f'split in time: {len(split)} blocks a film, {settings.gap:g} s apart'
        why = f'split in time: the last {share} of every film{and_whole}, after {settings.gap:g} s'
        return split, why
    split = split_by_group(
        table,
        cast(Literal['run', 'session', 'film'], by),
        n_folds=settings.n_folds,
        test_fraction=settings.test_fraction,
    )
    return split, f'split by {by}, as the settings ask'


def _are_short(table: pd.DataFrame, gap: float) -> bool:
    """Whether most films last less than three gaps (s), so that whole ones are held out."""
    lengths = table.groupby('film')['onset'].agg(np.ptp)
    return len(lengths) > 2 and float(lengths.median()) < 3 * gap


def named_films(table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Return the films of a table that names mean: with folder and extension, or without.

    Parameters
    ----------
    table
        One row per sample, with ``film``.
    names
        As the settings say them.

    Raises
    ------
    DataError
        If a name means no film.
    """
    films = list(dict.fromkeys(table['film'].astype(str)))
    found: list[str] = []
    for name in names:
        same = [film for film in films if name in {film, Path(film).name, Path(film).stem}]
        if not same:
            raise DataError(NO_SUCH_FILM.format(name=name, films=', '.join(sorted(films))))
        found += same
    return tuple(dict.fromkeys(found))


def apart_from_repeats(
    split: Split, films: Sequence[str], repeats: Sequence[Repeat], repetition_time: float
) -> tuple[Split, str, tuple[str, ...]]:
    """Leave training volumes out whose scenes are held out too, or say that there are some.

    Parameters
    ----------
    split
        Of the volumes of films (columns ``film`` and ``onset``, seconds of the film).
    films
        Names of the films that ``repeats`` number.
    repeats
        Parts of films that are shown twice.
    repetition_time
        Seconds that a volume shows.

    Returns
    -------
    Split
        By ``time`` and ``film``, without the training volumes that show what is held out.
    str
        What was left out, for the log; nothing where nothing was.
    tuple of str
        By another rule: what of the held-out part was seen in training.

    Raises
    ------
    DataError
        If nothing is left to train on.
    """
    film = split.table['film'].astype(str).to_numpy()
    onset = split.table['onset'].to_numpy(dtype=float)
    leave_out = split.by in {'time', 'film'} and split.name != 'paper'
    folds: list[Fold] = []
    left: set[int] = set()
    seen_tests: set[int] = set()
    first: Repeat | None = None
    for fold in split.folds:
        seen = np.concatenate([fold.train, fold.validation])
        dropped = np.zeros(len(film), dtype=bool)
        for repeat in repeats:
            pair = ((repeat.film, repeat.start), (repeat.other, repeat.other_start))
            for (here, begin), (there, begins) in (pair, pair[::-1]):
                lag = begins - begin
                test = fold.test[film[fold.test] == films[here]]
                moved = onset[test]
                inside = (moved > begin - repetition_time) & (moved < begin + repeat.length)
                times = np.sort(moved[inside] + lag)
                mine = seen[film[seen] == films[there]]
                if not times.size or not mine.size:
                    continue
                near = _nearest(times, onset[mine]) < repetition_time
                if near.any():
                    first = first or repeat
                    dropped[mine[near]] = True
                    back = _nearest(np.sort(onset[mine[near]]), moved[inside] + lag)
                    seen_tests |= set(test[inside][back < repetition_time].tolist())
        left |= set(np.flatnonzero(dropped).tolist())
        kept = Fold(
            fold.train[~dropped[fold.train]],
            fold.test,
            fold.validation[~dropped[fold.validation]],
        )
        folds.append(kept)
    if first is None:
        return split, '', ()
    where = {
        'film': films[first.film],
        'start': first.start,
        'other': films[first.other],
        'other_start': first.other_start,
    }
    if not leave_out:
        return split, '', (REPEATS_ACROSS.format(n=len(seen_tests), **where),)
    if any(not fold.train.size for fold in folds):
        raise DataError(ALL_REPEATED.format(**where))
    text = REPEATS_LEFT_OUT.format(n=len(left), **where)
    return Split(split.by, tuple(folds), split.table, split.name), text, ()


def _nearest(times: RealArray, wanted: RealArray) -> FloatArray:
    """Return the distance of each wanted time from the nearest of the sorted times."""
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.clip(after - 1, 0, None)
    return np.minimum(np.abs(times[after] - wanted), np.abs(times[before] - wanted))


def _as_given(table: pd.DataFrame, why: str, by: Literal['imagery'] | None = None) -> Split:
    """Return the given split, or say what it lacks."""
    if 'part' not in table.columns:
        raise DataError(NO_PARTS)
    for part in ('train', 'test'):
        if not (table['part'] == part).any():
            raise DataError(EMPTY_PART.format(part=part, why=why))
    return split_as_given(table, by)


def _imagined(table: pd.DataFrame, why: str) -> tuple[Split, str]:
    """Hold out imagined trials, and say how many of their images were seen in training."""
    if 'part' not in table.columns:
        raise DataError(NO_IMAGERY.format(by='imagery'))
    split = _as_given(table, why, by='imagery')
    (fold,) = split.folds
    shown = table[content_column(table)].astype(str).to_numpy()
    images = set(shown[fold.test])
    known = images & set(shown[np.concatenate([fold.train, fold.validation])])
    said = IMAGINED.format(n=len(fold.test), images=len(images), known=len(known))
    return split, said + _left_out(table)


def _imagined_unseen(
    table: pd.DataFrame, settings: SplitSettings, seed: int, why: str
) -> tuple[Split, str]:
    """Share the imagined images out to folds, and leave out of training what each tests."""
    if 'part' not in table.columns:
        raise DataError(NO_IMAGERY.format(by='imagery-unseen'))
    (given,) = _as_given(table, why, by='imagery').folds
    images = table[content_column(table)].astype(str).to_numpy()
    n_images = len(set(images[given.test]))
    shares = split_by_group(
        table.take(given.test),
        'stimulus',
        n_folds=settings.n_folds or default_folds(n_images),
        test_fraction=settings.test_fraction,
        rng=np.random.default_rng(seed),
    )
    folds = []
    for share in shares:
        test = given.test[share.test]
        train, validation = (
            rows[~np.isin(images[rows], images[test])] for rows in (given.train, given.validation)
        )
        folds.append(Fold(train=train, test=test, validation=validation))
    split = Split('imagery-unseen', tuple(folds), table)
    tested = np.concatenate([fold.test for fold in folds])
    said = UNSEEN.format(n=len(tested), images=len(set(images[tested])), n_folds=len(folds))
    return split, said + _left_out(table) + _kept_together(split)


def _has_parts(table: pd.DataFrame) -> bool:
    return 'part' in table.columns and {'train', 'test'} <= set(table['part'].astype(str))


def _given_by(table: pd.DataFrame, settings: SplitSettings) -> str:
    """Say who gives the split, and how many samples it leaves out."""
    why = 'split as the dataset gives it (column "part" of the trials)'
    if settings.file is not None:
        named = f' ({settings.name})' if settings.name else ''
        why = f'split as {settings.file} gives it{named}'
    elif settings.test:
        why = f'split as the settings give it (test samples: {_said(settings.test)})'
    return why + _left_out(table)


def _left_out(table: pd.DataFrame) -> str:
    """Say, as the end of a sentence, how many samples are in no part; nothing if none is."""
    left = 0 if 'part' not in table.columns else int((~table['part'].isin(PARTS)).sum())
    return f'; {left} of {len(table)} samples are in no part and left out' if left else ''


def _said(rows: Mapping[str, Sequence[str]]) -> str:
    return ', '.join(f'{key} {" or ".join(values)}' for key, values in rows.items())


def _resolve(table: pd.DataFrame, settings: SplitSettings) -> tuple[str, str]:
    if settings.by in {'imagery', 'imagery-unseen'}:
        return settings.by, _given_by(table, settings)
    asked = settings.by == 'given' or (settings.by == 'auto' and settings.test)
    if settings.file is not None or asked:
        return 'given', _given_by(table, settings)
    if settings.by != 'auto':
        return settings.by, f'split by {settings.by}, as the settings ask'
    if _has_parts(table):
        return 'given', _given_by(table, settings)
    content = content_column(table)
    n_stimuli, n_runs = table[content].nunique(), table['run'].nunique()
    if n_stimuli < 2 and n_runs < 2:
        raise DataError(NOTHING_TO_HOLD_OUT.format(stimuli=n_stimuli, runs=n_runs))
    sets = table.groupby('run')[content].agg(frozenset)
    if n_runs > 1 and n_stimuli <= FEW_STIMULI and sets.nunique() == 1:
        return 'run', f'split by run: all {n_runs} runs show the same {n_stimuli} stimuli'
    return 'stimulus', f'split by stimulus: {n_stimuli} stimuli over {n_runs} run(s)'


def held_out(names: Sequence[str]) -> Split:
    """Return a split that holds out all images; what was trained on is one row nobody knows."""
    n = len(names)
    table = pd.DataFrame({'stimulus': [*names, '(training)'], 'run': [*['1'] * n, '0']})
    return Split('stimulus', (Fold(train=np.array([n]), test=np.arange(n)),), table)
