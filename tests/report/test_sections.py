"""Sections of the participant's page: scores by row, regions, categories, tissue, errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.levels.participant_page import _crashes
from bids_neurodecode.report import scores
from bids_neurodecode.report.build import Block, Fold, Heading, Plot, Table, Text
from bids_neurodecode.report.provisos import betas_verdict, series_verdict
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import (
    BetaResults,
    NetworkResults,
    ParticipantResults,
    VoxelResults,
)
from bids_neurodecode.report.section_quality import COLLINEAR, quality_section
from bids_neurodecode.report.section_scores import READ, score_table, scores_section
from bids_neurodecode.report.section_signal import (
    NO_ATLAS,
    NO_MEASURE,
    NO_SCORED_CEILING,
    brain_section,
    reliability_text,
    where_text,
)
from tests.report.conftest import AFFINE, SHAPE, make_mask, save
from tests.report.test_verdicts import compared, table

TESTED = {'difference_low': 0.01, 'difference_high': 0.09, 'difference_p': 0.01}


def plots(blocks: tuple[Block, ...]) -> dict[str, Plot]:
    """Return the figures of blocks and folds by their description."""
    found: dict[str, Plot] = {}
    for block in blocks:
        if isinstance(block, Plot):
            found[block.name.split('desc-')[1].split('_')[0]] = block
        elif isinstance(block, Fold):
            found |= plots(block.blocks)
    return found


def columns_of(made: Table) -> dict[str, Any]:
    """Return the first row by the names of its columns."""
    return dict(zip(made.columns, made.rows[0], strict=True))


def test_a_row_holds_the_model_its_baselines_the_truth_and_the_ceiling(tmp_path: Path) -> None:
    metrics = table(
        tmp_path,
        {'ci_low': 0.51, 'ci_high': 0.67, 'p': 0.001, 'ceiling': 0.9, 'n': 60},
        compared(value=0.5 - 1e-6, difference=0.05, **TESTED),
        compared(model='baseline-nearest', value=0.6, difference=-0.066),
        {'model': 'reference-true-latents', 'value': 0.8},
        {'model': 'ridge', 'space': 'initial', 'value': 0.4, 'compared_model': 'ridge',
         'compared_space': 'final', 'difference': 0.134, **TESTED},
    )  # fmt: skip
    final = metrics[metrics['space'] == 'final']
    made = score_table(metrics, final)
    assert made.columns == (
        'metric', '95 % interval', 'ridge + generator', 'chance', 'mean image', 'nearest',
        'true latents', 'first stage', 'ceiling',
    )  # fmt: skip
    assert len(made.rows) == 1, 'a row for each metric, however many models there are'
    row = columns_of(made)
    own = row['ridge + generator']
    assert (str(own), str(row['chance']), str(row['ceiling'])) == (
        '53.4 %', '50.0 %', '90.0 %',
    )  # fmt: skip
    assert own.note.replace('\u00a0', ' ') == (
        '51.0 to 67.0 %\np = 0.001, n = 60, 20 stimuli\nbetter than chance'
    )
    assert str(row['true latents']) == '80.0 %'
    assert 'true latents (the first stage given the true latents). That is no' in made.caption
    assert 'Ceiling:' not in made.caption
    assert (row['mean image'].note, row['mean image'].tone) == ('model better', 'good')
    assert (row['nearest'].note, row['nearest'].tone) == ('not tested', None)
    assert row['first stage'].note == 'model better'
    drawn = row['95 % interval'].interval
    assert (drawn.value, drawn.low, drawn.high) == pytest.approx((0.534, 0.51, 0.67))
    assert (drawn.chance, drawn.ceiling, drawn.others) == (0.5, 0.9, (0.5, 0.6, 0.8))
    # what was seen in training is not called good
    leaked = columns_of(score_table(metrics, final, sure=False))
    assert leaked['mean image'].tone is None
    assert 'better than chance' not in leaked['ridge + generator'].note


def test_a_comparison_with_another_model_is_not_that_with_the_main_one(tmp_path: Path) -> None:
    metrics = table(
        tmp_path,
        {'model': 'banded', 'value': 0.7},
        compared(value=0.49, difference=-0.2, compared_model='ridge', **TESTED),
        compared(value=0.49, difference=0.2, compared_model='banded', **TESTED),
        compared(model='baseline-x', value=0.5, difference=0.2, compared_model='ridge', **TESTED),
    )
    row = columns_of(score_table(metrics, metrics))
    assert row['mean image'].note == 'model better'
    assert row['x'].note == ''


def test_a_score_of_another_model_stands_in_the_column_of_that_model(tmp_path: Path) -> None:
    metrics = table(
        tmp_path,
        {'metric': 'balanced_accuracy'},
        {'model': 'crossnobis', 'metric': 'crossnobis_mean', 'value': 13.7},
    )
    made = score_table(metrics, metrics)
    assert '95 % interval' not in made.columns, 'none of them has one'
    assert made.columns[:4] == ('metric', 'ridge + generator', 'chance', 'crossnobis')
    assert [str(row[1]) for row in made.rows] == ['53.4 %', '']
    assert [str(row[3]) for row in made.rows] == ['', '13.700']
    assert 'n' in made.rows[1][3].note  # type: ignore[union-attr]


def test_scales_without_bounds_run_from_the_lowest_to_the_highest(tmp_path: Path) -> None:
    error = {'metric': 'pixcorr', 'value': 0.3, 'chance': 0.1, 'ceiling': 0.5}
    error |= {'ci_low': 0.25, 'ci_high': 0.35}
    metrics = table(tmp_path, error, compared(metric='pixcorr', value=0.2))
    drawn = columns_of(score_table(metrics, metrics))['95 % interval'].interval
    assert (drawn.chance, *drawn.others, drawn.value, drawn.ceiling) == pytest.approx(
        (0.0, 0.25, 0.5, 1.0)
    )


def test_scores_on_training_samples_are_called_so(
    results: ParticipantResults, tmp_path: Path
) -> None:
    metrics = pd.read_csv(results.metrics, sep='\t', keep_default_na=False)
    file = tmp_path / 'm.tsv'
    metrics.assign(protocol='in-sample').to_csv(file, sep='\t', index=False)
    guide, jump, heading, first, *_ = scores_section(Reader(replace(results, metrics=file)))
    assert (jump, isinstance(heading, Heading)) == (READ, True)
    assert isinstance(guide, Fold)
    (guide,) = guide.blocks
    assert isinstance(guide, Text)
    assert guide.paragraphs[0].startswith('Each table has the model with its 95 % interval')
    assert isinstance(first, Table)
    assert 'Scores on samples that trained the model (in-sample)' in first.caption


@pytest.mark.slow
def test_regions_hold_their_medians_voxels_and_coverage(
    results: ParticipantResults, tmp_path: Path
) -> None:
    labels = np.zeros(SHAPE)
    labels[:5], labels[5:] = 1, 2
    dseg = save(tmp_path, 'x_dseg', labels)
    dseg.with_name('x_dseg.tsv').write_text('index\tname\n1\tLeft\n2\tRight\n')
    r = np.where(labels == 1, 0.1, 0.4)
    maps = {'pearsonr': save(tmp_path, 'r', r), 'noiseceiling': save(tmp_path, 'c', r / 2)}
    used = make_mask() & (labels == 2)
    maps |= {'reliable': save(tmp_path, 'used', used), 'dseg': dseg}
    blocks = brain_section(Reader(replace(results, maps=maps)))
    (made,) = [block for block in blocks if isinstance(block, Table)]
    n_left, n_right = (int((make_mask() & (labels == k)).sum()) for k in (1, 2))
    n_all = int((labels == 1).sum())
    assert [row[0] for row in made.rows] == ['Right', 'Left'], 'the best first'
    assert made.rows[0] == (
        'Right', '0.4', '20', str(n_right), f'{100 * n_right / n_all:.0f} %', f'{n_right} (100 %)'
    )  # fmt: skip
    assert made.rows[1][1:4] == ('0.1', '5', str(n_left))
    assert made.rows[1][-1] == '0 (0 %)'


def test_a_decoder_says_where_its_voxels_lie(results: ParticipantResults, tmp_path: Path) -> None:
    """Without a score of single voxels, regions stand in the order of the voxels that are read."""
    inside, labels = make_mask(), np.zeros(SHAPE)
    labels[:4], labels[4:7] = 1, 2
    dseg = save(tmp_path, 'x_dseg', labels)
    dseg.with_name('x_dseg.tsv').write_text('index\tname\n1\tLeft\n2\tRight\n')
    used = inside & (labels != 1)
    maps = {
        'noiseceiling': save(tmp_path, 'c', np.where(labels == 1, 0.4, 0.1)),
        'reliable': save(tmp_path, 'used', used),
        'dseg': dseg,
    }
    betas = BetaResults('D', 'native', 'training', fold_models=('C', 'C'))
    person = replace(results, maps=maps, betas=betas)
    right, n = (int((used & x).sum()) for x in (labels == 2, inside))
    share, rest = (f'{100 * k / n:.0f} %' for k in (right, n - right))
    said = where_text(person)
    assert f'of the {n} voxels that the final decoder reads there are {share} in Right' in said
    assert f'{rest} elsewhere (no region was decoded by itself)' in said
    first, *blocks = brain_section(Reader(person))
    assert isinstance(first, Text)
    assert 'not how well each region can be decoded' in first.paragraphs[0]
    (made,) = [block for block in blocks if isinstance(block, Table)]
    assert [row[0] for row in made.rows] == ['Right', 'Left'], 'most voxels first'
    assert made.rows[0][-1] == f'{right} ({share})'
    (ceiling,) = [x.caption for x in blocks if isinstance(x, Plot)]
    assert 'betas of all trials (model D)' in ceiling
    assert 'Scores are of betas of model C that were tuned without the held-out trials' in ceiling
    assert 'of model D, chosen on all trials, held-out ones included' in betas_verdict(person).text
    assert reliability_text(person).endswith(NO_SCORED_CEILING)
    known = replace(person, voxels=VoxelResults(9, 5, 'a rule', (5,), scored_ceiling=0.4321))
    told = 'stimuli can explain 43 % of the variance of averages of held-out trials (median of '
    assert told in reliability_text(known)
    assert 'betas that are scored' not in reliability_text(replace(known, system='conditions'))
    # of the betas that are written themselves all repeats tell
    same = replace(known, betas=BetaResults('B', 'native', 'training'))
    assert 'betas that are scored' not in reliability_text(same)
    assert betas_verdict(replace(person, betas=replace(betas, model='C'))) is None
    seen = series_verdict(person).text
    assert 'the response shape of each voxel and the noise pool' in seen
    assert 'No held-out trial chose a voxel, a number of noise components, a fraction' in seen
    plain = series_verdict(replace(person, betas=BetaResults('B', 'native', 'training'))).text
    assert 'noise' not in plain
    assert not where_text(replace(person, system='encoding'))
    r = np.where(labels == 1, 0.3, 0.1)
    predicted = replace(
        person, system='encoding', maps=maps | {'pearsonr': save(tmp_path, 'r', r)}
    )
    said = where_text(predicted)
    assert 'prediction accuracy is highest in Left (0.30), Right (0.10)' in said
    assert 'of each of 2 regions; 0.10 over all voxels). No p value or interval of' in said
    film = where_text(replace(predicted, system='movie'))
    assert 'prediction accuracy of ridge regression is highest in Left (0.30)' in film


def test_voxels_that_a_network_does_not_take_are_left_out_of_its_map(
    results: ParticipantResults, tmp_path: Path
) -> None:
    inside = make_mask()
    taken = inside & (np.arange(SHAPE[0]) < 4)[:, None, None]
    network = NetworkResults(
        'joint', 'small', 'gabor', int(taken.sum()), 9, None, save(tmp_path, 'taken', taken)
    )
    maps = {'network_r': save(tmp_path, 'r', np.where(taken, 0.25, 0.0))}
    film = replace(results, system='movie', maps=maps, network=network)
    (plot,) = [block for block in brain_section(Reader(film)) if isinstance(block, Plot)]
    assert f'median 0.25 over {taken.sum()} voxels.' in plot.caption
    assert 'left out of the map, the median and the distribution' in plot.caption
    assert 'voxels of the network (grey)' in plot.caption
    assert str(inside.sum()) not in plot.caption
    legend = plot.figure.axes[-1].get_legend()
    assert legend.get_texts()[0].get_text() == f'network ({taken.sum()})'


@pytest.mark.slow
def test_without_an_atlas_places_in_mni_space_are_called_after_landmarks(
    results: ParticipantResults, tmp_path: Path
) -> None:
    maps = {'tsnr': results.maps['tsnr']}
    assert Text((NO_ATLAS,)) in brain_section(Reader(replace(results, maps=maps, in_mni=False)))
    assert Text((NO_MEASURE,)) in brain_section(Reader(replace(results, maps=maps, in_mni=True)))
    # 4-mm voxels about the occipital poles: responses in the right one alone
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-50, -104, -20]
    x = affine[0, 3] + 4 * np.indices((26, 12, 14))[0]

    def put(name: str, volume: Any) -> Path:
        file = tmp_path / f'{name}.nii.gz'
        nib.Nifti1Image(np.asarray(volume, dtype=np.float32), affine).to_filename(file)
        return file

    maps = {'pearsonr': put('r', np.where(x > 5, 0.3, -0.1)), 'reliable': put('s', x > 5)}
    runs = tuple(replace(run, mask=put('mask', np.ones_like(x))) for run in results.runs)
    placed = replace(results, maps=maps, in_mni=True, runs=runs, mean_bold=None)
    (made,) = [block for block in brain_section(Reader(placed)) if isinstance(block, Table)]
    assert 'Dosenbach' in made.caption
    assert made.columns == ('region', 'score: Pearson r', 'voxels', 'selected')
    best = {row[0] for row in made.rows if row[1] == '0.3'}
    assert 'right posterior occipital' in best
    assert not any(str(name).startswith('left') for name in best)
    right = [row for row in made.rows if str(row[0]).startswith('right')]
    assert all(2 * int(str(row[3]).split()[0]) > int(row[2]) for row in right), (
        'selected: to the right of 5 mm'
    )


def test_scores_by_category_have_stimuli_as_their_units() -> None:
    rng = np.random.default_rng(0)
    stimuli = [f'{kind}{n}' for kind in 'ab' for n in range(8)] + ['c0', 'c1']
    rows = pd.DataFrame({'stimulus': np.repeat(stimuli, 3)})
    rows['category'] = rows['stimulus'].str[0]
    right = {'a': 0.9, 'b': 0.2, 'c': 0.5}
    rows['right'] = [float(rng.random() < right[kind]) for kind in rows['category']]
    found = scores.by_category(rows).set_index('category')
    assert found.index[0] == 'a'
    assert found.loc['a', 'value'] == pytest.approx(rows['right'][rows['category'] == 'a'].mean())
    assert found['n_stimuli'].to_dict() == {'a': 8, 'b': 8, 'c': 2}
    assert found.loc['a', 'low'] < found.loc['a', 'value'] <= found.loc['a', 'high'] <= 1
    assert np.isnan(found.loc['c', 'low']), 'two stimuli are too few for an interval'


def test_categories_that_are_the_stimuli_are_not_shown(
    results: ParticipantResults, tmp_path: Path
) -> None:
    assert 'categories' not in plots(scores_section(Reader(results)))
    trials = pd.read_csv(results.trials, sep='\t')
    trials['trial_type'] = np.where(trials['stimulus'] < 'i', 'living', 'made')
    file = tmp_path / 'trials.tsv'
    trials.to_csv(file, sep='\t', index=False)
    found = plots(scores_section(Reader(replace(results, trials=file))))
    assert 'Score of 2 categories.' in found['categories'].alt


def test_the_carpet_is_sorted_by_tissue_where_there_is_a_segmentation(
    build: Callable[..., ParticipantResults], tmp_path: Path
) -> None:
    results = build(tmp_path / 'in')
    bare = plots(quality_section(Reader(results)))
    assert 'not sorted by tissue' in bare['carpet'].caption
    folder = tmp_path / 'fmriprep' / 'sub-01'
    (folder / 'func').mkdir(parents=True)
    (folder / 'anat').mkdir()
    fine = np.diag([5.0, 5.0, 5.0, 1.0])
    fine[:3, 3] = [-70, -105, -55]
    halves = np.ones((30, 40, 26), dtype=np.uint8)
    halves[15:] = 2
    name = 'space-MNI152NLin6Asym'
    nib.Nifti1Image(halves, fine).to_filename(folder / 'anat' / f'sub-01_{name}_dseg.nii.gz')
    runs = []
    for number, run in enumerate(results.runs):
        bold = folder / 'func' / f'sub-01_task-img_run-{number}_{name}_desc-preproc_bold.nii.gz'
        bold.symlink_to(run.bold)
        runs.append(replace(run, bold=bold))
    found = plots(quality_section(Reader(replace(results, runs=tuple(runs)))))['carpet']
    assert 'sorted by tissue, and within it' in found.caption
    legend = [text.get_text() for text in found.figure.legends[0].get_texts()]
    right = int((make_mask() & (_x() > 0)).sum())
    assert any(text == f'white matter ({right})' for text in legend), legend


def _x() -> Any:
    places = np.indices(SHAPE).reshape(3, -1).T
    return (places @ AFFINE[:3, :3].T + AFFINE[:3, 3])[:, 0].reshape(SHAPE)


def test_the_evoked_response_needs_a_design_that_determines_it(
    results: ParticipantResults, tmp_path: Path
) -> None:
    # run_label links trials with runs; the fixture's trials have none
    assert 'evoked' not in plots(quality_section(Reader(results)))
    trials = pd.read_csv(results.trials, sep='\t')
    labels = {0: 'run-01', 1: 'run-02'}
    file = tmp_path / 'trials.tsv'
    irregular = trials.assign(
        run_label=trials['run'].map(labels), onset=np.tile([0, 4, 10, 14, 22, 26, 32, 44], 2)
    )
    irregular.to_csv(file, sep='\t', index=False)
    assert 'evoked' in plots(quality_section(Reader(replace(results, trials=file))))
    each = trials.assign(run_label=trials['run'].map(labels), onset=np.tile(np.arange(8) * 8, 2))
    each.to_csv(file, sep='\t', index=False)
    one_distance = replace(results, trials=file)
    assert Text((COLLINEAR,)) in quality_section(Reader(one_distance))


def test_errors_are_shown_also_where_there_are_none(
    results: ParticipantResults, tmp_path: Path
) -> None:
    assert _crashes(results) == ()
    log = tmp_path / 'run1'
    log.mkdir()
    (log / 'config.toml').write_text('')
    (log / 'crash-20260101-dev-betas.txt').write_text('Traceback\n  x\nDataError: no voxel.\n\n')
    crashed = replace(results, config=log / 'config.toml')
    assert _crashes(crashed) == ('DataError: no voxel. (run1/crash-20260101-dev-betas.txt)',)


def test_reliability_is_summed_up_and_lower_tsnr_explained(
    results: ParticipantResults, tmp_path: Path
) -> None:
    inside = make_mask()
    used = inside & (np.arange(SHAPE[0]) < SHAPE[0] // 2)[:, None, None]
    ceiling = np.where(used, 0.64, 0.04)
    maps = {
        'noiseceiling': save(tmp_path, 'c', ceiling),
        'reliable': save(tmp_path, 'u', used),
        'tsnr': save(tmp_path, 't', np.where(used, 70.0, 90.0)),
    }
    person = replace(results, maps=maps)
    said = reliability_text(person)
    assert f'{used.sum():,} of {inside.sum():,} voxels (50.0 %) were selected' in said
    assert 'can explain 64 % of the variance' in said
    assert 'at about 0.80' in said
    captions = [
        inner.caption
        for block in brain_section(Reader(person))
        if isinstance(block, Fold)
        for inner in block.blocks
        if isinstance(inner, Plot)
    ]
    assert any('It is lower in the selected voxels because' in text for text in captions)
    assert not reliability_text(replace(person, maps={'tsnr': maps['tsnr']}))
