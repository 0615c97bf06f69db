"""Regions and concepts through the program: tables, figures, methods, what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.systems.movie.steps.explain import (
    FEW_PICTURES,
    NO_CONCEPTS,
    NO_FOLDER,
    NOT_ASKED,
)

pytestmark = pytest.mark.slow


def table(explained: Path, ending: str) -> pd.DataFrame:
    (file,) = (explained / 'out' / 'sub-01' / 'func').glob(f'*_desc-network_{ending}.tsv')
    return pd.read_csv(file, sep='\t')


def test_regions_are_disturbed_and_have_no_p_where_no_sets_like_them_fit(explained):
    found = table(explained, 'regions')
    assert set(found.kind) == {'zero', 'noise', 'gain'}
    assert set(found.metric) == {'frame_ssim', 'pixcorr'}
    assert found.region.nunique() * 6 == len(found)
    assert (found.n_voxels >= 5).all()
    # 60 voxels hold no 20 sets of five and more
    assert (found.n_disjoint == 0).all()
    assert found[['p', 'p_fdr', 'z', 'random_mean']].isna().all(axis=None)
    log = '\n'.join(file.read_text() for file in (explained / 'out' / 'logs').glob('*.log'))
    assert 'sub-01, warning: Perturbation has no p value' in log
    np.testing.assert_allclose(found.perturbed - found.intact, found.change, atol=1e-5)


def test_pybids_reads_what_a_movie_network_left(explained, check_pybids):
    check_pybids(explained / 'out', explained / 'data')


def test_concepts_stand_beside_random_ones(explained):
    found = table(explained, 'concepts')
    assert set(found.kind) == {'film property', 'random', 'pictures'}
    assert {'much motion', 'noisy', 'random 1'} <= set(found.concept)
    assert found.output.iloc[0] == 'all voxels'
    assert found.output.nunique() > 1
    assert found.p.between(1 / 20, 1).all()


def test_page_methods_and_names(explained):
    out = explained / 'out'
    figures = {path.name for path in (out / 'sub-01' / 'figures').iterdir()}
    for name in ('perturbation', 'concepts'):
        assert any(f'desc-{name}_' in figure for figure in figures), name
    # what was not asked for is not there
    assert not list((out / 'sub-01' / 'func').glob('*saliency*'))
    text = (out / 'logs' / 'CITATION.md').read_text()
    assert 'as compact, as smooth and as accurate on held-out volumes' in text
    assert 'Concept activation vectors' in text
    assert 'saliency' not in text
    assert validate_dataset(out) == {}


def test_concepts_that_cannot_be_read_are_refused_before_work(
    explained, film_training, noise_pictures, tmp_path, capsys
):
    empty, few = tmp_path / 'empty', tmp_path / 'few'
    empty.mkdir()
    noise_pictures(few / 'face', 3)
    for folder, message in (
        (tmp_path / 'none', NO_FOLDER.format(folder=tmp_path / 'none')),
        (empty, NO_CONCEPTS.format(folder=empty)),
        (few, FEW_PICTURES.format(folder=few / 'face', n=3, least=10)),
    ):
        assert film_training(explained, 'refused', '["concepts"]', folder) == 2
        assert f'error: {message}\n' in capsys.readouterr().err
    assert film_training(explained, 'refused', '["saliency"]', explained / 'concepts') == 2
    assert NOT_ASKED in capsys.readouterr().err
