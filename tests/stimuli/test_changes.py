"""Changes of features from frame to frame."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.stimuli.motion import TOO_FEW_FRAMES, frame_changes


def test_steady_change_gives_its_speed_and_stillness_nothing():
    speeds = np.array([0.0, 0.5, 2.0])
    frames = np.arange(4)[None, :, None] * np.array([1.0, -1.0])
    features = speeds[:, None, None] * frames
    np.testing.assert_allclose(frame_changes(features), np.stack([speeds, speeds], axis=1))


def test_changes_do_not_reach_over_volumes():
    features = np.zeros((2, 3, 1))
    features[1] = 100
    assert not frame_changes(features).any()


def test_one_frame_a_volume_is_refused():
    with pytest.raises(DataError, match=TOO_FEW_FRAMES.split('{')[0]):
        frame_changes(np.zeros((5, 1, 3)))
