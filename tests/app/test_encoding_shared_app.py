"""A shared head through the program: trained at group level, used by a new participant."""

from pathlib import Path

import pandas as pd
import pytest

from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.models.storage import load_arrays
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.systems.encoding.encoders import NO_HEAD
from bids_neurodecode.systems.encoding.shared import OTHER_BANDS
from bids_neurodecode.systems.encoding.steps.group import NOT_A_HEAD, TOO_FEW
from tests.running import HERE, without_pages

pytestmark = pytest.mark.slow
SETTINGS = """
system = "encoding"
[evaluation]
n_permutations = 20
n_bootstrap = 0
[split]
by = "stimulus"
n_folds = 1
[betas]
model = "B"
[encoding]
{encoding}
"""
HEAD = 'group/models/task-images_desc-shared_model.safetensors'


def call(folder: Path, level: str, *more: str, encoding: str = '', out: str = 'out') -> int:
    file = folder / f'settings{len(list(folder.glob("settings*")))}.toml'
    file.write_text(SETTINGS.format(encoding=encoding))
    places = [str(folder / 'data'), str(folder / out), level, '-w', str(folder / 'work')]
    common = ['--skip-bids-validation', '--device', 'cpu', '--config-file', str(file)]
    return main([*places, *common, *HERE, *more])


def shared(folder: Path) -> str:
    return f'model = "shared"\nshared_head = "{folder / "out" / HEAD}"'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shared')
    spec = SimulationSpec(
        paradigm='images', n_subjects=4, n_runs=3, n_images=30, n_repeats=3, voxel_size=14
    )
    simulate_dataset(folder / 'data', spec)
    people = ('--participant-label', '01', '02', '03')
    with without_pages():
        assert call(folder, 'participant', *people) == 0
    assert call(folder, 'group', *people, encoding='model = "shared"') == 0
    return folder


def test_the_head_is_judged_on_those_who_had_no_part_in_it(trained):
    table = pd.read_csv(
        trained / 'out' / 'group' / 'task-images_desc-shared_metrics.tsv', sep='\t', dtype=str
    )
    assert set(table['participant']) == {'01', '02', '03'}
    assert set(table['model']) == {'shared', 'ridge'}
    assert set(table['n_test']) == {'6'}
    assert set(table['n_pictures'].astype(int)) == {12, 24}
    _, about = load_arrays(trained / 'out' / HEAD)
    assert about['participants'] == ['01', '02', '03']
    assert len(about['stimuli']) == 30
    assert validate_dataset(trained / 'out') == {}
    page = (trained / 'out' / 'group.html').read_text()
    assert 'New participants' in page
    assert 'thin lines are participants' in page


def test_a_new_participant_uses_the_head(trained):
    person = ('--participant-label', '04')
    assert call(trained, 'participant', *person, encoding=shared(trained), out='new') == 0
    (file,) = (trained / 'new' / 'sub-04' / 'func').glob('*desc-shared_metrics.tsv')
    table = pd.read_csv(file, sep='\t')
    assert {'shared', 'ridge', 'baseline-shuffled'} <= set(table['model'])
    assert (
        '30 of 30 images were shown to the participants'
        in (trained / 'new' / 'sub-04.html').read_text()
    )
    more = ('--mode', 'predict', '--models-from', str(trained / 'new'), *person)
    assert call(trained, 'participant', *more, out='applied') == 0
    assert list((trained / 'applied' / 'sub-04').rglob('*desc-predicted_statmap.nii.gz'))


def test_what_is_missing_is_said_in_one_line(trained, capsys):
    def said(message: str, **fields: object) -> bool:
        return message.format(**fields) in capsys.readouterr().err

    person = ('--participant-label', '04')
    assert call(trained, 'participant', *person, encoding='model = "shared"') == 2
    assert said(NO_HEAD)
    (other,) = (trained / 'out' / 'sub-01' / 'models').glob('*desc-ridge_model.safetensors')
    wrong = f'model = "shared"\nshared_head = "{other}"'
    assert call(trained, 'participant', *person, encoding=wrong) == 2
    assert said(NOT_A_HEAD, file=other, kind='picture-encoder')
    bands = shared(trained) + '\nbands = ["clip"]'
    assert call(trained, 'participant', *person, encoding=bands) == 2
    assert said(OTHER_BANDS, expected=['gabor'], found=['clip'])
    two = ('--participant-label', '01', '02')
    assert call(trained, 'group', *two, encoding='model = "shared"') == 2
    assert said(TOO_FEW, n=2, folder=trained / 'out', least=3)
