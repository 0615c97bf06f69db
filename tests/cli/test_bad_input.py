"""Bad input: exit code 2, one line that names the file and the way out, nothing written."""

import importlib.util
import json
import os
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.cli.checks import check_all
from bids_neurodecode.cli.describe import describe
from bids_neurodecode.cli.exits import USAGE, exit_code
from bids_neurodecode.cli.parser import parse_arguments, settings_from
from bids_neurodecode.errors import NeurodecodeError

HAS_MAIN = importlib.util.find_spec('bids_neurodecode.cli.main') is not None
FAULTS = []
FILM = {'film': 'film.mp4'}
WAY_OUT = re.compile(
    r'\b(give|choose|add|mend|check|correct|run|make|replace|copy|leave|use|ask|name|found|known|'
    r'see|pass|get|split|write|free|install|fetch|resample|keep|presets?|invalid setting)\b',
    re.IGNORECASE,
)


def fault(line, **spec):
    """Register a function that spoils a dataset, and what the error says of it."""

    def register(spoil):
        FAULTS.append(pytest.param(spoil, line, spec, id=spoil.__name__))
        return spoil

    return register


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def config(data, text):
    file = data.root.parent / 'config.toml'
    file.write_text(text)
    return ['--config-file', str(file)]


def filters(data, content):
    file = data.root.parent / 'filters.json'
    file.write_text(json.dumps(content))
    return ['--bids-filter-file', str(file)]


def set_stimulus(data, name, **run):
    data.rewrite_events([[2, 2, 'x', name], [6, 2, 'y', 'b.png']], **run)


# the dataset


@fault(r'No dataset_description\.json in .*raw')
def no_description(data):
    (data.root / 'dataset_description.json').unlink()


@fault(r'Cannot read .*dataset_description\.json')
def description_is_not_json(data):
    (data.root / 'dataset_description.json').write_text('{"Name": ')


@fault(r'dataset_description\.json: it holds a list')
def description_is_a_list(data):
    (data.root / 'dataset_description.json').write_text('[]')


@fault(r'lacks "BIDSVersion"')
def description_without_version(data):
    edit_json(data.root / 'dataset_description.json', BIDSVersion=None)


@fault(r'is a derivative dataset')
def derivatives_as_raw(data):
    edit_json(data.root / 'dataset_description.json', DatasetType='derivative')


@fault(r'There is no folder .*raw')
def no_dataset(data):
    shutil.rmtree(data.root)


@fault(r'No participant \(sub-\* folder\)')
def empty_dataset(data):
    shutil.rmtree(data.root / 'sub-01')


@fault(r"no participant '77' in .* Found: 01")
def unknown_participant(data):
    return ['--participant-label', '77']


@fault(r"no session 'z' .*the names have no ses-")
def unknown_session(data):
    return ['--session-label', 'z']


@fault(r"no task 'rest' .*Found: img")
def unknown_task(data):
    return ['--task-id', 'rest']


@fault(r"no run '9' .*Found: 01, 02")
def unknown_run(data):
    return ['--run-label', '9']


@fault(r"no space 'T1w' .*MNI152NLin6Asym")
def unknown_space(data):
    return ['--space', 'T1w']


@fault(r'several spaces: MNI152NLin6Asym, T1w\. Choose', spaces=('MNI152NLin6Asym', 'T1w'))
def several_spaces(data):
    pass


@fault(r'Several tasks show stimuli: img, loc\. Choose', tasks=('img', 'loc'))
def several_tasks(data):
    pass


# the derivatives


@fault(r'No derivatives with preprocessed BOLD.*raw/derivatives')
def no_derivatives(data):
    shutil.rmtree(data.root / 'derivatives')


@fault(r'fmriprep is not a derivative dataset')
def derivatives_that_are_none(data):
    edit_json(data.derivatives / 'dataset_description.json', DatasetType='raw')
    return ['--derivatives', f'fmriprep={data.derivatives}']


@fault(r'No dataset_description\.json in .*fmriprep')
def derivatives_without_description(data):
    (data.derivatives / 'dataset_description.json').unlink()
    for run in data.each_run():
        data.bold(**run).unlink()  # with series in it, it is taken for derivatives
    return ['--derivatives', f'fmriprep={data.derivatives}']


@fault(r'There is no folder .*nowhere')
def derivatives_nowhere(data):
    return ['--derivatives', 'x=/nowhere/at/all']


@fault(r'No preprocessed BOLD.*fmriprep')
def no_preprocessed_bold(data):
    for run in data.each_run():
        data.bold(**run).unlink()
    return ['--derivatives', f'fmriprep={data.derivatives}']


@fault(r'The run sub-01 task-img run-01 is there twice')
def run_in_two_derivatives(data):
    shutil.copytree(data.derivatives, data.derivatives.with_name('other'))


@fault(r'one echo of several')
def only_single_echoes(data):
    for run in data.each_run():
        for path in (data.bold(**run), data.bold(**run, extension='.json')):
            for echo in '12':
                shutil.copy(
                    path, path.with_name(path.name.replace('_space', f'_echo-{echo}_space'))
                )
            path.unlink()


@fault(r'No brain mask for .*run-02.*desc-brain_mask')
def no_mask(data):
    data.mask(run='02').unlink()


@fault(r'No brain mask for')
def mask_of_another_acquisition(data):
    mask = data.mask()
    mask.rename(mask.with_name(mask.name.replace('_run-01', '_acq-x_run-01')))


@fault(r'No confounds for .*run-01')
def no_confounds(data):
    data.confounds().unlink()


@fault(r'No events for .*run-02')
def no_events(data):
    data.events(run='02').unlink()


@fault(r'confounds_timeseries\.tsv has 19 rows.*20 volumes')
def too_few_confound_rows(data):
    lines = data.confounds().read_text().splitlines()
    data.confounds().write_text('\n'.join(lines[:-1]) + '\n')


@fault(r'has 20 rows.*15 volumes')
def too_few_volumes(data):
    data.rewrite_bold(lambda values: values[..., :15])


@fault(r'column\(s\) csf.*clean\.columns')
def confound_column_that_is_not_there(data):
    return config(data, '[clean]\ncolumns = ["csf"]\n')


@fault(r'do not allow the strategy\(ies\) wm_csf')
def confound_strategy_that_is_not_there(data):
    return config(data, '[clean]\nstrategy = ["wm_csf"]\n')


# repetition times


def set_header_time(path, seconds):
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    image.header.set_zooms((3, 3, 3, seconds))
    nib.save(image, path)


@fault(r'No repetition time for .*bold\.nii\.gz')
def no_repetition_time(data):
    (data.root / 'task-img_bold.json').unlink()
    for run in data.each_run():
        data.bold(**run, extension='.json').unlink()
        set_header_time(data.bold(**run), 0)


@fault(r'disagree: .*bold\.json says 2 s, its header says 1\.5 s')
def header_disagrees_with_sidecar(data):
    set_header_time(data.bold(), 1.5)


@fault(r'disagree: .*fmriprep.* says 2 s, .*raw/task-img_bold\.json says 3 s')
def raw_sidecar_disagrees(data):
    edit_json(data.root / 'task-img_bold.json', RepetitionTime=3)


@fault(r'two runs disagree: 2 s .* 2\.5 s')
def runs_disagree(data):
    (data.root / 'task-img_bold.json').unlink()
    edit_json(data.bold(run='02', extension='.json'), RepetitionTime=2.5)
    set_header_time(data.bold(run='02'), 2.5)


@fault(r"RepetitionTime 'two'")
def repetition_time_is_text(data):
    edit_json(data.bold(extension='.json'), RepetitionTime='two')


# events


@fault(r'name no stimuli, and 1 condition\(s\) that are shown in two runs or more \(x\)')
def no_stim_file_column(data):
    for run in data.each_run():
        data.rewrite_events([[2, 2, 'x']], columns=['onset', 'duration', 'trial_type'], **run)


@fault(r'No row of .*events\.tsv shows a stimulus')
def no_stimulus_in_a_run(data):
    set_stimulus(data, 'n/a', run='01')
    data.rewrite_events([[2, 2, 'x', 'n/a']])


@fault(r'do not say how long images were shown \(no column duration\)')
def no_duration_column(data):
    data.rewrite_events([[2, 'a.png']], columns=['onset', 'stim_file'])


@fault(r'Row 3 of .*events\.tsv lasts until 52 s, but its run ends at 40 s')
def event_after_the_run(data):
    data.rewrite_events([[2, 2, 'x', 'a.png'], [50, 2, 'y', 'b.png']])


@fault(r'Row 2 of .*lasts until 46 s')
def event_that_ends_after_the_run(data):
    data.rewrite_events([[36, 10, 'x', 'a.png']])


@fault(r'Rows 2 and 3 of .* overlap')
def overlapping_events(data):
    data.rewrite_events([[2, 4, 'x', 'a.png'], [5, 2, 'y', 'b.png']])


@fault(r'starts before the run, at -2 s')
def negative_onset(data):
    data.rewrite_events([[-2, 2, 'x', 'a.png']])


@fault(r"onset 'n/a'; it must be a number")
def missing_onset(data):
    data.rewrite_events([['n/a', 2, 'x', 'a.png']])


@fault(r"onset 'nan'; it must be a number")
def onset_nan(data):
    data.rewrite_events([['nan', 2, 'x', 'a.png']])


@fault(r"duration 'long'; it must be a number")
def duration_is_text(data):
    data.rewrite_events([[2, 'long', 'x', 'a.png']])


@fault(r'lasts -2 s; a stimulus cannot last less')
def negative_duration(data):
    data.rewrite_events([[2, -2, 'x', 'a.png']])


@fault(r'Trials last from 2 to 5 s')
def several_durations(data):
    data.rewrite_events([[2, 2, 'x', 'a.png'], [10, 5, 'y', 'b.png']])


@fault(r'Cannot read the table .*events\.tsv')
def events_are_empty(data):
    data.events().write_text('')


@fault(r'Cannot read the table .*events\.tsv')
def events_are_binary(data):
    data.events().write_bytes(b'\xff\xfe\x00onset\xd8')


# stimuli


@fault(r"'gone\.png' in .*events\.tsv is not there")
def stimulus_missing(data):
    set_stimulus(data, 'gone.png')


@fault(r'stimulus .*a\.png .* is empty')
def stimulus_empty(data):
    (data.root / 'stimuli' / 'a.png').write_bytes(b'')


@fault(r'a\.xyz .* of an unknown type')
def stimulus_of_unknown_type(data):
    (data.root / 'stimuli' / 'a.xyz').write_text('x')
    set_stimulus(data, 'a.xyz')


@fault(r"'\.\./secret\.png' .* leads out of")
def stimulus_above(data):
    shutil.copy(data.root / 'stimuli' / 'a.png', data.root / 'secret.png')
    set_stimulus(data, '../secret.png')


@fault(r'leads out of')
def stimulus_absolute(data):
    set_stimulus(data, str(data.root / 'stimuli' / 'a.png'))


@fault(r"'link\.png' .* leads out of")
def stimulus_link_out(data):
    target = data.root.parent / 'outside.png'
    shutil.copy(data.root / 'stimuli' / 'a.png', target)
    (data.root / 'stimuli' / 'link.png').symlink_to(target)
    set_stimulus(data, 'link.png')


@fault(r'was not fetched')
def stimulus_not_fetched(data):
    (data.root / 'stimuli' / 'link.png').symlink_to('../.git/annex/objects/gone')
    set_stimulus(data, 'link.png')


@fault(r'Cannot read the image .*a\.png')
def image_that_is_none(data):
    (data.root / 'stimuli' / 'a.png').write_text('not an image')


@fault(r'shows both images \(a\.png\) and films \(film\.mp4\)')
def images_and_films(data):
    (data.root / 'stimuli' / 'film.mp4').write_bytes(b'x')
    set_stimulus(data, 'film.mp4')


# values


@fault(r'run-01.*is cut short or corrupt')
def truncated_series(data):
    path = data.bold()
    path.write_bytes(path.read_bytes()[:-200])


@fault(r'Cannot read .*bold\.nii\.gz as NIfTI')
def series_is_text(data):
    data.bold().write_text('not an image at all')


@fault(r'Cannot read .*bold\.nii\.gz as NIfTI')
def series_is_empty(data):
    data.bold().write_bytes(b'')


@fault(r'is cut short or corrupt')
def series_with_a_flipped_byte(data):
    path = data.bold()
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the checksum at the end
    path.write_bytes(bytes(content))


@fault(r'has the shape \(4, 4, 3\); a series has four')
def series_of_three_dimensions(data):
    image = nib.load(data.bold())
    nib.save(image.slicer[..., 0], data.bold())


@fault(r'holds 1 values that are NaN or infinite inside the mask \(first in volume 7\)')
def nan_in_the_series(data):
    def spoil(values):
        values[1, 1, 1, 7] = np.nan
        return values

    data.rewrite_bold(spoil)


@fault(r'is zero in the whole mask\. Make')
def series_of_zeros(data):
    data.rewrite_bold(np.zeros_like)


@fault(r'is zero in the whole mask in volume 3')
def volume_of_zeros(data):
    data.rewrite_bold(lambda values: values * (np.arange(20) != 3))


@fault(r'brain_mask\.nii\.gz is on another grid \(4x4x2')
def mask_of_another_shape(data, datasets):
    datasets.write_mask(data.mask(), np.ones((4, 4, 2)))


@fault(r'is on another grid .*from \(3, 0, 0\)')
def mask_of_another_place(data, datasets):
    affine = datasets.AFFINE.copy()
    affine[0, 3] = 3
    datasets.write_mask(data.mask(), np.ones((4, 4, 3)), affine)


@fault(r'holds no voxel')
def empty_mask(data, datasets):
    datasets.write_mask(data.mask(), np.zeros((4, 4, 3)))


@fault(r'run-02.*is on another grid')
def runs_of_different_grids(data, datasets):
    affine = datasets.AFFINE.copy()
    affine[2, 3] = 6
    values = np.ones((4, 4, 3, 20))
    datasets.write_series(data.bold(run='02'), values, 2.0, affine)
    datasets.write_mask(data.mask(run='02'), np.ones((4, 4, 3)), affine)


def write_atlas(data, labels, origin=0.0):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = origin
    path = data.root.parent / 'my_space-MNI152NLin6Asym_dseg.nii.gz'
    nib.save(nib.Nifti1Image(labels.astype(np.int16), affine), path)
    path.with_name('my_space-MNI152NLin6Asym_dseg.tsv').write_text('index\tname\n1\tV1\n2\tV2\n')
    return path


@fault(r'my_.*dseg\.nii\.gz has no voxel in the mask')
def atlas_elsewhere(data):
    return ['--atlas', str(write_atlas(data, np.ones((4, 4, 3)), origin=500.0))]


@fault(r'There is no atlas file .*none\.nii\.gz')
def atlas_missing(data):
    return ['--atlas', '/nowhere/none.nii.gz']


@fault(r'V2 .*have no voxel|no voxel .*V2|V2')
def region_outside(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    return config(data, f'[atlas]\nfile = "{path}"\nregions = ["V2"]\n')


# settings against data


@fault(r'No image of sub-01 is shown twice')
def no_repeats_for_a_noise_ceiling(data):
    for run in data.each_run():
        name = {'01': 'a.png', '02': 'b.png'}[run['run']]
        data.rewrite_events([[2, 2, 'x', name]], **run)
    return config(data, '[selection]\nmeasure = "noise_ceiling"\n')


@fault(r'events\.tsv: Cannot make 5 folds of 2 run')
def fewer_runs_than_folds(data):
    return config(data, '[split]\nby = "run"\nn_folds = 5\n')


@fault(r'events\.tsv: .*at least two of them', runs=('01',))
def one_run_to_split_by(data):
    return config(data, '[split]\nby = "run"\n')


@fault(r"'movie' needs films.* shows images")
def films_asked_for_images_there(data):
    return ['--system', 'movie']


@fault(r"'reconstruction' needs images.* shows films", **FILM)
def images_asked_for_films_there(data):
    return ['--system', 'reconstruction']


@fault(r"No derivatives are called 'mine'. Known: fmriprep")
def betas_of_unknown_derivatives(data):
    return config(data, '[betas]\nprecomputed = "mine"\n')


@fault(r'No single-trial betas of sub-01 task-img in .*fmriprep')
def no_betas(data):
    return config(data, '[betas]\nprecomputed = "fmriprep"\n')


# films


@fault(r'film\.mp4 lasts 12 s, and .*events\.tsv shows it for 40 s', **FILM)
def film_shorter_than_its_run(data, datasets):
    datasets.write_film(data.root / 'stimuli' / 'film.mp4', 12)


@fault(r'film\.mp4 has a variable frame rate', **FILM)
def film_of_variable_rate(data, datasets):
    datasets.write_film(data.root / 'stimuli' / 'film.mp4', 40, variable=True)


@fault(r'film\.mp4 has no video stream', **FILM)
def film_without_pictures(data, datasets):
    datasets.write_sound(data.root / 'stimuli' / 'film.mp4')


@fault(r'Cannot read the film .*film\.mp4', **FILM)
def film_that_is_none(data):
    (data.root / 'stimuli' / 'film.mp4').write_text('not a film' * 50)


# folders and the machine


@fault(r'output folder .*raw equals or lies inside the input')
def output_is_the_input(data):
    return ['OUTPUT', str(data.root)]


@fault(r'output folder .* equals or lies inside the input')
def output_inside_the_input(data):
    return ['OUTPUT', str(data.root / 'derivatives' / 'mine')]


@fault(r'output folder .* equals or lies inside the input')
def output_inside_by_a_link(data):
    (data.root.parent / 'link').symlink_to(data.root)
    return ['OUTPUT', str(data.root.parent / 'link' / 'out')]


@fault(r'output folder .*prep equals or lies inside the input .*prep')
def output_is_a_derivative_input(data):
    shutil.copytree(data.derivatives, data.root.parent / 'prep')
    prep = str(data.root.parent / 'prep')
    return ['OUTPUT', prep, '-d', f'prep={prep}']


@fault(r'work folder .* equals or lies inside the input')
def work_inside_the_input(data):
    return ['--work-dir', str(data.root / 'work')]


@fault(r'index folder .* equals or lies inside the input')
def index_inside_the_input(data):
    return ['--bids-database-dir', str(data.root / 'index')]


@fault(r'is a file, and a folder is needed')
def output_is_a_file(data):
    (data.root.parent / 'file').write_text('')
    return ['OUTPUT', str(data.root.parent / 'file' / 'out')]


@fault(r'belongs to another program \(fMRIPrep\)')
def output_of_another_program(data):
    shutil.copytree(data.derivatives, data.root.parent / 'theirs')
    return ['OUTPUT', str(data.root.parent / 'theirs')]


@fault(r'no folder of weights')
def weights_missing(data):
    return ['--weights-dir', '/nowhere/weights']


@fault(r'There is no plugin file')
def plugin_missing(data):
    return ['--use-plugin', '/nowhere/plugin.yml']


@fault(r'Cannot use the plugin file .*plugin\.yml')
def plugin_without_a_name(data):
    file = data.root.parent / 'plugin.yml'
    file.write_text('plugin_args: {}\n')
    return ['--use-plugin', str(file)]


def plugin(data, text):
    file = data.root.parent / 'plugin.yml'
    file.write_text(text)
    return ['--use-plugin', str(file)]


@fault(r'plugin\.yml: plugin_args is no table of names and values')
def plugin_arguments_in_a_list(data):
    return plugin(data, 'plugin: MultiProc\nplugin_args: [1, 2]\n')


@fault(r"plugin\.yml: plugin_args\.n_procs is 'many', and a whole number above 0 is needed")
def plugin_arguments_of_another_type(data):
    return plugin(data, 'plugin: MultiProc\nplugin_args: {n_procs: many}\n')


@fault(r'plugin\.yml: plugin_args\.memory_gb is -1, and a number above 0 is needed')
def plugin_without_memory(data):
    return plugin(data, 'plugin: Linear\nplugin_args: {memory_gb: -1}\n')


@fault(r'plugin\.yml: maximum recursion depth exceeded')
def plugin_nested_too_deep(data):
    return plugin(data, 'plugin: MultiProc\nplugin_args: ' + '[' * 3000 + ']' * 3000)


@fault(r'plugin Condor needs the command condor_qsub, which is not on this machine')
def plugin_without_its_command(data):
    return plugin(data, 'plugin: Condor\n')


@fault(r'logs is a file, and a folder is needed')
def logs_are_a_file(data):
    (data.root.parent / 'out').mkdir()
    (data.root.parent / 'out' / 'logs').write_text('')


@fault(r'sub-01 is a file, and a folder is needed')
def participant_is_a_file(data):
    (data.root.parent / 'out').mkdir()
    (data.root.parent / 'out' / 'sub-01').write_text('')


@fault(r'Cannot read the settings in .*config\.toml: Exceeds the limit')
def number_of_five_thousand_digits(data):
    return config(data, f'seed = {"9" * 5000}\n')


@fault(r'Cannot read the settings in .*config\.toml: maximum recursion depth')
def settings_nested_too_deep(data):
    return config(data, f'seed = {"[" * 50_000}\n')


@fault(r'Cannot read .*dataset_description\.json: maximum recursion depth')
def description_nested_too_deep(data):
    (data.root / 'dataset_description.json').write_text('[' * 100_000)


@fault(r'Cannot read .*_bold\.json: maximum recursion depth')
def sidecar_nested_too_deep(data):
    for file in data.derivatives.rglob('*_bold.json'):
        file.write_text('[' * 100_000)


@fault(r'Cannot read the filters in .*filters\.json: maximum recursion depth')
def filters_nested_too_deep(data):
    file = data.root.parent / 'filters.json'
    file.write_text('[' * 100_000)
    return ['--bids-filter-file', str(file)]


@fault(r'value of bold\.run in .*filters\.json is of a wrong type')
def filter_by_a_number_that_no_index_holds(data):
    return filters(data, {'bold': {'run': 2**63}})


@fault(r'evaluation\.n_permutations')
def a_million_million_permutations(data):
    return config(data, '[evaluation]\nn_permutations = 1_000_000_000_000\n')


@fault(r"features\.extractor = 'gabr' cannot be used: there is none of that name")
def extractor_that_is_not_there(data):
    return config(data, '[features]\nextractor = "gabr"\n')


@fault(r"features\.extractor = 'clip' cannot be used: it needs pretrained weights")
def extractor_of_encoding_models(data):
    return config(data, '[features]\nextractor = "clip"\n')


@fault(r'selection\.rule = "fdr" .*no stimulus is repeated in another run')
def repeats_within_runs_alone(data):
    for run, name in (('01', 'a.png'), ('02', 'b.png')):
        data.rewrite_events([[2, 2, 'x', name], [6, 2, 'x', name], [10, 2, 'x', name]], run=run)
    return config(data, '[selection]\nmeasure = "ncsnr"\nrule = "fdr"\n')


@fault(r'was centred \(100% of its voxels vary more than their mean\)', **FILM)
def centred_series_in_percent(data):
    image = nib.load(data.bold())
    values = np.asarray(image.dataobj, dtype=np.float32)
    values = values - values.mean(axis=-1, keepdims=True)
    nib.save(nib.Nifti1Image(values, image.affine, image.header), data.bold())


@fault(r'--mem asks for 1048576\.0 GB')
def more_memory_than_there_is(data):
    return ['--mem', '1024T']


@fault(r'sub-01 .*need about .* GB of memory, and 0\.1 GB')
def too_little_memory(data):
    return ['--mem', '100M']


@fault(r'No trained models|There is no folder .*models')
def models_missing(data):
    return ['--mode', 'predict', '--models-from', '/nowhere/models']


@fault(r'no results of participants in .*out')
def group_before_participants(data):
    return ['LEVEL', 'group']


# arguments, filters, settings


@fault(r"Unknown query 'bald' in .*filters\.json\. Known: bold")
def unknown_query(data):
    return filters(data, {'bald': {'session': 'a'}})


@fault(r"Unknown entity 'sesion' .*Did you mean 'session'")
def unknown_entity(data):
    return filters(data, {'bold': {'sesion': 'a'}})


@fault(r'value of bold\.session in .*filters\.json')
def filter_of_a_wrong_type(data):
    return filters(data, {'bold': {'session': {'a': 1}}})


@fault(r'Cannot read the filters in')
def filter_is_a_list(data):
    return filters(data, [])


@fault(r'There is no filter file')
def filter_missing(data):
    return ['--bids-filter-file', '/nowhere/f.json']


@fault(r'No preprocessed BOLD .*that the filter selects')
def filter_that_selects_nothing(data):
    return filters(data, {'bold': {'acquisition': 'none'}})


@fault(r'config\.toml: colour: unknown key')
def unknown_setting(data):
    return config(data, 'colour = "red"\n')


@fault(r'config\.toml are of version 99')
def settings_of_another_version(data):
    return config(data, 'schema_version = 99\n')


@fault(r"No preset or file is called 'best'")
def unknown_preset(data):
    return ['--preset', 'best']


@fault(r"The derivatives name 'a' is given twice")
def derivatives_named_twice(data):
    return ['-d', 'a=/x', 'a=/y']


@fault(r'Unknown option --participant\. Did you mean --participant-label')
def unknown_option(data):
    return ['--participant', '01']


# running


def run_cli(argv, capsys):
    """Call the program in this process: its exit code and what it writes to stderr."""
    if HAS_MAIN:
        from bids_neurodecode.cli.main import main

        return main(argv), capsys.readouterr().err
    try:
        arguments = parse_arguments(argv)
        check_all(arguments, settings_from(arguments))
    except NeurodecodeError as error:
        return exit_code(error), f'error: {error}\n'
    return 0, ''


def command(data, extra=()):
    """Return the command line for a dataset; OUTPUT and LEVEL in ``extra`` replace the usual."""
    extra = list(extra)
    usual = {'OUTPUT': str(data.root.parent / 'out'), 'LEVEL': 'participant'}
    for key in usual:
        if key in extra:
            place = extra.index(key)
            usual[key] = extra[place + 1]
            del extra[place : place + 2]
    work = [] if '--work-dir' in extra else ['--work-dir', str(data.root.parent / 'work')]
    options = ['--skip-bids-validation', *work, *extra]
    return [str(data.root), usual['OUTPUT'], usual['LEVEL'], *options]


def listing(folder):
    return {
        path: path.lstat().st_mtime_ns if path.is_file() else None for path in folder.rglob('*')
    }


@pytest.fixture(autouse=True)
def _no_weights_from_outside(monkeypatch):
    monkeypatch.delenv('BIDS_NEURODECODE_WEIGHTS', raising=False)


# tables and series that would be read wrongly


@fault(r'Row 2 of .*_events\.tsv has 5 fields, and its header names 4')
def rows_of_events_end_in_a_tab(data):
    lines = data.events().read_text().splitlines()
    data.events().write_text('\n'.join([lines[0], *(f'{line}\t' for line in lines[1:])]))


@fault(r'Row 2 of .*_events\.tsv has a stray quotation mark')
def stray_quotes_swallow_rows(data):
    rows = [[2, 2, '"open', 'a.png'], [6, 2, 'k', 'b.png'], [10, 2, 'close"', 'a.png']]
    data.rewrite_events(rows)


@fault(r'Row 3 of .*confounds_timeseries\.tsv has \d+ fields')
def a_row_of_confounds_ends_in_a_tab(data):
    lines = data.confounds().read_text().splitlines()
    lines[2] += '\t'
    data.confounds().write_text('\n'.join(lines))


@fault(r"stim_file 'x{60}\.\.\.' .*cannot be opened: File name too long")
def a_stimulus_with_a_very_long_name(data):
    set_stimulus(data, 'x' * 5000 + '.png')


def set_values(path, dtype):
    """Write an image of another type."""
    image = nib.load(path)
    values = np.zeros(image.shape, dtype=dtype)
    nib.save(nib.Nifti1Image(values, image.affine), path)


@fault(r'preproc_bold\.nii\.gz holds complex values')
def complex_series(data):
    set_values(data.bold(), np.complex64)


@fault(r'preproc_bold\.nii\.gz holds RGB values')
def colours_as_series(data):
    set_values(data.bold(), np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


@fault(r'brain_mask\.nii\.gz holds RGB values')
def colours_as_mask(data):
    set_values(data.mask(), np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


for _value in (float('nan'), 100000, -50):

    @fault(r'bold\.json has the StartTime .* from 0 to the repetition time \(2 s\)')
    def start_outside_of_the_first_volume(data, value=_value):
        edit_json(data.bold(extension='.json'), StartTime=value)


for _value in (float('nan'), float('inf'), 2000):

    @fault(r'bold\.json has the RepetitionTime .* below 100 \(not milliseconds\)')
    def impossible_repetition_time(data, value=_value):
        edit_json(data.bold(extension='.json'), RepetitionTime=value)


@fault(r'header of .*bold\.nii\.gz says a repetition time of 2000 s .*no sidecar')
def milliseconds_in_the_header_alone(data):
    for run in ('01', '02'):
        set_header_time(data.bold(run=run), 2000)
        edit_json(data.bold(run=run, extension='.json'), RepetitionTime=None)
    edit_json(data.root / 'task-img_bold.json', RepetitionTime=None)


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


@fault(r'Cannot read .*dataset_description\.json.* another output folder')
def links_of_the_output_are_a_list(data):
    out = data.root.parent / 'out'
    out.mkdir()
    description = {'GeneratedBy': [{'Name': 'bids_neurodecode'}], 'DatasetLinks': []}
    (out / 'dataset_description.json').write_text(json.dumps(description))


@pytest.mark.parametrize(('spoil', 'line', 'spec'), FAULTS)
def test_bad_input(spoil, line, spec, make_dataset, datasets, tmp_path, capsys):
    data = make_dataset(**spec)
    wants = spoil.__code__.co_varnames[: spoil.__code__.co_argcount]
    extra = spoil(data, datasets) if 'datasets' in wants else spoil(data)
    before = listing(tmp_path)
    code, stderr = run_cli(command(data, extra or ()), capsys)
    lines = [line for line in stderr.splitlines() if line.startswith('error: ')]
    assert code == USAGE, stderr
    assert 'Traceback' not in stderr
    assert len(lines) == 1, stderr
    assert re.search(line, lines[0]), lines[0]
    assert WAY_OUT.search(lines[0]), lines[0]
    assert listing(tmp_path) == before


def check(data, extra=()):
    arguments = parse_arguments(command(data, extra))
    return check_all(arguments, settings_from(arguments))


@pytest.mark.parametrize('spec', [{}, FILM, {'sessions': ('a', 'b')}, {'spaces': (None,)}])
def test_good_input_passes_and_writes_nothing(make_dataset, tmp_path, spec):
    data = make_dataset(**spec)
    before = listing(tmp_path)
    inputs = check(data)
    assert [person.label for person in inputs.participants] == ['01']
    assert inputs.failures == {}
    assert listing(tmp_path) == before


def test_one_participant_with_bad_data_does_not_stop_the_others(make_dataset):
    data = make_dataset(participants=('01', '02', '03', '04'))
    data.rewrite_bold(np.zeros_like, sub='02')
    data.mask(sub='03').unlink()
    shutil.rmtree(data.derivatives / 'sub-04')
    inputs = check(data)
    assert [person.label for person in inputs.participants] == ['01']
    assert set(inputs.failures) == {'02', '03', '04'}
    assert 'is zero in the whole mask' in inputs.failures['02']
    assert 'No brain mask' in inputs.failures['03']
    assert 'of sub-04' in inputs.failures['04']
    assert all('\n' not in line for line in inputs.failures.values())


def test_all_participants_with_bad_data_is_an_error(make_dataset, capsys):
    data = make_dataset(participants=('01', '02'))
    data.rewrite_bold(np.zeros_like, sub='02')
    data.mask(sub='01').unlink()
    code, stderr = run_cli(command(data), capsys)
    assert code == USAGE
    assert 'No brain mask' in stderr
    assert 'all 2 participants: sub-01, sub-02' in stderr


def test_cuda_that_is_not_there(make_dataset, capsys, monkeypatch):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    code, stderr = run_cli(command(make_dataset(), ['--device', 'cuda']), capsys)
    assert (code, 'no CUDA device' in stderr) == (USAGE, True)


def test_more_gpus_than_there_are(make_dataset, capsys, monkeypatch):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    code, stderr = run_cli(command(make_dataset(), ['--n-gpus', '2']), capsys)
    assert (code, '2 GPUs, and 1 are there' in stderr) == (USAGE, True)


def test_folder_that_cannot_be_written(make_dataset, capsys, monkeypatch):
    data = make_dataset()
    locked = data.root.parent / 'locked'
    locked.mkdir()
    allowed = os.access  # root may write anywhere, so the answer is made
    monkeypatch.setattr(
        os, 'access', lambda path, mode: allowed(path, mode) and os.fspath(path) != str(locked)
    )
    code, stderr = run_cli(command(data, ['OUTPUT', str(locked / 'out')]), capsys)
    assert code == USAGE
    assert re.search(r'output folder .*locked/out cannot be written', stderr)


def test_too_little_disk(make_dataset, capsys, monkeypatch):
    data = make_dataset()
    full = shutil.disk_usage('/')._replace(free=10)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: full)
    code, stderr = run_cli(command(data), capsys)
    assert code == USAGE
    assert re.search(r'GB of disk are needed in .*, and 0\.00 GB are free', stderr)


class TestValidator:
    """The schema validator, run on the raw dataset."""

    def check(self, data):
        argv = [word for word in command(data) if word != '--skip-bids-validation']
        arguments = parse_arguments(argv)
        return check_all(arguments, settings_from(arguments))

    def test_valid(self, make_dataset):
        inputs = self.check(make_dataset(raw_bold=True))
        assert any('validator found no error' in note for note in inputs.notes)

    def test_files_that_are_never_read_stop_nothing(self, make_dataset):
        data = make_dataset(raw_bold=True)
        (data.root / 'oops.dat').write_text('x')
        inputs = self.check(data)
        assert [person.label for person in inputs.participants] == ['01']
        (note,) = (note for note in inputs.notes if 'not valid BIDS' in note)
        assert re.search(r'^Warning: .*raw is not valid BIDS: 1 error.*/oops\.dat', note)

    def test_fields_that_are_never_read_stop_nothing(self, make_dataset):
        data = make_dataset(raw_bold=True)
        edit_json(data.root / 'dataset_description.json', Funding='')
        inputs = self.check(data)
        assert any('JSON_SCHEMA_VALIDATION_ERROR Funding' in note for note in inputs.notes)

    def test_error_of_one_participant(self, make_dataset):
        data = make_dataset(raw_bold=True, participants=('01', '02'))
        (data.root / 'sub-02' / 'func' / 'oops.dat').write_text('x')
        inputs = self.check(data)
        assert [person.label for person in inputs.participants] == ['01', '02']
        (note,) = (note for note in inputs.notes if 'not valid BIDS' in note)
        assert 'Warning: sub-02 is not valid BIDS' in note
        assert 'NOT_INCLUDED at /sub-02/func/oops.dat' in note

    def test_raw_series_that_were_not_fetched(self, make_dataset):
        data = make_dataset(raw_bold=True)
        for raw in (data.root / 'sub-01' / 'func').glob('*_bold.nii.gz'):
            raw.unlink()
            raw.symlink_to('../../.git/annex/objects/aa/bb/MD5E-s1--0.nii.gz')
        inputs = self.check(data)
        assert len(inputs.participants[0].runs) == 2


def test_atlas_that_fits(make_dataset):
    data = make_dataset()
    inputs = check(data, ['--atlas', str(write_atlas(data, np.ones((4, 4, 3))))])
    assert len(inputs.participants) == 1


def test_dry_run_lists_what_is_read_run_and_written(make_dataset):
    data = make_dataset(participants=('01', '02'))
    data.mask(sub='02').unlink()
    arguments = parse_arguments(command(data, ['-v']))
    settings = settings_from(arguments)
    text = describe(arguments, settings, check_all(arguments, settings))
    files = [data.bold(), data.mask(run='02'), data.confounds(), data.events()]
    for path in files:
        assert str(path) in text
    brief = parse_arguments(command(data))
    short = describe(brief, settings, check_all(brief, settings))
    assert not any(str(path) in short for path in files)
    assert 'files: -v' in short
    assert 'system: reconstruction (task' in short
    assert 'reconstruction.generator: small' in short
    assert re.search(r'split\.by: \w+ \(', short)
    assert re.search(r'betas\.model: ', short)
    assert re.search(r'\d+ steps: .*betas \(\d\.\d GB\).*report', short)
    assert 'GB for the largest step' in short
    assert re.search(r'time: about \d+', short)
    assert f'single-trial betas, model {settings.betas.model}' in text
    assert f'results: {data.root.parent / "out"}' in text
    assert re.search(r'left out, sub-02: No brain mask', text)


@pytest.mark.real
def test_haxby(shared, tmp_path):
    argv = [str(shared / 'data' / 'haxby2001'), str(tmp_path / 'out'), 'participant']
    arguments = parse_arguments([*argv, '-w', str(tmp_path / 'work')])
    inputs = check_all(arguments, settings_from(arguments))
    (person,) = inputs.participants
    assert (len(person.runs), person.paradigm, len(person.stimuli)) == (12, 'images', 8)
    assert {(run.repetition_time, run.n_volumes, run.space) for run in person.runs} == {
        (2.5, 121, None)
    }
    assert inputs.failures == {}
