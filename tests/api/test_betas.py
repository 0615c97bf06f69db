"""Betas from arrays, files and surfaces are the engine's; errors speak of arguments."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bids_neurodecode as nd
from bids_neurodecode.api import betas as module
from bids_neurodecode.api import grids
from bids_neurodecode.errors import InputError, NeurodecodeWarning
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.signals.preparing import NO_MEAN
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.timing import BEFORE_RUN, OFF_GRID
from bids_neurodecode.signals.trialtypes import SingleTrialOptions

PERIOD, DURATION, SHAPE = 2.0, 2.0, (4, 3, 2)
ONSETS = np.arange(10) * 10.0
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def shown(run: int) -> list[str]:
    order = np.random.default_rng(run).permutation(5)
    return [f'{k}.png' for k in [*order, *order[::-1]]]


@pytest.fixture(scope='module')
def world():
    """Two runs (x, y, z, n_volumes) with a response to each image, and their events."""
    rng = np.random.default_rng(0)
    response = hrf_library(PERIOD, DURATION)[:, 3]
    size = dict(zip([f'{k}.png' for k in range(5)], rng.normal(2, 1, (5, *SHAPE)), strict=True))
    runs, events = [], []
    for run in range(2):
        series = rng.normal(100, 1, (*SHAPE, 64))
        for onset, name in zip(ONSETS, shown(run), strict=True):
            first = int(onset / PERIOD)
            cut = response[: 64 - first]
            series[..., first : first + len(cut)] += size[name][..., None] * cut
        runs.append(series.astype(np.float32))
        events.append(
            pd.DataFrame({'onset': ONSETS, 'duration': DURATION, 'stim_file': shown(run)})
        )
    return runs, events


@pytest.fixture(scope='module')
def inside():
    mask = np.ones(SHAPE, dtype=bool)
    mask[0, 0] = False
    return mask


@pytest.fixture(scope='module')
def by_engine(world, inside):
    """What the engine says of the masked voxels, all models."""
    return estimate_single_trials(
        [np.ascontiguousarray(series[inside].T) for series in world[0]],
        [(ONSETS / PERIOD).astype(int)] * 2,
        [shown(run) for run in range(2)],
        PERIOD,
        DURATION,
        options=SingleTrialOptions(),
    )


@pytest.mark.parametrize('model', ['B', 'C', 'D'])
def test_arrays_give_the_engines_betas(world, inside, by_engine, model):
    runs, events = world
    betas = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD, model=model)
    # a product of other shapes rounds otherwise
    np.testing.assert_allclose(betas.values, by_engine.betas[model], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(betas.rsquared, by_engine.rsquared[model], rtol=1e-5)
    assert betas.model == model
    assert (module.TUNED_ON_ALL in betas.notes) == (model != 'B')
    flat = [np.ascontiguousarray(series[inside].T) for series in runs]
    again = nd.fit_betas(flat, events, repetition_time=PERIOD, model=model)
    np.testing.assert_array_equal(again.values, betas.values)


def test_files_and_images_give_the_engines_betas(world, inside, by_engine, tmp_path):
    runs, events = world
    images, files, tables = [], [], []
    for run, (series, table) in enumerate(zip(runs, events, strict=True)):
        image = nib.Nifti1Image(series, AFFINE)
        image.header.set_zooms((3, 3, 3, PERIOD))
        image.header.set_xyzt_units('mm', 'sec')
        images.append(image)
        files.append(tmp_path / f'run-{run}_bold.nii.gz')
        image.to_filename(files[-1])
        tables.append(tmp_path / f'run-{run}_events.tsv')
        table.to_csv(tables[-1], sep='\t', index=False)
    mask = nib.Nifti1Image(inside.astype(np.uint8), AFFINE)
    mask.to_filename(tmp_path / 'mask.nii.gz')
    for given_images, given_events, given_mask in (
        (images, events, mask),
        (files, tables, tmp_path / 'mask.nii.gz'),
        ([str(file) for file in files], [str(table) for table in tables], inside),
    ):
        betas = nd.fit_betas(given_images, given_events, mask=given_mask, model='D')
        np.testing.assert_array_equal(betas.values, by_engine.betas['D'])
        image = betas.to_image()
        assert image.shape == (*SHAPE, 20)
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_array_equal(image.get_fdata()[inside].T, betas.values)
        assert (image.get_fdata()[~inside] == 0).all()


def test_milliseconds_in_a_header_are_milliseconds(world):
    image = nib.Nifti1Image(world[0][0], AFFINE)
    image.header.set_zooms((3, 3, 3, 2000.0))
    image.header.set_xyzt_units('mm', 'msec')
    assert grids.open_runs(image)[0].repetition_time == pytest.approx(2.0)


def test_surfaces_and_cifti_give_the_engines_betas(world, inside, by_engine):
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    flat = [series[inside].T for series in world[0]]
    n = flat[0].shape[1]
    left = n // 2
    faces = np.array([[0, 1, 2]])
    mesh = PolyMesh(
        left=InMemoryMesh(np.zeros((left, 3)), faces),
        right=InMemoryMesh(np.zeros((n - left, 3)), faces),
    )
    surfaces = [SurfaceImage(mesh, {'left': x[:, :left].T, 'right': x[:, left:].T}) for x in flat]
    gifti = [
        nib.gifti.GiftiImage(
            darrays=[nib.gifti.GiftiDataArray(row.astype(np.float32)) for row in x]
        )
        for x in flat
    ]
    brain = BrainModelAxis.from_mask(np.ones(n, dtype=bool), name='cortex_left')
    cifti = [nib.Cifti2Image(x, header=(SeriesAxis(0, PERIOD, len(x)), brain)) for x in flat]
    for images, period in ((surfaces, PERIOD), (gifti, PERIOD), (cifti, None)):
        betas = nd.fit_betas(images, world[1], repetition_time=period, model='D')
        np.testing.assert_array_equal(betas.values, by_engine.betas['D'])
        image = betas.to_image(betas.rsquared)
        assert type(image) is type(images[0])
    np.testing.assert_array_equal(image.get_fdata()[0], betas.rsquared)
    image = nd.fit_betas(surfaces, world[1], repetition_time=PERIOD, model='B').to_image()
    assert image.data.parts['left'].shape == (left, 20)


def test_training_sets_are_the_engines_tuning_sets(world, inside, by_engine):
    runs, events = world
    train = np.arange(20) < 14
    betas = nd.fit_betas(
        runs, events, mask=inside, repetition_time=PERIOD, model='D', training_sets=[train]
    )
    (tuned,) = betas.training
    fit = estimate_single_trials(
        [np.ascontiguousarray(series[inside].T) for series in runs],
        [(ONSETS / PERIOD).astype(int)] * 2,
        [shown(run) for run in range(2)],
        PERIOD,
        DURATION,
        tuning_sets=[train],
        options=SingleTrialOptions(models=('D',)),
    )
    np.testing.assert_array_equal(tuned, fit.tuned[0].betas['D'])
    assert module.TUNED_ON_ALL not in betas.notes
    plain = nd.fit_betas(
        runs, events, mask=inside, repetition_time=PERIOD, model='B', training_sets=[train]
    )
    np.testing.assert_array_equal(plain.training[0], plain.values)


def test_a_model_is_chosen_by_held_out_runs(world, inside):
    runs, events = [*world[0], *world[0]], [*world[1], *world[1]]
    betas = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD)
    assert betas.notes[0].startswith('Share of pairs of held-out runs identified')
    assert betas.model in {'B', 'C', 'D'}
    np.testing.assert_array_equal(betas.values, betas.estimates.betas[betas.model])
    few = nd.fit_betas(*world, mask=inside, repetition_time=PERIOD)
    assert few.model == 'B'
    assert module.FEW_RUNS in few.notes
    once = world[1][0].assign(stim_file=[f'{k}.png' for k in range(10)])
    alone = nd.fit_betas(world[0][0], once, mask=inside, repetition_time=PERIOD)
    assert alone.model == 'B'
    assert module.ONE_MODEL in alone.notes


@settings(max_examples=10)
@given(order=st.permutations(range(10)), name=st.sampled_from(module.COLUMNS))
def test_rows_of_events_may_come_in_any_order_under_any_known_column(world, inside, order, name):
    runs, events = world
    mixed = [
        table.iloc[order].rename(columns={'stim_file': name}).reset_index(drop=True)
        for table in events
    ]
    first = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD, model='B')
    again = nd.fit_betas(runs, mixed, mask=inside, repetition_time=PERIOD, model='B')
    np.testing.assert_array_equal(first.values, again.values)
    assert first.stimuli.tolist() == again.stimuli.tolist()


def test_rows_without_a_stimulus_are_no_trials(world, inside):
    runs, events = world
    rest = pd.DataFrame({'onset': [5.0, 7.0], 'duration': 30.0, 'stim_file': ['n/a', None]})
    more = [pd.concat([table, rest], ignore_index=True) for table in events]
    betas = nd.fit_betas(runs, more, mask=inside, repetition_time=PERIOD, model='B')
    assert betas.trials.shape == (20, 6)


def test_confounds_go_into_the_model(world, inside):
    runs, events = world
    rng = np.random.default_rng(5)
    wave = [rng.normal(size=(64, 1)).cumsum(axis=0) for _ in range(2)]
    spoilt = [s + 5 * w[:, 0] for s, w in zip(runs, wave, strict=True)]
    plain, cleaned = (
        nd.fit_betas(
            [x.astype(np.float32) for x in spoilt],
            events,
            mask=inside,
            repetition_time=PERIOD,
            model='B',
            confounds=given_confounds,
        )
        for given_confounds in (None, [pd.DataFrame(w) for w in wave])
    )
    truth = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD, model='B')
    errors = [np.abs(x.values - truth.values).mean() for x in (plain, cleaned)]
    assert errors[1] < 0.3 * errors[0]


def test_onsets_between_volumes_resample_or_say_so(world, inside):
    runs, events = world
    late = [table.assign(onset=table['onset'] + 1.0) for table in events]
    betas = nd.fit_betas(runs, late, mask=inside, repetition_time=PERIOD, model='B')
    assert any('resampled from 2 s to 1 s' in note for note in betas.notes)
    with pytest.raises(nd.UsageError) as error:
        nd.fit_betas(runs, late, mask=inside, repetition_time=PERIOD, model='B', off_grid='error')
    assert OFF_GRID.split('{')[0] in str(error.value)
    assert 'Set off_grid="resample"' in str(error.value)
    assert 'betas.' not in str(error.value)
    # a series whose slices were brought to the middle of the volume
    middle = nd.fit_betas(
        runs, late, mask=inside, repetition_time=PERIOD, model='B', start_time=1.0
    )
    straight = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD, model='B')
    np.testing.assert_array_equal(middle.values, straight.values)


def test_centred_series_keep_their_units(world, inside):
    runs = [series - series.mean(axis=-1, keepdims=True) for series in world[0]]
    betas = nd.fit_betas(runs, world[1], mask=inside, repetition_time=PERIOD, model='B')
    assert betas.units != 'percent signal change'
    assert NO_MEAN in betas.notes
    percent = nd.fit_betas(*world, mask=inside, repetition_time=PERIOD, model='B')
    r = np.corrcoef(betas.values.ravel(), percent.values.ravel())[0, 1]
    assert r > 0.99


def test_without_a_mask_voxels_that_vary_are_taken(world):
    runs = [series.copy() for series in world[0]]
    runs[0][0, 0, 0] = 7.0
    runs[1][1, 1, 1, 5] = np.nan
    betas = nd.fit_betas(runs, world[1], repetition_time=PERIOD, model='B')
    assert betas.values.shape[1] == np.prod(SHAPE) - 2
    image = betas.to_image(np.ones(betas.values.shape[1]))
    assert image[0, 0, 0] == image[1, 1, 1] == 0
    assert image.sum() == np.prod(SHAPE) - 2


def test_short_and_readable(world, inside):
    betas = nd.fit_betas(*world, mask=inside, repetition_time=PERIOD, model='D')
    lines = repr(betas).splitlines()
    assert lines[0].startswith('Betas: 20 trials x 22 voxels, model D (')
    assert len(lines) < 10
    samples = betas.to_samples()
    np.testing.assert_array_equal(samples.values, betas.values)


def test_the_sidecar_says_when_volumes_were_taken(world, inside, tmp_path):
    runs, events = world
    files = []
    for run, series in enumerate(runs):
        image = nib.Nifti1Image(series, AFFINE)
        image.header.set_zooms((3, 3, 3, PERIOD))
        image.header.set_xyzt_units('mm', 'sec')
        files.append(tmp_path / f'run-{run}_bold.nii.gz')
        image.to_filename(files[-1])
        (tmp_path / f'run-{run}_bold.json').write_text('{"StartTime": 1.0}')
    late = [table.assign(onset=table['onset'] + 1.0) for table in events]
    betas = nd.fit_betas(files, late, mask=inside, model='B')
    straight = nd.fit_betas(runs, events, mask=inside, repetition_time=PERIOD, model='B')
    np.testing.assert_array_equal(betas.values, straight.values)
    said = nd.fit_betas(files, events, mask=inside, model='B', start_time=0.0)
    np.testing.assert_array_equal(said.values, straight.values)


def test_transposed_arrays_are_warned_of():
    rng = np.random.default_rng(0)
    series = rng.normal(100, 1, (90, 600))
    events = pd.DataFrame({'onset': ONSETS, 'duration': DURATION, 'stim_file': shown(0)})
    with pytest.warns(NeurodecodeWarning, match=r'transpose') as caught:
        betas = nd.fit_betas(series.T, events, repetition_time=PERIOD, model='B')
    assert str(caught[0].message) == betas.notes[0]


def test_damaged_files_are_named(world, tmp_path):
    image = nib.Nifti1Image(world[0][0], AFFINE)
    image.header.set_zooms((3, 3, 3, PERIOD))
    file = tmp_path / 'bold.nii.gz'
    image.to_filename(file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b'nothing'):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r'bold\.nii\.gz') as error:
            nd.fit_betas(file, world[1][0], model='B')
        assert '\n' not in str(error.value)


def errors_of(world, inside):
    runs, events = world
    image = nib.Nifti1Image(runs[1], np.diag([2.0, 2, 2, 1]))
    first = nib.Nifti1Image(runs[0], AFFINE)
    twice = [events[0].assign(duration=[1.0, 5.0] * 5), events[1]]
    return {
        'a': ((runs, events[:1]), {}, module.EVENTS_PER_RUN),
        'b': ((runs, events), {'repetition_time': None}, module.NO_REPETITION_TIME),
        'c': ((runs, events), {'condition': 'x'}, module.NO_COLUMN),
        'd': ((runs, [e.assign(stim_file=None) for e in events]), {}, module.NO_TRIAL),
        'e': ((runs, [e.drop(columns='onset') for e in events]), {}, module.NO_TIMES),
        'f': ((runs, twice), {}, module.SEVERAL_DURATIONS),
        'g': ((runs, events), {'sessions': ['1']}, module.PER_RUN),
        'h': ((runs, events), {'mask': inside.astype(int)}, grids.BAD_MASK),
        'i': (([first, image], events), {'mask': None}, grids.OTHER_GRID),
        'j': (([runs[0][..., 0], runs[1]], events), {}, grids.UNKNOWN_IMAGE),
        'k': (([7, runs[1]], events), {}, grids.UNKNOWN_IMAGE),
        'l': (([], []), {}, grids.NO_IMAGES),
        'm': (([r[..., :1] for r in runs], events), {}, grids.NOT_SERIES),
        'n': ((runs, events), {'mask': np.zeros(SHAPE, dtype=bool)}, grids.NO_VOXEL),
        'p': ((runs, events), {'model': 'A'}, module.BAD_CHOICE),
        'q': ((runs, events), {'off_grid': 'no'}, module.BAD_CHOICE),
        'r': ((runs, events), {'repetition_time': -2.0}, module.BAD_PERIOD),
        's': ((runs, events), {'training_sets': [[0, 1]]}, module.BAD_SET),
        'o': ((runs, [e.assign(onset=e['onset'] - 5) for e in events]), {}, BEFORE_RUN),
    }


@pytest.mark.parametrize('key', 'abcdefghijklmnopqrs')
def test_errors_speak_of_arguments(world, inside, key):
    arguments, more, message = errors_of(world, inside)[key]
    with pytest.raises(nd.UsageError) as error:
        nd.fit_betas(*arguments, **{'mask': inside, 'repetition_time': PERIOD, **more})
    assert '\n' not in str(error.value)
    for part in message.split('{'):
        assert part.split('}')[-1] in str(error.value)
    assert isinstance(error.value, ValueError)


def test_images_of_flat_arrays_cannot_be_made(world, inside):
    flat = [np.ascontiguousarray(series[inside].T) for series in world[0]]
    betas = nd.fit_betas(flat, world[1], repetition_time=PERIOD, model='B')
    with pytest.raises(nd.UsageError, match=r'without a grid'):
        betas.to_image()
    with pytest.raises(nd.UsageError, match=r'22 voxels'):
        betas.to_image(np.zeros(3))
