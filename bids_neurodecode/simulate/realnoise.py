"""A real run's residuals as noise: phases made random, spatial covariance kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.spaces import image_damage
from bids_neurodecode.typing import FloatArray

UNREADABLE_RUN = 'Cannot read the run {file} as noise: {reason}. Give a 4-D NIfTI file.'
SHORT_RUN = (
    'The run {file} has {found} volumes, and the simulated runs have {needed}. Give a longer run '
    'as noise, or simulate shorter ones.'
)
OTHER_TR = (
    'The run {file} has a volume every {found:g} s, and the simulation every {expected:g} s. '
    'Simulate with a repetition time of {found:g} s.'
)


def randomise_phases(series: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return surrogates that keep every power spectrum and all covariances between voxels.

    Each frequency is turned by one random phase, the same for all voxels (Prichard and Theiler
    1994, Phys Rev Lett 73:951).

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    """
    n = len(series)
    spectrum = np.fft.rfft(series, axis=0)
    phases = np.exp(2j * np.pi * rng.random(len(spectrum)))
    phases[0] = 1
    if n % 2 == 0:  # the highest frequency of an even number is real
        phases[-1] = np.where(rng.random() < 0.5, -1, 1)
    surrogate: FloatArray = np.fft.irfft(spectrum * phases[:, None], n=n, axis=0)
    return surrogate


@dataclass(frozen=True, eq=False)
class RealNoise:
    """Residuals of a real run, placed on the simulated voxels.

    ``series`` is in percent signal, (n_volumes, n_voxels).
    """

    series: FloatArray

    def draw(self, n_volumes: int, rng: np.random.Generator) -> FloatArray:
        """Draw a surrogate and cut it to length, (n_volumes, n_voxels).

        Parameters
        ----------
        n_volumes
            At most those of the series.
        rng
            Of phases and start.
        """
        start = int(rng.integers(len(self.series) - n_volumes + 1))
        return randomise_phases(self.series, rng)[start : start + n_volumes]


def read_noise(
    file: Path, coordinates: FloatArray, repetition_time: float, n_volumes: int
) -> RealNoise:
    """Read a real run and place its residuals on other voxels.

    The brain (voxels above a quarter of the 98th percentile of the mean volume, that vary) is
    stretched onto the simulated one, box to box; each simulated voxel takes the nearest real one.
    Polynomials up to degree round(minutes / 2) + 1 are taken out; whatever the task evoked
    loses its timing with the phases.

    Parameters
    ----------
    file
        A 4-D NIfTI file.
    coordinates
        Of the simulated voxels in mm, (n_voxels, 3).
    repetition_time, n_volumes
        Of the simulated runs; the real run must have the same, and be as long.

    Raises
    ------
    InputError
        If it cannot be read, is too short, or has another repetition time.
    """
    values, affine, found_tr = _read_series(file)
    if abs(found_tr - repetition_time) > 0.01 * repetition_time:
        raise InputError(OTHER_TR.format(file=file, found=found_tr, expected=repetition_time))
    if values.shape[-1] < n_volumes:
        raise InputError(SHORT_RUN.format(file=file, found=values.shape[-1], needed=n_volumes))
    mean, varies = values.mean(axis=-1), values.std(axis=-1) > 0
    bright = mean > 0.25 * np.percentile(mean[varies], 98) if varies.any() else varies
    brain = bright & varies & np.isfinite(mean)
    if np.count_nonzero(brain) < 10:
        raise InputError(UNREADABLE_RUN.format(file=file, reason='no voxels that vary'))
    percent = (values[brain] / mean[brain][:, None] * 100).T
    grid = np.linspace(-1, 1, len(percent))
    degree = int(np.floor(len(percent) * found_tr / 120 + 0.5)) + 1
    basis = np.polynomial.legendre.legvander(grid, degree)
    residuals = percent - basis @ np.linalg.lstsq(basis, percent, rcond=None)[0]
    places = np.argwhere(brain) @ affine[:3, :3].T + affine[:3, 3]
    return RealNoise(residuals[:, _nearest(places, coordinates)])


def _read_series(file: Path) -> tuple[FloatArray, FloatArray, float]:
    with raised_as(InputError, UNREADABLE_RUN, *image_damage(), file=file):
        image = nib.load(file)
        values = np.asarray(image.dataobj, dtype=np.float64)
    if values.ndim != 4:
        reason = f'it has {values.ndim} dimensions'
        raise InputError(UNREADABLE_RUN.format(file=file, reason=reason))
    step = float(image.header.get_zooms()[3])
    if image.header.get_xyzt_units()[1] == 'msec':
        step /= 1000
    return values, np.asarray(image.affine), step


def _nearest(places: FloatArray, wanted: FloatArray) -> npt.NDArray[np.intp]:
    """Return the nearest of the real places to each wanted one, both in boxes from 0 to 1."""
    from scipy.spatial import cKDTree

    def boxed(points: FloatArray) -> FloatArray:
        low, extent = points.min(axis=0), np.ptp(points, axis=0)
        scaled: FloatArray = (points - low) / np.where(extent > 0, extent, np.inf)
        return scaled

    # a slice has no extent in one direction: there, every place is as near
    flat = np.ptp(places, axis=0) == 0
    target = boxed(wanted)
    target[:, flat] = 0
    index: npt.NDArray[np.intp] = cKDTree(boxed(places)).query(target)[1].astype(np.intp)
    return index
