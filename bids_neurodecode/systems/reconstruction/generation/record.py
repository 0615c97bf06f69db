"""What was made of held-out responses, and what becomes of it: rows of scores, and images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.metrics import TRUE_IMAGE, sample_column
from bids_neurodecode.evaluation.protocols import get_protocol, held_out
from bids_neurodecode.mapped import blocks, joined, room
from bids_neurodecode.models.sampling import picture_seed
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.stimuli.features import image_size_of, judges_of
from bids_neurodecode.stimuli.gabor import GaborPyramid
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.systems.comparison import compare_rows
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.outcomes import (
    MEAN_IMAGE,
    REPEAT_AVERAGE,
    SINGLE_TRIAL,
    Outcome,
)
from bids_neurodecode.systems.reconstruction.generation import scores as scoring
from bids_neurodecode.systems.reconstruction.generation.brain_correlation import (
    RETRIEVED,
    BrainScores,
)
from bids_neurodecode.systems.reconstruction.generation.caption_scores import Captions
from bids_neurodecode.systems.reconstruction.generation.data import Inputs, Reconstructions
from bids_neurodecode.systems.reconstruction.generation.fit import Stage, encoded
from bids_neurodecode.systems.reconstruction.generation.generators import resize
from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel
from bids_neurodecode.typing import Float32Array, Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.metrics import Score

INITIAL, FINAL = 'initial', 'final'
STAND_IN_FREQUENCIES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Cycles an image of the stand-in: finer ones cost most, and small generators have none."""
_DESCRIBED = 256  # images at once


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The samples of one fold that are reconstructed, and what they are compared with."""

    fold: int
    samples: Samples
    table: pd.DataFrame
    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    average: bool
    is_main: bool

    @property
    def stimuli(self) -> list[str]:
        """What was seen, one a sample."""
        return [*self.table['stimulus']]

    def space(self, space: str) -> str:
        """Return what a space is called for these samples."""
        return space if self.is_main else f'{space}-{SINGLE_TRIAL}'


def tested(
    number: int,
    test: Samples,
    numbers: npt.NDArray[np.intp],
    candidates: tuple[str, ...],
    seed: int,
    *,
    average: bool,
    repeats: bool,
) -> HeldOut:
    """Make the samples that are reconstructed: averages of repeats, or single trials.

    Parameters
    ----------
    number
        Of the fold, from 0.
    test
        Test samples of the fold.
    numbers
        Their row numbers among all samples.
    candidates
        Stimuli that a sample is identified among.
    seed
        Of the run.
    average
        Whether the repeats of a stimulus are averaged.
    repeats
        Whether each stimulus is made several times, by single trials.
    """
    given = Samples(test.responses, test.table.assign(sample=numbers))
    given = given.averaged() if average else given
    table = given.table.assign(
        stimulus=given.table['stimulus'].astype(str),
        run=run_labels(given.table),
        n_repeats=given.table['n_repeats'] if average else 1,
    )[['sample', 'stimulus', 'run', 'n_repeats']]
    kind = 'average' if average else 'trial'
    # the name of the stimulus must not decide the noise, or noise would tell stimuli apart
    names = [f'{kind}-fold{number:02d}-sample{row:05d}' for row in table['sample']]
    table.insert(0, 'picture', names)
    seeds = tuple(picture_seed(seed, name) for name in names)
    return HeldOut(number, given, table, candidates, seeds, average, average == repeats)


@dataclass
class Record:
    """Everything that was made, by model and space.

    Parameters
    ----------
    split, inputs, config
        Of the run.
    device
        Of the regressions.
    """

    split: Split
    inputs: Inputs
    config: Config
    device: str = 'cpu'
    made: dict[tuple[str, str], list[scoring.Judged]] = field(default_factory=dict)
    latents: dict[str, list[tuple[Outcome, Any, Any]]] = field(default_factory=dict)
    retrieval: list[tuple[Outcome, npt.NDArray[np.float64]]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    guides: set[str] = field(default_factory=set)
    brain: BrainScores | None = None
    libraries: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _offered: dict[tuple[str, ...], Uint8Array] = field(default_factory=dict, repr=False)
    _encoded: dict[tuple[int, tuple[str, ...]], Float32Array] = field(
        default_factory=dict, repr=False
    )

    @property
    def used(self) -> frozenset[str]:
        """Networks that had a part in the images: none of them judges."""
        return frozenset({*judges_of(self.config.features.extractor), *self.guides})

    def note(
        self, model: str, space: str, given: HeldOut, pictures: Uint8Array, stage: Stage
    ) -> Outcome:
        """Note images, with the similarity of their features to the candidates'.

        Parameters
        ----------
        model, space
            Of the rows.
        given
            What is reconstructed.
        pictures
            Reconstructions, (n, s, s, 3), uint8.
        stage
            Feature components of the fold.
        """
        self.guides |= stage.fitted.used
        self.libraries[given.fold] = stage.stimuli
        told = self.config.features
        size = image_size_of(told.extractor, told.image_size)
        starts = range(0, len(pictures), _DESCRIBED)
        features = [
            self.inputs.extractor.transform(resize(pictures[at : at + _DESCRIBED], size))
            for at in starts
        ]
        alike = identification.similarity(
            stage.space.transform(np.concatenate(features)), stage.components(given.candidates)
        )
        outcome = self._outcome(model, space, given, self.keep(len(alike), [alike]))
        candidates = self._images(given.candidates)
        self.made.setdefault((model, space), []).append(
            scoring.Judged(outcome, pictures, candidates)
        )
        return outcome

    def note_latents(
        self, model: str, outcome: Outcome, latents: Float32Array, given: HeldOut, stage: Stage
    ) -> None:
        """Note predicted latents (n, length), with the candidates' own.

        Parameters
        ----------
        model
            Of the rows.
        outcome
            Of these samples.
        latents
            Predicted, (n, length).
        given
            What is reconstructed.
        stage
            Prior of the fold.
        """
        key = given.fold, given.candidates
        if key not in self._encoded:
            self._encoded[key] = encoded(stage.fitted, self._images(given.candidates))
        true = self._encoded[key]
        self.latents.setdefault(model, []).append((outcome, latents, true))

    def note_retrieval(self, given: HeldOut, model: GenerationModel, stage: Stage) -> None:
        """Compare decoded conditions (the first: features, or vision) with the candidates'.

        Parameters
        ----------
        given
            What is reconstructed.
        model
            Predicts conditions.
        stage
            True conditions of the fold.
        """
        name = next(iter(model.conditions), None)
        if name is None:
            return
        names, n = given.candidates, len(given.candidates)
        decoded = self.keep(len(given.table), _decoded(given, model, name))
        known = (stage.truth(names[part])[name] for part in blocks(n, _size(model)))
        offered = self.keep(n, (x.reshape(len(x), -1).astype(np.float32) for x in known))
        alike = identification.similarity(decoded, offered)
        alike = self.keep(len(alike), [alike])
        self.retrieval.append((self._outcome('', '', given, alike), alike))

    def note_brain(
        self,
        given: HeldOut,
        train: Samples,
        final: Uint8Array,
        model: GenerationModel,
        stage: Stage,
    ) -> None:
        """Compare what single trials became with the responses of other held-out runs.

        Parameters
        ----------
        given
            What is reconstructed.
        train
            Training samples of the fold.
        final
            Reconstructions, (n, s, s, 3), uint8.
        model
            Of the fold.
        stage
            Prior of the fold.
        """
        if not self.config.reconstruction.brain_correlation:
            return
        if self.brain is None:
            settings = EncoderSettings.of(
                self.config, self.device, model='ridge', n_training=None, partition=False
            )
            self.brain = BrainScores.of(self.inputs.viewers, self.used, settings)
        pictures, n = self.inputs.pictures, len(given.table)
        mean = pictures.mean(model.library)
        made = {
            self.config.reconstruction.regressor: final,
            MEAN_IMAGE: np.broadcast_to(np.rint(mean).astype(np.uint8), (n, *mean.shape)),
            RETRIEVED: pictures.of(nearest_stimuli(given, model, stage)),
            TRUE_IMAGE: pictures.of(given.stimuli),
        }
        space = given.space(FINAL)
        outcome = self._outcome('', space, given, np.empty((n, len(given.candidates))))
        self.brain.note(outcome, train, given.samples, pictures, made)

    def remember(
        self,
        given: HeldOut,
        model: GenerationModel,
        stage: Stage,
        initial: Uint8Array,
        final: Uint8Array,
    ) -> None:
        """Keep the images of the system's own model, beside truth and nearest image.

        Parameters
        ----------
        given
            What is reconstructed.
        model
            Of the fold.
        stage
            Prior of the fold.
        initial, final
            Reconstructions, (n, s, s, 3), uint8.
        """
        truth = self.inputs.pictures.of(given.stimuli)
        decoded = stage.fitted.decode(encoded(stage.fitted, truth), given.seeds)
        prior = self.keep(len(truth), [decoded])
        nearest = nearest_stimuli(given, model, stage)
        pictures = (initial, final, prior, truth, self.inputs.pictures.of(nearest))
        parts = ('initial', 'final', 'prior', 'truth', 'nearest')
        table = given.table.assign(
            space=REPEAT_AVERAGE if given.average else SINGLE_TRIAL,
            fold=given.fold,
            nearest=nearest,
        )
        self.rows.append({'table': table, **dict(zip(parts, pictures, strict=True))})

    def scores(self, rng: np.random.Generator) -> tuple[list[Score], dict[str, Any], list[str]]:
        """Turn everything that was noted into rows of the table."""
        told = self.config
        own = told.reconstruction.regressor
        board = scoring.ReconstructionScorer(
            self.split,
            self.config.evaluation,
            GaborPyramid(frequencies=STAND_IN_FREQUENCIES).transform,
            self.inputs.networks,
            rng,
            held_out(get_protocol(told.reconstruction.protocol), self.used),
        )
        # generators of their own: rows that come and go leave the others as they are
        compare_rng, brain_rng, caption_rng = rng.spawn(3)
        scores: list[Score] = []
        nulls: dict[str, Any] = {}
        notes: list[str] = []
        for (model, space), parts in sorted(self.made.items(), key=lambda item: item[0][0] != own):
            found, permuted, remarks = scoring.score_pictures(
                board, parts, thorough=space in {INITIAL, FINAL}
            )
            scores += found
            if space == FINAL:
                rows, said = self._by_captions(replace(board, rng=caption_rng), parts)
                scores += rows
                notes += said
            notes += [*board.notes([p.outcome for p in parts]), *remarks]
            if model == own:
                nulls |= {f'{space}/{metric}': null for metric, null in permuted.items()}
        for model, entries in self.latents.items():
            outcomes, predicted, true = (list(x) for x in zip(*entries, strict=True))
            tables = scoring.latent_tables(model, predicted, true, outcomes)
            scores += [board.row(table)[0] for table in tables]
        if self.retrieval:
            outcomes, alike = (list(x) for x in zip(*self.retrieval, strict=True))
            tables = scoring.retrieval_tables('ridge', alike, outcomes)
            scores += [board.row(table)[0] for table in tables]
        self._board = board
        if told.reconstruction.brain_correlation:
            brain = self.brain or BrainScores.of(self.inputs.viewers, self.used, EncoderSettings())
            rows, remarks = brain.scores(replace(board, rng=brain_rng))
            scores += rows
            notes += remarks
        compared = compare_rows(
            scores,
            board.kept,
            own,
            board.settings,
            compare_rng,
            # a second stage that is worse than the first has to be seen
            stages={INITIAL: FINAL},
        )
        return list(compared), nulls, notes

    def _by_captions(
        self, board: scoring.ReconstructionScorer, parts: Sequence[scoring.Judged]
    ) -> tuple[list[Score], list[str]]:
        captions = self._captions
        if captions is None or not board.protocol.captions:
            return [], []
        return captions.scores(board, parts, self.libraries)

    @cached_property
    def _captions(self) -> Captions | None:
        inputs = self.inputs
        if inputs.embed is None or not inputs.captions:
            return None
        return Captions(inputs.embed, inputs.captions, inputs.pictures)

    def pictures(self) -> Reconstructions:
        """Return all reconstructions of the system's own model, with a table of scores."""
        parts = {
            part: joined([row[part] for row in self.rows])
            for part in ('initial', 'final', 'prior', 'truth', 'nearest')
        }
        table = pd.concat([row['table'] for row in self.rows], ignore_index=True)
        return Reconstructions(table=table.assign(**self._per_picture(table)), **parts)

    def keep(self, n: int, parts: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return n rows, one part after the other: many lie in a file if the images seen do.

        Parameters
        ----------
        n
            How many there are in all parts.
        parts
            Images or latents, (n_rows, ...) each.
        """
        at, kept = 0, np.empty(0, dtype=np.uint8)
        for part in parts:
            if at == 0:
                kept = room(self.inputs.pictures.values, (n, *part.shape[1:]), part.dtype)
            kept[at : at + len(part)] = part
            at += len(part)
        return kept

    def _images(self, names: tuple[str, ...]) -> Uint8Array:
        """Return the images of candidates, which several models share."""
        if names not in self._offered:
            self._offered[names] = self.inputs.pictures.of(names)
        return self._offered[names]

    def _per_picture(self, table: pd.DataFrame) -> Mapping[str, Any]:
        """Return the scores of each image of the system's own model, in the table's order."""
        columns: dict[str, dict[str, float]] = {}
        own = self.config.reconstruction.regressor
        for space in (INITIAL, FINAL):
            for suffix in ('', f'-{SINGLE_TRIAL}'):
                parts = self.made.get((own, f'{space}{suffix}'), [])
                if not parts:
                    continue
                names = [name for p in parts for name in p.outcome.table['picture']]
                values = scoring.picture_values(self._board, parts, similarity=not suffix)
                found = {
                    f'{metric.removesuffix("_2d")}_{space}': v for metric, v in values.items()
                }
                if space == FINAL:
                    # whichever of them heads the page, images can be ranked by it
                    found |= {
                        sample_column(metric): kept[0]
                        for (model, where, metric), kept in self._board.kept.items()
                        if (model, where) == (own, f'{space}{suffix}')
                        and metric.endswith(('_2way', 'identification_top1'))
                    }
                for column, numbers in found.items():
                    columns.setdefault(column, {}).update(zip(names, numbers, strict=True))
        return {c: table['picture'].map(values).astype(float) for c, values in columns.items()}

    def _outcome(
        self, model: str, space: str, given: HeldOut, alike: npt.NDArray[np.float64]
    ) -> Outcome:
        return Outcome(model, space, given.fold, given.table, given.candidates, alike)


def nearest_stimuli(given: HeldOut, model: GenerationModel, stage: Stage) -> list[str]:
    """Return the training stimulus whose conditions are nearest to the decoded ones.

    Parameters
    ----------
    given
        What is reconstructed.
    model
        Predicts conditions.
    stage
        Training stimuli of the fold, with their conditions.
    """
    name = next(iter(model.conditions))
    known = np.asarray(stage.conditions[name]).reshape(len(stage.stimuli), -1)
    return [
        stage.stimuli[k]
        for decoded in _decoded(given, model, name)
        for k in identification.nearest(identification.similarity(decoded, known))
    ]


def _decoded(given: HeldOut, model: GenerationModel, name: str) -> Iterator[Float32Array]:
    """Yield a condition of some samples at a time, (n_rows, length), as it was predicted."""
    for part in blocks(len(given.table), _size(model)):
        values = model.predict_conditions(given.samples.values[part], 'none')[name]
        yield values.reshape(len(values), -1)


def _size(model: GenerationModel) -> int:
    """Return how many values the conditions of an image have."""
    return sum(int(np.prod(shape)) for shape in model.shapes.values())
