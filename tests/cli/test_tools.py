"""The tools on the command line: exit codes and one-line errors."""

import re
import subprocess
import sys
import time
import tomllib

import pytest

from bids_neurodecode.cli import tools
from bids_neurodecode.cli.settings_files import commented
from bids_neurodecode.config import (
    Config,
    build_config,
    load_config,
    preset_names,
    read_settings,
)
from bids_neurodecode.settings.base import Settings

SMALL = [
    '--n-subjects',
    '1',
    '--n-runs',
    '2',
    '--n-images',
    '6',
    '--n-repeats',
    '2',
    '--voxel-size',
    '16',
]


def test_demo(tmp_path, capsys):
    assert tools.main(['demo', str(tmp_path / 'out'), *SMALL]) == 0
    assert (tmp_path / 'out' / 'dataset_description.json').is_file()
    assert 'participant 01: 2 runs' in capsys.readouterr().out
    assert tools.main(['demo', str(tmp_path / 'out'), *SMALL]) == 2
    error = capsys.readouterr().err
    assert 'is not empty' in error
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--n-repeats', '9'], 'n_repeats'),
        (['--isi', '3', '1'], 'isi'),
        (['--snr', '-1'], 'snr'),
        (['--stimuli-dir', '/nowhere/at/all'], '/nowhere/at/all'),
    ],
)
def test_bad_arguments_are_one_line(arguments, says, tmp_path, capsys):
    assert tools.main(['demo', str(tmp_path / 'out'), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_usage_errors_and_help(capsys):
    assert tools.main([]) == 2
    assert tools.main(['demo', 'x', '--paradigm', 'music']) == 2
    assert tools.main(['demo', '--help']) == 0
    out = capsys.readouterr().out
    assert all(f'--{name}' in out for name in tools.DEMO_OPTIONS)


@pytest.mark.parametrize(
    ('words', 'near'),
    [
        ('preset list', 'presets'),
        ('presets lst', 'list'),
        ('presets show defualt', 'default'),
        ('studies show encoding-head', 'encoding-heads'),
        ('datasets show bold500', 'bold5000'),
        ('weights fetch vgg', 'vgg16'),
        ('score --protocol cpu1 x y', 'cpu-1'),
        ('demo x --paradigm movies', 'movie'),
        ('demo --n-subjcts 2', '--n-subjects'),
        ('weights list --weight-dri x', '--weights-dir'),
        ('completion bsh', 'bash'),
    ],
)
def test_every_unknown_word_has_its_nearest(words, near, capsys):
    assert tools.main(words.split()) == 2
    error = capsys.readouterr().err
    assert f'Did you mean {near}?' in error
    assert error.count('\n') == 1


def test_every_option_is_a_setting():
    from bids_neurodecode.simulate.spec import SimulationSpec

    assert {n.replace('-', '_') for n in tools.DEMO_OPTIONS} <= set(SimulationSpec.model_fields)


def test_the_help_tells_the_defaults_that_are_taken(capsys):
    from bids_neurodecode.simulate.spec import build_spec

    images, films = (build_spec(paradigm=paradigm) for paradigm in ('images', 'movie'))
    for option, (_, _, said) in tools.DEMO_OPTIONS.items():
        name = option.replace('-', '_')
        one, other = (
            f'{value:.12g}' if isinstance(value, int | float) else str(value).lower()
            for value in (getattr(images, name), getattr(films, name))
        )
        assert said.lower() == (one if one == other else f'{one}; films: {other}'), option
    assert tools.main(['demo', '--help']) == 0
    assert '(default: 6; films: 2)' in ' '.join(capsys.readouterr().out.split())
    assert (images.isi, images.on_grid) == ((2.0, 4.0), True)


def test_systems_are_explained(capsys):
    assert tools.main(['systems']) == 0
    lines = dict(line.split(': ', 1) for line in capsys.readouterr().out.splitlines())
    assert {'movie', 'reconstruction', 'encoding', 'conditions'} <= lines.keys()
    assert lines['reconstruction'].startswith('images from responses')
    assert lines['encoding'].startswith('responses from images')


def test_interrupted(monkeypatch, tmp_path, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('bids_neurodecode.simulate.dataset.simulate_dataset', stop)
    assert tools.main(['demo', str(tmp_path / 'out')]) == 130
    assert capsys.readouterr().err.count('\n') == 1


def test_presets(capsys):
    assert tools.main(['presets', 'list']) == 0
    assert 'default' in capsys.readouterr().out.split()
    assert tools.main(['presets', 'show', 'default']) == 0
    assert '[betas]' in capsys.readouterr().out
    assert tools.main(['presets', 'show', 'nothing']) == 2
    assert 'default' in capsys.readouterr().err


def test_presets_are_listed_with_what_they_need(capsys):
    assert tools.main(['presets', 'list']) == 0
    told = capsys.readouterr().out.splitlines()
    (published,) = (line for line in told if line.startswith('reconstruction-published '))
    assert 'system: reconstruction' in published
    assert 'vdvae-imagenet64, about 500 MB' in published
    names = [line.split()[0] for line in told if not line.startswith(' ')]
    assert names == preset_names()
    assert len(told) == 2 * len(names), 'a line on each'


def test_weights_are_listed_with_their_size(capsys):
    assert tools.main(['weights', 'list']) == 0
    told = capsys.readouterr().out
    assert 'vgg16: missing, about 553 MB' in told
    assert 'unknown size' not in told


@pytest.mark.parametrize('preset', preset_names())
def test_a_commented_file_holds_the_preset_and_nothing_else(preset, tmp_path, capsys):
    file = tmp_path / 'mine.toml'
    assert tools.main(['config', 'init', str(file), '--preset', preset]) == 0
    assert str(file) in capsys.readouterr().out
    assert load_config(file) == build_config(read_settings(preset))
    assert tools.main(['config', 'init', str(file)]) == 2
    assert 'is there already' in capsys.readouterr().err


def test_a_commented_file_holds_every_setting_with_its_meaning_and_default():
    text = commented({}, 'mine.toml')
    for name, group in Config():
        for key in type(group).model_fields if isinstance(group, Settings) else [name]:
            assert re.search(rf'(?m)^(# )?{key} =', text), key
    # what is a comment holds the default: with all of them taken, nothing changes
    taken = re.sub(r'(?m)^# (?=[a-z_0-9]+ = )', '', text)
    assert build_config(tomllib.loads(taken)) == Config()
    assert '# Regions' in text or '# Seconds' in text
    assert '``' not in text


@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_completion_knows_the_options_and_their_choices(shell, capsys):
    assert tools.main(['completion', shell]) == 0
    script = capsys.readouterr().out
    assert '--participant-label' in script
    assert 'cuda' in script
    assert tools.main(['completion', shell, '--of', 'tools']) == 0
    assert 'weights' in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f'{sys.executable} -m bids_neurodecode.cli.tools presets show default | head -n 1'
    done = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert len(done.stdout.splitlines()) == 1


def test_help_is_light():
    """No heavy library is imported for the help."""
    code = (
        'import sys\n'
        'from bids_neurodecode.cli import tools\n'
        "tools.main(['demo', '--help'])\n"
        "heavy = {'numpy', 'pydantic', 'nilearn', 'torch', 'pandas'} & set(sys.modules)\n"
        'sys.exit(f"imported: {heavy}" if heavy else 0)\n'
    )
    start = time.process_time()
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert time.process_time() - start < 1
    assert done.returncode == 0, done.stderr
