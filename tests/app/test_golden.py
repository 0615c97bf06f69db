"""Numbers of whole runs are those of the reference, within what rounding makes of them.

``python -m tests.app.test_golden`` writes the reference (``tests/data/golden.json``) again. Do
that only where numbers are meant to change, and say why in the changelog: this is how a change
that nobody meant is seen. Between two commits on one machine ``benchmarks/golden.py`` compares
every byte of more kinds of runs.
"""

import json
import math
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from benchmarks import golden

REFERENCE = Path(__file__).parents[1] / 'data' / 'golden.json'
KINDS = ('retrieval', 'ridge', 'conditions', 'nsd')
REAL = ('haxby',)
"""Of data that are not made; ``nsd`` is of betas given, so that no others are written."""
N_ROWS, N_VOXELS = 12, 6
TOLERANCE = 1e-3
"""Of a value, or of 1 (of the standard deviation of an image): single precision in another order
of summation differs by less, and solvers make a little more of it."""
PERMUTED = ('p', 'p_fdr', 'difference_p')
ONE_PERMUTATION = 0.05
"""Runs have 20 permutations: where one of them scores as the data do, rounding decides on which
side it is, and p moves by 1/21."""
DRAWN = ('ci_low', 'ci_high', 'difference_low', 'difference_high')
ONE_DRAW = 0.02
"""Ends of intervals lie between two of 20 bootstrap draws, each of a few hundredths."""
SCORES = ('value', 'chance', 'ceiling', 'difference', 'identification_2way')
ONE_PENALTY = 0.01
"""Each voxel has the penalty that predicts it best in folds of training: of two that do so as
well rounding takes one. Its correlation then moves by some thousandths (seen with
``OPENBLAS_CORETYPE=Nehalem NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4" ATEN_CPU_CAPABILITY=default``,
the arithmetic of an old processor), and with it the median of a small region. One voxel of those
kept of an image may differ; its mean and standard deviation may not."""
RANKED = ('rank', 'identified', 'two_way', 'retrieved', 'decoded')
CODED = 0.02
"""The nearest of two that are as near is a matter of rounding: one row of those kept may differ,
and a fiftieth of the voxels of a map of codes (masks, the best of the response shapes), and so of
the voxels of a model."""


def summarise(out: Path, kind: str) -> dict[str, dict]:
    """Summarise each table, image and model by its name, without run ids."""
    found = {
        f'{kind}/{golden.scrub(str(file.relative_to(out)))}': summary(file)
        for file in sorted(out.rglob('*'))
        if file.is_file() and not file.is_symlink()
    }
    return {name: each for name, each in found.items() if each}


def summary(file: Path) -> dict:
    """Summarise what a file holds; nothing of pages, figures and logs, which have their tests."""
    if golden.TIMED.search(file.name):
        return {}
    if file.name.endswith('.nii.gz'):
        return of_image(file)
    if file.suffix == '.tsv':
        return of_table(file)
    if file.suffix == '.safetensors':
        return {'tensors': {name: list(x.shape) for name, x in load_file(file).items()}}
    return {}


def of_image(file: Path) -> dict:
    """Shape, mean, standard deviation, and some voxels that are not zero, by their places.

    Of codes: their mean, the largest, and the share of voxels that have one.
    """
    data = np.asarray(nib.load(file).dataobj, dtype=np.float64)
    values = data[np.isfinite(data)]
    content = {'shape': list(data.shape), 'mean': number(values.mean())}
    if (values == np.rint(values)).all():
        share = (values != 0).mean()
        return content | {'share': number(share), 'largest': number(values.max())}
    places = np.flatnonzero(np.isfinite(data) & (data != 0))
    places = places[np.linspace(0, len(places) - 1, N_VOXELS).astype(int)]
    voxels = {str(place): number(data.flat[place]) for place in places}
    return content | {'std': number(values.std()), 'voxels': voxels}


def of_table(file: Path) -> dict:
    """Rows, and of each column some values; of numbers their mean and largest value too."""
    table = pd.read_csv(file, sep='\t', na_values=['n/a'], keep_default_na=False)
    rows = np.unique(np.linspace(0, len(table) - 1, N_ROWS).astype(int))
    return {
        'rows': len(table),
        'columns': {
            str(name): of_column(column, rows) for name, column in table.items()
        },
    }  # fmt: skip


def of_column(column: pd.Series, rows: np.ndarray) -> dict:
    kept = column.iloc[rows]
    if not pd.api.types.is_numeric_dtype(column):
        return {'values': ['n/a' if pd.isna(x) else golden.scrub(str(x)) for x in kept]}
    return {
        'values': [number(x) for x in kept],
        'mean': number(column.mean()),
        'largest': number(column.abs().max()),
    }


def number(value: float) -> float | None:
    """Seven digits, as single precision has them; none of what is not finite."""
    return float(f'{value:.7g}') if math.isfinite(value) else None


def apart(one: float | None, other: float | None) -> float:
    """How far two numbers are apart; infinitely where one of them is none."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other)


def differences(reference: dict[str, dict], found: dict[str, dict]) -> list[str]:
    """Say what is not as in the reference."""
    lines = [f'{name}: is not written' for name in sorted(set(reference) - set(found))]
    lines += [f'{name}: is new' for name in sorted(set(found) - set(reference))]
    for name in sorted(set(reference) & set(found)):
        one, other = reference[name], found[name]
        if 'columns' in one:
            lines += [f'{name}: {line}' for line in of_tables(one, other)]
        elif 'shape' in one:
            lines += [f'{name}: {line}' for line in of_images(one, other)]
        else:
            lines += [f'{name}: {line}' for line in of_models(one['tensors'], other['tensors'])]
    return lines


def of_images(one: dict, other: dict) -> list[str]:
    if one['shape'] != other['shape'] or set(one) != set(other):
        return [f'{one} became {other}']
    if 'share' in one:
        most = CODED * one['share']
        limits = {'share': most, 'mean': most * one['largest']}
        return [
            f'{key} {one[key]} became {other[key]}'
            for key, limit in limits.items()
            if apart(one[key], other[key]) > limit
        ]
    most = TOLERANCE * (abs(one['mean']) + one['std'])
    pairs = {key: (one[key], other[key]) for key in ('mean', 'std')}
    pairs |= {
        f'voxel {place}': (value, other['voxels'].get(place))
        for place, value in one['voxels'].items()
    }
    wrong = [key for key, (a, b) in pairs.items() if apart(a, b) > most]
    if len(wrong) == 1 and wrong[0].startswith('voxel'):
        return []
    return [f'{key} {pairs[key][0]} became {pairs[key][1]}' for key in wrong]


def of_models(one: dict[str, list[int]], other: dict[str, list[int]]) -> list[str]:
    if set(one) != set(other):
        return [f'{sorted(one)} became {sorted(other)}']
    return [
        f'{name}: shape {shape} became {other[name]}'
        for name, shape in one.items()
        if len(shape) != len(other[name])
        or any(abs(a - b) > CODED * a for a, b in zip(shape, other[name], strict=True))
    ]


def of_tables(one: dict, other: dict) -> list[str]:
    if one['rows'] != other['rows'] or list(one['columns']) != list(other['columns']):
        return [f'{one["rows"]} rows of {[*one["columns"]]} became {other["rows"]} of others']
    return [
        f'{name}: {line}'
        for name, column in one['columns'].items()
        for line in of_columns(name, column, other['columns'][name])
    ]


def of_columns(name: str, one: dict, other: dict) -> list[str]:
    pairs = list(zip(one['values'], other['values'], strict=True))
    if 'mean' not in one or 'mean' not in other:
        wrong = [f'{a} became {b}' for a, b in pairs if a != b]
    else:
        scale = min(one['largest'] or 0.0, 1.0)
        wrong = [
            f'{a} became {b}'
            for a, b in pairs
            if apart(a, b) > max(allowance(name), TOLERANCE * max(scale, abs(a or 0.0)))
        ]
        mean, more = one['mean'], 0.0 if name in SCORES else allowance(name)
        limit = max(more, TOLERANCE * max(scale, abs(mean or 0.0)))
        if name not in RANKED and apart(mean, other['mean']) > limit:
            wrong.append(f'mean {mean} became {other["mean"]}')
    return wrong if len(wrong) > (name in RANKED) else []


def allowance(name: str) -> float:
    """How far the values of a column may be apart, however small they are."""
    kinds = ((PERMUTED, ONE_PERMUTATION), (DRAWN, ONE_DRAW), (SCORES, ONE_PENALTY))
    return next((most for names, most in kinds if name in names), 0.0)


def run(folder: Path, kinds: tuple[str, ...]) -> dict[str, dict]:
    """Run kinds and summarise what they write."""
    failed = golden.run(folder, 'now', list(kinds))
    logs = [file.read_text('utf-8')[-2000:] for file in (folder / 'now').glob('*/log.txt')]
    assert not failed, '\n'.join(logs)
    found: dict[str, dict] = {}
    for kind in kinds:
        found |= summarise(folder / 'now' / kind / 'out', kind)
    return found


def save(found: dict[str, dict], file: Path) -> None:
    """Write a line for each file, so that a change is seen where it is."""
    lines = (f'{json.dumps(name)}: {json.dumps(each)}' for name, each in found.items())
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


@pytest.fixture(scope='module')
def reference() -> dict[str, dict]:
    return json.loads(REFERENCE.read_text('utf-8'))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_numbers_are_those_of_the_reference(reference, tmp_path):
    assert differences(of_kinds(reference, KINDS), run(tmp_path, KINDS)) == []


@pytest.mark.slow
@pytest.mark.real
def test_the_numbers_of_real_data_are_those_of_the_reference(shared, reference, tmp_path):
    assert differences(of_kinds(reference, REAL), run(tmp_path, REAL)) == []


def of_kinds(reference: dict[str, dict], kinds: tuple[str, ...]) -> dict[str, dict]:
    return {name: each for name, each in reference.items() if name.split('/')[0] in kinds}


def test_the_reference_holds_what_it_should(reference):
    for kind in KINDS + REAL:
        of_kind = of_kinds(reference, (kind,)).values()
        assert any('columns' in each for each in of_kind)
        assert any('voxels' in each for each in of_kind)
    assert any('tensors' in each for each in reference.values())
    assert differences(reference, reference) == []


def changed(reference: dict, name: str, *path: str | int, by: float = 0, to: object = None) -> int:
    """How many lines a change in one place is reported by."""
    copy = json.loads(json.dumps(reference))
    place = copy[name]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = place[path[-1]] + by if to is None else to
    return len(differences(reference, copy))


IN_SPACE = 'func/sub-01_task-images_space-MNI152NLin2009aSym'
METRICS, PREDICTIONS, BETAS, MASK, MODEL = (
    f'retrieval/sub-01/{name}'
    for name in (
        'func/sub-01_task-images_desc-linear_metrics.tsv',
        'func/sub-01_task-images_desc-linear_predictions.tsv',
        f'{IN_SPACE}_stat-effect_desc-singletrial_statmap.nii.gz',
        f'{IN_SPACE}_label-reliable_desc-fdr_mask.nii.gz',
        'models/sub-01_task-images_desc-linear_model.safetensors',
    )
)


def test_every_kind_of_change_is_seen(reference):
    columns, small, large = 'columns', 1e-4, 2e-2
    assert changed(reference, METRICS, columns, 'value', 'values', 0, by=small) == 0
    assert changed(reference, METRICS, columns, 'value', 'values', 0, by=large) == 1
    assert changed(reference, METRICS, columns, 'value', 'mean', by=large) == 1
    assert changed(reference, METRICS, columns, 'metric', 'values', 0, to='other') == 1
    assert changed(reference, METRICS, columns, 'p', 'values', 0, by=0.04) == 0
    assert changed(reference, METRICS, columns, 'p', 'values', 0, by=0.09) == 1
    assert changed(reference, METRICS, columns, 'ci_low', 'values', 0, by=0.03) == 1
    assert changed(reference, METRICS, 'rows', by=1) == 1
    assert changed(reference, METRICS, columns, to={}) == 1
    assert changed(reference, PREDICTIONS, columns, 'rank', 'values', 0, by=1) == 0
    assert changed(reference, PREDICTIONS, columns, 'rank', 'values', to=[-1] * N_ROWS) > 1
    place = next(iter(reference[BETAS]['voxels']))
    step = reference[BETAS]['std'] / 100
    moved = {key: value + step for key, value in reference[BETAS]['voxels'].items()}
    one = reference[BETAS]['voxels'] | {place: moved[place]}
    assert changed(reference, BETAS, 'voxels', to=one) == 0
    assert changed(reference, BETAS, 'voxels', to=moved) == N_VOXELS
    assert changed(reference, BETAS, 'mean', by=step) == 1
    assert changed(reference, BETAS, 'std', by=step) == 1
    assert changed(reference, BETAS, 'shape', to=[1, 2, 3]) == 1
    share = reference[MASK]['share']
    assert changed(reference, MASK, 'share', by=0.01 * share) == 0
    assert changed(reference, MASK, 'share', by=0.05 * share) == 1
    assert changed(reference, MASK, 'mean', by=-0.05 * share) == 1
    assert changed(reference, MODEL, 'tensors', to={}) == 1
    assert changed(reference, MODEL, 'tensors', 'affine', to=[4, 3]) == 1
    assert changed(reference, MODEL, 'tensors', 'affine', to=[4]) == 1
    assert apart(None, 1.0) == apart(0.0, None) == math.inf > apart(None, None) == 0


def test_files_that_come_and_go_are_seen(reference):
    fewer = {name: each for name, each in reference.items() if name != METRICS}
    assert differences(reference, fewer) == [f'{METRICS}: is not written']
    assert differences(fewer, reference) == [f'{METRICS}: is new']


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as place:
        save(run(Path(place), KINDS + REAL), REFERENCE)
