"""A small participant whose results are all there, written to a folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_neurodecode.config import Config
from bids_neurodecode.report.results import (
    BetaResults,
    ConfusionResults,
    NullResults,
    ParticipantResults,
    RunResults,
    SplitResults,
    StageResults,
    VoxelResults,
)

SHAPE = (10, 12, 5)
AFFINE = np.array([[-15.0, 0, 0, 75], [0, 15, 0, -100], [0, 0, 20, -50], [0, 0, 0, 1]])
N_VOLUMES = 30
METRICS = [
    ('ridge', 'identification_top1', 0.6875, 0.25, None, 0.5, 0.8125, 0.00990099),
    ('ridge', 'pixcorr', 0.4321, 0.1, 0.9, 0.35, 0.51, 0.00990099),
    ('baseline-nearest', 'identification_top1', 0.3125, 0.25, None, 0.1875, 0.5, 0.21),
    ('baseline-mean-image', 'pixcorr', 0.2, 0.2, None, None, None, None),
]


def save(folder: Path, name: str, volume: Any) -> Path:
    path = folder / f'{name}.nii.gz'
    nib.Nifti1Image(np.asarray(volume, dtype=np.float32), AFFINE).to_filename(path)
    return path


def make_mask() -> Any:
    x, y, z = np.indices(SHAPE)
    return ((x - 4.5) / 4) ** 2 + ((y - 5.5) / 5) ** 2 + ((z - 2) / 1.6) ** 2 < 1


def make_maps(folder: Path, rng: np.random.Generator) -> dict[str, Path]:
    mask = make_mask()
    volumes = {
        'tsnr': rng.normal(60, 10, SHAPE),
        'noiseceiling': rng.beta(1, 5, SHAPE),
        'ncsnr': rng.gamma(1, 0.3, SHAPE),
        'rsquared': rng.gamma(1, 5, SHAPE),
        'hrfindex': rng.integers(0, 20, SHAPE),
        'fracridge': rng.integers(1, 21, SHAPE) / 20,
        'pearsonr': rng.normal(0.1, 0.1, SHAPE),
        'reliable': rng.random(SHAPE) < 0.3,
        'dseg': np.indices(SHAPE)[0] // 3 + 1,
    }
    return {name: save(folder, name, volume * mask) for name, volume in volumes.items()}


def make_runs(folder: Path, rng: np.random.Generator) -> tuple[RunResults, ...]:
    mask = save(folder, 'mask', make_mask())
    runs = []
    for number in (1, 2):
        motion = {f'trans_{a}': np.cumsum(rng.normal(0, 0.05, N_VOLUMES)) for a in 'xyz'}
        motion |= {f'rot_{a}': np.cumsum(rng.normal(0, 0.001, N_VOLUMES)) for a in 'xyz'}
        confounds = folder / f'confounds{number}.tsv'
        pd.DataFrame(motion).to_csv(confounds, sep='\t', index=False)
        series = rng.normal(100, 2, (*SHAPE, N_VOLUMES))
        bold = save(folder, f'bold{number}', series)
        runs.append(
            RunResults(
                f'run-{number:02d}', N_VOLUMES, 2.0, bold, mask, confounds, confounds, n_trials=8
            )
        )
    return tuple(runs)


def make_tables(folder: Path, stimuli: list[str]) -> dict[str, Path]:
    n = 16
    trials = pd.DataFrame(
        {
            'onset': np.tile(np.arange(8) * 6.0, 2),
            'duration': 3.0,
            'stimulus': [stimuli[i % 4] for i in range(n)],
            'trial_type': [stimuli[i % 4].split('.')[0] for i in range(n)],
            'run': np.repeat([0, 1], 8),
            'session': '1',
            'repeat': np.arange(n) // 4,
        }
    )
    ranks = np.array([1] * 11 + [2, 2, 3, 4, 4])
    predictions = pd.DataFrame(
        {
            'sample': np.arange(n),
            'stimulus': trials['stimulus'],
            'fold': trials['run'],
            'n_candidates': 4,
            'rank': ranks,
            'similarity': np.linspace(0.9, 0.1, n),
            'identified': (ranks == 1).astype(float),
            'retrieved': [stimuli[(i + (r > 1)) % 4] for i, r in enumerate(ranks)],
        }
    )
    columns = ['model', 'metric', 'value', 'chance', 'ceiling', 'ci_low', 'ci_high', 'p']
    metrics = pd.DataFrame(METRICS, columns=columns).assign(
        system='reconstruction', protocol='leave-one-out-by-run', split='test', space='x', n=n
    )
    tables = {'trials': trials, 'predictions': predictions, 'metrics': metrics}
    paths = {}
    for name, table in tables.items():
        paths[name] = folder / f'{name}.tsv'
        table.to_csv(paths[name], sep='\t', index=False, na_rep='n/a')
    return paths


def make_results(folder: Path, **changes: Any) -> ParticipantResults:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    stimuli = changes.pop('stimuli', ['cat.png', 'house.png', 'shoe.png', 'tree.png'])
    pictures = folder / 'stimuli'
    pictures.mkdir(exist_ok=True)
    for number, name in enumerate(stimuli):
        if '/' not in name:
            pixels = np.full((40, 60, 3), 60 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(pictures / name, format='PNG')
    np.save(folder / 'null.npy', rng.binomial(16, 0.25, 100) / 16)
    np.save(folder / 'confusion.npy', np.eye(4) * 3 + 0.25)
    config = folder / 'config.toml'
    config.write_text(Config().to_toml(), 'utf-8')
    results = ParticipantResults(
        participant='01',
        version='1.2.3',
        run_id='20260101-000000',
        system='reconstruction',
        paradigm='images',
        task='img',
        bids_name='Pictures',
        runs=make_runs(folder, rng),
        derivatives=('fmriprep',),
        notes=('found in derivatives/fmriprep',),
        warnings=('Two trials start less than 8 s before the end of their run.',),
        space='MNI152NLin6Asym',
        in_mni=False,
        split=SplitResults('run', 'leave-one-out-by-run', 2, repeats_cross=True),
        betas=BetaResults(
            'D',
            'native',
            'training',
            (2,),
            ((-5.0, -4.0, -3.0, -3.1),),
            40,
            3.5,
            tuple(np.linspace(3, 8, 20)),
        ),
        voxels=VoxelResults(int(make_mask().sum()), 50, 'F test over stimuli, FDR 0.05'),
        maps=make_maps(folder, rng),
        mean_bold=save(folder, 'mean', make_mask() * rng.normal(1000, 50, SHAPE)),
        confusion=ConfusionResults(folder / 'confusion.npy', tuple(stimuli)),
        null=NullResults(folder / 'null.npy', 0.6875, 'identification_top1'),
        stimuli_dir=pictures,
        stages=(StageResults('betas', 12.5, 0.75), StageResults('decode', 3.25)),
        config=config,
        versions={'numpy': '2.4.6'},
        **make_tables(folder, stimuli),
    )
    return replace(results, **changes)


@pytest.fixture(scope='session')
def results(tmp_path_factory: pytest.TempPathFactory) -> ParticipantResults:
    return make_results(tmp_path_factory.mktemp('results'))


@pytest.fixture(scope='session')
def build() -> Callable[..., ParticipantResults]:
    return make_results
