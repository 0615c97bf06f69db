"""The commands and the code of the tutorials run, in their order, at small sizes."""

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.cli import main, tools
from tests.running import HERE

DOCS = Path(__file__).resolve().parents[1] / 'docs'
MARKED = re.compile(r'<!-- run -->\n```(console|python)\n(.*?)```', re.DOTALL)
SMALL = {
    'images': ['--n-subjects', '1', '--n-images', '20', '--n-runs', '4', '--n-repeats', '2'],
    'movie': ['--n-subjects', '2', '--film-duration', '100'],
}
"""What the simulated datasets are made with here, instead of the tutorials' defaults."""
FAST = """
[evaluation]
n_permutations = 19
n_bootstrap = 19
[reconstruction]
generator = "none"
"""
"""What keeps a run short."""
TINY = """
[split]
n_folds = 1
test_fraction = 0.3
""" + FAST.replace('"none"', '"small"\nprior_size = 16\nprior_steps = 3\nrefiner_steps = 3')
"""The same with both stages of images, which hardly learn, in one fold."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the marked blocks of a page, (language, text)."""
    return MARKED.findall((DOCS / 'tutorials' / page).read_text('utf-8'))


def commands(text: str) -> list[str]:
    """Return the commands of a console block, continued lines joined."""
    joined = text.replace('\\\n', ' ')
    return [line[2:] for line in joined.splitlines() if line.startswith('$ ')]


def follow(page: str, small: list[str], fast: Path, environment: dict[str, str]) -> str:
    """Run all marked blocks of a page in the current folder; return what Python printed."""
    printed, names = io.StringIO(), {}
    marked = blocks(page)
    assert marked, page
    for language, block in marked:
        text = block
        if language == 'python':
            with contextlib.redirect_stdout(printed):
                exec(text, names)
            continue
        for name, value in environment.items():
            text = text.replace(f'${name}', value)
        for command in commands(text):
            words = shlex.split(command)
            if words[0] == 'bids_neurodecode-tools':
                assert tools.main([*words[1:], *small, '--voxel-size', '18']) == 0, command
            elif words[0] == 'bids_neurodecode':
                option = '--preset' if '--config-file' in words else '--config-file'
                assert main.main([*words[1:], option, str(fast), *HERE]) == 0, command
            else:
                subprocess.run(command, shell=True, check=True)
    return printed.getvalue()


@pytest.fixture
def fast(tmp_path):
    file = tmp_path / 'fast.toml'
    file.write_text(FAST)
    return file


@pytest.mark.slow
def test_simulated_pictures(fast, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fast.write_text(TINY)
    printed = follow('images.md', SMALL['images'], fast, {})
    assert 'identification_top1' in printed
    assert re.search(r'\d+ images, the first \S+_desc-final_image.png', printed)
    assert re.search(r'pixcorr +-?0\.\d', printed)
    assert re.search(r'rank correlation -?\d\.\d\d', printed)
    assert 'stim_file' in capfd.readouterr().out  # of the events that are shown
    assert (tmp_path / 'tutorial' / 'out' / 'sub-01.html').is_file()
    assert (tmp_path / 'tutorial' / 'out' / 'group.html').is_file()
    model = next((tmp_path / 'tutorial' / 'out-B' / 'sub-01' / 'models').glob('*_model.toml'))
    assert 'model = "B"' in model.read_text()


@pytest.mark.slow
def test_simulated_film(fast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = follow('movie.md', SMALL['movie'], fast, {})
    assert 'voxel_r_median' in printed
    assert (tmp_path / 'film' / 'out' / 'group.html').is_file()


@pytest.mark.slow
@pytest.mark.real
def test_haxby(shared, fast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = str(shared / 'data' / 'haxby2001')
    printed = follow('haxby.md', [], fast, {'HAXBY': data})
    (row,) = [line for line in printed.splitlines() if line.split()[0] == 'ridge']
    assert float(row.split()[2]) >= 0.65


@pytest.mark.slow
def test_haxby_as_nilearn_downloads_it_becomes_bids(tmp_path):
    """A made-up subject in that layout: runs, blocks, images; accepted by the program."""
    import nibabel as nib
    from PIL import Image

    out = made_up_haxby(tmp_path)
    events = pd.read_csv(out / 'sub-01/func/sub-01_task-objectviewing_run-02_events.tsv', sep='\t')
    assert events.trial_type.tolist() == ['scissors', 'face', 'scrambledpix']
    assert events.onset.tolist() == [15.0, 52.5, 90.0]
    assert set(events.duration) == {22.5}
    assert events.stim_file.tolist() == ['scissors.jpg', 'face.jpg', 'scrambledpix.jpg']
    with Image.open(out / 'stimuli' / 'face.jpg') as picture:
        assert picture.size == (16, 16)
    func = out / 'derivatives/fmriprep/sub-01/func'
    bold = nib.load(func / 'sub-01_task-objectviewing_run-02_desc-preproc_bold.nii.gz')
    assert bold.shape == (3, 3, 2, 45)
    assert bold.header.get_zooms()[3] == pytest.approx(2.5)
    # the first volume of the second run follows the last of the first
    assert bold.get_fdata()[1, 1, 1, 0] == 45
    confounds = func / 'sub-01_task-objectviewing_run-02_desc-confounds_timeseries.tsv'
    mean = bold.get_fdata().mean(axis=(0, 1, 2))
    assert pd.read_csv(confounds, sep='\t').global_signal.to_numpy() == pytest.approx(mean)
    work = ['-w', str(tmp_path / 'work'), '--dry-run']
    assert main.main([str(out), str(tmp_path / 'out'), 'participant', *work]) == 0


def made_up_haxby(folder: Path) -> Path:
    """Write a small subject as PyMVPA distributes it, and convert it."""
    import runpy

    import nibabel as nib
    from PIL import Image

    block = ['rest'] * 6
    for name in ('scissors', 'face', 'scrambledpix'):
        block += [name] * 9 + ['rest'] * 6
    block = block[: 6 + 3 * 15 - 6]
    rng = np.random.default_rng(0)
    series = rng.normal(1000, 10, (3, 3, 2, 2 * len(block))).astype(np.float32)
    series[1, 1, 1] = np.arange(2 * len(block))
    nib.save(nib.Nifti1Image(series, np.diag([3.0, 3.0, 3.0, 1.0])), folder / 'bold.nii.gz')
    mask = nib.Nifti1Image(np.ones((3, 3, 2), np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    nib.save(mask, folder / 'mask4_vt.nii.gz')
    chunks = np.repeat([0, 1], len(block))
    pd.DataFrame({'labels': block * 2, 'chunks': chunks}).to_csv(
        folder / 'labels.txt', sep=' ', index=False
    )
    paths = {}
    for name in ('faces', 'scissors', 'controls'):
        paths[name] = folder / f'{name}.jpg'
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(paths[name])
    stimuli = {
        'faces': [str(paths['faces'])],
        'scissors': [str(paths['scissors'])],
        'controls': {'faces': [str(paths['controls'])]},
    }
    script = runpy.run_path(str(DOCS / 'tutorials' / 'haxby_to_bids.py'))
    script['write_bids'](
        folder / 'haxby',
        folder / 'bold.nii.gz',
        folder / 'labels.txt',
        folder / 'mask4_vt.nii.gz',
        stimuli,
    )
    return folder / 'haxby'
