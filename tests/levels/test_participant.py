"""What makes a cached step stale, and names of workflows."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.trials import trials_table
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.levels.participant import fingerprint, workflow_name
from bids_neurodecode.samples import VoxelMask, split_by_group
from bids_neurodecode.signals.preparing import NO_MEAN
from bids_neurodecode.systems.steps import betas
from bids_neurodecode.systems.steps.betas import (
    NO_REPEATS,
    NOT_COMPARED,
    Estimated,
    onsets_in_series,
    repeats_over_runs,
    resolve_model,
)
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.workflow import files
from bids_neurodecode.workflow.run import Failure


@pytest.fixture
def person(tmp_path):
    for name in ('bold', 'mask', 'events', 'confounds', 'a.png', 'betas', 'table', 'atlas'):
        (tmp_path / name).write_text('content')
    run = RunInput(
        {'sub': '01', 'task': 'x', 'run': '1'},
        *(tmp_path / name for name in ('bold', 'mask', 'events', 'confounds')),
        2.0,
        50,
    )
    return ParticipantInput(
        '01', 'x', 'images', (run,), tmp_path, ('a.png',), tmp_path / 'betas', tmp_path / 'table'
    )


@pytest.mark.parametrize(
    'name', ['bold', 'mask', 'events', 'confounds', 'a.png', 'betas', 'table', 'atlas']
)
def test_a_changed_file_changes_the_fingerprint(person, tmp_path, name):
    config = build_config({'atlas': {'file': str(tmp_path / 'atlas')}})
    before = fingerprint(person, config)
    assert fingerprint(person, config) == before
    state = (tmp_path / name).stat()
    (tmp_path / name).write_text('another')
    os.utime(tmp_path / name, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert fingerprint(person, config) != before


def test_a_change_behind_a_link_is_seen(person, tmp_path):
    (tmp_path / 'a.png').rename(tmp_path / 'store')
    (tmp_path / 'a.png').symlink_to(tmp_path / 'store')
    before = fingerprint(person, build_config())
    (tmp_path / 'store').write_text('something longer')
    assert fingerprint(person, build_config()) != before


def test_another_model_changes_the_fingerprint_of_what_it_is_applied_to(person, tmp_path):
    model = tmp_path / 'models' / 'sub-01_model.safetensors'
    model.parent.mkdir()
    model.write_text('weights')
    before = fingerprint(person, build_config(), model)
    assert before != fingerprint(person, build_config())
    model.with_suffix('.toml').write_text('settings')
    after = fingerprint(person, build_config(), model)
    assert after != before
    model.write_text('other weights')
    assert fingerprint(person, build_config(), model) not in {before, after}


@pytest.mark.parametrize('label', ['01', 'a+b', '+', 'ABC'])
def test_failures_know_their_participant(label):
    node = f'bids_neurodecode_wf.{workflow_name(label)}.betas'
    assert Failure(node, 'reason', Path('crash')).participant == label


def table(*runs):
    rows = [(s, r, 4.0 * i) for r, run in enumerate(runs) for i, s in enumerate(run)]
    return pd.DataFrame(rows, columns=['stimulus', 'run', 'onset'])


def test_onsets_count_from_the_moment_of_the_first_volume(person):
    run = person.runs[0]
    onsets, warnings = onsets_in_series([run], table('abc'))
    assert (onsets[0].tolist(), warnings) == ([0, 4, 8], ())
    onsets, warnings = onsets_in_series([replace(run, start_time=1.0)], table('abc'))
    assert onsets[0].tolist() == [0, 3, 7]
    assert 'StartTime' in warnings[0]
    assert '1 trial(s) start before' in warnings[1]


def test_the_model_of_the_betas_follows_the_repeats():
    settings = build_config().betas
    shown = table('abcd', 'abcd')
    everything = [np.ones(8, dtype=bool)]
    assert resolve_model(settings, shown, everything) == ('auto', ())
    package = settings.model_copy(update={'engine': 'glmsingle'})
    assert resolve_model(package, shown, everything) == ('D', (NOT_COMPARED,))
    # a fold whose training trials repeat nothing over runs cannot choose anything
    first_run = [np.arange(8) < 4]
    model, notes = resolve_model(settings, shown, [*everything, *first_run])
    assert (model, notes) == ('B', (NO_REPEATS,))
    assert resolve_model(settings.model_copy(update={'model': 'C'}), shown, first_run)[0] == 'C'
    assert not repeats_over_runs(table('abab', 'cdcd'))


def test_betas_of_centred_series_are_in_units_of_the_series(tmp_path, monkeypatch):
    """Of the same series with and without a mean: percent x mean / 100 = units of the series."""
    rng = np.random.default_rng(5)
    n_volumes, shape, period = 120, (4, 3, 2), 2.0
    mean = rng.uniform(400, 900, shape)
    events = pd.DataFrame({'onset': np.arange(4, 200, 8.0), 'duration': 2.0})
    events['stim_file'] = [f'{k % 5}.png' for k in range(len(events))]
    events.to_csv(tmp_path / 'events', sep='\t', index=False)
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), tmp_path / 'mask.nii.gz')
    noise = [rng.normal(0, 10, (*shape, n_volumes)) for _ in range(2)]
    found = {}
    for name, offset in (('percent', mean[..., None]), ('centred', 0.0)):
        folder = tmp_path / name
        folder.mkdir()
        runs = []
        for number, values in enumerate(noise):
            series = values - values.mean(axis=-1, keepdims=True) + offset
            bold = folder / f'{number}.nii.gz'
            nib.save(nib.Nifti1Image(series.astype(np.float32), np.eye(4)), bold)
            entities = {'sub': '01', 'task': 'x', 'run': str(number)}
            files = (bold, tmp_path / 'mask.nii.gz', tmp_path / 'events', None)
            runs.append(RunInput(entities, *files, period, n_volumes))
        person = ParticipantInput('01', 'x', 'images', tuple(runs), tmp_path, ('0.png',))
        trials = trials_table(runs)
        mask = VoxelMask.load(tmp_path / 'mask.nii.gz')
        split = split_by_group(trials, 'run')
        config = build_config({'betas': {'model': 'B'}})
        given = Estimated(
            participant=person, config=config, mask=mask, device='cpu', folder=folder,
            plan=Plan(split, '', stimulus_duration=2.0), checkpoints=folder / 'checkpoints',
        )  # fmt: skip
        made = betas.betas(given)
        facts = made['beta_info']
        found[name] = np.load(made['betas']), facts.units, facts.warnings
    percent, units, warnings = found['percent']
    assert units == 'percent signal change'
    assert NO_MEAN not in warnings
    centred, units, warnings = found['centred']
    assert units == 'as in the series, which have no mean'
    assert NO_MEAN in warnings
    voxel_mean = mask.extract(mean)
    np.testing.assert_allclose(centred, percent * voxel_mean / 100, rtol=2e-3, atol=2e-3)
    one = replace(runs[0], bold=tmp_path / 'percent' / '0.nii.gz')
    mixed = replace(person, runs=(one, runs[1]))
    with pytest.raises(DataError, match='one has a mean and the other has none'):
        betas.betas(replace(given, participant=mixed))
    # series that are too large to be held are read again
    monkeypatch.setattr(betas, 'HELD_GB', 0)
    again = betas.betas(given)
    np.testing.assert_array_equal(np.load(again['betas']), centred)
    assert not (folder / 'checkpoints').exists()


def test_volumes_written_some_at_a_time_are_the_same_bytes(tmp_path, monkeypatch):
    rng = np.random.default_rng(6)
    mask = VoxelMask(rng.random((4, 3, 5)) < 0.5, np.diag([2, 2, 3, 1.0]))
    values = np.asfortranarray(rng.normal(size=(11, mask.n_voxels)).astype(np.float32))
    whole = files.save_map(tmp_path / 'whole.nii.gz', mask, values).read_bytes()
    monkeypatch.setattr(files, 'VOLUMES_AT_ONCE', 4)
    assert files.save_map(tmp_path / 'parts.nii.gz', mask, values, fill=0).read_bytes() == whole
