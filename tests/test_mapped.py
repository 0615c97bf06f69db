"""Large parts of mapped arrays are mapped, too; memory is asked for by trials."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode import mapped
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.evaluation.identification import (
    outcomes_2way,
    outcomes_top1,
    outcomes_top1_of,
)
from bids_neurodecode.evaluation.networks import correlations
from bids_neurodecode.levels.pages import make_report
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.steps import training as picture_encoding
from bids_neurodecode.systems.encoding.steps.features import extract_band
from bids_neurodecode.systems.encoding.steps.outputs import publish_encoding
from bids_neurodecode.systems.movie.steps import encoding as film_encoding
from bids_neurodecode.systems.movie.steps.network import encode_banded, train_network
from bids_neurodecode.systems.movie.steps.training import align_films
from bids_neurodecode.systems.reconstruction.generation.scores import latent_tables
from bids_neurodecode.systems.reconstruction.generation.steps.training import generate
from bids_neurodecode.systems.reconstruction.steps.decoding import decode
from bids_neurodecode.systems.reconstruction.steps.training import publish_pictures
from bids_neurodecode.systems.steps import responses
from bids_neurodecode.workflow.resources import GB, DataSize, count_trials


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, 'MAPPED_BYTES', 1000)
    array = np.random.default_rng(0).normal(3, 2, (40, 20)).astype(np.float32)
    np.save(tmp_path / 'betas.npy', array)
    return np.load(tmp_path / 'betas.npy', mmap_mode='r')


def test_room_of_a_mapped_array_is_mapped_without_a_name(values, tmp_path):
    room = mapped.room(values, (30, 20))
    assert isinstance(room, np.memmap)
    assert isinstance(mapped.room(room, (30, 20)), np.memmap)
    assert not isinstance(mapped.room(values, (3, 20)), np.memmap)  # small
    assert not isinstance(mapped.room(np.asarray(values), (30, 20)), np.memmap)
    assert [file.name for file in tmp_path.iterdir()] == ['betas.npy']


def test_images_of_many_stimuli_are_mapped_as_they_were(tmp_path, monkeypatch):
    """Those that were seen, those that are made, and how they are put together."""
    monkeypatch.setattr(mapped, 'MAPPED_BYTES', 1000)
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / 'images.npy', images)
    known = PerStimulus(tuple('abcdef'), np.load(tmp_path / 'images.npy', mmap_mode='r'))
    some = known.of('ffab')
    assert isinstance(some, np.memmap)
    assert some.dtype == np.uint8
    np.testing.assert_array_equal(some, images[[5, 5, 0, 1]])
    both = mapped.joined([some, known.of('cd')])
    assert isinstance(both, np.memmap)
    np.testing.assert_array_equal(both, images[[5, 5, 0, 1, 2, 3]])
    assert not isinstance(PerStimulus(tuple('abcdef'), images).of('ffab'), np.memmap)


def test_tables_of_all_pairs_are_mapped_as_they_were(tmp_path, monkeypatch):
    """Of each sample with each candidate, in rows and columns that are worked on together."""
    values = np.random.default_rng(0).integers(0, 9, (40, 30)).astype(np.float64)
    functions = (
        outcomes_top1,
        outcomes_2way,
        partial(outcomes_top1_of, n_candidates=7),
        lambda x: correlations(x, x[::-1]),
    )
    whole = [function(values) for function in functions]
    monkeypatch.setattr(mapped, 'MAPPED_BYTES', 1000)
    monkeypatch.setattr(mapped, 'BLOCK_BYTES', 2000)
    np.save(tmp_path / 'values.npy', values)
    known = np.load(tmp_path / 'values.npy', mmap_mode='r')
    for function, expected in zip(functions, whole, strict=True):
        found = function(known)
        assert isinstance(found, np.memmap)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-12)


def test_rows_of_groups_are_summed_one_after_the_other(values):
    groups = np.random.default_rng(1).integers(0, 6, len(values)) + 1  # none is of the first
    expected = np.zeros((8, values.shape[1]))
    np.add.at(expected, groups, np.asarray(values))
    found = mapped.group_sums(values, groups, 8)
    np.testing.assert_array_equal(found, expected)
    assert not found[[0, 7]].any()
    with pytest.raises(ValueError, match='argument 2'):
        mapped.group_sums(values, groups[:-1], 8)


def test_latents_are_compared_with_those_of_every_candidate(values, monkeypatch):
    """As the mean square and the mean size of differences are defined, in blocks and in files."""
    monkeypatch.setattr(mapped, 'BLOCK_BYTES', 7 * 8 * values.shape[1])
    candidates = np.asarray(values)[::-1][:30] + 1
    squares, sizes = latent_tables('ridge', [values], [candidates], [])
    difference = np.asarray(values)[:, None].astype(np.float64) - candidates
    assert (squares.metric, sizes.metric) == ('latent_mse', 'latent_mae')
    np.testing.assert_allclose(squares.values[0], (difference**2).mean(axis=2), rtol=1e-6)
    np.testing.assert_allclose(sizes.values[0], np.abs(difference).mean(axis=2), rtol=1e-6)
    assert isinstance(squares.values[0], np.memmap)


def test_standardised_columns_are_those_of_the_whole(values):
    scales = Standardizer.fit(values)
    whole = scales.apply(np.array(values))
    np.testing.assert_array_equal(scales.apply(values), whole)
    part = slice(4, 9)
    np.testing.assert_array_equal(scales.columns(part).apply(values[:, part]), whole[:, part])


def test_memory_of_trials_follows_events(tmp_path):
    runs = []
    for number in range(2):
        events = tmp_path / f'{number}.tsv'
        events.write_text('onset\tduration\n' + '1\t2\n' * (3 + number))
        file = Path('x_bold.nii.gz')
        runs.append(RunInput({}, file, file, events, None, 2.0, 100))
    person = ParticipantInput('01', 'x', 'images', tuple(runs), Path('stimuli'), ('a.png',))
    assert count_trials(person) == 7
    size = DataSize(3000, (100, 100), 1, 1 / 3, 7)
    assert size.betas_gb == pytest.approx(4 * 1000 * 7 / GB)
    assert DataSize(3000, (100, 100), 1).betas_gb == pytest.approx(size.series_gb)


STEPS = {
    ('encoding', 'quality'): responses.quality,
    ('encoding', 'features'): extract_band,
    ('encoding', 'betas'): responses.betas,
    ('encoding', 'reliability'): responses.reliability,
    ('encoding', 'reliable'): responses.reliable_voxels,
    ('encoding', 'encode'): picture_encoding.encode,
    ('encoding', 'outputs'): publish_encoding,
    ('encoding', 'report'): make_report,
    ('reconstruction', 'features'): responses.picture_features,
    ('reconstruction', 'decode'): decode,
    ('reconstruction', 'generate'): generate,
    ('reconstruction', 'outputs'): publish_pictures,
    ('movie', 'align'): align_films,
    ('movie', 'encode'): film_encoding.encode,
    ('movie', 'banded'): encode_banded,
    ('movie', 'network'): train_network,
}
MEASURED = pd.read_csv(Path(__file__).parents[1] / 'benchmarks' / 'memory.tsv', sep='\t')
MEASURED['chosen'] = MEASURED['chosen'].fillna(1 / 3)


def test_a_study_of_grayordinates_is_planned_within_16_gb():
    """91,282 columns, 30,000 trials; a third of the columns is decoded from."""
    for n_images, most in ((10_000, 14), (30_000, 16)):
        size = DataSize(91_282, (300,) * 100, n_images, 1.0, 30_000)
        for step in (decode, generate, picture_encoding.encode):
            assert step.asks_for(size) < most


@pytest.mark.parametrize(
    'row', MEASURED.to_dict('records'), ids=lambda r: f'{r["system"]}-{r["step"]}'
)
def test_steps_ask_for_what_was_measured(row):
    """No less than each step held, and not much more (recorded; nothing is timed here)."""
    size = DataSize(
        row['n_voxels'],
        (row['n_volumes'],) * row['n_runs'],
        row['n_stimuli'],
        row['filled'],
        row['n_trials'],
        is_gifti=True,
        chosen=row['chosen'],
    )
    asked = STEPS[row['system'], row['step']].asks_for(size)
    assert row['gib'] <= asked <= 2.2 * row['gib']


def test_steps_of_images_were_measured_at_two_sizes():
    counts = MEASURED.groupby(['system', 'step'])['n_trials'].nunique()
    assert set(counts.index) == set(STEPS)
    assert (counts[['encoding', 'reconstruction']] >= 2).all()
