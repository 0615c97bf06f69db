"""Conditions through the whole program: trial_type alone, blocks listed item by item."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.cli.checks_data import ONE_BETA
from bids_neurodecode.cli.exits import USAGE
from bids_neurodecode.cli.holding import hold_group, hold_results
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.signals.hrf import hrf_library
from tests.datasets import make_dataset, write_table
from tests.running import HERE, WORKERS

pytestmark = pytest.mark.slow
CONDITIONS = ('007', 'big house/left', 'shown')
"""Names may look like numbers, paths or columns."""
RUNS = tuple(f'{k:02d}' for k in range(1, 8))
SHAPE = (5, 4, 3)
FAST = '[evaluation]\nn_permutations = 99\nn_bootstrap = 99\n[conditions]\nsearchlight = 4.0\n'


def blocks(rng: np.random.Generator) -> list[list]:
    """Two blocks of each condition in a random order, four items each, with rest between."""
    rows = []
    for place, name in enumerate(rng.permutation(CONDITIONS * 2)):
        start = 6 + 18 * place
        rows += [[start + 2 * item, 1, name] for item in range(4)]
        rows.append([start + 8, 10, 'fixation'])
    return rows


@pytest.fixture(scope='module')
def analysed(tmp_path_factory):
    """A participant of seven runs, the conditions in the first half of the voxels alone."""
    folder = tmp_path_factory.mktemp('conditions')
    data = make_dataset(
        folder / 'data',
        runs=RUNS,
        n_volumes=60,
        shape=SHAPE,
        stimuli=(),
        raw_bold=True,
    )
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((3, *SHAPE)) * (np.arange(SHAPE[0]) < 2)[:, None, None]
    shape = hrf_library(2.0, 7.0)[:, 0]
    for run in data.each_run():
        rows = blocks(rng)
        data.rewrite_events(rows, columns=['onset', 'duration', 'trial_type'], **run)
        sticks = np.zeros((3, 60))
        for onset, _, name in rows[::5]:
            sticks[CONDITIONS.index(name), int(onset) // 2] = 1
        signal = np.stack([np.convolve(x, shape)[:60] for x in sticks])
        change = np.einsum('cxyz,ct->xyzt', patterns, signal / signal.max())
        data.rewrite_bold(lambda values, change=change: values + 1.5 * change, **run)
    labels = np.ones(SHAPE, dtype=np.int16)
    labels[2:] = 2
    affine = nib.load(data.bold()).affine
    nib.save(nib.Nifti1Image(labels, affine), folder / 'halves_dseg.nii.gz')
    write_table(folder / 'halves_dseg.tsv', [['index', 'name'], [1, 'Signal'], [2, 'Noise']])
    (folder / 'fast.toml').write_text(f'{FAST}[atlas]\nfile = "{folder / "halves_dseg.nii.gz"}"\n')
    assert call(folder, '--config-file', str(folder / 'fast.toml'), where=WORKERS) == 0
    return folder


def call(folder, *more, level='participant', where=HERE):
    places = [str(folder / 'data'), str(folder / 'out'), level, '-w', str(folder / 'work')]
    return main([*places, *where, *more])


def table(folder, name, label='01'):
    (file,) = (folder / 'out' / f'sub-{label}' / 'func').glob(f'*_{name}.tsv')
    text = dict.fromkeys(('trial_type', 'decoded', 'condition_a', 'shown_condition'), str)
    return pd.read_csv(file, sep='\t', na_values=['n/a'], dtype=text)


def test_conditions_are_decoded_beside_chance_and_baselines(analysed):
    rows = table(analysed, 'desc-conditions_metrics').set_index(['model', 'space', 'metric'])
    own = rows.loc['ridge', 'single-trial', 'balanced_accuracy']
    assert own.system == 'conditions'
    assert own.protocol == 'leave-one-out-by-run'
    assert own.value > 0.8
    assert own.chance == pytest.approx(1 / 3)
    assert own.p == pytest.approx(0.01)
    assert (own.n, own.n_units, own.units) == (42, 7, 'runs')
    shuffled = rows.loc['baseline-shuffled', 'single-trial', 'balanced_accuracy']
    assert shuffled.value < own.value - 0.2
    assert rows.loc['crossnobis', 'repeat-average', 'crossnobis_mean'].ci_low > 0
    assert rows.loc['condition-means', 'repeat-average', 'voxel_r_mean'].value > 0.2


def test_regions_pairs_and_confusion_are_tables(analysed):
    regions = table(analysed, 'stat-accuracy_desc-conditions_regions').set_index('name')
    assert regions.balanced_accuracy['Signal'] > 0.8 > 0.6 > regions.balanced_accuracy['Noise']
    assert regions.p_fdr['Signal'] == pytest.approx(0.02)
    pairs = table(analysed, 'stat-crossnobis_desc-conditions_dissimilarity')
    assert len(pairs) == 3
    assert (pairs.ci_low > 0).all()
    assert pairs.condition_a.tolist() == ['007', '007', 'big house/left']
    confusion = table(analysed, 'desc-conditions_confusion').set_index('shown_condition')
    assert list(confusion.index) == list(confusion.columns) == list(CONDITIONS)
    assert confusion.to_numpy().sum() == 42
    predictions = table(analysed, 'desc-conditions_predictions')
    right = (predictions.trial_type == predictions.decoded).mean()
    assert right == pytest.approx(np.trace(confusion.to_numpy()) / 42)


def test_nothing_is_faked(analysed):
    """Trials are blocks, of conditions; no file is named as a stimulus anywhere."""
    trials = table(analysed, 'desc-singletrial_events')
    assert len(trials) == 42
    assert set(trials.trial_type) == set(CONDITIONS)
    assert trials.duration.unique().tolist() == [7]
    assert not {'stim_file', 'stimulus'} & {
        *trials,
        *table(analysed, 'desc-conditions_predictions'),
    }
    source = table_of(analysed / 'data' / 'sub-01' / 'func', 'run-01_events')
    assert len(source) == 30
    (file,) = (analysed / 'out' / 'sub-01' / 'func').glob('*desc-singletrial_statmap.nii.gz')
    assert nib.load(file).shape == (*SHAPE, 42)


def table_of(folder, name):
    (file,) = folder.glob(f'*_{name}.tsv')
    return pd.read_csv(file, sep='\t')


def test_maps_are_of_the_signal(analysed):
    def image(name):
        (file,) = (analysed / 'out' / 'sub-01' / 'func').glob(f'*_{name}_statmap.nii.gz')
        return np.asarray(nib.load(file).dataobj)

    for name, low in (('stat-pearsonr', 0.5), ('stat-accuracy', 0.6)):
        values = image(name)
        assert np.median(values[:2]) > low > np.median(values[3:]) + 0.1
    p = image('stat-pfdr_desc-searchlight')
    assert np.median(p[:2]) < 0.05 < np.median(p[3:])


def test_outputs_are_valid_bids_and_found(analysed, check_pybids):
    from bids.layout import BIDSLayout

    from bids_neurodecode.bids.provenance import pybids_config

    out = analysed / 'out'
    assert validate_dataset(out) == {}
    check_pybids(out, analysed / 'data')
    layout = BIDSLayout(
        out, validate=False, is_derivative=True, config=['bids', 'derivatives', pybids_config()]
    )
    assert 'Subjects: 1' in repr(layout)
    assert len(layout.get(suffix='dissimilarity', extension='.tsv')) == 1


def test_the_page_tells_what_was_done(analysed):
    page = (analysed / 'out' / 'sub-01.html').read_text()
    assert 'was in 3 conditions' in page
    assert 'Balanced accuracy' in page
    assert 'crossnobis' in page
    assert 'rows are 42 trials' in page
    assert 'taken for rest: fixation' in page
    assert 'single images' not in page
    names = {file.name for file in (analysed / 'out' / 'sub-01' / 'figures').iterdir()}
    assert any('desc-dissimilarity' in name for name in names)
    assert any('desc-confusion' in name for name in names)
    assert any('desc-accuracy_map' in name for name in names)
    citation = (analysed / 'out' / 'logs' / 'CITATION.md').read_text()
    assert 'Conditions (trial_type of the events) were decoded' in citation
    assert 'Searchlights (radius 4 mm)' in citation
    assert 'Each image was described' not in citation


def test_the_group_is_refused_while_its_results_are_written(analysed, capsys):
    with hold_results([analysed / 'out'], [('01', 'img')], analysed):
        assert call(analysed, level='group') == USAGE
    assert 'results of sub-01, task img' in capsys.readouterr().err
    with hold_group(analysed / 'out', [], analysed):
        assert call(analysed, level='group') == USAGE
    assert 'results of the group' in capsys.readouterr().err


def test_the_group_puts_scores_together(analysed, check_pybids):
    assert call(analysed, level='group') == 0
    check_pybids(analysed / 'out', analysed / 'data')
    scores = pd.read_csv(analysed / 'out' / 'group' / 'task-img_metrics.tsv', sep='\t')
    own = scores[(scores.metric == 'balanced_accuracy') & (scores.space == 'single-trial')]
    assert set(own.participant) == {1}
    assert own.value.max() > 0.8
    page = (analysed / 'out' / 'group.html').read_text()
    assert 'Balanced accuracy' in page


def test_models_of_conditions_are_not_applied(analysed, capsys):
    models = analysed / 'out' / 'sub-01' / 'models'
    models.mkdir(exist_ok=True)
    (models / 'sub-01_task-img_desc-linear_model.safetensors').write_bytes(b'of images')
    more = ('--mode', 'predict', '--models-from', str(analysed / 'out'))
    assert call(analysed, *more) == USAGE
    assert "'conditions' has no predict mode" in capsys.readouterr().err
    record = next((analysed / 'out' / 'sub-01' / 'log').glob('*_results.json'))
    assert json.loads(record.read_text())['paradigm'] == 'conditions'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [('[betas]\nprecomputed = "own"\nrepeats = "mean"', ONE_BETA.format(label='01')),
     ('[split]\nby = "session"\n[betas]\nprecomputed = "own"', 'needs at least two of them')],
)  # fmt: skip
def test_betas_that_cannot_be_split_are_refused_before_work_starts(
    analysed, capsys, settings, message
):
    file = analysed / 'bad.toml'
    file.write_text(settings)
    fmriprep = analysed / 'data' / 'derivatives' / 'fmriprep'
    more = ['--derivatives', f'fmriprep={fmriprep}', f'own={analysed / "out"}', '--dry-run']
    places = [str(analysed / 'data'), str(analysed / 'refused'), 'participant']
    work = ['-w', str(analysed / 'work'), '--config-file', str(file)]
    assert main([*places, *more, *work]) == USAGE
    assert message in capsys.readouterr().err


def test_betas_that_were_written_are_taken_again(analysed):
    """The program's own betas, as those of a derivatives dataset, give the same scores."""
    file = analysed / 'again.toml'
    text = (analysed / 'fast.toml').read_text().replace('searchlight = 4.0', '')
    file.write_text(f'{text}[betas]\nprecomputed = "own"\n')
    fmriprep = analysed / 'data' / 'derivatives' / 'fmriprep'
    places = [str(analysed / 'data'), str(analysed / 'again'), 'participant']
    more = ['--derivatives', f'fmriprep={fmriprep}', f'own={analysed / "out"}']
    work = ['-w', str(analysed / 'work'), *HERE, '--config-file', str(file)]
    assert main([*places, *more, *work]) == 0
    (again,) = (analysed / 'again' / 'sub-01' / 'func').glob('*_metrics.tsv')
    scores = pd.read_csv(again, sep='\t')
    own = scores[(scores.model == 'ridge') & (scores.metric == 'balanced_accuracy')].iloc[0]
    before = table(analysed, 'desc-conditions_metrics').iloc[0]
    assert own.n == 42
    assert own.value == pytest.approx(before.value, abs=0.1)
