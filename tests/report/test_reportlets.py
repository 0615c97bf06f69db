"""Each reportlet draws what it says: the artists hold the numbers that were given."""

import base64
import io
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis
from PIL import Image

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.errors import ReportError
from bids_neurodecode.report import brain, design, film, pictures, quality, scores
from bids_neurodecode.report.panels import Panel, whole_figure
from bids_neurodecode.report.sheets import Sheet, where_shown
from bids_neurodecode.report.slices import choose_slices
from bids_neurodecode.report.style import new_figure, to_svg
from bids_neurodecode.spaces import Space
from tests.figures import complaints

AFFINE = np.diag([3.0, 4.0, 5.0, 1.0])


def image_of(volume: object, affine: object = AFFINE) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(volume, dtype=np.float32), affine)


@pytest.fixture
def predictions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            'fold': [0, 0, 0, 1, 1, 1],
            'stimulus': list('abcabc'),
            'retrieved': list('abcbca'),
            'n_candidates': 3,
            'rank': [1, 1, 1, 2, 3, 3],
            'similarity': [0.9, 0.8, 0.7, 0.3, 0.2, 0.1],
        }
    )


def test_slices_hold_voxels_of_the_mask() -> None:
    mask = np.zeros((5, 5, 40), dtype=bool)
    mask[2, 2, 5:35] = True
    chosen = choose_slices(mask)
    assert 6 < len(chosen) <= 12
    assert set(np.diff(chosen)) == {3}, 'at one distance'
    mask[2, 2, 20] = False
    assert all(mask[:, :, z].any() for z in choose_slices(mask))
    assert choose_slices(mask[:, :, 7:8]) == [0]


def test_map_shows_the_values_of_the_mask_alone() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(50, 5, (8, 9, 3))
    mask = np.zeros(volume.shape)
    mask[2:6, 2:7, 1:] = 1
    figure = brain.plot_map(
        image_of(volume), MAPS['tsnr'], mask=image_of(mask), background=image_of(volume)
    )
    (panels,) = [axis for axis in figure.axes if axis.images]
    assert len(panels.images) == 4, 'two backgrounds, two maps: slices without voxels are left out'
    shown = np.concatenate([np.ma.compressed(image.get_array()) for image in panels.images[2:]])
    for grey, map_of in zip(panels.images[:2], panels.images[2:], strict=True):
        assert grey.get_extent() == map_of.get_extent()
    wanted = volume[mask > 0].astype(np.float32)
    assert np.sort(shown[np.isfinite(shown)]) == pytest.approx(np.sort(wanted))
    (bars,) = figure.axes[-1].patches
    assert 95 <= sum(bars.get_data().values) <= 100.001
    assert [text.get_text() for text in panels.texts] == ['z = 5 mm', 'z = 10 mm', 'L', 'R']


@pytest.mark.parametrize(('across', 'kept'), [(8, True), (600, False)])
def test_slices_are_enlarged_by_the_viewer_not_by_the_page(across: int, kept: bool) -> None:
    """A figure holds the voxels of a slice, or, of a finer one, as many pixels as are shown."""
    shape = (across, 9, 2)
    mask, values = np.ones(shape), np.random.default_rng(0).normal(50, 5, shape)
    figure = brain.plot_map(
        image_of(values), MAPS['tsnr'], mask=image_of(mask), background=image_of(values)
    )
    svg = to_svg(figure).decode()
    pngs = (base64.b64decode(data) for data in re.findall(r'png;base64,\s*([^"]+)"', svg))
    sizes = [Image.open(io.BytesIO(png)).size for png in pngs]
    assert (sizes.count((across, 9)) == 4) == kept, 'two backgrounds, two maps'
    assert max(width for width, _ in sizes[:4]) < 600


@pytest.mark.parametrize(('side', 'kept'), [(64, True), (96, True), (100, False), (128, False)])
def test_a_picture_that_is_finer_than_a_screen_is_not_thinned_out_by_the_viewer(
    side: int, kept: bool
) -> None:
    """What is drawn as it is loses whole lines where a viewer makes it smaller."""
    figure = new_figure(1.0, 1.0, layout='none')
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Panel(whole_figure(figure), 0.0, 0.0, 1.0, 1.0).image(picture)
    (png,) = re.findall(r'png;base64,\s*([^"]+)"', to_svg(figure).decode())
    assert (Image.open(io.BytesIO(base64.b64decode(png))).size == (side, side)) == kept


def test_left_is_left_whatever_the_storage() -> None:
    volume = np.zeros((6, 4, 1))
    volume[0] = 1.0
    mask = np.ones(volume.shape)
    flipped = np.diag([-3.0, 4.0, 5.0, 1.0])
    for affine, column in ((AFFINE, 0), (flipped, 5)):
        figure = brain.plot_map(
            image_of(volume, affine), MAPS['tsnr'], mask=image_of(mask, affine)
        )
        axes = figure.axes[0]
        shown = axes.images[-1]
        assert (shown.get_array()[:, column] == 1).all()
        letters = {text.get_text(): text for text in axes.texts}
        left, right = shown.get_extent()[:2]
        for letter, at in (('L', left), ('R', right)):
            assert letters[letter].get_position()[0] == pytest.approx(at)
            assert letters[letter].get_ha() == {'L': 'left', 'R': 'right'}[letter]


@pytest.mark.real
def test_real_single_slice(shared: Path) -> None:
    folder = shared / 'data' / 'haxby2001' / 'derivatives' / 'fmriprep' / 'sub-01' / 'func'
    stem = folder / 'sub-01_task-objectviewing_run-01_desc-'
    bold = nib.load(f'{stem}preproc_bold.nii.gz')
    mask = nib.load(f'{stem}brain_mask.nii.gz')
    series = np.asarray(bold.dataobj, dtype=np.float64)
    mean, deviation = series.mean(axis=-1), series.std(axis=-1)
    tsnr = np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
    figure = brain.plot_map(
        image_of(tsnr, bold.affine),
        MAPS['tsnr'],
        mask=mask,
        background=image_of(mean, bold.affine),
    )
    shown = np.ma.filled(figure.axes[0].images[-1].get_array(), np.nan)
    assert np.isfinite(shown).sum() == (np.asarray(mask.dataobj) > 0).sum()


def test_constant_and_empty_maps_are_drawn() -> None:
    mask = np.ones((4, 4, 1))
    for volume in (np.zeros(mask.shape), np.full(mask.shape, np.nan)):
        for key in ('tsnr', 'hrfindex', 'pearsonr'):
            spec = MAPS[key]
            assert brain.plot_map(image_of(volume), spec, mask=image_of(mask)).axes


def test_every_term_of_the_loss_is_drawn_as_what_is_minimised() -> None:
    curves = pd.DataFrame(
        {'fold': 1, 'epoch': [1, 2], 'part': 'training', 'loss': [2.0, 1.0], 'ssim': [0.1, 0.4]}
    )
    loss, structure = film.plot_curves(curves).axes
    assert structure.get_title(loc='left') == 'structural dissimilarity of frames'
    assert list(structure.lines[0].get_ydata()) == pytest.approx([0.9, 0.6])
    assert list(loss.lines[0].get_ydata()) == [2.0, 1.0]


def test_other_grid_is_refused() -> None:
    with pytest.raises(ReportError, match=r'The mask is of shape \(4, 4, 2\); the map beside'):
        brain.plot_map(
            image_of(np.ones((4, 4, 1))),
            MAPS['tsnr'],
            mask=image_of(np.ones((4, 4, 2))),
        )


def test_selection_colours_the_selected_voxels() -> None:
    selected = np.zeros((6, 6, 2))
    selected[2:4, 2:4, 0] = 1
    figure = brain.plot_selection(image_of(selected), mask=image_of(np.ones(selected.shape)))
    top = [image.get_array() for image in figure.axes[0].images[2:]]
    assert sum(np.nansum(np.ma.filled(array, np.nan)) for array in top) == 4


@pytest.mark.parametrize(
    ('form', 'what'), [('gifti', 'vertex'), ('cifti', 'vertex or a subcortical voxel')]
)
def test_a_selection_without_a_mesh_says_what_its_columns_are(form, what) -> None:
    axis = BrainModelAxis.from_surface(np.arange(40), 40, 'CortexLeft')
    selected = Space(axis, form, 'own').image((np.arange(40) < 9).astype(np.uint8))
    figure = brain.plot_selection(selected, mask=selected)
    (panel,) = figure.axes
    assert panel.get_xlabel() == what
    assert (panel.images[0].get_array()[0, :, 3] > 0).sum() == 9
    said = where_shown(Sheet.of(Space(axis, form, 'own')), 9, alone=True)
    assert said == ' In the order of the data, as no mesh of own was found.'


def test_parcels_keep_background_clear() -> None:
    labels = np.zeros((6, 6, 1))
    labels[:3] = 1
    labels[3:5] = 2
    figure = brain.plot_parcels(image_of(labels), mask=image_of(np.ones(labels.shape)))
    shown = np.ma.filled(figure.axes[0].images[-1].get_array(), np.nan)
    assert np.isnan(shown).sum() == 6
    assert len(np.unique(shown[np.isfinite(shown)])) == 2


@pytest.mark.slow
def test_glass_brain_has_four_views_and_a_colour_bar() -> None:
    grid = np.array([[12.0, 0, 0, -72], [0, 12, 0, -105], [0, 0, 12, -70], [0, 0, 0, 1]])
    volume = np.random.default_rng(0).normal(size=(13, 15, 13))
    spec = MAPS['pearsonr']
    mask = image_of(np.ones(volume.shape), grid)
    figure = brain.plot_glass(image_of(volume, grid), spec, mask=mask)
    assert sum(bool(axis.images) for axis in figure.axes) >= 4
    assert figure.axes[-1].get_ylabel() == spec.label
    assert to_svg(figure) == to_svg(brain.plot_glass(image_of(volume, grid), spec, mask=mask))


def trials(**columns: object) -> pd.DataFrame:
    base = {
        'onset': [0.0, 4.0, 0.0, 4.0],
        'duration': 2.0,
        'stimulus': ['a', 'b', 'b', 'a'],
        'run': ['0', '0', '1', '1'],
    }
    return pd.DataFrame(base | columns)


def test_events_are_bars_from_onset_to_end() -> None:
    figure = design.plot_events(trials(trial_type=['x', 'y', 'y', 'x']))
    axis = figure.axes[0]
    boxes = [path.get_extents() for c in axis.collections for path in c.get_paths()]
    assert sorted((box.x0, box.x1) for box in boxes) == [(0, 2), (0, 2), (4, 6), (4, 6)]
    assert [t.get_text() for t in axis.get_yticklabels()] == ['run 0', 'run 1']
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ['x', 'y']


def test_events_fall_back_on_repeats_then_on_nothing() -> None:
    many = [f't{k}' for k in range(20)]
    table = pd.DataFrame(
        {'onset': np.arange(20.0), 'duration': 1.0, 'stimulus': 's', 'run': '0'}
        | {'trial_type': many, 'repeat': np.arange(20)}
    )
    labels = [t.get_text() for t in design.plot_events(table).legends[0].get_texts()]
    assert labels == [*'1234567', '8 or later']
    assert not design.plot_events(trials()).legends


def test_runs_carry_their_own_labels() -> None:
    labels = ['ses-a task-img run-01'] * 2 + ['ses-b task-img run-01'] * 2
    assert [label for label, _ in design.run_order(trials(run_label=labels))] == [
        'ses-a run-01',
        'ses-b run-01',
    ]
    sessions = ['a', 'a', 'b', 'b']
    table = trials(session=sessions, run=['1'] * 4)
    assert [label for label, _ in design.run_order(table)] == ['ses-a run 1', 'ses-b run 1']


def test_repeats_are_counted() -> None:
    bars = design.plot_repeats(trials()).axes[0].patches
    assert [bar.get_width() for bar in bars] == [2, 2]
    many = pd.DataFrame({'stimulus': [f's{k % 50}' for k in range(75)]})
    bars = design.plot_repeats(many).axes[0].patches
    assert [bar.get_height() for bar in bars] == [25, 25]


def test_framewise_displacement_by_hand() -> None:
    translations = np.array([[0, 0, 0], [0.1, -0.2, 0], [0.1, -0.2, 0.3]])
    rotations = np.array([[0, 0, 0], [0.002, 0, 0], [0, 0, 0]])
    found = quality.framewise_displacement(translations, rotations)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([0.3 + 0.1, 0.3 + 0.1])


def test_motion_of_a_run() -> None:
    table = pd.DataFrame(
        dict.fromkeys(quality.TRANSLATIONS + quality.ROTATIONS, np.zeros(5))
        | {'trans_z': [0, 0, 1, 1, 1], 'framewise_displacement': [np.nan, 0, 1, 0, 0]}
    )
    run = quality.run_motion('run-01', 2.0, table)
    assert run is not None
    assert not run.computed
    assert (run.mean, run.maximum, run.share_moved, run.drift) == (0.25, 1.0, 0.25, 1.0)
    figure = quality.plot_motion([run, run])
    minutes, displacement = figure.axes[0].lines[0].get_data()
    assert minutes[-1] == pytest.approx(4 * 2 / 60)
    assert displacement[2] == 1
    assert quality.run_motion('x', 2.0, table.drop(columns='rot_x')) is None


def test_carpet_leaves_no_figure_open() -> None:
    import matplotlib.pyplot as plt

    series = np.random.default_rng(0).normal(size=(40, 30)) + 100
    series[:, 3] = 7
    carpet = quality.make_carpet(series, None, None, np.linspace(0, 1, 40))
    figure = quality.plot_carpet(carpet, 2.0)
    drawn = next(axis.images[0].get_array() for axis in figure.axes if axis.images)
    assert drawn.shape == (29, 40), 'a voxel that does not vary is left out'
    assert not plt.get_fignums()


def test_carpet_is_sorted_by_tissue_then_by_what_voxels_share() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=60)
    follows = np.array([0.0, 3.0, 1.0, 0.5, 2.0, 4.0])
    series = 100 + shared[:, None] * follows + rng.normal(size=(60, 6))
    tissue = np.array([3, 2, 1, 1, 2, 0])
    carpet = quality.make_carpet(series, tissue, None, None)
    assert carpet.tissues == (
        ('grey matter', 2), ('white matter', 2), ('CSF', 1), ('other', 1),
    )  # fmt: skip
    order = [2, 3, 1, 4, 0, 5]
    assert np.array_equal(carpet.series, series[:, order])
    assert list(carpet.traces) == ['std. DVARS', 'GS (%)']
    assert np.isnan(carpet.traces['std. DVARS'][0])
    means = series.mean(axis=1)
    assert np.allclose(carpet.traces['GS (%)'], 100 * (means / means.mean() - 1))


def test_traces_of_the_carpet_come_from_the_confounds_where_they_are() -> None:
    series = np.random.default_rng(0).normal(size=(5, 4)) + 100
    table = pd.DataFrame({'std_dvars': [np.nan, 1, 2, 3, 4], 'global_signal': [8, 12, 10, 10, 10]})
    traces = quality.make_carpet(series, None, table, None).traces
    assert traces['std. DVARS'][1:].tolist() == [1, 2, 3, 4]
    assert np.allclose(traces['GS (%)'], [-20, 20, 0, 0, 0])
    # series that were centred have no percent
    centred = series - series.mean(axis=0)
    traces = quality.make_carpet(centred, None, None, None).traces
    assert 'GS (%)' not in traces
    assert np.allclose(traces['GS'], centred.mean(axis=1))


def test_components_are_drawn_as_gain_over_none() -> None:
    figure = quality.plot_components([[-5.0, -4.0, -3.0, -3.5]], [2], ['all trials'])
    curve, chosen = figure.axes[0].lines[:2]
    assert curve.get_ydata().tolist() == [0, 1, 2, 1.5]
    assert (chosen.get_xdata(), chosen.get_ydata()) == ([2], [2.0])
    fits = ['all trials', 'training trials of a fold', 'training trials of a fold']
    many = quality.plot_components([[0, 1], [0, 2], [0, -1]], [1, 1, 0], fits)
    (legend,) = many.legends
    assert [text.get_text() for text in legend.get_texts()] == [*fits[:2], 'number chosen']
    dots = [line.get_xdata() for line in many.axes[0].lines if line.get_marker() == 'o']
    assert dots[:3] == [[1], [1], [0]]


def test_letters_that_are_cut_covered_or_small_are_found() -> None:
    figure = new_figure(2.0, layout='none')
    axis = figure.add_axes((0.1, 0.35, 0.8, 0.5))
    axis.set(xlabel='seconds', ylabel='mm')
    assert complaints(figure) == []
    figure.text(0.99, 0.9, 'over the edge')
    axis.text(0.5, 0.5, 'first')
    axis.text(0.5, 0.5, 'second', fontsize=5)
    axis.set_ylabel('')
    small, cut, covers, nameless = complaints(figure)
    assert cut == "'over the edge' is cut"
    assert small == "'second' is small: 5.0 points"
    assert covers == "'first' covers 'second'"
    assert nameless.startswith('y axis without a name')


def metrics_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            'model': ['ridge', 'baseline-nearest', 'ridge'],
            'metric': ['identification_top1', 'identification_top1', 'made_up'],
            'value': [0.8, 0.4, 1.5],
            'chance': [0.125, 0.125, np.nan],
            'ceiling': [np.nan, np.nan, 2.0],
            'ci_low': [0.7, np.nan, 1.2],
            'ci_high': [0.9, np.nan, 1.8],
            'space': 'x',
            'split': 'test',
        }
    )


def test_scores_are_dots_beside_chance_and_ceiling() -> None:
    figure = scores.plot_scores(metrics_table())
    first, second = figure.axes
    dots, chance, ceiling = (
        [tuple(x) for line in first.lines if line.get_marker() == mark for x in line.get_xydata()]
        for mark in ('o', '|', 'D')
    )
    assert dots == pytest.approx(np.array([(80, 0), (40, 1)]))
    assert chance == pytest.approx(np.array([(12.5, 0), (12.5, 1)]))
    assert np.isnan(ceiling)[:, 0].all(), 'none is known'
    (interval,) = (line for drawn in first.collections for line in drawn.get_segments())
    assert interval[:, 0] == pytest.approx([70, 90])
    assert [t.get_text() for t in first.get_yticklabels()] == ['ridge', 'nearest']
    assert second.get_title(loc='left') == 'made up'
    assert [float(m.get_xdata()[0]) for m in second.lines if m.get_marker() == 'D'] == [2.0]


def test_headline_is_a_models_and_the_most_telling() -> None:
    table = metrics_table().iloc[[1, 2, 0]]
    row = scores.headline(table)
    assert row is not None
    assert (row['model'], row['metric']) == ('ridge', 'identification_top1')
    assert scores.headline(table[table['model'] != 'ridge']) is None


def test_null_counts_all_permutations() -> None:
    null = np.repeat([0.1, 0.2, 0.3], [5, 3, 2])
    figure = scores.plot_null(null, 0.9, 'identification_top1', 0.125)
    axis = figure.axes[0]
    assert sum(bar.get_height() for bar in axis.patches) == 10
    assert [line.get_xdata()[0] for line in axis.lines] == pytest.approx([90, 12.5])
    many = scores.plot_null(np.random.default_rng(0).normal(size=500), 3.0, 'pixcorr')
    assert sum(bar.get_height() for bar in many.axes[0].patches) == 500


def test_confusion_in_percent_of_the_row() -> None:
    figure = scores.plot_confusion(np.array([[3, 1], [0, 0]]), ['a', 'b$'])
    assert figure.axes[0].images[0].get_array().tolist() == [[75, 25], [0, 0]]
    assert {t.get_text() for t in figure.axes[0].texts} == {'3', '1'}
    assert to_svg(figure)


def test_ranks_and_folds(predictions: pd.DataFrame) -> None:
    figure = scores.plot_ranks(predictions)
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == pytest.approx([50, 200 / 3, 100])
    assert left.lines[1].get_ydata().tolist() == pytest.approx([100 / 3, 200 / 3, 100])
    assert right.lines[0].get_ydata().tolist() == [100, 0]
    assert [x.get_text() for x in right.get_xticklabels()] == ['1', '2'], 'folds are from 1 on'
    shared = predictions.assign(identified=[1, 1, 0.5, 0, 0, 0], rank=[1, 1, 1.5, 2, 3, 3])
    assert len(scores.plot_ranks(predictions.assign(fold=0)).axes) == 1
    assert scores.plot_ranks(shared).axes[0].lines[0].get_ydata()[0] == pytest.approx(250 / 6)


def test_examples_are_best_middle_and_worst(predictions: pd.DataFrame) -> None:
    shuffled = predictions.sample(frac=1, random_state=3)
    chosen = pictures.pick_examples(shuffled, n=2)
    found = [(e.kind, e.stimulus, e.rank) for e in chosen]
    assert found == [
        ('best', 'a', 1), ('best', 'b', 1),
        ('median', 'c', 1), ('median', 'a', 2),
        ('worst', 'c', 3), ('worst', 'b', 3),
    ]  # fmt: skip


def test_examples_show_a_stimulus_once_where_there_are_others() -> None:
    table = pd.DataFrame(
        {'stimulus': list('aaaabbbccc'), 'retrieved': 'a', 'n_candidates': 3, 'rank': 1}
    )
    best = [e.stimulus for e in pictures.pick_examples(table, n=3) if e.kind == 'best']
    assert best == ['a', 'b', 'c']


@pytest.mark.parametrize(('n', 'expected'), [(0, 0), (1, 1), (2, 1), (3, 3)])
def test_few_samples(n: int, expected: int, predictions: pd.DataFrame) -> None:
    assert len(pictures.pick_examples(predictions.iloc[:n])) == expected


def test_thumbnails_are_small_and_anything_else_is_none(tmp_path: Path) -> None:
    Image.new('RGBA', (500, 250), (255, 0, 0, 255)).save(tmp_path / 'a.png')
    small = pictures.thumbnail(tmp_path / 'a.png')
    assert small is not None
    assert small.size == (128, 64)
    assert small.mode == 'RGB'
    assert re.match(r'data:image/jpeg;base64,[A-Za-z0-9+/=]+$', pictures.data_uri(small))
    (tmp_path / 'b.png').write_text('<svg onload="alert(1)">')
    assert pictures.thumbnail(tmp_path / 'b.png') is None
    assert pictures.thumbnail(tmp_path / 'missing.png') is None
    assert pictures.thumbnail(tmp_path) is None


def test_examples_as_a_figure(predictions: pd.DataFrame) -> None:
    chosen = pictures.pick_examples(predictions, n=2)
    figure = pictures.plot_examples(chosen, {'a': Image.new('RGB', (10, 10))})
    (axes,) = figure.axes
    assert len(axes.images) == sum(
        name == 'a' for e in chosen for name in (e.stimulus, e.retrieved)
    )
    # none covers another, and all are square as they were
    boxes = [tuple(image.get_extent()) for image in axes.images]
    assert len(set(boxes)) == len(boxes)
    for left, right, bottom, top in boxes:
        assert right - left == pytest.approx(top - bottom)
    again = pictures.plot_examples(chosen, {'a': Image.new('RGB', (10, 10))})
    assert to_svg(figure) == to_svg(again)
