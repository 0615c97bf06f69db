"""Brain correlation: the response that a reconstruction should give, beside the one measured.

An encoding model that was fitted on training trials predicts the response to a reconstruction,
and its pattern is correlated with a measured one (as in MindEye2, Scotti et al. 2024, arXiv
2403.11207, with another encoding model). No network that images are described or guided by has a
part in it, and a reconstruction is never compared with the response that it was made from: that
response holds noise, which a decoder turns into features and an encoding model back into noise,
so that even decoders of nothing "predict" it. What a single held-out trial was reconstructed to
is compared with the mean response to the same image in other held-out runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation import statistics
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.networks import correlations
from bids_neurodecode.mapped import group_sums, room
from bids_neurodecode.samples import Samples
from bids_neurodecode.stimuli.features import FeatureExtractor
from bids_neurodecode.systems.base import AT_ONCE, PerStimulus
from bids_neurodecode.systems.encoding.encoders import Encoder, EncoderSettings, fit
from bids_neurodecode.systems.outcomes import Outcome
from bids_neurodecode.systems.reconstruction.generation.scores import ReconstructionScorer, Table
from bids_neurodecode.systems.scoring import Pairing
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray, Uint8Array

METRIC = 'brain_correlation'
_SEEN = 256  # images at once
RETRIEVED = 'baseline-nearest'
NO_NETWORK = (
    'Brain correlation is not computed: it needs a network of the extra "cpu-nets" that had no '
    'part in the images.'
)
NO_RUNS = (
    'Brain correlation is not computed: fewer than two held-out images of a fold are shown in two '
    'runs, and a reconstruction is not compared with the response that it was made from, whose '
    'noise it holds.'
)


@dataclass(frozen=True, eq=False)
class Viewer:
    """Predicts the responses to images that were made, by a network that had no part in them.

    Parameters
    ----------
    bands
        Extractors of its feature spaces, by name.
    settings
        Of the encoding model.
    """

    bands: Mapping[str, FeatureExtractor]
    settings: EncoderSettings
    _known: dict[bytes, tuple[Float32Array, ...]] = field(default_factory=dict, repr=False)

    def fit(self, train: Samples, pictures: PerStimulus) -> Encoder:
        """Fit the encoding model on training trials.

        Parameters
        ----------
        train
            Training samples of a fold, with the voxels that are compared.
        pictures
            Of all stimuli, (n_stimuli, h, w, 3), uint8.
        """
        names = tuple(dict.fromkeys(train.table['stimulus'].astype(str)))
        # a part at a time: ten thousand images of 512 pixels, which lie on disk, take 8 GB
        starts = range(0, len(names), AT_ONCE)
        parts = [self._described(pictures.of(names[at : at + AT_ONCE])) for at in starts]
        known = {
            band: PerStimulus(names, np.concatenate([part[band] for part in parts]))
            for band in self.bands
        }
        return fit(train, known, self.settings)

    def responses(self, encoder: Encoder, images: Uint8Array) -> Float32Array:
        """Predict standardised responses, (n, n_voxels), to images (n, h, w, 3).

        Parameters
        ----------
        encoder
            Fitted on other runs.
        images
            Shape (n, h, w, 3), uint8.
        """
        return encoder.responses.apply(encoder.predict(self._described(images)))

    def _described(self, images: Uint8Array) -> dict[str, Float32Array]:
        """Return the features of images in each space; those of equal images are found once."""
        keys = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest() for x in images]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = np.asarray(images[[*new.values()]])
            found = [extractor.transform(rows) for extractor in self.bands.values()]
            self._known.update(zip(new, zip(*found, strict=True), strict=True))
        columns = zip(*(self._known[key] for key in keys), strict=True)
        return {band: np.stack(rows) for band, rows in zip(self.bands, columns, strict=True)}


@dataclass(frozen=True, eq=False)
class BrainScores:
    """What reconstructions of single held-out trials score, by model, fold after fold.

    Parameters
    ----------
    viewer
        Predicts responses; None: no network is left for it.
    tables
        Samples and candidates of each fold, and what each sample would score were each candidate
        true, by model.
    """

    viewer: Viewer | None
    tables: dict[str, list[tuple[Outcome, FloatArray]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        offered: Mapping[str, Mapping[str, FeatureExtractor]],
        used: Collection[str],
        settings: EncoderSettings,
    ) -> BrainScores:
        """Take the first network that had no part in the images.

        Parameters
        ----------
        offered
            Feature spaces of each network, by its name.
        used
            Networks that describe images for the decoder, or that guide it.
        settings
            Of the encoding model.
        """
        left = (bands for name, bands in offered.items() if name not in used)
        bands = next(left, None)
        return cls(None if bands is None else Viewer(bands, settings))

    def note(
        self,
        outcome: Outcome,
        train: Samples,
        test: Samples,
        pictures: PerStimulus,
        made: Mapping[str, Uint8Array],
    ) -> None:
        """Compare what was made in one fold with the responses of other held-out runs.

        Parameters
        ----------
        outcome
            The held-out trials and their candidates.
        train, test
            Of the fold; the held-out trials in the order of ``outcome``.
        pictures
            Of all stimuli, (n_stimuli, h, w, 3), uint8.
        made
            One image per trial, (n_trials, h, w, 3), uint8, by model.
        """
        names, runs = outcome.table['stimulus'].to_numpy(), outcome.table['run'].to_numpy()
        rows, images = shown_elsewhere(names, runs)
        if self.viewer is None or len(images) < 2:
            return
        encoder = self.viewer.fit(train, pictures)
        part = replace(
            outcome,
            table=outcome.table.iloc[rows].reset_index(drop=True),
            candidates=tuple(images),
            similarities=np.empty((len(rows), len(images))),
        )
        measured = encoder.responses.apply(test.values)[rows]
        for model, shown in made.items():
            parts = [rows[at : at + _SEEN] for at in range(0, len(rows), _SEEN)]
            predicted = np.concatenate([self.viewer.responses(encoder, shown[p]) for p in parts])
            table = with_other_runs(predicted, measured, part.truth, runs[rows])
            kept = room(pictures.values, table.shape, table.dtype)
            kept[:] = table
            self.tables.setdefault(model, []).append((replace(part, model=model), kept))

    def scores(self, board: ReconstructionScorer) -> tuple[list[Score], list[str]]:
        """Return the rows of the metrics table, and what their reader should know."""
        if not self.tables:
            return [], [NO_NETWORK if self.viewer is None else NO_RUNS]
        scores, notes = [], []
        for model, found in self.tables.items():
            outcomes, values = (list(x) for x in zip(*found, strict=True))
            row, null = board.row(Table(METRIC, model, outcomes[0].space, values, outcomes))
            scores.append(_tested(row, null, Pairing.of(outcomes, board.split).shared))
            notes += board.notes(outcomes)
        return scores, notes


def _tested(row: Score, null: FloatArray, shared: float) -> Score:
    """Test against a null that is wider, in all, by the root of 2.

    Of two trials of an image each is compared with the other: without a signal these two scores
    are alike, as decoder and encoding model know the same training noise, and those of exchanged
    images are not. They are at most the same, which doubles the variance; ``null`` is widened
    already for what folds share.
    """
    if row.p is None:
        return row
    mean = null.mean()
    wider = mean + np.sqrt(2 / (1 + shared)) * (null - mean)
    return replace(row, p=statistics.p_value(wider, row.value))


def shown_elsewhere(names: Iterable[str], runs: Iterable[Any]) -> tuple[IndexArray, list[str]]:
    """Return the trials whose image is shown in another of the runs too, and these images.

    Parameters
    ----------
    names, runs
        Image and run of each trial, (n,).

    Examples
    --------
    >>> rows, images = shown_elsewhere(['a', 'b', 'a', 'c', 'c'], [1, 1, 2, 2, 2])
    >>> rows.tolist(), images
    ([0, 2], ['a'])
    """
    trials = list(zip(names, runs, strict=True))
    in_runs = Counter(name for name, _ in dict.fromkeys(trials))
    images = [name for name, n in in_runs.items() if n > 1]
    rows = [row for row, (name, _) in enumerate(trials) if in_runs[name] > 1]
    return np.array(rows, dtype=np.intp), images


def with_other_runs(
    predicted: npt.NDArray[np.floating[Any]],
    measured: npt.NDArray[np.floating[Any]],
    images: npt.NDArray[np.integer[Any]],
    runs: npt.NDArray[Any],
) -> FloatArray:
    """Correlate each predicted pattern with the mean responses to each image in other runs.

    Parameters
    ----------
    predicted, measured
        Standardised responses of each trial, (n_trials, n_voxels).
    images
        The image of each trial, (n_trials,), numbered from 0; each is shown in two runs or more.
    runs
        The run of each trial, (n_trials,).

    Returns
    -------
    numpy.ndarray
        Pearson r over voxels, (n_trials, n_images).
    """
    counts = np.bincount(images)
    total = group_sums(measured, images, len(counts))
    # what a run does not show has the same mean without it
    table = correlations(predicted, total / counts[:, None])
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        shown, codes = np.unique(images[rows], return_inverse=True)
        others = total[shown] - group_sums(measured[rows], codes, len(shown))
        left = counts[shown] - np.bincount(codes)
        table[np.ix_(rows, shown)] = correlations(predicted[rows], others / left[:, None])
    return table
