"""Bad settings, filters and arguments, and those that do not go with the data."""

import pytest

from tests.bad_input import (
    FILM,
    Kinds,
    command,
    config,
    filters,
    left_out,
    refused,
    spoiled,
)

fault = Kinds()


# the derivatives


@fault(r'column\(s\) csf.*clean\.columns')
def confound_column_that_is_not_there(data):
    return config(data, '[clean]\ncolumns = ["csf"]\n')


@fault(r'do not allow the strategy\(ies\) wm_csf')
def confound_strategy_that_is_not_there(data):
    return config(data, '[clean]\nstrategy = ["wm_csf"]\n')


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


# folders and the machine


@fault(r'Cannot read the settings in .*config\.toml: Exceeds the limit')
def number_of_five_thousand_digits(data):
    return config(data, f'seed = {"9" * 5000}\n')


@fault(r'Cannot read the settings in .*config\.toml: maximum recursion depth')
def settings_nested_too_deep(data):
    return config(data, f'seed = {"[" * 50_000}\n')


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


@fault(r'selection\.rule = "fdr" .*no stimulus is repeated in another run', one=True)
def repeats_within_runs_alone(data):
    for run, name in (('01', 'a.png'), ('02', 'b.png')):
        data.rewrite_events([[2, 2, 'x', name], [6, 2, 'x', name], [10, 2, 'x', name]], run=run)
    return config(data, '[selection]\nmeasure = "ncsnr"\nrule = "fdr"\n')


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


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.all)
def test_refused(spoil, line, spec, make_dataset, datasets, tmp_path, capsys):
    data = make_dataset(**spec)
    refused(command(data, spoiled(spoil, data, datasets)), line, tmp_path, capsys)


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.of_one)
def test_others_go_on(spoil, line, spec, make_dataset, datasets):
    left_out(spoil, line, make_dataset(**spec, participants=('01', '02', '03')), datasets)
