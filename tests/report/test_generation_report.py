"""The section on images that were made: what it shows, and what it leaves to other sections."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.evaluation.metrics import TRUE_TARGETS
from bids_neurodecode.levels.group_page import write_group_report
from bids_neurodecode.models.generators import read_recipe
from bids_neurodecode.report.boilerplate import in_words, methods
from bids_neurodecode.report.build import Table, Verdicts
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import GenerationResults, ParticipantResults
from bids_neurodecode.report.section_gallery import images_at_the_head
from bids_neurodecode.report.section_scores import scores_section
from bids_neurodecode.report.verdicts import BY_FEATURES, LIMITED, verdicts_of_images
from bids_neurodecode.systems.examples import draw_examples
from bids_neurodecode.systems.reconstruction import methods as image_methods
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import tells_images_apart
from bids_neurodecode.systems.reconstruction.methods import NOT_HERE, SMALL
from bids_neurodecode.systems.reconstruction.report import (
    NOT_SAID,
    generation_section,
)

MODELS = ('ridge', 'baseline-mean-image', 'reference-true-latents')
VALUES = {'identification_2way': 0.8125, 'pixcorr': 0.2468, 'gabor-standin_2way': 0.61}


def make_generation(folder: Path, metrics: Path, **changes: Any) -> dict[str, Any]:
    """Write the files of images that were made; return the fields of the results."""
    linear = pd.read_csv(metrics, sep='\t', keep_default_na=False)
    rows = [
        {**linear.iloc[0], 'model': model, 'space': space, 'metric': metric, 'value': value}
        | {'protocol': 'hold-out/bd-982'}
        for model in MODELS
        for space in ('initial', 'final')
        for metric, value in VALUES.items()
    ]
    both = folder / 'both.tsv'
    pd.concat([linear, pd.DataFrame(rows)]).to_csv(both, sep='\t', index=False)
    kinds = ['best', 'best', 'median', 'worst']
    examples = pd.DataFrame({'kind': kinds, 'stimulus': [f'deep/{k}.png' for k in 'abcd']})
    examples = examples.assign(two_way=[1, 0.9, 0.5, 0.1], pixcorr_final=0.2)
    examples = examples.assign(space='repeat-average', n_repeats=[2, 3, 3, 3])
    examples.to_csv(folder / 'pictures.tsv', sep='\t', index=False)
    pixels = np.random.default_rng(0).integers(256, size=(4, 4, 8, 8, 3), dtype=np.uint8)
    np.save(folder / 'pictures.npy', pixels)
    curves = pd.DataFrame({'fold': [0, 0], 'network': 'prior', 'part': 'training'})
    curves.assign(step=[1, 2], loss=[3.0, 2.0]).to_csv(folder / 'c.tsv', sep='\t', index=False)
    made = GenerationResults(
        generator='small',
        why='Made by the small one.',
        regressor='ridge',
        facts=('Prior: 12 numbers.',),
        n_pictures=4,
        table=folder / 'pictures.tsv',
        folder=Path('out/stimuli/sub-01/task-img'),
        sheets=(folder / 'all_sheet.png',),
        examples=folder / 'pictures.tsv',
        curves=folder / 'c.tsv',
        guided_by=('gabor',),
    )
    return {'metrics': both, 'generation': replace(made, **changes)}


@pytest.fixture(scope='module')
def made(
    build: Callable[..., ParticipantResults], tmp_path_factory: pytest.TempPathFactory
) -> ParticipantResults:
    folder = tmp_path_factory.mktemp('made')
    results = build(folder)
    assert results.metrics is not None
    return replace(results, **make_generation(folder, results.metrics))


def words_of(blocks: Sequence[object]) -> str:
    """Return all that blocks say."""
    return ' '.join(repr(block) for block in blocks)


def test_a_record_with_pictures_is_read_back(made: ParticipantResults) -> None:
    assert ParticipantResults.from_json(made.to_json()) == made


def test_the_section_says_what_made_them_from_what_and_what_they_score(
    made: ParticipantResults,
) -> None:
    reader = Reader(made)
    blocks = (*images_at_the_head(reader), *scores_section(reader), *generation_section(reader))
    section = words_of(blocks)
    for words in (
        'Made by the small one.',
        'Prior: 12 numbers.',
        'trained on millions of images; scores cannot be compared',
        'held-out data: the average of the repeats of each image (2 to 3 trials)',
        'stimuli/sub-01/task-img (PNG, initial and final); beside each other: all_sheet.png',
        'hold-out/bd-982',
        '81.2 %',
        '0.247',
        'baseline-mean-image',
        'take the place of networks whose weights are not there',
        *('desc-pictures_', 'desc-picturescores_', 'desc-learning_'),
    ):
        assert words in section, words
    assert 'the baseline "ceiling' not in section


@pytest.mark.parametrize('caution', ['They show nothing new.', ''])
def test_a_page_is_made_again_where_its_generator_is_not_installed(
    made: ParticipantResults, caution: str
) -> None:
    assert made.generation is not None
    record = replace(made.generation, generator='theirs', caution=caution)
    again = ParticipantResults.from_json(replace(made, generation=record).to_json())
    section = words_of(generation_section(Reader(again)))
    assert 'Versatile Diffusion' not in section
    assert (caution or NOT_SAID.format(name='theirs')) in section
    texts = methods(build_config({}), paradigm='images', version='1', generator='theirs')
    assert NOT_HERE.format(name='theirs') in texts


def test_a_broken_generator_ends_no_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ArgumentsError(name)

    monkeypatch.setattr(image_methods, 'find_generator', broken)
    texts = methods(build_config({}), paradigm='images', version='1', generator='theirs')
    assert NOT_HERE.format(name='theirs') in texts


def test_other_sections_are_as_without_pictures(
    made: ParticipantResults, results: ParticipantResults
) -> None:
    assert generation_section(Reader(results)) == ()
    with_pictures, without = (
        [b for b in scores_section(Reader(r)) if isinstance(b, Table)] for r in (made, results)
    )
    assert with_pictures[1:2] == without, 'images come first, where any were made'
    assert len(with_pictures) == 2, 'reconstructions have a table of their own'


def test_what_ranks_the_images_is_judged_beside_what_is_possible(
    made: ParticipantResults, tmp_path: Path
) -> None:
    """The score below the images is no less plain than those of judges and pixels."""
    metrics = pd.read_csv(made.metrics, sep='\t', keep_default_na=False)
    metrics['model'] = metrics['model'].replace('reference-true-latents', TRUE_TARGETS)
    metrics.to_csv(tmp_path / 'm.tsv', sep='\t', index=False)
    reader = Reader(replace(made, metrics=tmp_path / 'm.tsv'))
    assert reader.metrics is not None
    judged = verdicts_of_images(reader.metrics, 0.95)
    assert BY_FEATURES in judged[-1].text
    assert judged[-1].text.endswith('true latents and features score 81.2 %.')
    # the summary says it, and the section of reconstructions does not say it again
    assert not [b for b in generation_section(reader) if isinstance(b, Verdicts)]


@pytest.mark.parametrize(
    ('truth', 'says'),
    [
        (0.9, ' score 90.0 %.'),
        (0.6, ' score 60.0 %, which lies within the interval: ' + LIMITED),
        (0.4, ' score 40.0 %, less than the model: they are no ceiling.'),
    ],
)
def test_scores_above_those_of_the_truth_are_explained(
    made: ParticipantResults, truth: float, says: str
) -> None:
    reader = Reader(made)
    assert reader.metrics is not None
    of_judge = reader.metrics['metric'] == 'gabor-standin_2way'
    own = reader.metrics[of_judge & (reader.metrics['space'] == 'final')].iloc[:1]
    own = own.assign(metric='efficientnet_lite2_2way', value=0.7, ci_low=0.5, ci_high=0.9)
    rows = pd.concat([own, own.assign(model=TRUE_TARGETS, value=truth)])
    (alone,) = verdicts_of_images(rows, 0.95)
    assert alone.text.endswith(says)
    # a judge of the family of a guide, the guide itself, and one of another family
    guides = {
        'efficientnet-lite0': 'of the family of efficientnet-lite0',
        'efficientnet-lite2': 'had a part in the images itself',
    }
    for guide, kin in guides.items():
        (told,) = verdicts_of_images(rows, 0.95, [guide])
        assert kin in told.text
    assert verdicts_of_images(rows, 0.95, ['mobilenetv2'])[0].text == alone.text


def test_without_identification_pixels_put_them_in_order(
    made: ParticipantResults, tmp_path: Path
) -> None:
    assert made.generation is not None
    assert made.generation.examples is not None
    table = pd.read_csv(made.generation.examples, sep='\t')
    table.drop(columns='two_way').to_csv(tmp_path / 'few.tsv', sep='\t', index=False)
    pixels = np.load(made.generation.examples.with_suffix('.npy'))
    np.save(tmp_path / 'few.npy', pixels[:, :3])
    applied = replace(made.generation, examples=tmp_path / 'few.tsv', curves=None, sheets=())
    new = replace(made, generation=applied, split=None, metrics=None)
    section = words_of(generation_section(Reader(new)))
    head = words_of(images_at_the_head(Reader(new)))
    assert 'by the pixel correlation of the final reconstruction' in head
    assert 'new data: the average' in head
    assert 'is not shown to be better than chance' not in head, 'it was not tested'
    assert 'retrieves' not in head
    assert 'desc-learning_' not in section


def test_ranks_that_mean_nothing_are_not_shown_as_such(
    made: ParticipantResults, tmp_path: Path
) -> None:
    """What is ranked by is the score that heads the page; a draw takes its place at chance."""
    assert made.generation is not None
    assert made.generation.examples is not None
    table = pd.read_csv(made.generation.examples, sep='\t').assign(pixel_two_way=0.25)
    pixels = np.load(made.generation.examples.with_suffix('.npy'))
    for name, kinds in (('ranked', table['kind']), ('drawn', 'random')):
        table.assign(kind=kinds).to_csv(tmp_path / f'{name}.tsv', sep='\t', index=False)
        np.save(tmp_path / f'{name}.npy', pixels)
    heads = {}
    for name in ('ranked', 'drawn'):
        told = replace(made.generation, examples=tmp_path / f'{name}.tsv')
        (gallery,) = images_at_the_head(Reader(replace(made, generation=told)))
        heads[name] = gallery
    ranked, drawn = heads['ranked'], heads['drawn']
    assert (
        'the worst by two-way identification of the final reconstruction by pi' in ranked.caption
    )
    assert [title for title, _ in ranked.groups] == ['Best', 'Median', 'Worst']
    assert ranked.notes[0] == 'a.png: 25 %'
    assert ('same are ranked by pixel correlation' in ranked.caption) == ('pixcorr_final' in table)
    assert drawn.groups == (('Drawn at random', 4),)
    assert 'drawn at random, because the score by which they would be ranked' in drawn.caption
    row = {'system': 'reconstruction', 'model': 'ridge', 'protocol': 'x', 'split': 'test'}
    row |= {'space': 'final', 'metric': 'pixel_2way', 'n': 20, 'n_units': 20, 'units': 'stimuli'}
    row |= {'value': 0.8, 'chance': 0.5, 'ci_low': 0.7, 'ci_high': 0.9, 'p': 0.001}
    for low, ranks in ((0.7, True), (0.4, False)):
        scored = pd.DataFrame([row | {'ci_low': low, 'image_size': np.nan, 'test': 'labels'}])
        assert tells_images_apart(scored) is ranks
        file = tmp_path / f'm{low}.tsv'
        scored.to_csv(file, sep='\t', index=False, na_rep='n/a')
        told = replace(made.generation, examples=tmp_path / 'ranked.tsv')
        (gallery,) = images_at_the_head(Reader(replace(made, generation=told, metrics=file)))
        assert ('so that the order says little' in gallery.caption) is not ranks
        assert 'by pixels, as the score that heads this page (below each' in gallery.caption
    untested = {'ci_low': np.nan, 'ci_high': np.nan, 'p': np.nan, 'image_size': np.nan}
    pd.DataFrame([row | untested]).to_csv(file, sep='\t', index=False, na_rep='n/a')
    (gallery,) = images_at_the_head(Reader(replace(made, generation=told, metrics=file)))
    assert 'was not tested against chance' in gallery.caption
    assert 'is not shown to be better' not in gallery.caption
    kinds, rows = draw_examples(['a', 'a', 'b', 'c'], 3)
    assert kinds == ['random'] * 3
    assert {'aabc'[i] for i in rows} == {'a', 'b', 'c'}


@pytest.mark.slow
def test_the_group_shows_final_pictures(made: ParticipantResults, tmp_path: Path) -> None:
    people = [replace(made, participant=label, maps={}) for label in ('01', '02')]
    write_group_report(people, tmp_path / 'g.html', tmp_path)
    text = ' '.join((tmp_path / 'g.html').read_text('utf-8').split())
    assert 'Final reconstructions (second stage): means over participants' in text
    assert '(initial)' not in text
    assert 'true latents' in text


@pytest.mark.parametrize(
    ('reconstruction', 'generator', 'has', 'lacks'),
    [
        ({}, 'small', 'Ozcelik', 'Versatile'),
        ({}, None, 'classifier-free', 'Versatile'),
        ({}, 'none', 'identified as the candidate', 'Ozcelik'),
        ({'generator': 'none'}, None, 'identified as the candidate', 'Ozcelik'),
        ({'regressor': 'gru'}, 'small', 'Veronese', 'Versatile'),
        ({'conditions': 'none'}, 'small', 'without guidance', 'classifier-free'),
        ({'start': 'noise'}, 'small', 'noise alone', 'noised for'),
        ({}, 'published', 'noised for 37 of 50 steps', 'small diffusion model'),
        ({'generator': 'published'}, None, 'first 31 of the 75 latents', 'small diffusion model'),
    ],
)
def test_methods_say_what_was_run(
    reconstruction: dict[str, Any], generator: str | None, has: str, lacks: str
) -> None:
    config = build_config({'reconstruction': reconstruction})
    paragraphs = methods(config, paradigm='images', version='1', generator=generator)
    text = ' '.join(in_words(paragraph) for paragraph in paragraphs)
    assert has in text
    assert lacks not in text
    encoding = methods(config, paradigm='images', version='1', system='encoding')
    assert not any('two stages' in paragraph for paragraph in encoding)


def test_defaults_in_the_text_are_those_of_the_generators() -> None:
    from bids_neurodecode.models.sampling import SamplingSettings
    from bids_neurodecode.systems.reconstruction.generation.small import SAMPLING

    for name, sampling in (('small', SAMPLING), ('published', SamplingSettings())):
        recipe = None if name == 'small' else read_recipe(name)
        known = SMALL if recipe is None else recipe.stages[0].model_dump()
        told = tuple(known[key] for key in ('n_steps', 'strength', 'guidance'))
        assert told == (sampling.n_steps, sampling.strength, sampling.guidance)


def test_brain_correlation_stands_beside_its_chance_and_the_true_image(made, tmp_path) -> None:
    metrics = pd.read_csv(made.metrics, sep='\t', keep_default_na=False)
    blank = {**metrics.iloc[0], 'metric': 'brain_correlation', 'space': 'final-single-trial'}
    rows = [
        {**blank, 'model': 'ridge', 'value': 0.1234, 'chance': 0.011},
        {**blank, 'model': 'reference-true-image', 'value': 0.345},
    ]
    file = tmp_path / 'metrics.tsv'
    pd.concat([metrics, pd.DataFrame(rows)]).to_csv(file, sep='\t', index=False)
    said = words_of(generation_section(Reader(replace(made, metrics=file))))
    for part in ('by responses', '0.123', '0.011', '0.345', 'in other held-out runs'):
        assert part in said
    assert 'judges images by responses' not in words_of(generation_section(Reader(made)))


def test_images_of_new_responses_alone_have_no_verdict(made, tmp_path) -> None:
    metrics = pd.read_csv(made.metrics, sep='\t', keep_default_na=False)
    file = tmp_path / 'metrics.tsv'
    metrics.iloc[:0].to_csv(file, sep='\t', index=False)
    said = words_of(generation_section(Reader(replace(made, metrics=file))))
    assert 'against a chance level' not in said
