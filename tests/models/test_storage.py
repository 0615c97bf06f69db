"""Models on disk."""

import subprocess
import sys

import numpy as np
import pytest

from bids_neurodecode.errors import InputError
from bids_neurodecode.models import storage

SCRIPT = """
import sys, numpy as np
from pathlib import Path
from bids_neurodecode.models.storage import save_arrays
arrays = {k: np.arange(3.0) for k in sys.argv[2]}
save_arrays(Path(sys.argv[1]), arrays, {k: k for k in sys.argv[2]})
"""


def test_round_trip(tmp_path):
    arrays = {'b': np.eye(3, dtype=np.float32)[:, ::-1], 'a': np.arange(4)}
    storage.save_arrays(tmp_path / 'm.safetensors', arrays, {'kind': 'x', 'list': ['ä', 2]})
    found, description = storage.load_arrays(tmp_path / 'm.safetensors')
    assert description == {'kind': 'x', 'list': ['ä', 2]}
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)


def test_types_and_strides_round_trip(tmp_path):
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    types = ('?', 'u1', 'i1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')
    arrays = {kind: rng.integers(0, 9, (2, 3, 5)).astype(kind)[..., ::-1] for kind in types}
    arrays['none'], arrays['one'] = np.zeros((0, 4), np.float32), np.array(3.0)
    arrays['written in a loop'] = np.asfortranarray(rng.normal(size=(7, 3)))
    file = tmp_path / 'm.safetensors'
    storage.save_arrays(file, arrays, {'kind': 'ä'})
    found, description = storage.load_arrays(file)
    assert description == storage.load_description(file) == {'kind': 'ä'}
    for read in (found, load_file(file)):
        assert read.keys() == arrays.keys()
        for name, values in arrays.items():
            assert read[name].dtype == values.dtype
            np.testing.assert_array_equal(read[name], values)


def test_bytes_depend_on_content_alone(tmp_path):
    for name, order in (('1', 'abcdef'), ('2', 'fdbace'), ('3', 'abcdef')):
        subprocess.run([sys.executable, '-c', SCRIPT, tmp_path / name, order], check=True)
    assert len({(tmp_path / name).read_bytes() for name in '123'}) == 1


def test_other_files_are_refused(tmp_path):
    from safetensors.numpy import save

    (tmp_path / 'text').write_text('no model')
    (tmp_path / 'other').write_bytes(save({'a': np.zeros(1)}))
    for name in ('text', 'other', 'missing'):
        with pytest.raises(InputError, match=rf'{name} is no model of this program'):
            storage.load_arrays(tmp_path / name)
