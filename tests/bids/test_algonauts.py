"""The Algonauts 2023 Challenge in its own layout, made from scratch."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_neurodecode.bids import algonauts
from bids_neurodecode.bids.algonauts import read_responses
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.recipes import recognise
from bids_neurodecode.bids.request import UNKNOWN_PARTICIPANT, Request
from bids_neurodecode.cli.main import main
from bids_neurodecode.errors import InputError
from bids_neurodecode.report.boilerplate import cited, paragraphs
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.steps.records import read_results
from tests.running import HERE

N_IMAGES, N_LEFT, N_RIGHT = 24, 30, 34


def said(message: str) -> str:
    return message.split('{', maxsplit=1)[0]


def make(root: Path, *, masks: bool = True) -> Path:
    """Make one participant whose vertices follow the contrast of the images."""
    rng = np.random.default_rng(0)
    person = root / 'subj01'
    images = person / 'training_split' / 'training_images'
    fmri = person / 'training_split' / 'training_fmri'
    for folder in (images, fmri, person / 'roi_masks'):
        folder.mkdir(parents=True)
    bright = rng.permutation(np.linspace(10, 120, N_IMAGES)).astype(int)
    for number, value in enumerate(bright, start=1):
        picture = np.full((32, 32, 3), value, np.uint8)
        picture[8:24, 8:24] = 255 - value
        Image.fromarray(picture).save(images / f'train-{number:04d}_nsd-{7 * number:05d}.png')
    for side, n, size in (('lh', N_LEFT, 90), ('rh', N_RIGHT, 100)):
        signal = np.outer((255 - 2 * bright) / 100, rng.normal(size=n))
        values = (signal + 0.3 * rng.normal(size=signal.shape)).astype(np.float32)
        np.save(fmri / f'{side}_training_fmri.npy', values)
        where = np.zeros(size)
        where[2 : 2 + n] = 1
        if masks:
            np.save(person / 'roi_masks' / f'{side}.all-vertices_fsaverage_space.npy', where)
    return root


def find(root: Path, **request):
    return find_inputs(Request(bids_dir=root, made_dir=root.parent / 'made', **request))


def test_it_is_recognised_and_read_on_fsaverage(tmp_path):
    root = make(tmp_path / 'data')
    assert recognise(root).name == 'algonauts2023'
    inputs = find(root)
    (person,) = inputs.participants
    (run,) = person.runs
    assert (person.label, person.layout, person.has_series) == ('01', 'algonauts', False)
    assert (run.space, run.n_volumes, len(person.stimuli)) == ('fsaverage', N_IMAGES, N_IMAGES)
    mask = VoxelMask.load(run.mask)
    assert np.flatnonzero(mask.mask).tolist() == [*range(2, 32), *range(92, 126)]
    assert mask.space.cortex('R')[0] == 100
    values = read_responses(run.bold)
    right = np.load(run.bold.with_name('rh_training_fmri.npy'))
    assert values.shape == (N_IMAGES, mask.n_voxels)
    np.testing.assert_array_equal(values[:, N_LEFT:], right)
    table = pd.read_csv(person.betas_events, sep='\t')
    assert table['stim_file'].tolist() == sorted(table['stim_file'])


def test_the_folder_of_one_participant_may_be_given(tmp_path):
    root = make(tmp_path / 'data')
    (person,) = find(root / 'subj01').participants
    assert (person.label, len(person.stimuli)) == ('01', N_IMAGES)


def test_vertices_that_are_not_told_are_counted_and_said(tmp_path):
    for name, masks in (('absent', False), ('other', True)):
        root = make(tmp_path / name / 'data', masks=masks)
        if masks:
            file = root / 'subj01' / 'roi_masks' / 'lh.all-vertices_fsaverage_space.npy'
            np.save(file, np.ones(90))
        inputs = find(root)
        (run,) = inputs.participants[0].runs
        assert run.space == 'challenge'
        assert VoxelMask.load(run.mask).n_voxels == N_LEFT + N_RIGHT
        assert any('does not say which vertices' in note for note in inputs.notes)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda fmri: (fmri / 'rh_training_fmri.npy').unlink(), algonauts.NO_FILE),
        *(
            (lambda fmri, x=x: (fmri / 'rh_training_fmri.npy').write_bytes(x), algonauts.BAD_ARRAY)
            for x in (b'', b'no', b'PK\x03\x04 breaks off')
        ),
        (
            lambda fmri: np.save(fmri / 'rh_training_fmri.npy', np.ones((3, 4), np.float32)),
            algonauts.DIFFERENT,
        ),
        (
            lambda fmri: np.save(
                fmri / 'lh_training_fmri.npy', np.full((N_IMAGES, 4), np.nan, np.float32)
            ),
            algonauts.NOT_NUMBERS,
        ),
    ],
)
def test_damage_is_named_in_one_line(tmp_path, damage, message):
    root = make(tmp_path / 'data')
    damage(root / 'subj01' / 'training_split' / 'training_fmri')
    with pytest.raises(InputError) as caught:
        find(root)
    parts = [part.split('}')[-1] for part in message.split('{')]
    assert all(part in str(caught.value) for part in parts)
    assert '\n' not in str(caught.value)


def test_unknown_participants_and_tasks_are_refused(tmp_path):
    root = make(tmp_path / 'data')
    with pytest.raises(InputError, match=said(UNKNOWN_PARTICIPANT)):
        find(root, participants=('09',))
    with pytest.raises(InputError, match=r"own layout has one task, 'algonauts2023'"):
        find(root, tasks=('rest',))


def test_what_is_cited_is_in_the_bibliography():
    works = cited(paragraphs('inputs', layout='algonauts', version='0', fmriprep=False))
    assert any('Algonauts' in work.text for work in works)


@pytest.mark.slow
@pytest.mark.parametrize('system', ['reconstruction', 'encoding'])
def test_it_runs_to_a_report(tmp_path, system):
    root, out = make(tmp_path / 'data'), tmp_path / 'out'
    (tmp_path / 'x.toml').write_text(
        '[reconstruction]\ngenerator = "none"\n[evaluation]\nn_permutations = 50\n'
        'n_bootstrap = 50\n[split]\nby = "stimulus"\nn_folds = 3\n'
    )
    arguments = [str(root), str(out), 'participant', '-w', str(tmp_path / 'work')]
    arguments += ['--system', system, '--config-file', str(tmp_path / 'x.toml'), *HERE]
    assert main(arguments) == 0
    page = (out / 'sub-01.html').read_text()
    assert 'Algonauts Project 2023 Challenge' in page
    record = read_results(next(out.glob('sub-01/log/*_results.json')))
    assert record.layout == 'algonauts'
    (table,) = out.glob('sub-01/func/*_metrics.tsv')
    scores = pd.read_csv(table, sep='\t')
    ridge = scores[scores.model == 'ridge'].set_index('metric').value
    if system == 'encoding':  # contrast is one of the features, and all that was planted
        assert ridge['voxel_r_median'] > 0.5
    else:
        assert np.isfinite(ridge['identification_2way']).all()
    found = sorted(file.name for file in (out / 'sub-01' / 'func').glob('*.gii'))
    assert any('_hemi-L_space-fsaverage_' in name for name in found)
