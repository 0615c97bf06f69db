"""The program's linear models as estimators of scikit-learn: clone, pipelines, cross-validation.

Each is one of the systems' models (:mod:`bids_neurodecode.systems`) handed arrays. What is fitted
(standardisation, principal components, penalties) is fitted in ``fit``, on what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from bids_neurodecode.algebra import Device
from bids_neurodecode.api.betas import as_mask
from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.config import DelaySettings, RidgeSettings, build_config
from bids_neurodecode.errors import UsageError, raised_as
from bids_neurodecode.evaluation.identification import identification_2way, nearest, similarity
from bids_neurodecode.evaluation.voxels import pearson_by_column, summary
from bids_neurodecode.samples import Responses, Samples
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding import encoders
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.movie import recipe as movie
from bids_neurodecode.systems.reconstruction import recipe as reconstruction

ONE_GROUP = 'groups has {n} labels for {samples} samples; give one a sample.'
ONE_LABEL = (
    'groups has one label only; penalties are chosen by holding out groups in turn. Give two '
    'labels or more.'
)
BAD_BANDS = 'bands must name columns of X, each in one band; {name!r} holds {found}.'
TOO_SHORT = (
    'X spans {seconds:g} s in each run; penalties are chosen over blocks of {block:g} s, of which '
    'there must be two. Give more volumes.'
)
ALPHAS = RidgeSettings().alphas
DELAYS = DelaySettings().fir_seconds

Labels = npt.ArrayLike | None
FEATURES = 'features'


class _Estimator(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """What all have in common: checked arrays in, and predictions of the shape of targets."""

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        n_components: int | None = 100,
        n_folds: int = 5,
        per_target: bool = True,
        device: Device = 'cpu',
    ) -> None:
        self.alphas = alphas
        self.n_components = n_components
        self.n_folds = n_folds
        self.per_target = per_target
        self.device = device

    def _checked(self, X: Any, y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype='numeric', ensure_min_samples=2
        )
        self._one_target = y.ndim == 1
        return X, y.reshape(len(y), -1)

    def _inputs(self, X: Any) -> npt.NDArray[Any]:
        check_is_fitted(self)
        checked: npt.NDArray[Any] = validate_data(self, X, reset=False, dtype='numeric')
        return checked

    def _shaped(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # in double precision, as scikit-learn asks of regressors
        found = np.asarray(values, dtype=np.float64)
        return found[:, 0] if self._one_target else found

    def _ridge(self) -> RidgeSettings:
        with speaking_of_arguments():
            return build_config(
                {
                    'ridge': {
                        'alphas': tuple(np.atleast_1d(self.alphas).tolist()),
                        'n_folds': self.n_folds,
                        'per_target': self.per_target,
                    }
                }
            ).ridge


class _Encoder(_Estimator):
    """What encoders have in common: how well they predict each voxel."""

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: None = None) -> float:
        """Return the median over voxels of Pearson's r of prediction and response; chance 0.

        Parameters
        ----------
        X
            Features, (n_samples, n_features).
        y
            Measured responses, (n_samples, n_voxels).
        sample_weight
            Not used; part of scikit-learn's interface.
        """
        del sample_weight
        truth = np.asarray(y, dtype=np.float64)
        shape = len(truth), -1
        found = pearson_by_column(truth.reshape(shape), self.predict(X).reshape(shape))
        return summary(found)[0]


class VoxelEncoder(_Encoder):
    """Features of what was shown to the response of every voxel: the encoding system's ridge.

    Features are standardised, brought to principal components that keep their variances, and
    each voxel has the penalty that predicts best over folds within ``fit``.

    Parameters
    ----------
    alphas
        Penalties to choose from; one number fixes it. In units in which the components have a
        mean variance of 1.
    n_components
        Principal components kept, at most; None keeps all that the samples span.
    bands
        Feature spaces: columns of ``X`` by name (slices or row numbers). With several, banded
        ridge gives each its own penalty.
    n_folds
        Folds in which penalties are chosen.
    per_target
        One penalty per voxel, or one for all.
    device
        ``cpu`` or ``cuda``.

    Attributes
    ----------
    encoder_
        The fitted model of :mod:`bids_neurodecode.systems.encoding.encoders`.
    cv_r2_
        Share of each voxel's variance explained in the folds of ``fit``, (n_voxels,).

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> from sklearn.model_selection import cross_val_score
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(120, 20))
    >>> responses = features @ rng.normal(size=(20, 50)) + rng.normal(size=(120, 50))
    >>> scores = cross_val_score(nd.VoxelEncoder(), features, responses, cv=3)
    >>> (scores > .9).all()
    np.True_
    """

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        n_components: int | None = 100,
        bands: Mapping[str, Any] | None = None,
        n_folds: int = 5,
        per_target: bool = True,
        device: Device = 'cpu',
    ) -> None:
        super().__init__(
            alphas,
            n_components=n_components,
            n_folds=n_folds,
            per_target=per_target,
            device=device,
        )
        self.bands = bands

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: Labels = None) -> Self:
        """Fit on training samples.

        Parameters
        ----------
        X
            Features of what each sample showed, (n_samples, n_features). Equal rows are repeats.
        y
            Responses, (n_samples, n_voxels).
        groups
            What is held out together when penalties are chosen, (n_samples,), such as runs;
            samples of one stimulus if left out.
        """
        features, responses = self._checked(X, y)
        train, names, library = _samples(responses, features, groups)
        columns = {FEATURES: slice(None)} if self.bands is None else dict(self.bands)
        with speaking_of_arguments():
            settings = encoders.EncoderSettings(
                model='ridge' if len(columns) == 1 else 'banded',
                n_components=self.n_components,
                ridge=self._ridge(),
                groups='stimulus' if groups is None else 'run',
                device=self.device,
            )
            spaces = {
                name: PerStimulus(names, _columns(library, name, which))
                for name, which in columns.items()
            }
            self.encoder_ = encoders.fit(train, spaces, settings, rng=np.random.default_rng(0))
        self.bands_ = columns
        self.cv_r2_ = self.encoder_.cv_r2
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Predict responses (n_samples, n_voxels) from features (n_samples, n_features)."""
        features = self._inputs(X)
        given = {name: _columns(features, name, which) for name, which in self.bands_.items()}
        with speaking_of_arguments():
            return self._shaped(self.encoder_.predict(given))


class ImageDecoder(_Estimator):
    """Responses to features of what was shown: the reconstruction system's linear decoder.

    Voxels are standardised, features of the distinct training images are whitened, and ridge
    regression takes the one to the other.

    Parameters
    ----------
    alphas
        Penalties to choose from; one number fixes it.
    n_components
        Principal components of the features, at most; None keeps all.
    n_folds
        Folds in which penalties are chosen.
    per_target
        One penalty per component, or one for all (as where images span no more components than
        are kept).
    device
        ``cpu`` or ``cuda``.

    Attributes
    ----------
    decoder_
        The fitted :class:`~bids_neurodecode.systems.linear.LinearDecoder`.
    library_
        Features of the distinct training images, (n_images, n_features).

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(100, 10))
    >>> responses = features @ rng.normal(size=(10, 200)) + rng.normal(size=(100, 200))
    >>> decoder = nd.ImageDecoder().fit(responses[:80], features[:80])
    >>> decoder.score(responses[80:], features[80:]) > .9  # two-way identification, chance .5
    True
    >>> (decoder.identify(responses[80:], features[80:]) == np.arange(20)).mean() > .5
    np.True_
    """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: Labels = None) -> Self:
        """Fit on training trials.

        Parameters
        ----------
        X
            Responses, (n_trials, n_voxels).
        y
            Features of the image of each trial, (n_trials, n_features). Equal rows are repeats.
        groups
            What is held out together when penalties are chosen, (n_trials,), such as runs;
            trials of one image if left out.
        """
        responses, features = self._checked(X, y)
        train, names, library = _samples(responses, features, groups)
        with speaking_of_arguments():
            settings = DecoderSettings(
                n_components=self.n_components,
                ridge=self._ridge(),
                groups='stimulus' if groups is None else 'run',
                device=self.device,
            )
            self.decoder_: LinearDecoder = reconstruction.fit(
                train, PerStimulus(names, library), settings
            )
        self.library_ = library
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Predict features (n_trials, n_features) from responses (n_trials, n_voxels)."""
        responses = self._inputs(X)
        return self._shaped(reconstruction.predict(self.decoder_, responses))

    def similarities(self, X: npt.ArrayLike, candidates: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Compare decoded with candidate features.

        Parameters
        ----------
        X
            Responses, (n_trials, n_voxels).
        candidates
            Features of the images to choose from, (n_candidates, n_features).

        Returns
        -------
        numpy.ndarray
            Cosine of the whitened components, (n_trials, n_candidates).
        """
        offered = np.asarray(candidates, dtype=np.float64)
        with speaking_of_arguments():
            known = self.decoder_.space.transform(offered.reshape(len(offered), -1))
            return similarity(self.decoder_.components(self._inputs(X)), known)

    def identify(self, X: npt.ArrayLike, candidates: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Return the most similar candidate of each trial, (n_trials,); see `similarities`.

        Parameters
        ----------
        X
            Responses, (n_trials, n_voxels).
        candidates
            Features of the candidate images, (n_candidates, n_features).
        """
        return nearest(self.similarities(X, candidates))

    def score(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: None = None) -> float:
        """Return two-way identification among the distinct images of ``y``; chance .5.

        With one distinct image there is nothing to tell apart: NaN.

        Parameters
        ----------
        X
            Responses, (n_trials, n_voxels).
        y
            Features of the image of each trial, (n_trials, n_features).
        sample_weight
            Not used; part of scikit-learn's interface.
        """
        del sample_weight
        shown = np.asarray(y, dtype=np.float64)
        codes, library = _distinct(shown.reshape(len(shown), -1))
        if len(library) < 2:
            return float('nan')
        return identification_2way(self.similarities(X, library), codes)


class MovieEncoder(_Encoder):
    """Features on the clock of a film to the response of every voxel: finite impulse responses.

    Rows are volumes in order of time. The response at time t is a weighted sum of the features at
    t minus each delay, so that a prediction depends on the rows before it.

    Parameters
    ----------
    repetition_time
        Seconds from row to row.
    delays
        Seconds.
    alphas
        Penalties to choose from; one number fixes it.
    n_components
        Principal components of the features, at most; None keeps all.
    n_folds
        Folds (of blocks of 30 s) in which penalties are chosen.
    per_target
        One penalty per voxel, or one for all.
    device
        ``cpu`` or ``cuda``.

    Attributes
    ----------
    encoder_
        The fitted :class:`~bids_neurodecode.systems.movie.recipe.FilmEncoder`.
    cv_r2_
        Share of each voxel's variance explained in the folds of ``fit``, (n_voxels,).

    Examples
    --------
    Two runs of five minutes; the response follows the first feature by 4 s:

    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(300, 5))
    >>> responses = np.roll(features[:, :1], 2, axis=0) + .5 * rng.normal(size=(300, 8))
    >>> run = np.repeat([0, 1], 150)
    >>> model = nd.MovieEncoder(repetition_time=2.0, delays=(2.0, 4.0, 6.0))
    >>> model = model.fit(features[:150], responses[:150])
    >>> model.score(features[150:], responses[150:]) > .7
    True
    """

    def __init__(
        self,
        repetition_time: float = 2.0,
        *,
        delays: Sequence[float] = DELAYS,
        alphas: float | Sequence[float] = ALPHAS,
        n_components: int | None = 100,
        n_folds: int = 5,
        per_target: bool = True,
        device: Device = 'cpu',
    ) -> None:
        super().__init__(
            alphas,
            n_components=n_components,
            n_folds=n_folds,
            per_target=per_target,
            device=device,
        )
        self.repetition_time = repetition_time
        self.delays = delays

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: Labels = None) -> Self:
        """Fit on training volumes.

        Parameters
        ----------
        X
            Features of what was shown during each volume, (n_volumes, n_features).
        y
            Responses, without any delay taken out, (n_volumes, n_voxels).
        groups
            Run (or film) of each volume, (n_volumes,): responses do not reach from one into the
            next. One if left out.
        """
        features, responses = self._checked(X, y)
        showings = _groups(groups, len(features))
        place = pd.Series(showings).groupby(showings).cumcount().to_numpy()
        onset = place * float(self.repetition_time)
        names = [f'{film}#{k}' for film, k in zip(showings, place, strict=True)]
        table = pd.DataFrame(
            {'stimulus': names, 'film': showings.astype(str), 'onset': onset, 'run': showings}
        )
        if len(np.unique(movie.time_blocks(table))) < 2:
            seconds = float(onset.max()) + float(self.repetition_time)
            raise UsageError(TOO_SHORT.format(seconds=seconds, block=movie.BLOCK_SECONDS))
        values = responses.astype(np.float32)
        train = Samples(Responses(values, as_mask(values.shape[1])), table)
        with speaking_of_arguments():
            self.encoder_ = movie.fit_encoder(
                train,
                features.astype(np.float32),
                np.arange(len(features)),
                showings,
                movie.FilmRidge(
                    float(self.repetition_time),
                    tuple(self.delays),
                    self.n_components,
                    self._ridge(),
                    device=self.device,
                ),
            )
        self.cv_r2_ = self.encoder_.ridge.cv_r2
        return self

    def predict(self, X: npt.ArrayLike, groups: Labels = None) -> npt.NDArray[Any]:
        """Predict responses.

        Parameters
        ----------
        X
            Features, (n_volumes, n_features), rows in order of time.
        groups
            Run (or film) of each volume; one if left out.
        """
        features = self._inputs(X).astype(np.float32)
        with speaking_of_arguments():
            return self._shaped(self.encoder_.predict(features, _groups(groups, len(features))))


def _samples(
    responses: npt.NDArray[Any], features: npt.NDArray[Any], groups: Labels
) -> tuple[Samples, tuple[str, ...], npt.NDArray[Any]]:
    """Return samples whose stimuli are the distinct rows of features, and these rows by name."""
    if groups is not None and len(np.unique(_groups(groups, len(features)))) < 2:
        raise UsageError(ONE_LABEL)
    codes, library = _distinct(features)
    names = tuple(f'{code:08d}' for code in range(len(library)))
    table = pd.DataFrame(
        {'stimulus': [names[code] for code in codes], 'run': _groups(groups, len(codes))}
    )
    values = responses.astype(np.float32)
    return Samples(Responses(values, as_mask(values.shape[1])), table), names, library


def _distinct(rows: npt.NDArray[Any]) -> tuple[npt.NDArray[np.intp], npt.NDArray[Any]]:
    """Return the number of each row among the distinct ones, and these, in order of appearance."""
    seen: dict[bytes, int] = {}
    whole = np.ascontiguousarray(rows + 0.0)  # no negative zero
    codes = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in whole], dtype=np.intp)
    _, first = np.unique(codes, return_index=True)
    return codes, rows[first]


def _groups(groups: Labels, n_samples: int) -> npt.NDArray[Any]:
    if groups is None:
        return np.zeros(n_samples, dtype=int)
    found = np.asarray(groups)
    if found.shape != (n_samples,):
        raise UsageError(ONE_GROUP.format(n=found.size, samples=n_samples))
    return found


def _columns(values: npt.NDArray[Any], name: str, which: Any) -> npt.NDArray[Any]:
    with raised_as(UsageError, BAD_BANDS, IndexError, name=name, found=which):
        chosen: npt.NDArray[Any] = values[:, which]
    if chosen.ndim != 2 or not chosen.size:
        raise UsageError(BAD_BANDS.format(name=name, found=which))
    return chosen
