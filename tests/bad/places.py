"""Bad folders, plugins and machines."""

import json
import shutil

from tests.bad_input import fault, plugin

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


for _folder in ('/', '/usr', '/etc', '/proc', '/dev/../var'):

    @fault(r'output folder /.* is a folder of the system.* Choose a folder for them alone')
    def output_is_a_folder_of_the_system(data, folder=_folder):
        return ['OUTPUT', folder]


for _option in ('--work-dir', '--bids-database-dir'):

    @fault(r'(work|index) folder / is a folder of the system')
    def files_of_a_run_go_into_the_root(data, option=_option):
        return [option, '/']


for _folder in ('/', '/usr', '/dev/..'):

    @fault(r'folder of stimuli /.* is a folder of the system.* Give the folder of the stimuli')
    def stimuli_are_looked_for_everywhere(data, folder=_folder):
        return ['--stimuli-dir', folder]


@fault(r'is a file, and a folder is needed')
def output_is_a_file(data):
    (data.root.parent / 'file').write_text('')
    return ['OUTPUT', str(data.root.parent / 'file' / 'out')]


@fault(r'belongs to another program \(fMRIPrep\)')
def output_of_another_program(data):
    shutil.copytree(data.derivatives, data.root.parent / 'theirs')
    return ['OUTPUT', str(data.root.parent / 'theirs')]


@fault(r'Cannot use the plugin file .*plugin\.yml')
def plugin_without_a_name(data):
    file = data.root.parent / 'plugin.yml'
    file.write_text('plugin_args: {}\n')
    return ['--use-plugin', str(file)]


for _text, _line in (
    (
        'plugin: MultiProc\nplugin_args: [1, 2]\n',
        r'plugin\.yml: plugin_args is no table of names and values',
    ),
    (
        'plugin: MultiProc\nplugin_args: {n_procs: many}\n',
        r"plugin\.yml: plugin_args\.n_procs is 'many', and a whole number above 0 is needed",
    ),
    (
        'plugin: Linear\nplugin_args: {memory_gb: -1}\n',
        r'plugin\.yml: plugin_args\.memory_gb is -1, and a number above 0 is needed',
    ),
    (
        'plugin: MultiProc\nplugin_args: ' + '[' * 3000 + ']' * 3000,
        r'plugin\.yml: maximum recursion depth exceeded',
    ),
    (
        'plugin: Condor\n',
        r'plugin Condor needs the command condor_qsub, which is not on this machine',
    ),
):

    @fault(_line)
    def plugin_file_that_cannot_be_used(data, text=_text):
        return plugin(data, text)


@fault(r'logs is a file, and a folder is needed')
def logs_are_a_file(data):
    (data.root.parent / 'out').mkdir()
    (data.root.parent / 'out' / 'logs').write_text('')


@fault(r'sub-01 is a file, and a folder is needed')
def participant_is_a_file(data):
    (data.root.parent / 'out').mkdir()
    (data.root.parent / 'out' / 'sub-01').write_text('')


for _option, _line in (
    (['--weights-dir', '/nowhere/weights'], r'no folder of weights'),
    (['--use-plugin', '/nowhere/plugin.yml'], r'There is no plugin file'),
    (['--mem', '1024T'], r'--mem asks for 1048576\.0 GB'),
    (['--mem', '100M'], r'sub-01 .*need about .* GB of memory, and 0\.1 GB'),
    (
        ['--mode', 'predict', '--models-from', '/nowhere/models'],
        r'No trained models|There is no folder .*models',
    ),
    (['LEVEL', 'group'], r'no results of participants in .*out'),
):

    @fault(_line)
    def option_that_cannot_be_used(data, option=_option):
        return option


@fault(r"belongs to another program \(\['x'\]\)")
def name_of_another_program_is_a_list(data):
    out = data.root.parent / 'out'
    out.mkdir()
    description = {'GeneratedBy': [{'Name': ['x']}]}
    (out / 'dataset_description.json').write_text(json.dumps(description))


@fault(r'Cannot read .*dataset_description\.json: it must be a JSON .* another output')
def links_of_the_output_are_a_list(data):
    out = data.root.parent / 'out'
    out.mkdir()
    description = {'GeneratedBy': [{'Name': 'bids_neurodecode'}], 'DatasetLinks': []}
    (out / 'dataset_description.json').write_text(json.dumps(description))


# what lies in the output folder


def in_output(data, name, content):
    file = data.root.parent / 'out' / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


OURS = {'Name': 'x', 'BIDSVersion': '1.10.0', 'GeneratedBy': [{'Name': 'bids_neurodecode'}]}
for _content, _line in (
    (b'\xff\xfe', 'Cannot read'),
    ('', 'Cannot read'),
    ('[]', 'GeneratedBy in it a list of objects'),
    ('[' * 100_000, 'maximum recursion depth'),
    ('{"GeneratedBy": "bids_neurodecode"}', 'GeneratedBy in it a list of objects'),
    ('{"GeneratedBy": [3]}', 'GeneratedBy in it a list of objects'),
    ('{}', r'belongs to another program \(no GeneratedBy\)'),
    (json.dumps({**OURS, 'DatasetLinks': {'raw': 3}}), 'made from the raw dataset 3'),
    (
        json.dumps({**OURS, 'DatasetLinks': {'raw': '/other'}}),
        'made from the raw dataset /other, where there is none now, .* Was one of them moved',
    ),
    (
        json.dumps({**OURS, 'DatasetLinks': {'raw': '.'}}),
        r'made from the raw dataset \., not from',
    ),
):

    @fault(_line)
    def description_of_the_output(data, content=_content):
        in_output(data, 'dataset_description.json', content)


for _name in (
    'dataset_description.json',
    '.bidsignore',
    'sub-01.html',
    'logs/CITATION.md',
    'sub-01/log/sub-01_task-img_products.json',
):

    @fault(r'out/.* is a folder, and a file is needed there')
    def folder_in_the_place_of_a_file(data, name=_name):
        (data.root.parent / 'out' / name).mkdir(parents=True)


for _name in ('group', 'stimuli', 'sub-01/func', 'sub-01/log', 'sub-01/ses-a'):

    @fault(r'out/.* is a file, and a folder is needed there')
    def file_in_the_place_of_a_folder(data, name=_name):
        in_output(data, name, '')


@fault(r'out is a link to .*gone, which is not there')
def output_links_to_nothing(data):
    (data.root.parent / 'out').symlink_to(data.root.parent / 'gone')


@fault(r'is no path that can be used: Symlink loop')
def output_links_to_itself(data):
    (data.root.parent / 'out').symlink_to(data.root.parent / 'out')


for _option in (['OUTPUT'], ['--work-dir'], ['--weights-dir'], ['--bids-database-dir']):

    @fault(r"'.{60}\.\.\.' is no path that can be used: File name too long")
    def name_that_is_too_long(data, option=_option):
        return [*option, '/' + 'x' * 300]


@fault(r'work is a file, and a folder is needed there')
def work_is_a_file(data):
    (data.root.parent / 'work').write_text('')


@fault(r'Others may write in the work folder .*work/cache')
def work_that_others_may_write(data):
    cache = data.root.parent / 'work' / 'cache'
    cache.mkdir(parents=True)
    cache.chmod(0o777)


@fault(r'dataset_description\.json is a pipe or a device, and a file is needed there')
def description_of_the_output_has_no_end(data):
    (data.root.parent / 'out').mkdir()
    (data.root.parent / 'out' / 'dataset_description.json').symlink_to('/dev/zero')


# plugins

for _text in (
    'plugin: 5\n',
    'plugin: Nothing\n',
    '- a\n',
    '\0',
    'plugin: !!python/object/apply:os.system ["true"]\n',
    'plugin: MultiProc\nplugin_args: {memory_gb: .nan}\n',
    'plugin: MultiProc\nplugin_args: {n_procs: 0}\n',
    'plugin: MultiProc\nplugin_args: {n_procs: 2.5}\n',
    'plugin: MultiProc\nplugin_args: {1: 2}\n',
    '&a [*a, *a]\n',
    'plugin: [MultiProc\n',
):

    @fault(r'Cannot use the plugin file .*plugin\.yml')
    def plugin_that_cannot_be_used(data, text=_text):
        return plugin(data, text)


@fault(r'There is no plugin file')
def plugin_is_a_folder(data):
    return ['--use-plugin', str(data.root)]


for _content in (b'\xff\xfe', '[]', '[' * 100_000, '', '{}'):

    @fault(r'sub-01_task-img_results\.json')
    def record_that_is_none(data, content=_content):
        in_output(data, 'sub-01/log/sub-01_task-img_results.json', content)
        return ['--level', 'betas']
