"""Volumes on the cortex: planted spots lie in their gyrus and hemisphere; surfaces in a viewer."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from matplotlib import colormaps
from nilearn import plotting
from nilearn.plotting.surface._niivue_backend import matplotlib_cm_to_niivue_cm
from nilearn.surface import load_surf_mesh

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.report.brain import color_limits, plot_map
from bids_neurodecode.report.cortex import can_turn, on_cortex, plot_cortex, surface_viewer
from bids_neurodecode.report.mapblocks import SELECTION
from bids_neurodecode.report.sheets import Sheet
from bids_neurodecode.report.style import to_svg
from bids_neurodecode.signals.meshes import find_mesh
from bids_neurodecode.spaces import Space
from tests.meshes import surfaces, write_mesh

SHAPE = (46, 55, 46)
AFFINE = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
SPOT = (12, -90, 2)
"""Right calcarine sulcus, mm."""


def place():
    return np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def images(keep=lambda where: np.ones(SHAPE, bool)):
    where = place()
    values = np.exp(-((where - np.array(SPOT)) ** 2).sum(axis=-1) / 2 / 8**2)
    return (
        nib.Nifti1Image(values.astype(np.float32), AFFINE),
        nib.Nifti1Image(keep(where).astype(np.uint8), AFFINE),
    )


def test_a_spot_lies_in_its_gyrus():
    from nilearn.datasets import fetch_surf_fsaverage

    image, mask = images(lambda where: where[..., 1] < 20)
    space, values = on_cortex(image, mask)
    files = fetch_surf_fsaverage('fsaverage5')
    places = np.concatenate(
        [load_surf_mesh(files[f'pial_{side}']).coordinates for side in ('left', 'right')]
    )
    best = int(np.nanargmax(values))
    assert best >= space.cortex('L')[0]
    assert np.linalg.norm(places[best] - SPOT) < 10
    # vertices in front of the mask have no value
    assert np.isnan(values[places[:, 1] > 30]).all()
    assert np.isfinite(values[places[:, 1] < 10]).all()


def test_the_figure_has_four_views_and_the_same_bytes():
    image, mask = images()
    figure = plot_cortex(image, MAPS['pearsonr'], mask=mask)
    assert len(figure.axes) == 5
    assert to_svg(figure) == to_svg(plot_cortex(image, MAPS['pearsonr'], mask=mask))
    deep = images(lambda where: where[..., 2] > 100)[1]
    assert plot_cortex(image, MAPS['pearsonr'], mask=deep) is None


@pytest.mark.parametrize('key', ['pearsonr', 'noiseceiling'])
def test_surfaces_can_be_turned_in_one_file(key):
    image, mask = images()
    space, values = on_cortex(image, mask)
    sheet = Sheet.of(space)
    assert can_turn(sheet)
    columns = space.image(np.nan_to_num(values).astype(np.float32))
    inside = space.image(np.isfinite(values).astype(np.float32))
    page = surface_viewer(columns, MAPS[key], mask=inside, sheet=sheet)
    assert 'niivue' in page
    assert '<link' not in page
    assert page == surface_viewer(columns, MAPS[key], mask=inside, sheet=sheet)


def test_the_viewer_has_the_colours_of_the_slices(monkeypatch):
    image, mask = images()
    space, values = on_cortex(image, mask)
    inside = space.image(np.isfinite(values).astype(np.float32))
    given = {}

    def view(*_, **more):
        given.update(more)
        return SimpleNamespace(get_standalone=str)

    monkeypatch.setattr(plotting, 'view_surf', view)
    specs = (
        MAPS['noiseceiling'],
        MAPS['hrfindex'],
        replace(MAPS['hrfindex'], low=0.2),
        MAPS['pearsonr'],
    )
    # all values above 0, all below, both
    for spec, shift in itertools.product(specs, (2.0, -2.0, -0.5)):
        columns = space.image(np.nan_to_num(values + shift).astype(np.float32))
        surface_viewer(columns, spec, mask=inside, sheet=Sheet.of(space))
        least, top = given['threshold'], given['vmax']
        assert 0 < least < top
        shown = spec.scale * (values + shift)
        low, high = color_limits(shown[np.isfinite(shown)], spec)
        halves = matplotlib_cm_to_niivue_cm(given['cmap'])
        above = np.linspace(least, top, 20)
        for value in (*above, *-above):
            half = halves['pos' if value > 0 else 'neg']
            step = round(254 * (abs(value) - least) / (top - least))
            color = np.array([half[channel][step] for channel in 'RGB'])
            part = np.clip((value - low) / (high - low), 0, 1)
            wanted = 255 * np.array(colormaps[spec.colormap](part)[:3])
            # within two steps of the viewer's scale
            near = np.clip(part + np.array([-1, 1]) * 2 * (top - least) / 254 / (high - low), 0, 1)
            apart = np.abs(255 * np.array(colormaps[spec.colormap](near))[:, :3] - wanted).max()
            assert np.abs(color - wanted).max() <= apart + 2


def test_a_mesh_of_fslr_is_found_in_templateflows_folder(tmp_path, monkeypatch):
    from nibabel.cifti2.cifti2_axes import BrainModelAxis
    from nibabel.gifti import GiftiDataArray, GiftiImage

    n, folder = 32492, tmp_path / 'tpl-fsLR'
    folder.mkdir()
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    space = Space(BrainModelAxis.from_surface([3, 9], n, 'CortexLeft'), 'cifti', 'fsLR:den-91k')
    (folder / 'tpl-fsLR_den-32k_hemi-L_inflated.surf.gii').touch()  # not fetched
    places = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    arrays = [
        GiftiDataArray(places, 'NIFTI_INTENT_POINTSET'),
        GiftiDataArray(np.array([[0, 1, 2]], np.int32), 'NIFTI_INTENT_TRIANGLE'),
    ]
    file = folder / 'tpl-fsLR_den-32k_hemi-L_midthickness.surf.gii'
    GiftiImage(darrays=arrays).to_filename(file)
    mesh = find_mesh(space, 'L')
    assert mesh is not None
    np.testing.assert_allclose(mesh.coordinates, places)
    assert find_mesh(space, 'R') is None


def test_a_selection_is_drawn_where_its_voxels_are():
    image, mask = images()
    chosen = nib.Nifti1Image((np.asarray(image.dataobj) > 0.3).astype(np.uint8), AFFINE)
    figure = plot_cortex(chosen, SELECTION, mask=mask)
    assert figure.axes[-1].get_ylim() == (0, 100)
    space, values = on_cortex(chosen, mask)
    left, right = values[: space.cortex('L')[0]], values[space.cortex('L')[0] :]
    assert np.nanmax(right) == 1
    assert (np.nan_to_num(right) > 0).sum() > 5 * (np.nan_to_num(left) > 0).sum()


def test_a_flat_patch_is_drawn_though_it_is_seen_from_its_edge(tmp_path):
    x, y = np.divmod(np.arange(16), 4)
    start = (4 * x + y)[(x < 3) & (y < 3)]
    faces = np.stack([start, start + 1, start + 4], axis=1)
    folder = tmp_path / 'sub-01' / 'func'
    folder.mkdir(parents=True)
    for side in ('L', 'R'):
        write_mesh(folder.parent, side, np.stack([x, y, 0 * x], axis=1), faces)
    space = surfaces(16, 16)
    image = space.image(np.arange(32, dtype=np.float32).reshape(32, 1, 1))
    mask = space.image(np.ones((32, 1, 1), dtype=np.float32))
    figure = plot_map(image, MAPS['isc'], mask=mask, sheet=Sheet.of(space, [folder]))
    assert len(figure.axes) >= 4
