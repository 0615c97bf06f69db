"""Confounds: what nilearn chooses, columns by name, and what is said when they are not there."""

import json

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces import fmriprep

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.signals import confounds
from bids_neurodecode.signals.confounds import (
    available_strategies,
    check_confounds,
    load_confounds,
    select_confounds,
)

N = 40
MOTION = [
    f'{kind}_{axis}{suffix}'
    for kind in ('trans', 'rot')
    for axis in 'xyz'
    for suffix in ('', '_derivative1', '_power2', '_derivative1_power2')
]


@pytest.fixture
def table(tmp_path):
    """A confounds file as fMRIPrep writes it, with an image's name beside it."""
    rng = np.random.default_rng(0)
    names = [
        *MOTION, 'csf', 'white_matter', 'global_signal', 'std_dvars', 'framewise_displacement',
        'a_comp_cor_00', 'a_comp_cor_01', 'cosine00', 'aroma_motion_02',
    ]  # fmt: skip
    frame = pd.DataFrame(rng.standard_normal((N, len(names))), columns=names)
    frame[['std_dvars', 'framewise_displacement']] = 0.1
    frame.loc[20, 'framewise_displacement'] = 3.0
    gaps = [name for name in names if 'derivative1' in name]
    frame.loc[0, [*gaps, 'framewise_displacement', 'std_dvars']] = np.nan
    frame['non_steady_state_outlier00'] = (np.arange(N) == 0).astype(int)
    stem = tmp_path / 'sub-01_task-x_run-1_'
    path = tmp_path / f'{stem.name}desc-confounds_timeseries.tsv'
    frame.to_csv(path, sep='\t', na_rep='n/a', index=False)
    masks = {
        name: {'Mask': 'combined', 'Method': 'aCompCor', 'Retained': True}
        for name in ('a_comp_cor_00', 'a_comp_cor_01')
    }
    path.with_suffix('.json').write_text(json.dumps(masks))
    (tmp_path / f'{stem.name}desc-preproc_bold.nii.gz').touch()
    return path


@pytest.mark.parametrize(
    'strategy',
    [
        ['motion'],
        ['wm_csf'],
        ['global_signal'],
        ['high_pass'],
        ['motion', 'wm_csf', 'global_signal'],
        ['compcor', 'high_pass'],
        ['motion', 'scrub'],
    ],
)
def test_strategies_are_nilearns(table, strategy):
    image = str(table).replace('desc-confounds_timeseries.tsv', 'desc-preproc_bold.nii.gz')
    expected, kept = fmriprep.load_confounds(
        image, strategy=strategy, demean=False, fd_threshold=0.5, std_dvars_threshold=1.5
    )
    ours = load_confounds(table, N, strategy)
    assert set(ours.names) == set(expected.columns)
    np.testing.assert_allclose(ours.values, expected[list(ours.names)].to_numpy())
    np.testing.assert_array_equal(np.flatnonzero(ours.kept), kept)


def test_scrubbing_is_fmripreps_whatever_the_version_of_nilearn(table):
    frame = pd.read_csv(table, sep='\t')
    frame['framewise_displacement'], frame['std_dvars'] = 0.1, 1.0
    # nilearn below 0.13 cut above .2 mm and 3 standardised DVARS where it was told nothing
    frame.loc[[7, 15], 'framewise_displacement'] = 0.4, 0.6
    frame.loc[[9, 30], 'std_dvars'] = 1.4, 1.6
    frame.to_csv(table, sep='\t', index=False)
    kept = load_confounds(table, N, ['scrub']).kept
    assert kept[[7, 9]].all()
    assert not kept[[15, 30]].any()


def test_compcor_brings_its_cosines_and_aroma_its_noise_components(table):
    assert load_confounds(table, N, ['compcor']).names == (
        'a_comp_cor_00', 'a_comp_cor_01', 'cosine00',
    )  # fmt: skip
    assert load_confounds(table, N, ['ica_aroma']).names == ('aroma_motion_02',)


def test_columns_join_strategies_once_and_first_gap_is_filled(table):
    ours = load_confounds(table, N, ['wm_csf'], ['trans_x_derivative1', 'csf'])
    assert ours.names == ('csf', 'white_matter', 'trans_x_derivative1')
    assert ours.values[0, 2] == ours.values[1, 2]
    assert np.isfinite(ours.values).all()


def test_columns_alone_censor_nothing(table):
    ours = load_confounds(table, N, columns=['rot_z'])
    assert ours.kept.all()
    assert ours.values.shape == (N, 1)


def test_nothing_asked_for_needs_no_file(tmp_path):
    ours = load_confounds(None, 12)
    assert ours.values.shape == (12, 0)
    assert ours.kept.shape == (12,)


def test_spikes_cut_volumes_out_of_a_linear_model(table):
    ours = load_confounds(table, N, ['motion', 'scrub'])
    design = np.column_stack([np.ones(N), ours.with_spikes()])
    y = np.random.default_rng(1).standard_normal(N)
    full = np.linalg.lstsq(design, y, rcond=None)[0][1:25]
    cut = np.column_stack([np.ones(N), ours.values])[ours.kept]
    np.testing.assert_allclose(full, np.linalg.lstsq(cut, y[ours.kept], rcond=None)[0][1:25])
    assert not ours.kept[[0, 20]].any()


def test_available_strategies(table):
    columns = list(pd.read_csv(table, sep='\t').columns)
    assert available_strategies(columns) == list(confounds.STRATEGIES)
    assert available_strategies(['trans_x', 'csf']) == []


def test_missing_column_names_near_ones(table):
    with pytest.raises(InputError, match=r'no column\(s\) trans_xx \(near: trans_x') as error:
        load_confounds(table, N, columns=['trans_xx'])
    assert str(table) in str(error.value)


def test_unavailable_strategy_names_columns_and_what_is_there():
    axes = ['trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z', 'csf', 'white_matter']
    with pytest.raises(InputError, match=r'trans_x_derivative1.*They allow: wm_csf'):
        check_confounds(axes, ['motion'], [], 'f.tsv')


def test_unknown_strategy():
    with pytest.raises(InputError, match=r"no confound strategy 'magic'. Choose among: motion"):
        check_confounds([], ['magic'], [])


def test_no_file_and_wrong_length(table, tmp_path):
    with pytest.raises(InputError, match='No confounds table was found for run-1'):
        load_confounds(None, N, ['motion'], source='run-1')
    with pytest.raises(InputError, match=r'nowhere.tsv'):
        load_confounds(tmp_path / 'nowhere.tsv', N, ['motion'])
    with pytest.raises(InputError, match='40 rows for a series of 41 volumes'):
        load_confounds(table, 41, ['motion'])


def test_compcor_without_sidecar_is_said_in_one_line(table):
    table.with_suffix('.json').unlink()
    with pytest.raises(InputError, match=r'compcor.*json') as error:
        load_confounds(table, N, ['compcor'])
    assert '\n' not in str(error.value)


def test_text_among_what_a_strategy_reads_is_named(table):
    lines = table.read_text().splitlines()
    at = lines[0].split('\t').index('framewise_displacement')
    fields = lines[3].split('\t')
    lines[3] = '\t'.join([*fields[:at], 'moved', *fields[at + 1 :]])
    table.write_text('\n'.join(lines) + '\n')
    with pytest.raises(InputError, match=r"Row 4 of .* framewise_displacement 'moved'"):
        load_confounds(table, N, ['scrub'])


def test_gaps_beyond_the_first_volume_are_refused():
    frame = pd.DataFrame({'a': [np.nan, 1.0, 2.0], 'b': [1.0, np.nan, 'x']})
    assert select_confounds(frame, ['a']).ravel().tolist() == [1, 1, 2]
    expected = confounds.BAD_COLUMNS.format(columns='b', source='f.tsv', n=2)
    with pytest.raises(DataError) as error:
        select_confounds(frame, ['a', 'b'], 'f.tsv')
    assert str(error.value) == expected


@pytest.mark.real
def test_haxby_motion_columns(shared):
    folder = shared / 'data/haxby2001/derivatives/fmriprep/sub-01/func'
    file = folder / 'sub-01_task-objectviewing_run-01_desc-confounds_timeseries.tsv'
    with pytest.raises(InputError, match='do not allow the strategy'):
        load_confounds(file, 121, ['motion'])
    ours = load_confounds(file, 121, columns=['trans_x', 'rot_z'])
    raw = pd.read_csv(file, sep='\t')
    np.testing.assert_allclose(ours.values, raw[['trans_x', 'rot_z']].to_numpy())
