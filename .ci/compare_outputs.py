"""Compare two output folders: the same files, and the same numbers within a tolerance.

Usage: compare_outputs.py FOLDER OTHER [tolerance [trained loose]]. Reports, figures and logs must
be there; their content (times, run numbers) is not compared. Files whose names match the pattern
``trained`` may differ by ``loose``.
"""

import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from safetensors.numpy import load_file

TOLERANCE = 1e-4
"""Largest difference, relative to the largest value of the file: betas go through solvers."""
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""What float32 leaves of the mean of standardised values, which is nothing but rounding."""


def listing(root: Path) -> dict[str, Path]:
    """Files by name; what carries the number of a run is left out."""
    files = {str(path.relative_to(root)): path for path in root.rglob('*') if path.is_file()}
    numbered = re.compile(r'\d{8}T\d{6}Z-')
    return {name: file for name, file in files.items() if not numbered.search(name)}


def values(path: Path) -> dict[str, np.ndarray]:
    """Read all numbers of a file; texts are compared as they are."""
    if path.name.endswith('.nii.gz'):
        image = nib.load(path)
        return {'data': np.asarray(image.dataobj), 'affine': image.affine}
    if path.suffix == '.tsv':
        return {name: column.to_numpy() for name, column in pd.read_csv(path, sep='\t').items()}
    if path.suffix == '.safetensors':
        return load_file(path)
    if path.suffix == '.npy':
        return {'data': np.load(path, allow_pickle=False)}
    return {}


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference relative to the largest value; infinite where they cannot be compared."""
    if one.shape != other.shape:
        return np.inf
    if not (np.issubdtype(one.dtype, np.number) or one.dtype == bool):
        return 0.0 if (pd.Series(one).fillna('') == pd.Series(other).fillna('')).all() else np.inf
    single = one.dtype == np.float32
    one, other = one.astype(float), other.astype(float)
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return np.inf
    finite = np.isfinite(one)
    if not finite.any():
        return 0.0
    scale = np.abs(one[finite]).max() or 1.0
    apart = np.abs(one[finite] - other[finite]).max()
    return 0.0 if single and apart <= ROUNDING else float(apart / scale)


def main(
    folder: str, other: str, tolerance: str = str(TOLERANCE), trained: str = '$^', loose: str = '0'
) -> int:
    """Compare, and say how far apart they are."""
    mine, theirs = listing(Path(folder)), listing(Path(other))
    missing = sorted(set(mine) ^ set(theirs))
    worst, where, same = 0.0, 'all equal', True
    compared = 0
    for name in sorted(set(mine) & set(theirs)):
        first, second = values(mine[name]), values(theirs[name])
        if set(first) != set(second):
            missing.append(f'{name}: other columns')
            continue
        compared += bool(first)
        bound = float(loose if re.search(trained, name) else tolerance)
        for key, value in first.items():
            apart = difference(value, second[key])
            same &= apart <= bound
            if apart > worst:
                worst, where = apart, f'{name} ({key}, tolerance {bound:g})'
    same &= not missing and compared > 0
    sys.stdout.write(
        f'{"same" if same else "DIFFERENT"}: {compared} files of numbers compared, '
        f'largest relative difference {worst:.2g} ({where}), tolerance {tolerance}\n'
    )
    sys.stdout.writelines(f'only in one: {name}\n' for name in missing)
    return 0 if same else 1


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
