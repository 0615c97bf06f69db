"""Small BIDS datasets, described in a dict: the defaults, and what a test wants otherwise."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

DEFAULTS: dict[str, Any] = {
    'participants': ('01',),
    'sessions': (None,),
    'tasks': ('img',),
    'runs': ('01', '02'),
    'spaces': ('MNI152NLin6Asym',),
    'shape': (4, 4, 3),
    'n_volumes': 20,
    'repetition_time': 2.0,
    'stimuli': ('a.png', 'b.png', 'faces/c.png'),
    'film': None,  # name of a film that lasts the run; instead of stimuli
    'raw_bold': False,
    'derivatives': 'fmriprep',
}
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk, and where its files are."""

    root: Path
    spec: dict[str, Any]

    @property
    def derivatives(self) -> Path:
        return self.root / 'derivatives' / self.spec['derivatives']

    def stem(self, sub='01', ses=None, task=None, run=None) -> str:
        ses = ses or self.spec['sessions'][0]
        task = task or self.spec['tasks'][0]
        parts = [('sub', sub), ('ses', ses), ('task', task), ('run', run or self.spec['runs'][0])]
        return '_'.join(f'{key}-{value}' for key, value in parts if value)

    def folder(self, root: Path, sub='01', ses=None, **_: Any) -> Path:
        ses = ses or self.spec['sessions'][0]
        return root / f'sub-{sub}' / (f'ses-{ses}' if ses else '') / 'func'

    def events(self, **run: Any) -> Path:
        return self.folder(self.root, **run) / f'{self.stem(**run)}_events.tsv'

    def confounds(self, **run: Any) -> Path:
        name = f'{self.stem(**run)}_desc-confounds_timeseries.tsv'
        return self.folder(self.derivatives, **run) / name

    def bold(self, space='', extension='.nii.gz', **run: Any) -> Path:
        name = f'{self.stem(**run)}{self._space(space)}_desc-preproc_bold{extension}'
        return self.folder(self.derivatives, **run) / name

    def mask(self, space='', **run: Any) -> Path:
        name = f'{self.stem(**run)}{self._space(space)}_desc-brain_mask.nii.gz'
        return self.folder(self.derivatives, **run) / name

    def _space(self, space: str | None) -> str:
        space = self.spec['spaces'][0] if space == '' else space
        return f'_space-{space}' if space else ''

    def each_run(self) -> list[dict[str, Any]]:
        return [
            {'sub': sub, 'ses': ses, 'task': task, 'run': run}
            for sub in self.spec['participants']
            for ses in self.spec['sessions']
            for task in self.spec['tasks']
            for run in self.spec['runs']
        ]

    def rewrite_events(self, rows: list[list[Any]], columns=None, **run: Any) -> None:
        columns = columns or ['onset', 'duration', 'trial_type', 'stim_file']
        write_table(self.events(**run), [columns, *rows])

    def rewrite_bold(self, change, **run: Any) -> None:
        """Apply ``change`` to the array of a series."""
        image = nib.load(self.bold(**run))
        data = change(np.asarray(image.dataobj).copy())
        write_series(self.bold(**run), data, self.spec['repetition_time'])


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_table(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join('\t'.join(map(str, row)) + '\n' for row in rows))


def write_series(path: Path, data: np.ndarray, repetition_time: float, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_zooms((3, 3, 3, repetition_time))
    image.header.set_xyzt_units('mm', 'sec')
    nib.save(image, path)


def write_mask(path: Path, inside: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), path)


def write_film(path: Path, seconds: float, *, rate=10, variable=False) -> None:
    """Encode a tiny film; with ``variable``, the frames of its second half last twice as long."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    n_frames = round(seconds * rate)
    with av.open(path, 'w') as container:
        stream = container.add_stream('mpeg4', rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = 'yuv420p'
        for number in range(n_frames):
            pixels = np.full((32, 32, 3), number % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            late = max(0, number - n_frames // 2) if variable else 0
            frame.pts = number + late
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_sound(path: Path) -> None:
    """Encode a second of silence: a film without images."""
    import av

    with av.open(path, 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), dtype=np.float32), format='fltp', layout='mono'
        )
        frame.sample_rate = 8000
        for part in (frame, None):
            container.mux(stream.encode(part))


def make_dataset(root: Path, **changes: Any) -> Dataset:
    """Write a dataset: :data:`DEFAULTS` with ``changes``."""
    unknown = set(changes) - set(DEFAULTS)
    if unknown:
        raise KeyError(unknown)
    data = Dataset(root, {**DEFAULTS, **changes})
    spec = data.spec
    description = {'Name': 'small', 'BIDSVersion': '1.10.0', 'License': 'CC0'}
    write_json(root / 'dataset_description.json', {**description, 'DatasetType': 'raw'})
    write_json(
        data.derivatives / 'dataset_description.json',
        {**description, 'DatasetType': 'derivative', 'GeneratedBy': [{'Name': 'fMRIPrep'}]},
    )
    write_table(
        root / 'participants.tsv',
        [['participant_id'], *([f'sub-{s}'] for s in spec['participants'])],
    )
    for task in spec['tasks']:
        write_json(
            root / f'task-{task}_bold.json',
            {'TaskName': task, 'RepetitionTime': spec['repetition_time']},
        )
    _write_stimuli(root / 'stimuli', spec)
    for number, run in enumerate(data.each_run()):
        _write_run(data, run, np.random.default_rng(number))
    return data


def _write_stimuli(folder: Path, spec: dict[str, Any]) -> None:
    if spec['film'] is not None:
        write_film(folder / spec['film'], spec['n_volumes'] * spec['repetition_time'])
        return
    for number, name in enumerate(spec['stimuli']):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (40 * number, 90, 20)).save(folder / name)


def _write_run(data: Dataset, run: dict[str, Any], rng: np.random.Generator) -> None:
    spec = data.spec
    n, step = spec['n_volumes'], spec['repetition_time']
    values = 100 + rng.standard_normal((*spec['shape'], n))
    for space in spec['spaces']:
        write_series(data.bold(space=space, **run), values, step)
        write_json(
            data.bold(space=space, extension='.json', **run),
            {'RepetitionTime': step, 'TaskName': run['task'], 'SkullStripped': False},
        )
        write_mask(data.mask(space=space, **run), np.ones(spec['shape']))
    motion = rng.standard_normal((n, 2)).round(4).tolist()
    write_table(data.confounds(**run), [['trans_x', 'rot_x'], *motion])
    if spec['film'] is not None:
        data.rewrite_events([[0, n * step, 'film', spec['film']]], **run)
    else:
        names = spec['stimuli']
        data.rewrite_events(
            [[4 + 8 * i, 2, f'kind{i}', name] for i, name in enumerate(names)]
            + [[30, 2, 'fixation', 'n/a']],
            **run,
        )
    if spec['raw_bold']:
        path = data.folder(data.root, **run) / f'{data.stem(**run)}_bold.nii.gz'
        write_series(path, values, step)
