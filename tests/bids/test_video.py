"""Films and images as outputs."""

import os
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from bids_neurodecode.bids.names import stimulus_path, unique_labels
from bids_neurodecode.bids.video import GAP, beside, strip, write_picture, write_video
from bids_neurodecode.errors import DataError


def film(n, value):
    return np.full((n, 24, 24, 3), value, dtype=np.uint8)


def test_a_film_is_read_back_with_its_rate_and_its_two_halves(tmp_path):
    shown = np.concatenate([film(3, 250), film(3, 120)])
    frames = beside(shown, film(6, 20))
    write_video(tmp_path / 'a.mp4', frames, 0.5)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        stream = container.streams.video[0]
        read = [frame.to_ndarray(format='rgb24') for frame in container.decode(stream)]
        assert float(stream.average_rate) == 0.5
    assert len(read) == 6
    side = (frames.shape[2] - GAP) // 2
    first, last = read[0].astype(int), read[-1].astype(int)
    assert abs(first[:, : side - 4].mean() - 250) < 6
    assert abs(last[:, : side - 4].mean() - 120) < 6
    assert abs(first[:, side + GAP + 4 :].mean() - 20) < 6
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']


TWICE = """
import hashlib, sys
from pathlib import Path
import numpy as np
from bids_neurodecode.bids.video import beside, write_video
steps = np.random.default_rng(0).integers(0, 9, (12, 24, 24, 3))
film = np.cumsum(steps, axis=0).astype(np.uint8)
write_video(Path(sys.argv[1]), beside(film, film[::-1]), 0.5)
print(hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_film_is_the_same_bytes_whatever_lies_in_memory(tmp_path):
    """glibc fills what it gives away and takes back with another byte in each of the runs."""
    found = {
        subprocess.run(
            [sys.executable, '-c', TWICE, str(tmp_path / 'a.mp4')],
            env={**os.environ, 'MALLOC_PERTURB_': str(fill)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fill in (0, 85, 170)
    }
    assert len(found) == 1


def test_a_strip_has_both_rows(tmp_path):
    picture = strip(film(30, 200), film(30, 10), n=5)
    assert picture.shape == (48, 120, 3)
    write_picture(tmp_path / 'a.png', picture)
    read = np.asarray(Image.open(tmp_path / 'a.png'))
    assert (read[:24] == 200).all()
    assert (read[24:] == 10).all()


def test_names_of_what_is_made_for_a_stimulus():
    (label,) = unique_labels(['a b/c-d.mkv']).values()
    path = stimulus_path({'sub': '01', 'task': 'film'}, label, 'image', 'recon')
    assert path.as_posix() == 'stimuli/sub-01/task-film/abcd_desc-recon_image.png'
    with pytest.raises(DataError, match='stimulus'):
        stimulus_path({'sub': '01', 'task': 'film'}, 'a b', 'image', 'recon')
