"""Images that trained a model are known by what they show."""

import numpy as np
import pytest
from PIL import Image

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.systems.steps.seen import (
    KNOWN_BY_NAME,
    SEEN_PICTURES,
    merged_pictures,
    pictures_note,
    pictures_state,
    seen_pictures,
)


@pytest.fixture
def folder(tmp_path):
    """Four photographs, as far as blocks of random colour are any."""
    rng = np.random.default_rng(0)
    for name in 'abcd':
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(np.kron(coarse, np.ones((12, 12, 1), dtype=np.uint8))).save(
            tmp_path / f'{name}.png'
        )
    return tmp_path


def copy(folder, name, new, change):
    change(Image.open(folder / name)).save(folder / new)


@pytest.mark.parametrize(
    ('new', 'change'),
    [
        ('same.png', lambda x: x),
        ('small.png', lambda x: x.resize((94, 94))),
        ('other.jpg', lambda x: x),
        ('mirrored.png', lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ('cropped.png', lambda x: x.crop((5, 5, 91, 91))),
    ],
)
def test_copies_are_known_under_other_names(folder, new, change):
    arrays = pictures_state([folder / 'a.png', folder / 'b.png'])
    copy(folder, 'b.png', new, change)
    names = ['c.png', new, 'd.png']
    assert seen_pictures(folder, names, arrays, ['a.png', 'b.png']) == ((new,), True)


def test_another_picture_of_the_same_name_is_new(folder):
    arrays = pictures_state([folder / 'a.png'])
    copy(folder, 'b.png', 'a.png', lambda x: x)
    assert seen_pictures(folder, ['a.png'], arrays, ['a.png']) == ((), True)


def participant(folder, *names):
    return ParticipantInput(
        label='01', task='t', paradigm='images', runs=(), stimuli_dir=folder, stimuli=names
    )


def test_what_is_said(folder):
    arrays = pictures_state([folder / 'a.png', folder / 'b.png'])
    who = participant(folder, 'b.png', 'c.png')
    line = SEEN_PICTURES.format(n=1, total=2, file='m.safetensors', first='b.png')
    assert pictures_note(who, arrays, ['a.png', 'b.png'], 'm.safetensors') == (line,)
    assert pictures_note(participant(folder, 'd.png'), arrays, ['a.png'], 'm') == ()
    # a model of an earlier version
    lines = pictures_note(who, {'mask': np.ones(3)}, ['a.png', 'b.png'], 'm.safetensors')
    assert lines == (line, KNOWN_BY_NAME.format(file='m.safetensors'))


def test_models_that_build_on_others_know_the_pictures_of_both(folder):
    parts = [pictures_state([folder / f'{name}.png']) for name in 'ab']
    both = merged_pictures(*({**part, 'mask': np.ones(2)} for part in parts))
    names = ['a.png', 'b.png', 'c.png']
    assert seen_pictures(folder, names, both, [])[0] == ('a.png', 'b.png')
    assert merged_pictures(parts[0], {'mask': np.ones(2)}) == {}
