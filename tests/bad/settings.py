"""Bad settings, filters and arguments, and those that do not go with the data."""

import io
import json

import h5py
import numpy as np
from safetensors.numpy import save_file

from tests.bad_input import FILM, config, fault, filters

# the derivatives


# settings against data


@fault(r'No image of sub-01 is shown twice')
def no_repeats_for_a_noise_ceiling(data):
    for run in data.each_run():
        name = {'01': 'a.png', '02': 'b.png'}[run['run']]
        data.rewrite_events([[2, 2, 'x', name]], **run)
    return config(data, '[selection]\nmeasure = "noise_ceiling"\n')


@fault(r'events\.tsv: .*at least two of them', runs=('01',))
def one_run_to_split_by(data):
    return config(data, '[split]\nby = "run"\n')


@fault(r"'reconstruction' needs images.* shows films", **FILM)
def images_asked_for_films_there(data):
    return ['--system', 'reconstruction']


# folders and the machine


@fault(r'Cannot read the filters in .*filters\.json: maximum recursion depth')
def filters_nested_too_deep(data):
    file = data.root.parent / 'filters.json'
    file.write_text('[' * 100_000)
    return ['--bids-filter-file', str(file)]


@fault(r'selection\.rule = "fdr" .*no stimulus is repeated in another run', one=True)
def repeats_within_runs_alone(data):
    for run, name in (('01', 'a.png'), ('02', 'b.png')):
        data.rewrite_events([[2, 2, 'x', name], [6, 2, 'x', name], [10, 2, 'x', name]], run=run)
    return config(data, '[selection]\nmeasure = "ncsnr"\nrule = "fdr"\n')


# arguments, filters, settings


for _content, _line in (
    ({'bold': {'run': 2**63}}, r'value of bold\.run in .*filters\.json is of a wrong type'),
    (
        {'bald': {'session': 'a'}},
        r"Unknown query 'bald' in .*filters\.json\. Did you mean bold\? Known: bold",
    ),
    ({'bold': {'sesion': 'a'}}, r"Unknown entity 'sesion' .*Did you mean session"),
    ({'bold': {'session': {'a': 1}}}, r'value of bold\.session in .*filters\.json'),
    ([], r'Cannot read the filters in'),
    ({'bold': {'acquisition': 'none'}}, r'No preprocessed BOLD .*that the filter selects'),
):

    @fault(_line)
    def filters_that_cannot_be_used(data, content=_content):
        return filters(data, content)


for _option, _line in (
    (['--system', 'movie'], r"'movie' needs films.* shows images"),
    (['--bids-filter-file', '/nowhere/f.json'], r'There is no filter file'),
    (['--preset', 'best'], r"No preset or file is called 'best'"),
    (['-d', 'a=/x', 'a=/y'], r"The derivatives name 'a' is given twice"),
    (['--participant', '01'], r'Unknown option --participant\. Did you mean --participant-label'),
):

    @fault(_line)
    def option_that_cannot_be_used(data, option=_option):
        return option


def censored(data, n_left):
    """Make all volumes of run 2 but some outliers of motion."""
    rows = [['framewise_displacement', 'std_dvars', 'trans_x']]
    rows += [[0.1 if n < n_left else 9, 1.0, n % 3] for n in range(data.spec['n_volumes'])]
    text = ''.join('\t'.join(map(str, row)) + '\n' for row in rows)
    for run in ('01', '02'):
        quiet = text.replace('\n9\t', '\n0.1\t') if run == '01' else text
        data.confounds(run=run).write_text(quiet)
        data.confounds(run=run).with_suffix('.json').write_text('{}')
    return config(data, '[clean]\nstrategy = ["scrub"]\n')


@fault(r'censors all 20 volumes of the run of .*run-02_desc-confounds')
def scrubbing_removes_a_run(data):
    return censored(data, 0)


# settings out of range, and files that are none

for _text in (
    'seed = -1\n',
    'seed = "one"\n',
    'system = "thoughts"\n',
    'split = 3\n',
    '[split]\nn_folds = -3\n',
    '[split]\nby = "colour"\n',
    '[split]\ntest = []\n',
    '[selection]\nmeasure = "best"\n',
    '[selection]\nthreshold = nan\n',
    '[selection]\nshare = 7\n',
    '[evaluation]\nn_bootstrap = 10_000_000_000_000\n',
    '[clean]\nhigh_pass = nan\n',
    '[clean]\nhigh_pass = inf\n',
    '[clean]\nhigh_pass = -1\n',
    '[betas]\nmodel = "Z"\n',
    '[reconstruction]\ngenerator = "dreams"\n',
    '[features]\nsize = 0\n',
    '[features]\nsize = 100_000\n',
):

    @fault(r'config\.toml: (seed|system|split|selection|evaluation|clean|betas|recons|features)')
    def setting_out_of_range(data, text=_text):
        return config(data, text)


for _text, _line in (
    ('[clean]\ncolumns = [""]\n', r'clean\.columns\.0: String should have at least 1 character'),
    ('[atlas]\nregions = [" "]\n', r'atlas\.regions\.0: String should have at least 1 character'),
    ('[events]\nduration = -1\n', r'events\.duration: Input should be greater than 0'),
    ('[events]\nfilm_onset = -0.5\n', r'events\.film_onset: Input should be greater than or'),
):

    @fault(rf'config\.toml: {_line}')
    def setting_is_named_as_it_was_written(data, text=_text):
        return config(data, text)


for _text in ('seed = true', '[split]\nn_folds = true', '[clean]\nhigh_pass = false'):

    @fault(r'config\.toml: .*= (true|false): true and false are no value of it')
    def switch_in_the_place_of_a_number(data, text=_text):
        return config(data, text)


@fault(r'A high-pass of 128 Hz is not between 0 and 0\.25 Hz')
def high_pass_in_seconds(data):
    return config(data, '[clean]\nhigh_pass = 128\n')


for _text in ('seed = \n', '= 1\n', '[split]\n[split]\n'):

    @fault(r'Cannot read the settings in .*config\.toml')
    def settings_that_are_none(data, text=_text):
        return config(data, text)


@fault(r"settings in .*latin\.toml: 'utf-8' codec")
def settings_in_latin_1(data):
    file = data.root.parent / 'latin.toml'
    file.write_bytes('# Gedächtnis\n'.encode('latin-1'))
    return ['--config-file', str(file)]


for _name in ('.', '/nowhere/c.toml'):

    @fault(r'(No preset or file is called|Cannot read the settings in)')
    def settings_that_are_not_there(data, name=_name):
        return ['--config-file', str(data.root / name)]


@fault(r"filters\.json: 'utf-8' codec")
def filters_in_latin_1(data):
    file = data.root.parent / 'filters.json'
    file.write_bytes('{"bold": {"session": "ä"}}'.encode('latin-1'))
    return ['--bids-filter-file', str(file)]


for _content in ({'bold': 'a'}, {'bold': {'run': 1.5}}):

    @fault(r'filters\.json')
    def filter_of_another_type(data, content=_content):
        return filters(data, content)


for _option in (
    ['--nprocs', '0'],
    ['--nprocs', 'many'],
    ['--mem', 'lots'],
    ['--mem', '-1'],
    ['--mem', 'nan'],
    ['--omp-nthreads', '0'],
    ['--random-seed', 'x'],
    ['--random-seed', '-1'],
    ['--participant-label', ''],
    ['--participant-label', '../01'],
    ['--session-label', 'a/b'],
    ['--task-id', '*'],
    ['--run-label', '1-2'],
    ['--device', 'tpu'],
    ['--mode', 'dream'],
    ['--level', 'half'],
    ['--system', 'x'],
    ['--n-gpus', '-1'],
    ['-d', 'x'],
    ['-d', '=x'],
    ['--config-file', 'x' * 300],
    ['--models-from', '~nobody-of-this-name/models'],
    ['--work-dir', ''],
    ['OUTPUT', ''],
    ['OUTPUT', 'caf\udce9'],
):

    @fault(r'(Argument |There is no --).*See bids_neurodecode --help')
    def value_that_an_option_does_not_take(data, option=_option):
        return option


for _option, _line in (
    (['--stimuli-dir', '/nowhere'], 'There is no folder /nowhere'),
    (['--space', '..'], r"There is no space '\.\.'"),
    (['--recipe', 'cake'], "No recipe or file is called 'cake'"),
    (['--study', 'none'], "No study or file is called 'none'"),
    (['--models-from', '/nowhere'], '--models-from is for --mode predict'),
    (['--bids-database-dir', '/dev/null/x'], 'is a file, and a folder is needed there'),
):

    @fault(_line)
    def value_that_leads_nowhere(data, option=_option):
        return option


# recipes, studies, splits, tables of features

DEEP = 'x = ' + '[' * 50_000
RECIPE = (
    'title = "Mine"\nchecked = "2026-01-01"\nsource = "https://example.org"\n'
    '[[recognise]]\nnames = ["small"]\n'
)


def write(data, name, content):
    """Write a file beside the dataset."""
    file = data.root.parent / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


for _text, _line in (
    (DEEP, 'maximum recursion depth'),
    ('x = ' + '9' * 5000, 'Exceeds the limit'),
    ('\0', 'Invalid statement'),
    ('title = 3', 'title'),
    (RECIPE + '[settings]\ncolour = 1\n', 'colour: unknown key'),
    (RECIPE + '[settings.split]\nfile = "../../secret.tsv"\n', 'lies outside of the folder'),
    (RECIPE + '[settings.split]\nfile = "/etc/passwd"\n', 'lies outside of the folder'),
    (RECIPE + '[settings.split]\nfile = "gone.tsv"\n', 'there is no file'),
):

    @fault(rf'recipe .*mine\.toml: .*{_line}')
    def recipe_that_cannot_be_used(data, text=_text):
        return ['--recipe', write(data, 'mine.toml', text)]


for _text, _line in (
    (DEEP, 'maximum recursion depth'),
    ('x = ' + '9' * 5000, 'Exceeds the limit'),
    ('title = 3', 'title'),
    ('', 'title: Field required'),
):

    @fault(rf'study .*mine\.toml: .*{_line}')
    def study_that_cannot_be_used(data, text=_text):
        return ['--study', write(data, 'mine.toml', text)]


for _name, _content in (
    ('s.json', '[' * 100_000),
    ('s.json', '{}'),
    ('s.json', '{"train": 3'),
    ('s.json', '{"train": ["zz"], "test": ["yy"]}'),
    ('s.json', '{"train": ["a.png"], "test": ["a.png"]}'),
    ('s.json', '{"variants": 3}'),
    ('s.json', '{"variants": [3], "x": 2}'),
    ('s.tsv', ''),
    ('s.tsv', b'\xff\xfe\x00'),
    ('s.tsv', 'a\tb\n1\t2\n'),
    ('s.tsv', 'stimulus\tsplit\nzz\ttrain\n'),
    ('s.tsv', 'stimulus\tsplit\na.png\tmaybe\n'),
    ('s.tsv', 'stimulus\tsplit\na.png\ttrain\na.png\ttest\n'),
):

    @fault(r'split .*s\.(json|tsv)')
    def split_that_cannot_be_used(data, name=_name, content=_content):
        file = write(data, name, content)
        return config(data, f'[split]\nby = "given"\nfile = "{file}"\n')


def features(data, name, content):
    file = write(data, name, content)
    return config(data, f'[features]\nextractor = "table"\ntable = "{file}"\n')


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }"
HUGE = b'\x93NUMPY\x01\x00v\x00' + HEADER.ljust(117) + b'\n'
for _name, _content, _line in (
    ('f.tsv', '', 'it is empty'),
    ('f.tsv', 'stim_file\tx\na.png\t1\n', 'has no row for 2 of 3 stimuli'),
    ('f.tsv', 'stim_file\tx\na.png\tnan\nb.png\t1\nfaces/c.png\t2\n', 'no finite number'),
    ('f.tsv', 'stim_file\tx\na.png\tinf\nb.png\t1\nfaces/c.png\t2\n', 'no finite number'),
    ('f.tsv', 'stim_file\tx\na.png\tred\nb.png\t1\nfaces/c.png\t2\n', 'is not a number'),
    ('f.tsv', 'stim_file\tx\na.png\t1\nb.png\t1\nfaces/c.png\t1\n', 'are alike'),
    ('f.tsv', 'stim_file\tx\na.png\t1\na.png\t2\nb.png\t1\n', 'are both of'),
    ('f.npy', HUGE, 'mmap length is greater than file size'),
    ('f.h5', 'none', 'file signature not found'),
    ('f.safetensors', b'\0\0\0\0\0\0\0\x10{}', '[Hh]eader ?[Tt]oo ?[Ll]arge'),
    ('f.xyz', '', 'of an unknown type'),
):

    @fault(rf'f\.\w+.*{_line}')
    def features_that_cannot_be_used(data, name=_name, content=_content):
        return features(data, name, content)


@fault(r'f\.npy: .*Python objects')
def features_that_can_run_code(data):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{'a': 1}], dtype=object), allow_pickle=True)
    return features(data, 'f.npy', buffer.getvalue())


@fault(r'header of .*f\.h5 promises 1200000000000 bytes')
def features_that_are_not_stored(data):
    extra = features(data, 'f.h5', b'')
    with h5py.File(data.root.parent / 'f.h5', 'w') as file:
        file.create_dataset('x', shape=(3, 10**11), dtype='f4', chunks=(1, 10**6))
    return extra


def stored_as_bytes(file, secret):
    file.create_dataset('x', (3, 4), 'u1', external=[(str(secret), 0, 12)])


def stored_in_pieces(file, secret):
    layout = h5py.VirtualLayout((3, 4), 'f4')
    layout[:] = h5py.VirtualSource(str(secret.with_suffix('.h5')), 'x', (3, 4))
    file.create_virtual_dataset('x', layout)


for _store in (stored_as_bytes, stored_in_pieces):

    @fault(r'f\.h5 says that its values lie in another file')
    def features_that_lie_elsewhere(data, store=_store):
        """HDF5 would open whatever file is named, ``/etc/passwd`` as well."""
        extra = features(data, 'f.h5', b'')
        secret = data.root.parent / 'secret.txt'
        secret.write_bytes(b'a secret of somebody')
        with h5py.File(data.root.parent / 'f.h5', 'w') as file:
            store(file, secret)
        return extra


for _text, _line in (
    ('[clean]\ncolumns = ["csf"]\n', r'column\(s\) csf.*clean\.columns'),
    ('[clean]\nstrategy = ["wm_csf"]\n', r'do not allow the strategy\(ies\) wm_csf'),
    ('[split]\nby = "run"\nn_folds = 5\n', r'events\.tsv: Cannot make 5 folds of 2 run'),
    ('[betas]\nprecomputed = "mine"\n', r"No derivatives are called 'mine'. Known: fmriprep"),
    (
        '[betas]\nprecomputed = "fmriprep"\n',
        r'No single-trial betas of sub-01 task-img in .*fmriprep',
    ),
    (
        f'seed = {"9" * 5000}\n',
        r'settings in .*config\.toml: Exceeds the limit .* value has 5000 digits\. Fix the file',
    ),
    (
        f'seed = {"[" * 50_000}\n',
        r'Cannot read the settings in .*config\.toml: maximum recursion depth',
    ),
    ('[evaluation]\nn_permutations = 1_000_000_000_000\n', r'evaluation\.n_permutations'),
    (
        '[features]\nextractor = "gabr"\n',
        r"features\.extractor = 'gabr' cannot be used: there is none of that name",
    ),
    (
        '[features]\nextractor = "clip"\n',
        r"features\.extractor = 'clip' cannot be used: it needs pretrained weights",
    ),
    ('colour = "red"\n', r'config\.toml: colour: unknown key'),
    ('schema_version = 99\n', r'config\.toml are of version 99'),
    (
        '[features]\nextractor = "table"\ntable = "/nowhere/f.tsv"\n',
        r'There is no feature table f\.tsv',
    ),
):

    @fault(_line)
    def settings_that_do_not_go_with_the_data(data, text=_text):
        return config(data, text)


# trained models


def models(data, content, settings='', label='01'):
    folder = data.root.parent / 'trained'
    (folder / f'sub-{label}' / 'models').mkdir(parents=True)
    made_by = {'GeneratedBy': [{'Name': 'bids_neurodecode'}], 'DatasetType': 'derivative'}
    description = {'Name': 'trained', 'BIDSVersion': '1.10.0', **made_by}
    (folder / 'dataset_description.json').write_text(json.dumps(description))
    model = folder / f'sub-{label}' / 'models' / f'sub-{label}_task-img_desc-linear_model'
    if content is not None:
        model.with_suffix('.safetensors').write_bytes(content)
    if settings is not None:
        model.with_suffix('.toml').write_text(settings)
    for other in ('02', '03'):
        place = folder / f'sub-{other}' / 'models'
        place.mkdir(parents=True)
        save_file({}, place / f'sub-{other}_task-img_desc-linear_model.safetensors')
        (place / f'sub-{other}_task-img_desc-linear_model.toml').write_text('')
    return ['--mode', 'predict', '--models-from', str(folder)]


for _content in (b'', b'x' * 20, b'\0\0\0\0\0\0\0\x10{}', b'\x02' + b'\0' * 7 + b'[]'):

    @fault(r'Cannot read the model .*linear_model\.safetensors', one=True)
    def model_that_is_none(data, content=_content):
        return models(data, content)


@fault(r'lacks the settings that it was trained with: there is no .*linear_model\.toml', one=True)
def model_without_settings(data):
    return models(data, b'x', None)


@fault(r'linear_model\.toml: colour: unknown key', one=True)
def model_with_settings_of_another_program(data):
    return models(data, b'x', 'colour = 3\n')


@fault(r'No one model of the system .reconstruction. for sub-01', one=True)
def model_of_somebody_else(data):
    return models(data, b'x', label='09')


@fault(r'No one model of the system .reconstruction. for sub-01', one=True)
def model_of_one_is_missing(data):
    return models(data, None)


@fault(r'The movie network has 4 training samples left in fold 1; .* longer films', **FILM)
def films_too_short_for_a_network(data):
    return config(data, '[movie]\nmodel = "network"\n[split]\ngap = 30.0\n')
