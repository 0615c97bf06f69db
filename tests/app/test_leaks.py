"""Copies of images under other names, named splits, clusters and copied runs, by the program."""

import html
import json
import re
import shutil
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from bids_neurodecode.bids.video import write_video
from bids_neurodecode.cli.main import main
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec, build_spec
from tests.running import HERE, without_pages

pytestmark = pytest.mark.slow
FAST = """
[evaluation]
n_permutations = 20
n_bootstrap = 20
[reconstruction]
generator = "none"
[split]
"""


def one_bit(image: Image.Image) -> Image.Image:
    values = np.array(image)
    values[image.height // 2, image.width // 2, 0] ^= 1
    return Image.fromarray(values)


def upper(name: str) -> str:
    """The same letters beside it: ``a.png`` and ``A.PNG``."""
    assert name.upper() != name
    return name.upper()


CHANGES = (
    ('other/{}'.format, lambda image: image.resize((image.width - 2, image.height - 2))),
    ('other/{}'.format, one_bit),
    ('mirrored/{}'.format, ImageOps.mirror),
    (upper, lambda image: image),
)


@pytest.fixture(scope='module')
def copies(tmp_path_factory):
    """The second run shows the images of the first, changed a little and under other names."""
    folder = tmp_path_factory.mktemp('leaks')
    spec = SimulationSpec(n_subjects=1, n_runs=2, n_images=24, n_repeats=2, voxel_size=12.0, snr=3)
    simulate_dataset(folder / 'data', spec)
    stimuli = folder / 'data' / 'stimuli'
    (events,) = (folder / 'data').glob('sub-01/**/*run-*2_events.tsv')
    table = pd.read_csv(events, sep='\t', keep_default_na=False)
    names = {'n/a': 'n/a'}
    for number, name in enumerate(sorted({*table['stim_file']} - {'n/a'})):
        target, change = CHANGES[number % len(CHANGES)]
        names[name] = target(name)
        (stimuli / names[name]).parent.mkdir(parents=True, exist_ok=True)
        change(Image.open(stimuli / name)).save(stimuli / names[name])
    table['stim_file'] = [names[x] for x in table['stim_file']]
    table.to_csv(events, sep='\t', index=False)
    return folder


def call(folder: Path, out: str, split: str, *more: str, data: str = 'data') -> int:
    (folder / f'{out}.toml').write_text(FAST + split)
    places = [str(folder / data), str(folder / out), 'participant', '-w', str(folder / 'work')]
    settings = ['--config-file', str(folder / f'{out}.toml')]
    return main([*places, *settings, '--skip-bids-validation', *HERE, *more])


def record(folder: Path, out: str) -> dict:
    (file,) = (folder / out / 'sub-01' / 'log').glob('*_results.json')
    return json.loads(file.read_text())


def metrics(folder: Path, out: str) -> pd.DataFrame:
    (file,) = (folder / out / 'sub-01' / 'func').glob('*_metrics.tsv')
    return pd.read_csv(file, sep='\t')


def parts(folder: Path) -> pd.DataFrame:
    (file,) = (folder / 'work').rglob('plan/parts.tsv')
    return pd.read_csv(file, sep='\t')


@pytest.fixture(scope='module')
def kept(copies):
    with without_pages():
        assert call(copies, 'kept', 'by = "stimulus"') == 0
    return copies / 'kept'


def test_copies_are_kept_together_and_the_log_says_so(copies, capsys, no_page):
    assert call(copies, 'together', 'by = "stimulus"') == 0
    assert 'show the same as others under another name' in capsys.readouterr().err
    found = record(copies, 'together')
    assert found['leaks'] == []
    assert found['split']['protocol'] == '5-fold-by-stimulus'
    (file,) = (copies / 'together' / 'sub-01' / 'func').glob('*desc-singletrial_events.tsv')
    table = pd.read_csv(file, sep='\t')
    assert table['content'].nunique() == 24
    assert table['stimulus'].nunique() > 24
    samples = pd.read_csv(
        next((copies / 'together').rglob('*desc-linear_predictions.tsv')), sep='\t'
    )
    folds = samples[samples['space'] == 'single-trial'].groupby('sample')['fold'].first()
    assert (folds.groupby(table['content']).nunique() == 1).all()


def test_copies_across_runs_stand_in_red(copies, capsys):
    assert call(copies, 'runs', 'by = "run"') == 0
    (leak,) = record(copies, 'runs')['leaks']
    assert 'seen in training under another name' in leak
    assert leak in capsys.readouterr().err
    summary = (copies / 'runs' / 'sub-01.html').read_text().split('id="summary"')[1]
    summary = summary.split('</section')[0]
    assert summary.index('class="bad"') < summary.index('chance')
    assert 'class="good"' not in summary


def test_clusters_are_held_out(copies, no_page):
    assert call(copies, 'clusters', 'by = "cluster"\nn_clusters = 6\nn_folds = 3') == 0
    assert record(copies, 'clusters')['split']['protocol'] == '3-fold-by-cluster'
    (file,) = (copies / 'clusters' / 'sub-01' / 'func').glob('*desc-singletrial_events.tsv')
    table = pd.read_csv(file, sep='\t')
    assert (table.groupby('content')['cluster'].nunique() == 1).all()
    encoding = ['--system', 'encoding']
    assert call(copies, 'encoded', 'by = "cluster"\nn_clusters = 6\nn_folds = 2', *encoding) == 0
    assert record(copies, 'encoded')['split']['by'] == 'cluster'


def test_a_split_from_a_file(copies, kept, capsys, no_page):
    (file,) = (kept / 'sub-01' / 'func').glob('*desc-singletrial_events.tsv')
    table = pd.read_csv(file, sep='\t')
    content = sorted(set(table['content']))
    held = table['content'].isin(content[:6])
    rows = pd.DataFrame({'stimulus': table['stimulus'], 'split': np.where(held, 'test', 'train')})
    rows.drop_duplicates().to_csv(copies / 'mine.tsv', sep='\t', index=False)
    assert call(copies, 'named', f'file = "{copies / "mine.tsv"}"') == 0
    assert set(metrics(copies, 'named').protocol) == {'mine'}
    rows.drop_duplicates().iloc[1:].to_csv(copies / 'less.tsv', sep='\t', index=False)
    assert call(copies, 'less', f'file = "{copies / "less.tsv"}"') == 2
    assert f'The split {copies / "less.tsv"} lacks 1 stimulus(s)' in capsys.readouterr().err


def test_copied_runs_are_known_under_any_name_and_type(copies, kept, capsys, no_page):
    """Other run labels, integers with a scale, another compression; and new runs are new."""
    predict = ['--mode', 'predict', '--models-from', str(kept)]
    shutil.copytree(copies / 'data', copies / 'renamed')
    for file in sorted((copies / 'renamed').rglob('*_run-*')):
        entity = next(x for x in file.name.split('_') if x.startswith('run-'))
        new = file.with_name(file.name.replace(entity, f'run-{int(entity[4:]) + 6:02d}'))
        file.rename(new)
        if new.name.endswith('_bold.nii.gz'):
            image = nib.load(new)
            values = np.asarray(image.dataobj, dtype=np.float32)
            again = nib.Nifti1Image(values, image.affine, image.header)
            again.set_data_dtype(np.int16)
            nib.save(again, new)
    assert call(copies, 'seen', '', *predict, data='renamed') == 0
    (leak,) = record(copies, 'seen')['leaks']
    assert '2 of the 2 runs trained the model' in leak
    assert leak in capsys.readouterr().err
    assert metrics(copies, 'seen')['p'].isna().all()
    card = next(kept.rglob('*desc-linear_model.md')).read_text()
    assert 'hash of their content' in card


def test_new_runs_are_scored_and_old_models_are_not_trusted(copies, kept, no_page):
    from bids_neurodecode.models.storage import load_arrays, save_arrays

    shutil.copytree(copies / 'data', copies / 'fresh')
    rng = np.random.default_rng(0)
    for file in (copies / 'fresh').rglob('*preproc_bold.nii.gz'):
        image = nib.load(file)
        values = np.asarray(image.dataobj, dtype=np.float32)
        noise = rng.standard_normal(values.shape) * values.std(axis=-1, keepdims=True)
        nib.save(
            nib.Nifti1Image((values + 2 * noise).astype(np.float32), image.affine, image.header),
            file,
        )
    for file in (copies / 'fresh').rglob('*run-*1_events.tsv'):  # a third name for the images
        table = pd.read_csv(file, sep='\t', keep_default_na=False)
        for name in {x for x in table['stim_file'] if x != 'n/a'}:
            target = copies / 'fresh' / 'stimuli' / 'third' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(copies / 'fresh' / 'stimuli' / name)
            image.resize((image.width - 2, image.height - 2)).save(target)
        table['stim_file'] = [x if x == 'n/a' else f'third/{x}' for x in table['stim_file']]
        table.to_csv(file, sep='\t', index=False)
    predict = ['--mode', 'predict', '--models-from', str(kept)]
    assert call(copies, 'new', '', *predict, data='fresh') == 0
    assert record(copies, 'new')['leaks'] == []
    (line,) = (x for x in record(copies, 'new')['warnings'] if 'images trained the model' in x)
    assert line.startswith('48 of the 48 images')
    trials = pd.read_csv(next((copies / 'new').rglob('*desc-singletrial_events.tsv')), sep='\t')
    assert (trials['stimulus'].nunique(), trials['content'].nunique()) == (48, 24)
    table = metrics(copies, 'new')
    assert set(table.protocol) == {'applied-to-new-data'}
    assert table['p'].notna().all()
    shutil.copytree(kept / 'sub-01' / 'models', copies / 'old' / 'sub-01' / 'models')
    shutil.copy(kept / 'dataset_description.json', copies / 'old')
    (model,) = (copies / 'old').rglob('*_model.safetensors')
    arrays, about = load_arrays(model)
    save_arrays(model, arrays, {name: x for name, x in about.items() if name != 'runs'})
    predict[-1] = str(copies / 'old')
    assert call(copies, 'unknown', '', *predict, data='fresh') == 0
    assert any('does not say which runs' in line for line in record(copies, 'unknown')['warnings'])


FILMS = """
[features]
image_size = 32
n_components = 10
[movie]
banded = "off"
"""


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    """The second film is the first, smaller, with its halves exchanged."""
    folder = tmp_path_factory.mktemp('films')
    spec = build_spec(
        paradigm='movie', n_subjects=1, n_runs=2, film_duration=90.0, voxel_size=16.0, snr=3.0
    )
    simulate_dataset(folder / 'data', spec)
    frames = frames_of(folder / 'data' / 'stimuli' / 'film01.mp4')
    small = [frame[::2, ::2] for frame in frames]
    half = len(small) // 2
    write_video(folder / 'data' / 'stimuli' / 'film02.mp4', small[half:] + small[:half], 25)
    return folder


def frames_of(film: Path) -> list[np.ndarray]:
    with av.open(str(film)) as container:
        return [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]


def test_a_film_under_two_names_stands_in_red_or_is_left_out(films, capsys):
    assert call(films, 'runs', 'by = "run"' + FILMS) == 0
    (leak,) = record(films, 'runs')['leaks']
    assert 'scenes that were seen in training (first: film01.mp4 from' in leak
    assert leak in capsys.readouterr().err
    summary = (films / 'runs' / 'sub-01.html').read_text().split('id="summary"')[1]
    red, _ = summary.split('class="bad"')[1].split('class="', 1)
    assert leak in ' '.join(html.unescape(re.sub('<[^>]+>', ' ', red)).split())
    with without_pages():
        assert call(films, 'time', 'test_fraction = 0.3\ngap = 6.0' + FILMS) == 0
    found = record(films, 'time')
    assert found['leaks'] == []
    assert 'training volumes were left out, because their scenes' in found['split']['why']


def test_a_loop_is_not_held_out_in_part(films, capfd):
    shutil.copytree(films / 'data', films / 'loops')
    for number in (1, 2):
        film = films / 'loops' / 'stimuli' / f'film0{number}.mp4'
        frames = frames_of(film)
        write_video(film, (frames[: 12 * 25] * 8)[: len(frames)], 25)
    split = 'test_fraction = 0.3\ngap = 6.0' + FILMS
    assert call(films, 'looped', split, data='loops') == 1
    assert 'Films that are loops, or one film under two names' in capfd.readouterr().err


def test_imagery_is_decoded_by_what_was_seen(tmp_path):
    """Images are imagined at .7 of the response that they evoke; no such trial is trained on."""
    spec = SimulationSpec(
        n_subjects=1, n_runs=2, n_images=16, n_repeats=2, voxel_size=12.0, snr=4,
        imagery_runs=2, imagery_gain=0.7,
    )  # fmt: skip
    simulate_dataset(tmp_path / 'data', spec)
    asked = 'by = "imagery"\ntest = {task = ["imagery"]}\n'
    assert call(tmp_path, 'out', asked, '--task-id', 'images', 'imagery') == 0
    said = record(tmp_path, 'out')['split']
    assert (said['by'], said['protocol']) == ('imagery', 'imagery')
    assert 'seen in training: 16 of 16' in said['why']
    page = ' '.join((tmp_path / 'out' / 'sub-01.html').read_text().split())
    assert 'Same images, seen in training' in page
    table = metrics(tmp_path, 'out').set_index(['model', 'space', 'metric'])
    row = table.loc['ridge', 'repeat-average', 'identification_2way']
    assert row.n_units == 16
    assert row.value > 0.75
    assert row.p < 0.05
    (file,) = (tmp_path / 'out').rglob('*_desc-linear_predictions.tsv')
    assert set(pd.read_csv(file, sep='\t')['run_label'].str.contains('imagery')) == {True}
