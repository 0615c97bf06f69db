import subprocess
import sys
import time

import pytest

from bids_neurodecode.cli.exits import FAILED, INTERRUPTED, NO_REPORT, USAGE, exit_code
from bids_neurodecode.cli.levels import plugin_of
from bids_neurodecode.cli.parser import (
    WEIGHTS_VARIABLE,
    build_parser,
    parse_arguments,
    settings_from,
)
from bids_neurodecode.cli.values import dashed
from bids_neurodecode.config import Config
from bids_neurodecode.errors import (
    ArgumentsError,
    DataError,
    InputError,
    ReportError,
    ResourceError,
)

CALL = ['/in', '/out', 'participant']


def test_nothing_but_the_positional_arguments_is_needed():
    arguments = parse_arguments(CALL)
    assert str(arguments.bids_dir) == '/in'
    assert arguments.derivatives == {}
    assert arguments.participant_label == ()
    assert arguments.work_dir.is_absolute()
    assert settings_from(arguments) == Config()


@pytest.mark.parametrize(
    ('option', 'field', 'value'),
    [
        (['--participant-label', 'sub-01', '02'], 'participant_label', ('01', '02')),
        (['--participant-label', '01', '--participant-label', '01'], 'participant_label', ('01',)),
        (['--session-label', 'ses-a'], 'session_label', ('a',)),
        (['--session-id', 'ses-a', 'b'], 'session_label', ('a', 'b')),
        (['--task-id', 'task-img', 'loc'], 'task_id', ('img', 'loc')),
        (['--task-label', 'img'], 'task_id', ('img',)),
        (['--run-label', '1'], 'run_label', ('1',)),
        (['--nthreads', '3'], 'nprocs', 3),
        (['--n-cpus', '3'], 'nprocs', 3),
        (['--level', 'betas'], 'level', 'betas'),
        (['--mem', '16G'], 'mem_gb', 16.0),
        (['--mem', '16384M'], 'mem_gb', 16.0),
        (['--mem', '2 TB'], 'mem_gb', 2048.0),
        (['--mem-gb', '16'], 'mem_gb', 16.0),
        (['--mem_gb', '1.5'], 'mem_gb', 1.5),
        (['--mem_mb', '16384'], 'mem_gb', 16.0),
        (['--mem-mb=16384'], 'mem_gb', 16.0),
        (['--mem-mb', '16G'], 'mem_gb', 16.0),
        (['--low-mem'], 'low_mem', True),
        (['--n_cpus', '3'], 'nprocs', 3),
        (['--participant_label', 'sub-01'], 'participant_label', ('01',)),
        (['-t', 'task-img'], 'task_id', ('img',)),
        (['--skip_bids_validation'], 'skip_bids_validation', True),
        (['-vv'], 'verbose', 2),
        (['--notrack'], 'verbose', 0),
    ],
)
def test_option(option, field, value):
    assert getattr(parse_arguments([*CALL, *option]), field) == value


def test_every_option_may_be_written_with_underscores():
    parser = build_parser()
    options = [o for action in parser._actions for o in action.option_strings if o[:2] == '--']
    assert len(options) > 40
    for option in options:
        assert dashed(f'--{option[2:].replace("-", "_")}') == option


def test_values_keep_their_underscores():
    arguments = parse_arguments([*CALL, '--preset=my_file_x.toml', '--config_file', '/a_b/c_d'])
    assert arguments.preset == 'my_file_x.toml'
    assert str(arguments.config_file) == '/a_b/c_d'


def test_one_step_at_a_time_takes_the_memory_of_one():
    both = [parse_arguments([*CALL, '--nprocs', '8', *low]) for low in ([], ['--low-mem'])]
    assert [plugin_of(arguments).arguments['n_procs'] for arguments in both] == [8, 1]


def test_derivatives_by_name():
    arguments = parse_arguments([*CALL, '-d', 'a=/x', '-d', 'b=/y'])
    assert {name: str(path) for name, path in arguments.derivatives.items()} == {
        'a': '/x',
        'b': '/y',
    }


@pytest.mark.parametrize(
    ('argv', 'line'),
    [
        (
            [*CALL, '--participant-lable', '01'],
            r'--participant-lable.*Did you mean --participant-',
        ),
        ([*CALL, '--devise=cuda'], r'Unknown option --devise\. Did you mean --device\?'),
        ([*CALL, '--task', 'image'], r'Did you mean --task-id\?'),
        (['--partcipant-label'], r'Did you mean --participant-label'),
        ([*CALL, '-d', 'a=/x', 'a=/y'], r"'a' is given twice"),
        ([*CALL, '-d', '/x'], r'NAME=PATH'),
        ([*CALL, '--mem', '16'], r"'16' is no amount of memory.*16G"),
        ([*CALL, '--mem', '0G'], r'no amount of memory'),
        ([*CALL, '--mem-gb', 'much'], r'no amount of memory'),
        ([*CALL, '--mem_mb', '-1'], r'mem-mb'),
        ([*CALL, '--partcipant_label', '01'], r'Did you mean --participant-label'),
        ([*CALL, '--nprocs', '0'], r'whole number of 1 or more'),
        ([*CALL, '--participant-label', '01_02'], r'letters, digits'),
        ([*CALL, '--system', 'dream'], r'there is no system .*movie'),
        ([*CALL, '--system', 'encodng'], r'Did you mean encoding\?'),
        ([*CALL, '--system', 'decoding'], r'Did you mean reconstruction\?'),
        ([*CALL, '--system', 'Encoder'], r'Did you mean encoding\?'),
        ([*CALL, '--system', 'film'], r'Did you mean movie\?'),
        ([*CALL, '--mode', 'predict'], r'needs --models-from'),
        ([*CALL, '--models-from', '/m'], r'--mode predict'),
        ([*CALL, '--device', 'cpu', '--n-gpus', '1'], r'contradicts'),
        ([*CALL, '--level', 'betas', '--study', 'x'], r'leave out --study'),
        ([*CALL, '--level', 'betas', '--system', 'encoding'], r'leave out --system'),
        (['/in', '/out', 'group', '--level', 'betas'], r'leave out group'),
        ([*CALL, '--dry-run', '--reports-only'], r'not allowed with'),
        ([*CALL, 'extra'], r"Unexpected argument 'extra'"),
        (['/in', '/out'], r'analysis_level'),
        (['/in', '/out', 'participants'], r"no analysis level 'participants'\. Did you mean part"),
        ([*CALL, '--device', 'cdua'], r"no --device 'cdua'\. Did you mean cuda\?"),
        ([], r'BIDS_DIR'),
    ],
)
def test_bad_argument_is_one_line(argv, line):
    with pytest.raises(ArgumentsError, match=line) as caught:
        parse_arguments(argv)
    assert '\n' not in str(caught.value)
    assert exit_code(caught.value) == USAGE


def test_weights_folder_from_the_environment(monkeypatch):
    monkeypatch.setenv(WEIGHTS_VARIABLE, '/w')
    assert str(parse_arguments(CALL).weights_dir) == '/w'
    assert str(parse_arguments([*CALL, '--weights-dir', '/v']).weights_dir) == '/v'


def test_command_line_wins_over_file_over_preset(tmp_path):
    preset, file = tmp_path / 'p.toml', tmp_path / 'c.toml'
    preset.write_text('seed = 1\nsystem = "movie"\n[betas]\nmodel = "B"\n')
    file.write_text('seed = 2\n[betas]\nn_components = 3\n')
    argv = [*CALL, '--preset', str(preset), '--config-file', str(file), '--random-seed', '3']
    config = settings_from(parse_arguments(argv))
    assert (config.seed, config.system) == (3, 'movie')
    assert (config.betas.model, config.betas.n_components) == ('B', 3)


def test_atlas_by_name_or_file_replaces_that_of_the_file(tmp_path):
    file = tmp_path / 'c.toml'
    file.write_text('[atlas]\nname = "Old"\nregions = ["V1"]\n')
    call = [*CALL, '--config-file', str(file), '--atlas']
    by_name = settings_from(parse_arguments([*call, 'Schaefer2018_desc-100Parcels7Networks']))
    assert by_name.atlas.name == 'Schaefer2018_desc-100Parcels7Networks'
    by_file = settings_from(parse_arguments([*call, '/a/x_dseg.nii.gz']))
    assert (by_file.atlas.name, str(by_file.atlas.file)) == (None, '/a/x_dseg.nii.gz')
    assert by_file.atlas.regions == ('V1',)


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('colour = 1\n', r'c\.toml: colour: unknown key'),
        ('[betas]\nmodl = "B"\n', r'c\.toml: betas\.modl: unknown key; did you mean betas\.model'),
        ('[betas]\nmodel = "Z"\n', r'c\.toml: betas\.model'),
        ('[split]\nby = "stimlus"\n', r'c\.toml: split\.by: Input .*; did you mean stimulus\?'),
        ('system = "encodng"\n', r"no system 'encodng'\. Did you mean encoding\?"),
        ('system = "decoding"\n', r"no system 'decoding'\. Did you mean reconstruction\?"),
        ('[reconstruction]\ngenerator = "smal"\n', r'Did you mean small\?'),
        ('schema_version = 99\n', r'c\.toml are of version 99'),
        ('seed = \n', r'Cannot read the settings in .*c\.toml'),
    ],
)
def test_bad_config_names_the_file(tmp_path, text, line):
    file = tmp_path / 'c.toml'
    file.write_text(text)
    with pytest.raises(ArgumentsError, match=line):
        settings_from(parse_arguments([*CALL, '--config-file', str(file)]))


def test_a_misspelt_preset_is_corrected():
    with pytest.raises(ArgumentsError, match='Did you mean retrieval'):
        settings_from(parse_arguments([*CALL, '--preset', 'retreival']))


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (ArgumentsError(''), USAGE),
        (InputError(''), USAGE),
        (ResourceError(''), USAGE),
        (DataError(''), FAILED),
        (ReportError(''), NO_REPORT),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(ZeroDivisionError())


@pytest.mark.parametrize('option', ['--help', '--version'])
def test_help_and_version_load_nothing_heavy(option):
    code = (
        'import sys\n'
        'from bids_neurodecode.cli.parser import parse_arguments\n'
        'try:\n'
        f'    parse_arguments([{option!r}])\n'
        'except SystemExit as end:\n'
        '    heavy = {"numpy", "pydantic", "bids", "nibabel", "torch", "nipype", "pandas"}\n'
        '    sys.exit(len(heavy & set(sys.modules)) + 10 * bool(end.code))\n'
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=False)
    assert done.returncode == 0
    assert time.monotonic() - start < 3  # 0.07 s measured; the modules are what is tested


def test_the_package_itself_can_be_run():
    def run(*options):
        command = [sys.executable, '-m', 'bids_neurodecode', *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run('--version').stdout.startswith('bids_neurodecode ')
    assert run('/in').returncode == USAGE
