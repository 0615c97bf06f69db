"""The linear algebra of a device: NumPy's, or PyTorch's, which calls most of it by the same names.

What both offer is used as it is (``@``, slices, ``sum(axis=0)``, :attr:`Algebra.xp`); what they
call otherwise is :class:`Algebra`'s.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ResourceError
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from scipy import sparse

NO_GPU = 'The device {device!r} is not there. Use the CPU, or install a PyTorch that sees the GPU.'

Device = Literal['cpu', 'cuda']
Array = Any
"""Of NumPy or of PyTorch: what both offer is used."""


class Algebra(Protocol):
    """What differs between NumPy and PyTorch.

    Attributes
    ----------
    xp
        The module whose functions both have.
    columns
        Columns of a long matrix at once: few stay in the processor's cache, many fill a card.
    """

    xp: Any
    columns: int

    def single(self, values: npt.ArrayLike) -> Array:
        """Take values to the device, as float32."""

    def double(self, values: npt.ArrayLike) -> Array:
        """Take values to the device, as float64."""

    def sparse(self, matrix: sparse.csr_array) -> Array:
        """Take a sparse matrix of float32 to the device; it has ``@`` and ``T``."""

    def dot(self, a: Array, b: Array) -> Array:
        """Return the inner product of each column, over the last axis but one.

        Parameters
        ----------
        a, b
            Of one shape, (..., n_rows, n_columns).
        """

    def double_dot(self, a: Array, b: Array) -> Array:
        """Return the same of two matrices, summed in float64.

        Parameters
        ----------
        a, b
            Shape (n_rows, n_columns).
        """

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix."""

    def inverse(self, matrix: Array) -> Array:
        """Return the inverse of a symmetric positive definite matrix."""


class _NumPy:
    xp: Any = np
    columns = 1024

    def single(self, values: Array) -> Array:
        return np.asarray(values, dtype=np.float32)

    def double(self, values: Array) -> Array:
        return np.asarray(values, dtype=np.float64)

    def sparse(self, matrix: sparse.csr_array) -> Array:
        return matrix

    def dot(self, a: Array, b: Array) -> Array:
        return np.einsum('...tv,...tv->...v', a, b)

    def double_dot(self, a: Array, b: Array) -> Array:
        return np.einsum('tv,tv->v', a, b, dtype=np.float64)

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        from scipy.linalg import eigh

        values, vectors = eigh(matrix, driver='evd', check_finite=False)
        return values, vectors

    def inverse(self, matrix: Array) -> Array:
        from scipy.linalg import lapack

        # symmetric: C order read as Fortran order is the transpose, so nothing is copied
        factor, failed = lapack.dpotrf(matrix.T, lower=1)
        if failed:
            raise np.linalg.LinAlgError(f'no Cholesky factor: minor {failed} is not positive')
        half = np.tril(lapack.dpotri(factor, lower=1, overwrite_c=1)[0])
        whole = half + half.T
        whole[np.diag_indices_from(whole)] /= 2
        return whole


class _Torch:
    def __init__(self, device: str) -> None:
        import torch

        self.xp: Any = torch
        self.columns = 1024 if device == 'cpu' else 16_384
        self._device = device

    def single(self, values: Array) -> Array:
        return self.xp.as_tensor(values, dtype=self.xp.float32, device=self._device)

    def double(self, values: Array) -> Array:
        return self.xp.as_tensor(values, dtype=self.xp.float64, device=self._device)

    def sparse(self, matrix: sparse.csr_array) -> Array:
        found = matrix.tocoo()
        places = self.xp.as_tensor(np.stack(found.coords), device=self._device)
        return self.xp.sparse_coo_tensor(
            places, self.single(found.data), found.shape, check_invariants=True
        )

    def dot(self, a: Array, b: Array) -> Array:
        return (a * b).sum(-2)

    def double_dot(self, a: Array, b: Array) -> Array:
        return (a * b).sum(-2, dtype=self.xp.float64)

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        values, vectors = self.xp.linalg.eigh(matrix)
        return values, vectors

    def inverse(self, matrix: Array) -> Array:
        return self.xp.cholesky_inverse(self.xp.linalg.cholesky(matrix))


NUMPY: Algebra = _NumPy()


def algebra_of(device: Device | Literal['torch']) -> Algebra:
    """Return the linear algebra of a device.

    Parameters
    ----------
    device
        ``cpu``: NumPy's; ``cuda``: PyTorch's on the GPU; ``torch``: PyTorch's on the processor.

    Raises
    ------
    ResourceError
        If the device is not there.
    """
    if device == 'cpu':
        return NUMPY
    check_device(device)
    return _Torch('cpu' if device == 'torch' else device)


def check_device(device: str) -> None:
    """Refuse a GPU that PyTorch does not see.

    Raises
    ------
    ResourceError
        If there is none, or no PyTorch.
    """
    there = importlib.util.find_spec('torch') is not None
    if there and device == 'cuda':
        import torch

        there = torch.cuda.is_available()
    if not there:
        raise ResourceError(NO_GPU.format(device=device))


def to_host(values: Array) -> npt.NDArray[Any]:
    """Return values of a device as a NumPy array of their type.

    Parameters
    ----------
    values
        Of NumPy, or on the device.
    """
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu())


def to_numpy(values: Array) -> Float32Array:
    """Return values of a device as a NumPy array, float32.

    Parameters
    ----------
    values
        Of NumPy, or on the device.
    """
    return cast('Float32Array', np.asarray(to_host(values), dtype=np.float32))
