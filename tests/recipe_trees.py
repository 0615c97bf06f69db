"""Small datasets with the names and columns of the published ones that recipes know.

Each is made twice: with the published names of participants, sessions and stimuli (``other`` is
False), and with others, so that it is the rule that works and not the example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from tests.datasets import write_film, write_json, write_mask, write_series, write_table

SHAPE = (4, 4, 3)


@dataclass
class Tree:
    """A dataset on disk, what a run is called with, and what it should find."""

    root: Path
    options: list[str] = field(default_factory=list)
    stimuli: int = 0
    """Different images or films that the first participant saw, of those that are used."""
    test: set[str] = field(default_factory=set)
    """Names (without folders) of the first participant's test images, where they are given."""

    def run(self, stem: str, volumes: int, period: float, **how: Any) -> None:
        """Write a preprocessed run; ``how`` has ``prep`` (its name there), ``space``, ``mask``."""
        name = how.get('prep', stem)
        space = how.get('space', '_space-T1w')
        place = how.get('derivatives', self.root / 'derivatives' / 'fmriprep')
        folder = place / _folder(stem)
        rng = np.random.default_rng(len(stem) + volumes)
        values = 100 + rng.standard_normal((*SHAPE, volumes))
        bold = folder / f'{name}{space}_desc-preproc_bold.nii.gz'
        write_series(bold, values, period)
        write_json(bold.with_suffix('').with_suffix('.json'), {'RepetitionTime': period})
        if how.get('mask', True):
            write_mask(folder / f'{name}{space}_desc-brain_mask.nii.gz', np.ones(SHAPE))
        motion = rng.standard_normal((volumes, 2)).round(4).tolist()
        write_table(
            folder / f'{name}_desc-confounds_timeseries.tsv', [['trans_x', 'rot_x'], *motion]
        )
        if how.get('described', True):
            derived = {'Name': 'fMRIPrep', 'BIDSVersion': '1.4.0', 'DatasetType': 'derivative'}
            write_json(place / 'dataset_description.json', derived)

    def events(self, stem: str, header: str, rows: Sequence[Sequence[Any]]) -> None:
        """Write the events of a run as they are published."""
        write_table(self.root / _folder(stem) / f'{stem}_events.tsv', [header.split('|'), *rows])

    def image(self, name: str) -> None:
        """Write an image below the folder of stimuli."""
        path = self.root / 'stimuli' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (crc32(name.encode()) % 200, len(name), 20)).save(
            path, format='JPEG'
        )

    def film(self, name: str, seconds: float) -> None:
        """Write a film below the folder of stimuli."""
        write_film(self.root / 'stimuli' / name, seconds)


def _folder(stem: str) -> Path:
    parts = [part for part in stem.split('_') if part.startswith(('sub-', 'ses-'))]
    return Path(*parts, 'func')


def _tree(root: Path, **description: Any) -> Tree:
    write_json(
        root / 'dataset_description.json', {'Name': 'x', 'BIDSVersion': '1.4.0'} | description
    )
    return Tree(root)


def things(root: Path, other: bool) -> Tree:
    tree = _tree(root, Name='mine' if other else 'THINGS-fMRI')
    concepts = ('zebra', 'violin') if other else ('hamburger', 'dress')
    sub, ses = ('x7', 'day1') if other else ('01', 'things01')
    header = (
        'onset|duration|trial_type|category_nr|exemplar_nr|test_image_nr|things_category_nr'
        '|things_exemplar_nr|response_time|file_path'
    )
    for run in ('01', '02'):
        rows = [
            [3.0, 0.5, 'exp', 299, 12, 'n/a', 741.0, 12.0, 'n/a', f'{concepts[0]}/a_{run}s.jpg'],
            [12.0, 0.5, 'catch', 721, 96, 'n/a', 'n/a', 'n/a', 1.611, 'catch096.jpg'],
            [21.0, 0.5, 'exp', 300, 12, 'n/a', 742.0, 12.0, 'n/a', f'{concepts[1]}/b_{run}s.jpg'],
            [28.5, 0.5, 'test', 92, 1, 4, 13.0, 1.0, 'n/a', f'{concepts[0]}/test_14n.jpg'],
            [34.5, 0.5, 'test', 93, 1, 5, 14.0, 1.0, 'n/a', f'{concepts[1]}/test_15s.jpg'],
        ]
        stem = f'sub-{sub}_ses-{ses}_task-things_run-{run}'
        tree.events(stem, header, rows)
        tree.run(stem, 28, 1.5)
        for row in rows:
            if row[2] != 'catch':  # not among the images that are distributed
                tree.image(row[-1])
    tree.events(
        f'sub-{sub}_ses-{ses}_task-6cat_run-01', 'onset|duration|trial_type', [[15, 15, 'words']]
    )
    tree.run(f'sub-{sub}_ses-{ses}_task-6cat_run-01', 28, 1.5)
    tree.stimuli, tree.test = 6, {'test_14n.jpg', 'test_15s.jpg'}
    return tree


def bold5000(root: Path, other: bool) -> Tree:
    tree = _tree(root, Name='mine' if other else 'BOLD5000', Funding='')
    sub = 'abc' if other else 'CSI1'
    header = (
        'onset|duration|Subj|Sess|Run|Trial|ImgName|ImgType|StimOn(s)|StimOff(s)|Response|RT'
        '|stim_file'
    )
    places = {'n0193_19568.JPEG': 'ImageNet', 'COCO_train2014_01.jpg': 'COCO', 'pub2.jpg': 'Scene'}
    if other:
        places = {f'other{name}': place for name, place in places.items()}
    for run in ('01', '02'):
        rows = [
            [6 + 10 * n, 0.97, 1, 1, 1, n, name, kind, 6.0, 7.0, 2, 3.6, name]
            for n, (name, kind) in enumerate(places.items())
        ]
        stem = f'sub-{sub}_ses-01_task-5000scenes_run-{run}'
        tree.events(stem, header, rows)
        tree.run(stem, 24, 2.0)
        tree.run(stem, 24, 2.0, space='_space-MNI152NLin2009cAsym_res-2')
    for name, place in places.items():
        tree.image(f'Scene_Stimuli/Presented_Stimuli/{place}/{name}')
    tree.events(
        f'sub-{sub}_ses-01_task-localizer', 'onset|duration|cond|image', [[12, 0.8, 'x', 'c.jpg']]
    )
    tree.stimuli = 3
    return tree


def generic_object_decoding(root: Path, other: bool) -> Tree:
    name = 'mine' if other else 'Generic Object Decoding (fMRI on ImageNet)'
    tree = _tree(root, Name=name, BIDSVersion='1.0.2')
    sub = 'q' if other else '01'
    header = (
        'onset|duration|trial_no|event_type|stimulus_id|stimulus_name|category_index|image_index'
        '|response_time'
    )
    shown = {
        'perceptionTraining01': ('n02766534_15976', 'n01970164_28566'),
        'perceptionTest01' if not other else 'perceptionTest07': (
            'n03626115_19498',
            'n03954393_10038',
        ),
    }
    if other:
        shown = {ses: tuple(f'n1{x[2:]}' for x in names) for ses, names in shown.items()}
    for ses, names in shown.items():
        for run in ('01', '02'):
            rows = [[0, 9, 1, 'rest', *['n/a'] * 5]]
            rows += [
                [9 + 12 * n, 9, 2 + n, 'stimulus', 2.5, name, 4, 3, 'n/a']
                for n, name in enumerate(names)
            ]
            stem = f'sub-{sub}_ses-{ses}_task-perception_run-{run}'
            tree.events(stem, header, rows)
            tree.run(stem, 16, 3.0)
        for name in names:
            tree.image(f'ILSVRC/{name}.JPEG')
        if 'Test' in ses:
            tree.test = {f'{name}.JPEG' for name in names}
    stem = f'sub-{sub}_ses-imageryTest01_task-imagery_run-01'
    header = 'onset|duration|trial_no|event_type|category_id|category_name'
    tree.events(stem, header, [[0, 33, 1, 'cue', 2950256, 'n02950256']])
    tree.run(stem, 16, 3.0)
    tree.stimuli = 4
    return tree


def deep_image_reconstruction(root: Path, other: bool) -> Tree:
    tree = _tree(root, Name='mine' if other else 'Deep Image Reconstruction', BIDSVersion='1.0.2')
    sub = 'q' if other else '01'
    header = (
        'onset|duration|event_type|stimulus_id|stimulus_name|category_index|image_index'
        '|response_time'
    )
    shown = {
        'perceptionNaturalImageTraining01': ('n01639765_47681', 'n12596148_6386'),
        'perceptionNaturalImageTest01': ('n03954393_10038', 'n03626115_19498'),
        'perceptionArtificialImage01': ('colorExpStim19_yellow_+',),
    }
    if other:
        shown = {ses: tuple(f'{x}x' for x in names) for ses, names in shown.items()}
    for ses, names in shown.items():
        for run in ('01', '02'):
            rows = [[0, 8, -1, *['n/a'] * 5]]
            rows += [[8 + 10 * n, 8, 1, 1.5, x, 2, 14, 'n/a'] for n, x in enumerate(names)]
            rows += [[28, 8, 2, 1.5, names[-1], 2, 14, 30.5]]
            stem = f'sub-{sub}_ses-{ses}_task-perception_run-{run}'
            tree.events(stem, header, rows)
            tree.run(stem, 24, 2.0)
        for name in names:
            tree.image(f'{name}{".tiff" if "color" in name else ".JPEG"}')
    tree.test = {f'{name}.JPEG' for name in shown['perceptionNaturalImageTest01']}
    tree.stimuli = 5
    return tree


def natural_object_dataset(root: Path, other: bool) -> Tree:
    """As published: without masks, without a description, runs without padding."""
    name = 'A large-scale fMRI dataset for the visual processing of naturalistic scenes'
    tree = _tree(root, Name='mine' if other else name)
    sub = 'q1' if other else '01'
    kind = 'n02114367' if other else 'n03131574'
    for run in ('01', '02'):
        names = [f'imagenet/{kind}/{kind}_{n}{run}.JPEG' for n in (1, 2, 3)]
        rows = [[0.01 + 10 * n, 1.0, 521.0, 2.3, name] for n, name in enumerate(names)]
        stem = f'sub-{sub}_ses-imagenet01_task-imagenet_run-{run}'
        tree.events(stem, 'onset|duration|trial_type|response_time|stim_file', rows)
        tree.run(stem, 24, 2.0, prep=stem.replace('run-0', 'run-'), mask=False, described=False)
        for name in names:
            tree.image(name)
        names = ['coco/000000124419.jpg', f'coco/0000000{99 if other else 36}598.jpg']
        rows = [[0.01 + 10 * n, 0.5, 29.0, 0.0, 0.0, name] for n, name in enumerate(names)]
        rows += [[30, 0.5, 2000.0, 1.0, 0.8, 'n/a']]
        stem = f'sub-{sub}_ses-coco_task-coco_run-{run}'
        tree.events(stem, 'onset|duration|trial_type|response|response_time|condition', rows)
        tree.run(stem, 24, 2.0, prep=stem.replace('run-0', 'run-'), mask=False, described=False)
        for name in names:
            tree.image(name)
    tree.stimuli = 6
    return tree


def studyforrest(root: Path, other: bool) -> Tree:
    """One row per frame; the fourth segment alone where names are others."""
    tree = _tree(root, Name='Forrest Gump', BIDSVersion='1.1.0')
    sub, runs = ('20', (4, 5)) if other else ('01', (1, 2))
    for run in runs:
        rows = [
            [round(0.12 + 0.04 * n, 3), 0.04, n + 1, round(0.04 * (n + 1), 3), 0.0, 0.0]
            for n in range(1000)
        ]
        stem = f'sub-{sub}_ses-movie_task-movie_run-{run}'
        tree.events(stem, 'onset|duration|frameidx|videotime|audiotime|lasttrigger', rows)
        tree.run(stem, 24, 2.0, space='_space-MNI152NLin2009cAsym_res-2')
        tree.film(f'fg_av_ger_seg{run - 1}.mkv', 41)
    tree.stimuli = 2
    return tree


def budapest(root: Path, other: bool) -> Tree:
    name = (
        'An fMRI dataset in response to "The Grand Budapest Hotel", a socially-rich, naturalistic '
        'movie'
    )
    tree = _tree(root, Name=name)
    sub, runs = ('sid000999', (3, 4)) if other else ('sid000005', (1, 2))
    for run in runs:
        overlap = 0 if run == 1 else 10
        rows = [[4.0, overlap, 'overlap_with_previous_run']] if overlap else []
        rows += [[4.0 + overlap, 40.0 - overlap, 'movie']]
        stem = f'sub-{sub}_task-movie_run-0{run}'
        tree.events(stem, 'onset|duration|trial_type', rows)
        tree.run(stem, 50, 1.0, space='_space-MNI152NLin2009cAsym_res-2')
        tree.film(f'budapest_part{run + 1}.mp4', 40)
    tree.stimuli = 2
    return tree


def nndb(root: Path, other: bool) -> Tree:
    """No events; each participant another film, in several runs."""
    tree = _tree(root, Name='Naturalistic Neuroimaging Database')
    films = ('split', 'pulpfiction') if other else ('500daysofsummer', 'citizenfour')
    for sub, film in zip(('30', '41') if other else ('1', '21'), films, strict=True):
        for run in (1, 2):
            stem = f'sub-{sub}_task-{film}_run-0{run}'
            tree.run(stem, 30, 1.0, space='_space-MNI152NLin2009cAsym_res-2')
            write_json(root / _folder(stem) / f'{stem}_bold.json', {'RepetitionTime': 1.0})
        write_json(root / f'task-{film}_bold.json', {'TaskName': film, 'RepetitionTime': 1.0})
        tree.film(f'task-{film}.mp4', 70)
    tree.stimuli = 1
    return tree


def cneuromod_things(root: Path, other: bool) -> Tree:
    tree = _tree(root, Name='TODO: name of the dataset')
    prep = root.with_name(f'{root.name}.fmriprep')
    sub, concept = ('06', 'zebra') if other else ('01', 'aardvark')
    header = 'TrialNumber|image_path|things_image_nr|run_id|onset|duration'
    write_json(root / 'task-things_events.json', {'image_path': 'path'})
    for run in ('01', '02'):
        names = [f'images/{concept}/{concept}_0{n}s.jpg' for n in (1, 2, 3)]
        rows = [[n, name, 12, 1, 5.9 + 9 * n, 2.98] for n, name in enumerate(names)]
        stem = f'sub-{sub}_ses-02_task-things_run-{run}'
        tree.events(stem, header, rows)
        tree.run(
            stem,
            26,
            1.49,
            derivatives=prep,
            prep=f'sub-{sub}_ses-02_task-things_run-{int(run)}_part-mag',
        )
        for name in names:
            tree.image(name)
    tree.options = ['-d', f'fmriprep={prep}']
    tree.stimuli = 3
    return tree


def cneuromod_friends(root: Path, other: bool) -> Tree:
    """A task an episode, events at the top."""
    tree = _tree(root, Name='friends sub-dataset of the Courtois-Neuromod project')
    prep = root.with_name(f'{root.name}.fmriprep')
    episodes = ('s05e23c', 's05e23d') if other else ('s01e01a', 's01e01b')
    for episode in episodes:
        film = f's{episode[2]}/friends_{episode}.mkv'
        write_table(
            root / f'task-{episode}_events.tsv',
            [['onset', 'duration', 'stim_file'], [0, 40.0, film]],
        )
        stem = f'sub-{"04" if other else "01"}_ses-003_task-{episode}'
        write_json(root / _folder(stem) / f'{stem}_bold.json', {'RepetitionTime': 1.49})
        tree.run(stem, 30, 1.49, derivatives=prep)
        tree.film(film, 42)
    tree.options = ['-d', f'fmriprep={prep}']
    tree.stimuli = 2
    return tree


def laion_fmri(root: Path, other: bool) -> Tree:
    tree = _tree(root, Name='mine' if other else 'LAION-fMRI')
    (root / 'derivatives' / 'glmsingle-tedana').mkdir(parents=True)
    for run in ('01', '02'):
        names = [f'shared_12rep_LAION_cluster_{n}_i{int(other)}.jpg' for n in (1003, 1006, 1011)]
        rows = [[4 + 8 * n, 2.5, name] for n, name in enumerate(names)]
        rows += [[30, 2.5, 'n/a']]
        stem = f'sub-{"07" if other else "01"}_ses-01_task-images_run-{run}'
        tree.events(stem, 'onset|duration|label', rows)
        tree.run(stem, 24, 1.9)
        for name in names:
            tree.image(f'images/{name}')
    tree.stimuli = 3
    return tree


TREES: dict[str, Callable[[Path, bool], Tree]] = {
    'things-fmri': things,
    'bold5000': bold5000,
    'generic-object-decoding': generic_object_decoding,
    'deep-image-reconstruction': deep_image_reconstruction,
    'natural-object-dataset': natural_object_dataset,
    'studyforrest': studyforrest,
    'budapest': budapest,
    'nndb': nndb,
    'cneuromod-things': cneuromod_things,
    'cneuromod-friends': cneuromod_friends,
    'laion-fmri': laion_fmri,
}
