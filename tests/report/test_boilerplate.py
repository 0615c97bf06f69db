"""Methods text: says what was done, cites what it says, and nothing that was not done."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ReportError
from bids_neurodecode.report.boilerplate import (
    TITLE,
    citation_files,
    cited,
    in_words,
    methods,
    methods_of,
    paragraphs,
    read_bibliography,
)
from bids_neurodecode.report.facts import drawn_of
from bids_neurodecode.report.results import (
    BetaResults,
    GenerationResults,
    ParticipantResults,
    RunResults,
    SplitResults,
    VoxelResults,
)


def text_of(settings: dict[str, object] | None = None, **options: object) -> str:
    config = build_config(settings or {})
    given: dict[str, object] = {'paradigm': 'images', 'version': '1.0', **options}
    return '\n'.join(methods(config, **given))  # type: ignore[arg-type]


def test_bibliography_is_whole() -> None:
    works = read_bibliography()
    assert len(works) > 15
    for key, work in works.items():
        printed = {'journal', 'volume', 'pages'} <= set(work.fields)
        assert printed or {'eprint', 'archivePrefix'} <= set(work.fields), key
        assert {'author', 'title', 'year'} <= set(work.fields), key
        assert work.fields.get('journal') != 'arXiv', key
        assert work.fields['year'] in key
        assert work.address.startswith('https://')
        assert work.source.count('{') == work.source.count('}')
    dois = [work.fields['doi'] for work in works.values() if 'doi' in work.fields]
    assert len(set(dois)) == len(dois)
    assert all(re.fullmatch(r'10\.\d{4,5}/\S+', doi) for doi in dois)


def test_references_are_written_without_the_braces_of_bibtex() -> None:
    assert not [work.text for work in read_bibliography().values() if re.search('[{}]', work.text)]


def test_preprints_are_cited_by_their_number() -> None:
    for work in read_bibliography().values():
        if 'eprint' in work.fields:
            assert re.fullmatch(r'\d{4}\.\d{4,5}', work.fields['eprint'])
            assert work.address == f'https://doi.org/10.48550/arXiv.{work.fields["eprint"]}'
    child = read_bibliography()['child2020vdvae']
    assert child.text.endswith('Can Outperform Them on Images. arXiv:2011.10650.')


def test_citations_in_words() -> None:
    text = 'A [@kay2008identifying; @phipson2010permutation] and B [@allefeld2016prevalence].'
    assert in_words(text) == (
        'A (Kay et al., 2008; Phipson & Smyth, 2010) and B (Allefeld et al., 2016).'
    )
    assert 'Haynes, J.-D. (2016)' in read_bibliography()['allefeld2016prevalence'].text


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ReportError, match="cites 'nobody1999x'"):
        cited(('x [@nobody1999x]',))


@pytest.mark.parametrize(
    ('model', 'has', 'lacks'),
    [
        ('B', 'prince2022', 'kay2013glmdenoise'),
        ('C', 'kay2013glmdenoise', 'rokem2020fracridge'),
        ('D', 'rokem2020fracridge', 'hasson2004isc'),
    ],
)
def test_only_the_model_that_ran_is_told(model: str, has: str, lacks: str) -> None:
    for text in (text_of({'betas': {'model': model}}), text_of(betas_model=model)):
        assert has in text
        assert lacks not in text


def test_models_chosen_by_fold_are_told() -> None:
    text = text_of(betas_model='B', fold_models=('B', 'D', 'B'))
    assert 'Model by fold: B in 2, D in 1 of 3 fold(s); the final model used B.' in text
    assert 'In C and D, principal components' in text
    assert 'In D, betas were regularised' in text
    alone = text_of(betas_model='B', fold_models=('B', 'B'))
    assert 'B in 2 of 2 fold(s)' in alone
    assert 'rokem2020fracridge' not in alone
    assert 'Model by fold' not in text_of(betas_model='B')


@pytest.mark.parametrize(
    ('settings', 'options', 'words'),
    [
        ({'betas': {'model': 'D', 'tuning': 'all'}}, {}, 'on all trials, test trials included'),
        ({'betas': {'model': 'D', 'n_components': 3}}, {}, 'fixed at 3'),
        ({'betas': {'precomputed': 'nsd'}}, {}, 'taken from the derivatives dataset nsd'),
        ({'selection': {'rule': 'top', 'fraction': 0.2}}, {}, 'top 20 %'),
        ({'selection': {'measure': 'none'}}, {}, 'All voxels of the brain mask'),
        ({}, {'rule': 'the brightest'}, 'Voxel selection: the brightest.'),
        ({'evaluation': {'n_permutations': 500}}, {}, '500 permutations'),
        (
            {'evaluation': {'n_permutations': 0, 'n_bootstrap': 0}},
            {},
            'Scores were not tested.',
        ),
        ({}, {'paradigm': 'movie'}, 'delay of 5.2 s'),
        ({'clean': {'high_pass': 'none'}}, {'paradigm': 'movie'}, 'No confounds were regressed'),
        ({}, {'system': 'encoding'}, 'Responses were predicted from'),
        ({}, {'derivatives': ('fmriprep',)}, 'esteban2019fmriprep'),
        ({'atlas': {'name': 'Schaefer2018_desc-100Parcels7Networks'}}, {}, 'schaefer2018atlas'),
    ],
)
def test_settings_show_in_the_text(
    settings: dict[str, object], options: dict[str, object], words: str
) -> None:
    assert words in text_of(settings, **options)


@pytest.mark.parametrize(
    ('name', 'form', 'words'),
    [
        ('structures', 'cifti', 'Regions were the structures of CIFTI of the data.'),
        ('structures', 'gifti', 'Regions were the hemispheres of the data.'),
        ('structures', 'parcels', 'Regions were the parcels of the data.'),
        (
            'Schaefer2018_seg-7n',
            'gifti',
            '[@ciric2022templateflow] and matched to the data vertex by vertex.',
        ),
        ('Schaefer2018_seg-7n', None, 'and resampled to the grid of the data by nearest'),
    ],
)
def test_where_regions_come_from(name: str, form: str | None, words: str) -> None:
    text = text_of({'atlas': {'name': name}}, form=form)
    assert words in text
    assert ('TemplateFlow' in text) == (name != 'structures')
    assert ('resampled' in text) == (form is None)


@pytest.mark.parametrize(
    ('bold', 'form'),
    [
        ('a_bold.nii.gz', None),
        ('a_hemi-L_bold.func.gii', 'gifti'),
        ('a_bold.dtseries.nii', 'cifti'),
    ],
)
def test_records_say_what_their_maps_are_in(bold: str, form: str | None) -> None:
    run = RunResults('1', 10, 2.0, Path(bold), Path('m'), Path('e'))
    record = ParticipantResults('01', '1', 'x', 'betas', 'images', 'x', 'x', (run,))
    assert record.form == form
    maps = {'ncsnr': Path('a_stat-snr_statmap.dscalar.nii')}
    assert dataclasses.replace(record, maps=maps).form == 'cifti'
    assert dataclasses.replace(record, runs=()).form is None


def test_no_setting_is_claimed_that_was_left_out() -> None:
    text = text_of()
    for word in ('fMRIPrep', 'TemplateFlow', 'intersubject'):
        assert word not in text


def test_citation_files_agree() -> None:
    paragraphs = methods(build_config({}), paradigm='images', version='1.0')
    files = citation_files((*paragraphs, 'x <b>&'), '1.0')
    assert set(files) == {'md', 'bib', 'html'}
    keys = [work.key for work in cited(paragraphs)]
    found = re.findall(r'^@\w+\{(\w+),', files['bib'], re.MULTILINE)
    assert found == [*keys, 'bids_neurodecode'], 'the program is cited, too'
    assert f'{TITLE} (version 1.0)' in files['md']
    assert f'{TITLE} (version 1.0)' in files['html']
    for work in cited(paragraphs):
        assert work.address in files['md']
        assert work.address in files['html']
    assert '[@' not in files['md']
    assert 'x &lt;b&gt;&amp;' in files['html']
    HTMLParser().feed(files['html'])


def test_names_from_the_data_stay_as_they_are() -> None:
    """Texts are plain: what a template is given is neither escaped nor read as a mark."""
    name = 'a & b <c> "d" &amp; {{ e }}'
    assert f'derivatives dataset {name}.' in text_of({'betas': {'precomputed': name}})
    (line,) = paragraphs('inputs', layout='bids', version=name, fmriprep=False, facts=None)
    assert f'bids_neurodecode {name}, a BIDS-App' in line


def record(participant: str, **more: object) -> ParticipantResults:
    runs = tuple(
        RunResults(f'{n}', 140 - n, 2.0, Path('a.nii.gz'), Path('m'), Path('e'), n_trials=50)
        for n in range(2)
    )
    told: dict[str, object] = {
        'space': 'MNI152NLin2009cAsym',
        'resolution': '3 x 3 x 3 mm',
        'split': SplitResults(
            'stimulus', 'hold-out-by-stimulus', 1, False, 'x', 100, (20,), 50, (10,)
        ),
        'voxels': VoxelResults(900, 90, 'repeats agree', (80,)),
        'betas': BetaResults('C', 'native', 'training'),
        'system': 'reconstruction',
        'paradigm': 'images',
    } | more
    own = {'participant': participant, 'version': '1', 'run_id': 'run', 'task': 'x'}
    return ParticipantResults(bids_name='x', runs=runs, **own, **told)  # type: ignore[arg-type]


def test_methods_say_data_what_was_held_out_and_who_judged() -> None:
    made = GenerationResults(
        *('small', '', 'ridge', (), 20, Path(), Path()),
        judges=('mobilenetv2',),
        guided_by=('gabor', 'efficientnet-lite0'),
    )
    one = record('01', generation=made, versions={'torch': '2.1'})
    config = build_config({'seed': 7, 'reconstruction': {'protocol': 'cpu-1'}})
    text = '\n'.join(methods_of([one], config))
    for words in (
        'One participant with 2 runs (139 to 140 volumes a run, repetition time 2 s) and 100 ',
        'in the space MNI152NLin2009cAsym (3 x 3 x 3 mm).',
        '10 of 50 stimuli (20 of 100 samples) were held out once (hold-out-by-stimulus)',
        'No confounds were regressed out',
        'training samples of each fold (80 voxels)',
        'on all samples (90)',
        'the protocol cpu-1 has it: pixels at 425 x 425, and features of mobilenetv2, none of',
        'which had a part in the images (Gabor energies had). efficientnet-lite0 described',
        'for the linear decoder (identification and retrieval) alone: no image was guided by it',
        'torch 2.1 [@paszke2019pytorch]',
        'the seed 7.',
    ):
        assert words in ' '.join(text.split())
    assert 'nan' not in text
    moved = build_config({'reconstruction': {'match_network': 'efficientnet-lite0'}})
    text = '\n'.join(methods_of([one], moved))
    assert '(Gabor energies, efficientnet-lite0 had)' in text
    assert 'for the linear decoder' not in text
    guided = dataclasses.replace(
        made, generator='published', judges=('clip-vit-l14',), guided_by=('clip-vit-l14',)
    )
    text = '\n'.join(methods_of([record('01', generation=guided)], config))
    assert 'of these, clip-vit-l14 had a part in the images, too' in text


def test_a_text_of_several_participants_holds_of_each() -> None:
    other = record(
        '02',
        voxels=VoxelResults(900, 120, 'repeats agree', (100, 110)),
        betas=BetaResults('D', 'native', 'training', fold_models=('B',), model_scores=({},)),
    )
    text = ' '.join('\n'.join(methods_of([record('01'), other], build_config({}))).split())
    assert '2 participants with 2 runs each' in text
    assert '(80 to 110 voxels)' in text
    assert '(90 to 120)' in text
    assert 'final models used C in 1 participant, D in 1 participant' in text
    assert text.count('repeats agree') == 1
    assert 'In D, betas were regularised' in text


def test_methods_of_films_say_what_was_held_out_of_them() -> None:
    why = 'split in time: the last 20 % of every film, after 10 s'
    split = SplitResults('time', 'hold-out-by-time', 1, False, why, 500, (100,))
    voxels = VoxelResults(900, 90, '90 of 900 voxels: highest 10% by isc, training volumes only')
    film = record('01', system='movie', paradigm='movie', split=split, voxels=voxels, betas=None)
    text = ' '.join('\n'.join(methods_of([film], build_config({}))).split())
    assert '100 of 500 samples were held out once (hold-out-by-time)' in text
    assert 'Split in time: the last 20 % of every film, after 10 s.' in text
    assert 'highest 10% by isc, training volumes only (90 voxels).' in text
    assert 'trials' not in text.split('were held out')[0]


@pytest.mark.parametrize(
    ('by', 'n_folds', 'says', 'lacks'),
    [
        ('stimulus', 1, 'units (stimuli), with', 'train each other'),
        ('stimulus', 5, 'over stimuli, widened where folds train each other', 'where runs were'),
        ('run', 6, 'of held-out samples within runs, models', 'flips of their signs'),
        ('category', 3, 'units (stimuli, or runs where runs were held out)', 'units (runs)'),
    ],
)
def test_statistics_are_told_for_what_was_held_out(
    by: str, n_folds: int, says: str, lacks: str
) -> None:
    one = record('01', split=SplitResults(by, 'x', n_folds, repeats_cross=by == 'run'))
    text = ' '.join('\n'.join(methods_of([one], build_config({}))).split())
    assert says in text
    assert lacks not in text


def test_old_records_say_less_and_nothing_wrong() -> None:
    bare = record('01', split=SplitResults('run', 'leave-one-out', 2, True), resolution='')
    text = '\n'.join(methods_of([bare], build_config({})))
    assert 'held out' not in text.split('Single-trial')[0]
    assert '()' not in text


def test_how_samples_were_drawn_and_whether_runs_are_shared_is_said() -> None:
    split = SplitResults('stimulus', 'hold-out-by-stimulus', 1, repeats_cross=False)
    shared, apart = (dataclasses.replace(split, shares_runs=x) for x in (True, False))
    assert 'drawn at random by the seed' in drawn_of([split])
    assert 'have the same ones held out' in drawn_of([split])
    assert 'have the same ones' not in drawn_of([dataclasses.replace(split, n_folds=5)])
    assert 'come from the same runs' in drawn_of([shared])
    assert 'No run holds both' in drawn_of([apart])
    assert 'runs' not in drawn_of([shared, apart]), 'it differs between participants'
    by_run = dataclasses.replace(apart, by='run')
    assert drawn_of([by_run]).startswith('Nothing was drawn: they were taken in their order.')
