"""Maps of the group: columns by what they are, regions by their names, native spaces apart."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, ScalarAxis

from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.levels.group_maps import group_maps
from bids_neurodecode.levels.group_page import write_group_report
from bids_neurodecode.report.groupmaps import region_table, stack_maps
from bids_neurodecode.report.section_group import region_blocks
from bids_neurodecode.spaces import Space, load_image, one_each, sidecar_of, space_of
from bids_neurodecode.systems.steps.records import results_path
from bids_neurodecode.workflow.nodes import Call

REGIONS = {1: 'V1', 2: 'V2', 3: 'A1'}


def volume(folder, results, label, *, shape=(6, 5, 4), shift=0.0, space='T1w', gain=0.0):
    """A participant on a grid of their own: V1 at .4, V2 at .1 and A1 at 0, plus a gain."""
    own = folder / label
    own.mkdir(parents=True)
    affine = np.diag([3.0, 3, 3, 1])
    affine[0, 3] = shift
    labels = np.zeros(shape, np.int16)
    labels[:2], labels[2:4], labels[4] = 1, 2, 3
    values = np.select([labels == 1, labels == 2, labels == 3], [0.4, 0.1, 0.0], np.nan)
    values = values + gain

    def save(name, array):
        file = own / f'{name}.nii.gz'
        nib.Nifti1Image(np.asarray(array, np.float32), affine).to_filename(file)
        return file

    table = pd.DataFrame({'index': list(REGIONS), 'name': list(REGIONS.values())})
    table.to_csv(own / 'x_dseg.tsv', sep='\t', index=False)
    maps = {'pearsonr': save('r', np.nan_to_num(values)), 'dseg': save('x_dseg', labels)}
    mask = save('mask', labels > 0)
    runs = tuple(replace(run, mask=mask) for run in results.runs)
    return replace(results, participant=label, space=space, runs=runs, maps=maps, mean_bold=None)


def parcels(folder, results, label, names, values):
    space = Space(ScalarAxis(list(names)), 'parcels', 'MNI:seg-X')
    file = folder / f'{label}_statmap.tsv'
    mask = folder / f'{label}_mask.tsv'
    write_image(file, space.image(np.array(values, np.float32)))
    write_image(mask, space.image(np.ones(len(names), np.float32)))
    for written in (file, mask):
        named = written.with_name(f'{label}_space-MNI_seg-X_{written.stem.split("_")[1]}.tsv')
        written.rename(named)
    file, mask = (folder / f'{label}_space-MNI_seg-X_{k}.tsv' for k in ('statmap', 'mask'))
    runs = tuple(replace(run, mask=mask) for run in results.runs)
    maps = {'pearsonr': file}
    return replace(results, participant=label, space='MNI', runs=runs, maps=maps, mean_bold=None)


def test_native_volumes_are_compared_by_region_and_never_voxel_by_voxel(results, tmp_path):
    rng = np.random.default_rng(0)
    gains = rng.normal(0, 0.02, 7)
    people = [
        volume(tmp_path, results, f'{k:02d}', shape=(6, 5, 4 + k % 2), shift=k, gain=gain)
        for k, gain in enumerate(gains)
    ]
    assert stack_maps(people, 'pearsonr') is None
    # the same grid by chance is no common space
    twins = [volume(tmp_path, results, f'twin{k}') for k in range(2)]
    assert stack_maps(twins, 'pearsonr') is None
    assert stack_maps([replace(each, space='MNI') for each in twins], 'pearsonr') is not None
    table = region_table(people).set_index('region')
    assert table['n'].tolist() == [7] * 3
    for name, value in (('V1', 0.4), ('V2', 0.1), ('A1', 0.0)):
        row = table.loc[name]
        assert row['mean'] == pytest.approx(value + gains.mean(), abs=1e-6)
        assert row['sd'] == pytest.approx(gains.std(ddof=1), abs=1e-6)
    assert table.loc['V1', 'p'] == 2 / 2**7
    assert table.loc['V1', 'ci_low'] > 0.3
    assert table.loc['A1', 'p_fdr'] > 0.05
    few = region_table(people[:3])
    assert few[['ci_low', 'ci_high', 'p', 'p_fdr']].isna().all(axis=None)


def test_zeros_of_voxels_that_were_not_judged_are_no_values(results, tmp_path):
    rng = np.random.default_rng(3)
    people, judged = [], []
    for k in range(8):
        person = volume(tmp_path, results, f'{k:02d}', shape=(6, 10, 10), space='MNI')
        file = person.maps['pearsonr']
        image = nib.load(file)
        # two fifths of the first region in each, another choice in all of them
        keep = np.zeros(image.shape, bool)
        keep[:2] = rng.permutation(200).reshape(2, 10, 10) < 80
        ceiling = np.where(keep, 0.5, np.where(rng.random(keep.shape) < 0.5, 0.01, 0.0))
        values = {'pearsonr': 0.3 + 0.01 * rng.normal(size=keep.shape)}
        values['accuracy'] = values['noisenormalized'] = values['pearsonr']
        maps = dict(person.maps)
        for key, score in values.items():
            own = np.where(keep, score, 0)
            if key == 'noisenormalized':
                own[keep & (rng.random(keep.shape) < 0.75)] = 0  # of negative r: a value
            maps[key] = file.with_name(f'{key}.nii.gz')
            nib.Nifti1Image(own.astype(np.float32), image.affine).to_filename(maps[key])
        maps['noiseceiling'] = file.with_name('ceiling.nii.gz')
        nib.Nifti1Image(ceiling.astype(np.float32), image.affine).to_filename(maps['noiseceiling'])
        people.append(replace(person, maps=maps))
        judged.append(keep)
    table = region_table(people).set_index(['map', 'region'])
    for key in ('pearsonr', 'accuracy'):
        assert table.loc[key].index.tolist() == ['V1']
        row = table.loc[key, 'V1']
        assert row['mean'] == pytest.approx(0.3, abs=0.01)
        assert (row['n'], row['n_voxels']) == (8, 80)
    assert table.loc[('pearsonr', 'V1'), 'p'] == 2 / 2**8
    assert table.loc[('noisenormalized', 'V1'), 'mean'] == 0
    assert table.loc[('noisenormalized', 'V1'), 'n_voxels'] == 80
    assert table.loc[('noiseceiling', 'V2'), 'n_voxels'] == 200
    stack = stack_maps(people, 'pearsonr')
    assert (stack.count == np.sum(judged, axis=0)).all()
    assert stack.mean(2)[stack.count > 1] == pytest.approx(0.3, abs=0.05)


def test_parcels_are_matched_by_their_names(results, tmp_path):
    one = parcels(tmp_path, results, '01', ['a', 'b', 'c'], [0.1, 0.2, 0.3])
    two = parcels(tmp_path, results, '02', ['c', 'a', 'd'], [0.5, 0.3, 0.9])
    table = region_table([one, two]).set_index('region')
    assert set(table.index) == {'a', 'c'}
    assert table.loc['a', 'mean'] == pytest.approx(0.2)
    assert table.loc['c', 'mean'] == pytest.approx(0.4)
    stack = stack_maps([one, two], 'pearsonr')
    assert stack.count.ravel().tolist() == [2, 1, 2]
    np.testing.assert_allclose(stack.mean(2).ravel(), [0.2, 0, 0.4], atol=1e-6)


def surface(folder, results, label, values, *, form, absent=()):
    """A participant on six vertices of each hemisphere; some lie outside of the mask."""
    if form == 'gifti':
        left, right = (BrainModelAxis.from_surface(np.arange(6), 6, f'Cortex{s}')
                       for s in ('Left', 'Right'))  # fmt: skip
        name, space = 'hemi-L_space-fsaverage5', 'fsaverage5'
        end, extension = 'map', '.shape.gii'
    else:
        left, right = (BrainModelAxis.from_surface(np.arange(6), 32492, f'Cortex{s}')
                       for s in ('Left', 'Right'))  # fmt: skip
        name, space, end, extension = 'space-fsLR_den-91k', 'fsLR', 'map', '.dscalar.nii'
    where = Space(left + right, form, 'fsaverage5' if form == 'gifti' else 'fsLR:den-91k')
    inside = np.ones(12, np.float32)
    inside[list(absent)] = 0
    files = {
        key: folder / f'sub-{label}_{name}_desc-{key}_{end}{extension}' for key in ('r', 'mask')
    }
    write_image(files['r'], where.image((np.asarray(values) * inside).astype(np.float32)))
    write_image(files['mask'], where.image(inside))
    runs = tuple(replace(run, mask=files['mask']) for run in results.runs)
    return replace(
        results, participant=label, space=space, runs=runs, maps={'pearsonr': files['r']},
        mean_bold=None,
    )  # fmt: skip


@pytest.mark.parametrize('form', ['gifti', pytest.param('cifti', marks=pytest.mark.slow)])
def test_maps_vertex_by_vertex_are_written_with_their_number_and_tests(results, tmp_path, form):
    rng = np.random.default_rng(1)
    people, maps = [], []
    for k in range(7):
        values = rng.normal(0, 0.05, 12)
        values[[2, 9]] += 0.5
        people.append(
            surface(tmp_path, results, f'{k:02d}', values, form=form, absent=[0] if k < 2 else ())
        )
        maps.append(values)
    out = tmp_path / 'out'
    records = []
    for person in people:
        file = results_path(out, person.participant, person.task)
        file.parent.mkdir(parents=True)
        file.write_text(person.to_json())
        records.append(file)
    call = Call(out, tmp_path, (), (), 'run')
    found = group_maps.function(call, records)
    (facts,) = found['map_facts'].tested.values()
    assert (facts.n_tested, facts.n_fdr) == (11, 2)
    mean, count, p = (
        load_image(one_each((out / 'group').glob(f'*_{end}_statmap.*'))[0])
        for end in (
            'stat-pearsonr_desc-mean',
            'stat-pearsonr_desc-count',
            'stat-pfdr_desc-pearsonr',
        )
    )
    assert space_of(mean).form == form
    expected = np.mean(maps, axis=0)
    expected[0] = np.mean(maps[2:], axis=0)[0]
    np.testing.assert_allclose(np.asarray(mean.dataobj).ravel(), expected, atol=1e-6)
    assert np.asarray(count.dataobj).ravel().tolist() == [5] + [7] * 11
    assert np.flatnonzero(np.asarray(p.dataobj).ravel() < 0.05).tolist() == [2, 9]
    about = json.loads(sidecar_of(one_each((out / 'group').glob('*stat-pfdr*'))[0]).read_text())
    assert about['Participants'] == [f'{k:02d}' for k in range(7)]
    page = tmp_path / 'group.html'
    bare = [replace(each, metrics=None, predictions=None) for each in people]
    write_group_report(bare, page, tmp_path / 'figures', tested=found['map_facts'].tested)
    noun = {'gifti': 'vertices', 'cifti': 'grayordinates'}[form]
    assert f'The mean is above 0 in 2 of 11 {noun}' in page.read_text()
    # six are left of which the first was scored on what trained its model; then one
    for n_seen in (1, 6):
        shutil.rmtree(out / 'group')
        for file, person in zip(records, people[:n_seen], strict=False):
            file.write_text(replace(person, leaks=('run 1 was seen',)).to_json())
        call_people = [replace(each, leaks=('x',)) for each in bare[:n_seen]] + bare[n_seen:]
        tested = group_maps.function(call, records)['map_facts'].tested
        write_group_report(call_people, page, tmp_path / 'figures', tested=tested)
        assert bool(tested) == bool(list((out / 'group').glob('*stat-pfdr*')))
        assert bool(tested) == (n_seen == 1)
        about = sidecar_of(one_each((out / 'group').glob('*desc-mean*'))[0]).read_text()
        assert len(json.loads(about)['Participants']) == (6 if n_seen == 1 else 7)
        said = 'and are left out.' if n_seen == 1 else ': there is no interval and no test.'
        text = f'{n_seen} of 7 participants were scored on data that trained their model'
        assert text in about
        assert said in page.read_text()


def test_regions_of_what_was_seen_in_training_are_not_tested(results, tmp_path):
    rng = np.random.default_rng(0)
    people = [
        volume(tmp_path, results, f'{k:02d}', gain=gain)
        for k, gain in enumerate([0.5, *rng.normal(0, 0.02, 6)])
    ]
    seen = [replace(each, leaks=('run 1 was seen',)) for each in people]
    table = region_table([seen[0], *people[1:]])
    pd.testing.assert_frame_equal(table, region_table(people[1:]))
    assert table['p'].notna().all()
    table = region_table([*seen[:6], people[6]])
    assert (table['n'] == 7).all()
    assert table[['ci_low', 'ci_high', 'p', 'p_fdr']].isna().all(axis=None)


def test_a_region_that_few_participants_have_shows_no_interval(tmp_path):
    nothing = float('nan')
    row = {'map': 'pearsonr', 'n_voxels': 9, 'sd': 0.1}
    full = row | {'region': 'a', 'n': 7, 'mean': 0.2, 'ci_low': 0.1, 'ci_high': 0.3}
    few = row | {'region': 'b', 'n': 3, 'mean': 0.1, 'ci_low': nothing, 'ci_high': nothing}
    tests = [{'p': 0.02, 'p_fdr': 0.02}, {'p': nothing, 'p_fdr': nothing}]
    file = tmp_path / 'x_regions.tsv'
    rows = [one | test for one, test in zip((full, few), tests, strict=True)]
    pd.DataFrame(rows).to_csv(file, sep='\t', index=False, na_rep='n/a')
    (table,) = region_blocks(file, {})
    assert table.rows[0][3:5] == ('0.1 to 0.3', '0.020')
    assert table.rows[1][3:5] == ('n/a', 'n/a')
