"""Bad datasets: folders, descriptions, derivatives, sidecars."""

import gzip
import os
import shutil

import nibabel as nib
import numpy as np

from tests.bad_input import config, edit_json, fault

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


for _option, _line in (
    (['--participant-label', '77'], r"no participant '77' in .* Found: 01"),
    (['--session-label', 'z'], r"no session 'z' .*the names have no ses-"),
    (['--task-id', 'rest'], r"no task 'rest' .*Found: img"),
    (['--run-label', '9'], r"no run '9' .*Found: 01, 02"),
    (['--space', 'T1w'], r"no space 'T1w' .*MNI152NLin6Asym"),
    (['--derivatives', 'x=/nowhere/at/all'], r'There is no folder .*nowhere'),
):

    @fault(_line)
    def option_that_cannot_be_used(data, option=_option):
        return option


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


@fault(r'No brain mask for .*run-02.*desc-brain_mask', one=True)
def no_mask(data):
    data.mask(run='02').unlink()


@fault(r'No brain mask for', one=True)
def mask_of_another_acquisition(data):
    mask = data.mask()
    mask.rename(mask.with_name(mask.name.replace('_run-01', '_acq-x_run-01')))


@fault(r'No confounds for .*run-01', one=True)
def no_confounds(data):
    data.confounds().unlink()


@fault(r'No events for .*run-02', one=True)
def no_events(data):
    data.events(run='02').unlink()


@fault(r'confounds_timeseries\.tsv has 19 rows.*20 volumes', one=True)
def too_few_confound_rows(data):
    lines = data.confounds().read_text().splitlines()
    data.confounds().write_text('\n'.join(lines[:-1]) + '\n')


@fault(r'has 20 rows.*15 volumes', one=True)
def too_few_volumes(data):
    data.rewrite_bold(lambda values: values[..., :15])


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


@fault(r'disagree: .*bold\.json says 2 s, its header says 1\.5 s', one=True)
def header_disagrees_with_sidecar(data):
    set_header_time(data.bold(), 1.5)


@fault(r'disagree: .*fmriprep.* says 2 s, .*raw/task-img_bold\.json says 3 s')
def raw_sidecar_disagrees(data):
    edit_json(data.root / 'task-img_bold.json', RepetitionTime=3)


@fault(r'two runs disagree: 2 s .* 2\.5 s', one=True)
def runs_disagree(data):
    (data.root / 'task-img_bold.json').unlink()
    edit_json(data.bold(run='02', extension='.json'), RepetitionTime=2.5)
    set_header_time(data.bold(run='02'), 2.5)


# folders and the machine


@fault(r'Cannot read .*dataset_description\.json: maximum recursion depth')
def description_nested_too_deep(data):
    (data.root / 'dataset_description.json').write_text('[' * 100_000)


@fault(r'Cannot read .*_bold\.json: maximum recursion depth')
def sidecar_nested_too_deep(data):
    for file in data.derivatives.rglob('*_bold.json'):
        file.write_text('[' * 100_000)


@fault(r'Row 3 of .*confounds_timeseries\.tsv has \d+ fields', one=True)
def a_row_of_confounds_ends_in_a_tab(data):
    lines = data.confounds().read_text().splitlines()
    lines[2] += '\t'
    data.confounds().write_text('\n'.join(lines))


for _value in (float('nan'), 100000, -50):

    @fault(r'bold\.json has the StartTime .* from 0 to the repetition time \(2 s\)', one=True)
    def start_outside_of_the_first_volume(data, value=_value):
        edit_json(data.bold(extension='.json'), StartTime=value)


for _value in (float('nan'), float('inf'), 2000):

    @fault(r'bold\.json has the RepetitionTime .* below 100 \(not milliseconds\)', one=True)
    def impossible_repetition_time(data, value=_value):
        edit_json(data.bold(extension='.json'), RepetitionTime=value)


@fault(r'header of .*bold\.nii\.gz says a repetition time of 2000 s .*no sidecar', one=True)
def milliseconds_in_the_header_alone(data):
    for run in ('01', '02'):
        set_header_time(data.bold(run=run), 2000)
        edit_json(data.bold(run=run, extension='.json'), RepetitionTime=None)
    edit_json(data.root / 'task-img_bold.json', RepetitionTime=None)


# sidecars, and what is no table


@fault(r'Cannot read .*_bold\.json: it holds a list', one=True)
def sidecar_is_a_list(data):
    data.bold(extension='.json').write_text('[]')


@fault(r'Cannot read .*_bold\.json: Expecting value', one=True)
def sidecar_is_cut_short(data):
    data.bold(extension='.json').write_text('{"RepetitionTime": ')


@fault(r"Cannot read .*_bold\.json: 'utf-8' codec", one=True)
def sidecar_in_latin_1(data):
    data.bold(extension='.json').write_bytes('{"TaskName": "Gedächtnis"}'.encode('latin-1'))


@fault(r'Cannot read .*_bold\.json: .*Is a directory', one=True)
def sidecar_is_a_folder(data):
    in_place_of(data.bold(extension='.json'))


for _value in ([2], True, -2, 0, {'a': 1}):

    @fault(r'_bold\.json has the RepetitionTime .* a number of seconds above 0', one=True)
    def repetition_time_of_another_type(data, value=_value):
        edit_json(data.bold(extension='.json'), RepetitionTime=value)


for _fields, _line in (
    ({'RepetitionTime': 'two'}, r"RepetitionTime 'two'"),
    ({'StartTime': 'early'}, r"_bold\.json has the StartTime 'early'"),
):

    @fault(_line, one=True)
    def sidecar_that_cannot_be_used(data, fields=_fields):
        edit_json(data.bold(extension='.json'), **fields)


def in_place_of(file):
    """Put a folder in the place of a file."""
    file.unlink()
    file.mkdir()


@fault(r'Cannot read the table .*_events\.tsv: .*Is a directory', one=True)
def events_are_a_folder(data):
    in_place_of(data.events())


@fault(r'Cannot read the table .*_timeseries\.tsv: .*Is a directory', one=True)
def confounds_are_a_folder(data):
    in_place_of(data.confounds())


@fault(r'_mask\.nii\.gz is a folder, and an image is needed there', one=True)
def mask_is_a_folder(data):
    in_place_of(data.mask())


@fault(r'No dataset_description\.json in .*raw')
def description_is_a_folder(data):
    in_place_of(data.root / 'dataset_description.json')


@fault(r"Cannot read .*dataset_description\.json: 'utf-8' codec")
def description_in_latin_1(data):
    file = data.root / 'dataset_description.json'
    file.write_bytes('{"Name": "Gedächtnis"}'.encode('latin-1'))


@fault(r'There is no folder .*raw')
def dataset_is_a_file(data):
    shutil.rmtree(data.root)
    data.root.write_text('')


@fault(r"'my prep=.*' is not NAME=PATH")
def derivatives_with_a_blank_in_their_name(data):
    return ['-d', f'my prep={data.derivatives}']


@fault(r'The name "raw" stands for the raw dataset')
def derivatives_called_raw(data):
    return ['-d', f'raw={data.derivatives}']


@fault(r'No preprocessed BOLD')
def participant_with_an_underscore(data):
    for folder in (data.root, data.derivatives):
        (folder / 'sub-01').rename(folder / 'sub-0_1')


@fault(r'Cannot read the table .*confounds_timeseries\.tsv: it is empty', one=True)
def confounds_are_empty(data):
    data.confounds().write_text('')


@fault(r'Cannot read the table .*confounds_timeseries\.tsv: .*codec', one=True)
def confounds_are_binary(data):
    data.confounds().write_bytes(b'\x1f\x8b\xff\xfe\x00')


def change_line(file, number, text):
    lines = file.read_text().splitlines()
    lines[number] = text
    file.write_text('\n'.join(lines))


@fault(r"Row 4 of .*confounds_timeseries\.tsv has the trans_x 'left', which is not a number")
def confounds_hold_text(data):
    change_line(data.confounds(), 3, 'left\t0.1')
    return config(data, '[clean]\ncolumns = ["trans_x"]\n')


@fault(r'have no column\(s\) c0, c1, .* \.\.\. .*Choose among: trans_x')
def confounds_lack_thousands_of_columns(data):
    names = ', '.join(f'"c{number}"' for number in range(5000))
    return config(data, f'[clean]\ncolumns = [{names}]\n')


@fault(r'The confound\(s\) trans_x in .* are missing .* in 1 volume')
def confounds_hold_infinity(data):
    change_line(data.confounds(), 3, 'inf\t0.1')
    return config(data, '[clean]\ncolumns = ["trans_x"]\n')


@fault(r'The confound\(s\) trans_x in .* too large for single precision in 1 volume')
def confounds_beyond_all_bounds(data):
    change_line(data.confounds(), 3, '1e300\t0.1')
    return config(data, '[clean]\ncolumns = ["trans_x"]\n')


@fault(r'has 20 volumes, too few to regress out 20 confounds and the mean\. Ask for fewer')
def more_confounds_than_volumes(data):
    names = [f'c{number}' for number in range(20)]
    rows = [[f'{(n * m) % 7}' for n in range(20)] for m in range(20)]
    for run in ('01', '02'):
        text = ''.join('\t'.join(row) + '\n' for row in [names, *rows])
        data.confounds(run=run).write_text(text)
    return config(data, f'[clean]\ncolumns = {names}\n')


@fault(r"confounds_timeseries\.tsv has two columns 'trans_x'")
def confounds_of_one_name(data):
    change_line(data.confounds(), 0, 'trans_x\ttrans_x')
    return config(data, '[clean]\ncolumns = ["trans_x"]\n')


for _file in ('events', 'confounds', 'mask', 'bold'):

    @fault(r'is a pipe or a device, and a file is needed there', one=True)
    def pipe_in_the_place_of_a_file(data, name=_file):
        file = getattr(data, name)()
        file.unlink()
        os.mkfifo(file)


for _file in ('sub-01/func/sub-01_task-img_run-01_events.tsv', 'dataset_description.json'):

    @fault(r'is a pipe or a device, and a file is needed there')
    def link_to_what_has_no_end(data, name=_file):
        (data.root / name).unlink()
        (data.root / name).symlink_to('/dev/zero')


for _file, _most in (('events', '2'), ('confounds', '2'), ('sidecar', r'0\.1')):

    @fault(rf'holds 21\.5 GB, and no more than {_most} GB of such a file is read', one=True)
    def file_of_twenty_gigabytes(data, name=_file):
        file = data.bold(extension='.json') if name == 'sidecar' else getattr(data, name)()
        os.truncate(file, 20 * 2**30)


@fault(r'events\.tsv was not fetched: it is a link to content that is not there', one=True)
def events_that_link_to_themselves(data):
    data.events().unlink()
    data.events().symlink_to(data.events().name)


@fault(r'_bold\.json: "RepetitionTime" is there twice, with different values', one=True)
def sidecar_that_says_two_things(data):
    file = data.bold(extension='.json')
    file.write_text('{"RepetitionTime": 3, ' + file.read_text()[1:])


@fault(r'dataset_description\.json: "DatasetType" is there twice')
def description_that_says_two_things(data):
    file = data.root / 'dataset_description.json'
    file.write_text('{"DatasetType": "derivative", ' + file.read_text()[1:])


@fault(r'run-1 is there twice: .*run-01_.* and .*run-1_.*rename or remove', runs=('1', '01'))
def runs_of_one_number(data):
    pass


@fault(r'is there twice: .*sub-01/func/.* and .*sub-02/func/')
def participant_that_is_a_link_to_another(data):
    for folder in (data.root, data.derivatives):
        (folder / 'sub-02').symlink_to('sub-01')


@fault(r'disagree: .*fmriprep.* says 2 s, .*sub-01_task-img_bold\.json says 1 s', one=True)
def sidecars_that_contradict_each_other(data):
    (data.root / 'sub-01' / 'sub-01_task-img_bold.json').write_text('{"RepetitionTime": 1}')


@fault(r'as NIfTI: Cannot work out file type', one=True)
def series_packed_twice(data):
    data.bold().write_bytes(gzip.compress(data.bold().read_bytes()))


@fault(r'is cut short or corrupt \(Not a gzipped file', one=True)
def series_with_text_behind_its_stream(data):
    data.bold().write_bytes(data.bold().read_bytes() + b'appended by a failing disk')


@fault(r'The labels of sub-x+_task-img_run-01 .* are 180 letters long', participants=('x' * 160,))
def participant_with_a_very_long_label(data):
    pass
