"""Malformed files by the thousand: ``python -m benchmarks.fuzz [--cases N] [--seed N]``.

Valid files of every kind that the program reads are damaged (bytes, numbers, words, lines, nested
values, headers), and read by what reads them. A case is read or refused with an error of the
program's own; anything else is a finding: another exception, a signal, more than ``SECONDS`` or
``MEMORY_GB``. Each case runs in a process of its own and depends on the seed and its number
alone: ``--only TARGET --case N`` makes it again and shows its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import golden
from bids_neurodecode.errors import NeurodecodeError
from tests.datasets import make_dataset, write_film

SECONDS = 20.0
"""Processor time that a case may take."""
MEMORY_GB = 2.0
"""Address space that a case may take beyond what the program has before it."""
READ, REFUSED = 'read', 'refused'
WORDS = (
    *(
        '',
        'n/a',
        'nan',
        'inf',
        '-inf',
        '1e999',
        '-1',
        '0',
        '1e-320',
        '9' * 5000,
        '1_0',
        '٣',
        '0x10',
    ),
    *('"', "'", '\\', '\t', '\r', '\n', '\0', '\ufeff', '\ud7ff', '\u202e', 'e\u0301', '🧠'),
    *('../../../etc/passwd', '/etc/passwd', '~', '$HOME', '{sub}', '{0.__class__}', '%s', '<b>'),
    *('x' * 5000, '[' * 3000, '{' * 3000, '[[[', 'null', 'true', '[]', '{}', '- - -', '&a *a'),
)
"""What takes the place of a number, or a word."""
VALUES: tuple[Any, ...] = (
    *(None, True, [], {}, '', 'x', 0, -1, 1e308, float('nan'), 10**30, [[]], [None], {'a': 1}),
    *(['a', 1], 'x' * 5000, '../x', [0.5], {'': ''}, float('-inf'), 2**63, [{}]),
)
"""What takes the place of a value of JSON."""
INTEGERS = (0, 1, -1, 2, 7, 127, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**63 - 1)
TEXTS = frozenset({'.tsv', '.csv', '.json', '.toml', '.yml', '.gii', '.txt', ''})


@dataclass(frozen=True)
class Target:
    """A kind of file, or of folder, and who reads it.

    Parameters
    ----------
    make
        Makes what is valid, in a folder.
    read
        Reads it.
    files
        Pattern of the files that may be damaged.
    share
        Of the cases, relative to other targets.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    files: str = '*'
    share: float = 1.0


# --- damage


def damage(file: Path, rng: np.random.Generator) -> None:
    """Damage one file in one to three ways."""
    raw = file.read_bytes()
    packed = file.name.endswith('.gz') and rng.random() < 0.8
    if packed:
        raw = gzip.decompress(raw)
    for _ in range(rng.integers(1, 4)):
        text = file.suffix in TEXTS and rng.random() < 0.8
        raw = _text(raw, file.suffix, rng) if text else _bytes(raw, rng)
    file.write_bytes(gzip.compress(raw, 1) if packed else raw)


def _bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    """Damage bytes, those of headers more often than others."""
    if not raw:
        return rng.bytes(5)
    reach = len(raw) if rng.random() < 0.3 else min(len(raw), 600)
    at = int(rng.integers(reach))
    length = int(rng.integers(1, 1 + min(64, len(raw))))
    way = int(rng.integers(8))
    if way == 0:
        return raw[:at]
    if way == 1:
        return raw[:at] + raw[at + length :]
    if way == 2:
        return raw[:at] + rng.bytes(length) + raw[at:]
    if way == 3:
        return raw + raw[at : at + length] * int(rng.integers(1, 40))
    if way == 4:
        return raw[:at] + bytes(length) + raw[at + length :]
    if way == 5:
        changed = bytearray(raw)
        for place in rng.integers(reach, size=rng.integers(1, 9)):
            changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    kind = rng.choice(['<i2', '<i4', '<i8', '>i4', '<f4', '<f8'])
    value: Any = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e30]) if 'f' in kind else None
    if value is None:
        bits = 8 * int(kind[2])
        value = int(rng.choice(np.array(INTEGERS, dtype=object))) % 2 ** (bits - 1)
        value = -value if rng.random() < 0.2 else value
    put = np.array([value], dtype=kind).tobytes()
    at -= at % len(put)
    return raw[:at] + put + raw[at + len(put) :]


def _text(raw: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Damage text: its words, numbers, lines, or values where it is JSON."""
    text = raw.decode('utf-8', 'surrogateescape')
    if suffix == '.json' and rng.random() < 0.6:
        with contextlib.suppress(ValueError, RecursionError):  # damaged before
            text = json.dumps(_value(json.loads(text), rng))
            return text.encode('utf-8', 'surrogateescape')
    way = int(rng.integers(5))
    if way <= 2:
        pattern = r'-?\d+(\.\d+)?(e-?\d+)?' if way == 0 else r'[^\s,:=\[\]{}"<>]+'
        found = list(re.finditer(pattern, text))
        if found:
            match = found[int(rng.integers(len(found)))]
            word = str(rng.choice(np.array(WORDS, dtype=object)))
            return (text[: match.start()] + word + text[match.end() :]).encode(
                'utf-8', 'surrogateescape'
            )
    lines = text.split('\n')
    at = int(rng.integers(len(lines)))
    if way == 3:
        lines[at : at + 1] = [lines[at]] * int(rng.choice([0, 2, 3]))
    else:
        separator = '\t' if '\t' in lines[at] else ' '
        fields = lines[at].split(separator)
        fields.insert(int(rng.integers(len(fields) + 1)), str(rng.choice(list('x\t1"#%'))))
        lines[at] = separator.join(fields)
    return '\n'.join(lines).encode('utf-8', 'surrogateescape')


def _value(content: Any, rng: np.random.Generator) -> Any:
    """Put another value somewhere into nested lists and tables."""
    if isinstance(content, dict) and content and rng.random() < 0.85:
        key = list(content)[int(rng.integers(len(content)))]
        if rng.random() < 0.15:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: _value(content[key], rng)}
    if isinstance(content, list) and content and rng.random() < 0.85:
        at = int(rng.integers(len(content)))
        return [*content[:at], _value(content[at], rng), *content[at + 1 :]]
    return VALUES[int(rng.integers(len(VALUES)))]


# --- targets


def _settings() -> str:
    """Every setting at its default, as TOML."""
    from bids_neurodecode.config import Config

    return Config().to_toml()


def _dry(folder: Path, *more: str) -> None:
    """Run the program up to where work would start; its own errors are the exit codes 2 and 3."""
    from bids_neurodecode.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(
            [
                *(str(folder / 'raw'), str(folder / 'out'), 'participant', '--dry-run'),
                *('-w', str(folder / 'work'), '--skip-bids-validation', '--device', 'cpu', *more),
            ]
        )
    lines = [line for line in said.getvalue().splitlines() if line.startswith('error: ')]
    if code != 0:
        if code != 2 or len(lines) != 1:
            raise AssertionError(f'exit {code}: {said.getvalue()[-500:]}')
        raise NeurodecodeError(lines[0])


def _series(folder: Path) -> None:
    """Read a series, its mask and its values."""
    from bids_neurodecode.bids.series import check_values, read_header, read_mask, read_volumes

    header = read_header(folder / 'a_bold.nii.gz')
    inside, _ = read_mask(folder / 'a_mask.nii.gz')
    if header.grid.shape == inside.shape:
        check_values(folder / 'a_bold.nii.gz', inside)
        for volume in read_volumes(folder / 'a_bold.nii.gz'):
            np.asarray(volume)


def _make_series(folder: Path) -> None:
    data = make_dataset(folder / 'data', runs=('01',))
    shutil.copy(data.bold(), folder / 'a_bold.nii.gz')
    shutil.copy(data.mask(), folder / 'a_mask.nii.gz')
    shutil.rmtree(folder / 'data')


def _make_columns(folder: Path) -> None:
    """Series that are no volumes: surfaces, CIFTI, parcels."""
    from nibabel.cifti2 import BrainModelAxis, ParcelsAxis, ScalarAxis

    from bids_neurodecode.bids.sink import write_image
    from bids_neurodecode.spaces import Space

    rng = np.random.default_rng(0)
    both = BrainModelAxis.from_surface(np.arange(9), 10, 'CortexLeft')
    both += BrainModelAxis.from_surface(np.arange(8), 10, 'CortexRight')
    dense = both + BrainModelAxis.from_mask(np.ones((2, 2, 2)), 'thalamus_left', affine=np.eye(4))
    half = np.arange(len(dense)) < 10
    parcels = ParcelsAxis.from_brain_models([('a', dense[half]), ('b', dense[~half])])
    for name, axis, form in (
        ('a_hemi-L_space-fsnative_bold.func.gii', both, 'gifti'),
        ('a_space-fsLR_den-91k_bold.dtseries.nii', dense, 'cifti'),
        ('a_space-fsLR_den-91k_seg-x_bold.ptseries.nii', parcels, 'pcifti'),
        ('a_seg-x_timeseries.tsv', ScalarAxis(['V1', 'V2']), 'parcels'),
    ):
        space = Space(axis, form, 'fsLR')
        image = space.image(rng.normal(size=(len(axis), 1, 1, 4)))
        write_image(folder / name, image, repetition_time=2.0)


def _columns(folder: Path) -> None:
    from bids_neurodecode.bids.series import check_values, read_header
    from bids_neurodecode.spaces import load_image

    for file in sorted(folder.iterdir()):
        if 'hemi-R' not in file.name:
            header = read_header(file)
            np.asarray(load_image(file).dataobj)
            check_values(file, np.ones(header.grid.shape, dtype=bool))


def _make_pictures(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for kind in ('png', 'jpg', 'gif', 'bmp', 'tif', 'webp'):
        picture.save(folder / f'a.{kind}')
    picture.convert('P').save(folder / 'p.png')
    picture.save(folder / 'packed.tif', compression='tiff_lzw')


def _pictures(folder: Path) -> None:
    from bids_neurodecode.bids.stimuli import check_image
    from bids_neurodecode.stimuli.images import load_image

    for file in sorted(folder.iterdir()):
        check_image(file, folder / 'events.tsv')
        load_image(file)


def _make_films(folder: Path) -> None:
    for kind in ('mp4', 'mkv', 'avi', 'mov'):
        write_film(folder / f'a.{kind}', 2.0)


def _films(folder: Path) -> None:
    from bids_neurodecode.stimuli.films import check_film, read_frames

    for file in sorted(folder.iterdir()):
        info = check_film(file)
        read_frames(file, [0.0, min(info.duration, 3600.0) / 2], (8, 8))


def _make_features(folder: Path) -> None:
    import h5py
    from safetensors.numpy import save_file

    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    rows = ['stim_file\tx1\tx2', *(f'{name}.png\t0.5\t1' for name in 'abc')]
    (folder / 'a.tsv').write_text('\n'.join(rows) + '\n')
    (folder / 'b.csv').write_text('\n'.join(rows).replace('\t', ',') + '\n')
    np.save(folder / 'c.npy', values)
    (folder / 'c.json').write_text(json.dumps({'Columns': ['x1', 'x2', 'y1', 'y2']}))
    with h5py.File(folder / 'd.h5', 'w') as stream:
        stream['features'] = values
        stream['stim_file'] = ['a.png', 'b.png', 'c.png']
    save_file({'features': values}, folder / 'e.safetensors')


def _features(folder: Path) -> None:
    from bids_neurodecode.stimuli.tablefiles import read_features

    for file in sorted(folder.iterdir()):
        if file.suffix != '.json':
            table = read_features(file)
            table.bands()
            table.notes()


def _make_atlas(folder: Path) -> None:
    import nibabel as nib

    labels = np.arange(24, dtype=np.int16).reshape(4, 3, 2) % 4
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / 'a_dseg.nii.gz')
    rows = ['index\tname', '1\tV1', '2\tV2', '3\tMT']
    (folder / 'a_dseg.tsv').write_text('\n'.join(rows) + '\n')


def _atlas(folder: Path) -> None:
    from bids_neurodecode.signals.atlasfiles import load_atlas

    load_atlas(file=folder / 'a_dseg.nii.gz')


def _make_settings(folder: Path) -> None:
    from bids_neurodecode.bids.recipes import recipe_files

    (folder / 'config.toml').write_text(_settings())
    package = Path(sys.modules['bids_neurodecode'].__file__ or '').parent
    for name, file in recipe_files().items():
        if name in {'nsd', 'studyforrest', 'emofilm'}:
            shutil.copy(file, folder / f'recipe-{name}.toml')
    shutil.copy(package / 'studies' / 'movie-delay.toml', folder / 'study.toml')
    shutil.copy(package / 'data' / 'weights.toml', folder / 'weights.toml')
    (folder / 'plugin.yml').write_text(
        'plugin: MultiProc\nplugin_args:\n  n_procs: 2\n  memory_gb: 4.5\n'
    )
    (folder / 'filters.json').write_text(
        json.dumps(
            {'bold': {'session': ['a', 'b'], 'run': 1, 'task': 'img'}, 'mask': {'desc': 'x'}}
        )
    )


def _one_setting(folder: Path) -> None:
    """Read all files; refuse what any of them is refused for."""
    from bids_neurodecode.bids.filters import read_filters
    from bids_neurodecode.bids.recipes import read_recipe
    from bids_neurodecode.config import load_config
    from bids_neurodecode.models.weights import load_manifest
    from bids_neurodecode.study import plan_study
    from bids_neurodecode.workflow.run import PluginSettings

    load_config(folder / 'config.toml')
    for file in sorted(folder.glob('recipe-*.toml')):
        read_recipe(file).settings()
    plan_study(folder / 'study.toml')
    load_manifest(folder / 'weights.toml')
    PluginSettings.read(folder / 'plugin.yml')
    read_filters(folder / 'filters.json')


def _make_tables(folder: Path) -> None:
    data = make_dataset(folder / 'data', runs=('01',))
    shutil.copy(data.events(), folder / 'e_events.tsv')
    shutil.rmtree(folder / 'data')
    rows = [f'0.1\t1.{n}\t{n % 3}' for n in range(20)]
    (folder / 'c_timeseries.tsv').write_text(
        '\n'.join(['framewise_displacement\tstd_dvars\ttrans_x', *rows]) + '\n'
    )
    (folder / 'c_timeseries.json').write_text('{}')
    (folder / 'split.tsv').write_text(
        'stimulus\tsplit\na.png\ttrain\nb.png\ttest\nfaces/c.png\tn/a\n'
    )
    (folder / 'split.json').write_text(
        json.dumps({'train': ['a.png', 'b.png'], 'test': ['faces/c.png']})
    )
    (folder / 'captions.tsv').write_text(
        'stim_file\tcaption\na.png\tA cat\nb.png\tA dog\nfaces/c.png\tA face\n'
    )


def _tables(folder: Path) -> None:
    from bids_neurodecode.bids import captions, splitfile, timing, trials
    from bids_neurodecode.signals.confounds import load_confounds

    file = folder / 'e_events.tsv'
    if 'stim_file' in (table := timing.read_table(file)):
        timing.check_timing(timing.TextTable.of(table), file, length=40.0, slack=2.0)
    shown = trials.shown_rows(file)
    timing.stimulus_names(shown, file)
    trials.median_duration(shown)
    load_confounds(folder / 'c_timeseries.tsv', 20, ('scrub',), ('trans_x',))
    import pandas as pd

    table = pd.DataFrame({'stimulus': ['a.png', 'b.png', 'faces/c.png'], 'run': [0, 0, 0]})
    for split in ('split.tsv', 'split.json'):
        splitfile.add_parts(table.assign(run_label='run-01'), folder / split)
    captions.read_captions(folder / 'captions.tsv')


def _copy_models(kinds: Sequence[str], seeds: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for kind in kinds:
            (source,) = (seeds / kind / 'out').glob('sub-01/models')
            shutil.copytree(source, folder / kind)

    return make


def _models(folder: Path) -> None:
    """Build each trained model from its files, as predict mode does."""
    from bids_neurodecode.api.results import _model
    from bids_neurodecode.config import Config, load_config
    from bids_neurodecode.models.storage import load_arrays
    from bids_neurodecode.systems.movie.steps.model import facts_of, load_models
    from bids_neurodecode.systems.reconstruction.generation.steps.model import load_model

    for file in sorted(folder.rglob('*_model.toml')):
        load_config(file)
    for file in sorted(folder.rglob('*_model.safetensors')):
        if 'network' in file.name:
            continue
        if '_desc-generated_' in file.name:
            load_model(file, {}, Config(), 'cpu')
        elif 'movie' in file.name:
            facts_of(file)
            load_models(file)
        else:
            _model(*load_arrays(file))


def _make_records(seeds: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / 'out').mkdir()
        source = seeds / 'retrieval' / 'out'
        shutil.copytree(source / 'sub-01' / 'log', folder / 'out' / 'sub-01' / 'log')
        shutil.copy(source / 'dataset_description.json', folder / 'out')

    return make


def _records(folder: Path) -> None:
    """Read what an earlier run left in the output folder."""
    from bids_neurodecode.bids.provenance import check_output
    from bids_neurodecode.systems.steps.records import config_of, read_results

    check_output(folder / 'out')
    for file in sorted(folder.rglob('*_results.json')):
        config_of(read_results(file))


def targets(seeds: Path | None = None) -> dict[str, Target]:
    """Return what is damaged; trained models where there are golden runs to take them from."""
    dataset = {'runs': ('01', '02')}
    found = {
        'tables': Target(_make_tables, _tables, share=2),
        'settings': Target(_make_settings, _one_setting, share=2),
        'series': Target(_make_series, _series, share=1.5),
        'columns': Target(_make_columns, _columns, share=1.5),
        'atlas': Target(_make_atlas, _atlas),
        'pictures': Target(_make_pictures, _pictures, share=1.5),
        'films': Target(_make_films, _films),
        'features': Target(_make_features, _features, share=1.5),
        'dataset': Target(
            lambda folder: make_dataset(folder / 'raw', **dataset), _dry, '*.*', share=2
        ),
        'film dataset': Target(
            lambda folder: make_dataset(folder / 'raw', film='f.mp4', **dataset), _dry, '*.*'
        ),
    }
    if seeds is not None:
        kinds = ('retrieval', 'ridge', 'films-network', 'small')
        found['models'] = Target(_copy_models(kinds, seeds), _models, '*_model.*', share=2)
        found['records'] = Target(_make_records(seeds), _records, '*.json')
    return found


# --- running


def damaged(target: Target, folder: Path, seed: int, case: int) -> list[Path]:
    """Damage one file of a folder, seldom two; return which."""
    rng = np.random.default_rng([seed, case])
    files = sorted(x for x in folder.rglob(target.files) if x.is_file())
    picked = rng.choice(len(files), size=2 if rng.random() < 0.1 else 1, replace=False)
    for at in picked:
        damage(files[at], rng)
    return [files[at] for at in picked]


def outcome(target: Target, folder: Path) -> str:
    """Read a folder in this process: ``read``, ``refused``, or what else came of it."""
    try:
        with warnings.catch_warnings(), open(os.devnull, 'w') as nothing:  # noqa: PTH123
            warnings.simplefilter('ignore')
            with contextlib.redirect_stdout(nothing):
                target.read(folder)
    except NeurodecodeError as error:
        return REFUSED if len(str(error).splitlines()) == 1 else f'several lines: {error!r}'
    except BaseException as error:  # noqa: BLE001  anything else is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        own = [x for x in frames if '/bids_neurodecode/' in x.filename] or frames
        place = own[-1]
        return f'{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}'[
            :300
        ]
    return READ


def apart(target: Target, folder: Path) -> str:
    """Read a folder in a process of its own, within limits."""
    read, write = os.pipe()
    # what lies in cycles is the parent's: to end FFmpeg's threads from a child takes for ever
    gc.collect()
    gc.freeze()
    child = os.fork()
    if child == 0:
        used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        limit = used + int(MEMORY_GB * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(int(10 * SECONDS))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(write, outcome(target, folder).encode('utf-8', 'backslashreplace'))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, 'rb') as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    if said:
        return said
    number = os.WTERMSIG(status)
    if number in {signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM}:
        return f'takes more than {SECONDS:.0f} s'
    return f'signal {signal.Signals(number).name}' if number else f'ended with {status}'


def fuzz(
    chosen: Mapping[str, Target], cases: int, seed: int, keep: Path | None = None
) -> tuple[dict[str, Counter[str]], dict[str, str]]:
    """Run cases of all targets.

    Parameters
    ----------
    chosen
        By name.
    cases
        How many in all, shared out by :attr:`Target.share`.
    seed
        Of the damage.
    keep
        Where the first example of each finding is kept.

    Returns
    -------
    counts
        By target: how many were read, were refused, or are findings.
    findings
        What came of it, by target and number of the first case.
    """
    total = sum(target.share for target in chosen.values())
    counts: dict[str, Counter[str]] = {}
    findings: dict[str, str] = {}
    for name, target in chosen.items():
        counts[name] = Counter()
        seen: set[str] = set()
        with tempfile.TemporaryDirectory() as place:
            valid = Path(place) / 'valid'
            valid.mkdir()
            target.make(valid)
            # read here first, so that no case pays for what is imported late
            if (first := outcome(target, valid)) != READ:
                findings[f'{name}: undamaged'] = first
                continue
            for case in range(round(cases * target.share / total)):
                folder = Path(place) / 'case'
                shutil.copytree(valid, folder)
                damaged(target, folder, seed, case)
                came = apart(target, folder)
                counts[name][came if came in {READ, REFUSED} else 'finding'] += 1
                where = came.split(': ')[0]
                if came not in {READ, REFUSED} and where not in seen:
                    seen.add(where)
                    findings[f'{name} {case}'] = came
                    print(f'FINDING {name} {case}: {came}', file=sys.stderr, flush=True)
                    if keep is not None:
                        shutil.copytree(folder, keep / f'{name}-{case}', dirs_exist_ok=True)
                shutil.rmtree(folder)
        print(f'{name}: {dict(counts[name])}', file=sys.stderr, flush=True)
    return counts, findings


def again(target: Target, seed: int, case: int) -> None:
    """Make one case again, in this process, with its traceback."""
    with tempfile.TemporaryDirectory() as place:
        target.make(Path(place))
        for file in damaged(target, Path(place), seed, case):
            print(file.relative_to(place), file.read_bytes()[:400])
        target.read(Path(place))


def load_all() -> None:
    """Import what reads files, so that no case pays for it."""
    import h5py  # noqa: F401
    import nibabel  # noqa: F401
    import torch

    import bids_neurodecode.api.results
    import bids_neurodecode.cli.checks
    import bids_neurodecode.cli.levels
    import bids_neurodecode.systems.movie.steps.model  # noqa: F401

    torch.set_num_threads(1)


def main() -> int:
    """Fuzz, print counts and findings; the exit code says whether there is any finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cases', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='*', help='targets')
    parser.add_argument('--case', type=int, help='this one again, with its traceback')
    parser.add_argument('--keep', type=Path, help='where the first file of each finding is kept')
    parser.add_argument('--seeds', type=Path, help='golden runs that are there (FOLDER/LABEL)')
    args = parser.parse_args()
    load_all()
    with tempfile.TemporaryDirectory() as place:
        seeds = args.seeds
        if seeds is None and not (args.only and {'models', 'records'}.isdisjoint(args.only)):
            golden.run(Path(place), 'seeds', ['retrieval', 'ridge', 'films-network', 'small'])
            seeds = Path(place) / 'seeds'
        chosen = {k: v for k, v in targets(seeds).items() if not args.only or k in args.only}
        if args.case is not None:
            (target,) = chosen.values()
            again(target, args.seed, args.case)
            return 0
        began = time.process_time(), time.perf_counter()
        counts, findings = fuzz(chosen, args.cases, args.seed, args.keep)
    print(f'{"target":14s} {READ:>7s} {REFUSED:>8s} {"finding":>8s}')
    for name, count in counts.items():
        print(f'{name:14s} {count[READ]:7d} {count[REFUSED]:8d} {count["finding"]:8d}')
    number = sum(sum(count.values()) for count in counts.values())
    print(f'{number} cases, seed {args.seed}, {time.perf_counter() - began[1]:.0f} s')
    for name, said in findings.items():
        print(f'FINDING {name}: {said}')
    return int(bool(findings))


if __name__ == '__main__':
    sys.exit(main())
