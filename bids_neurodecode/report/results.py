"""What the workflow hands to the report: one record per participant, written as ``results.json``.

The record holds paths and small facts, no arrays: the report reads the files that it shows, so
that a page can be regenerated long after the run. Anything optional may be missing; the page then
says that it is.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bids_neurodecode.bids.records import Paradigm, Paradigmatic, read_as
from bids_neurodecode.errors import ReportError, raised_as
from bids_neurodecode.spaces import Form, form_of

BROKEN = 'Cannot read the results in {source}: {reason}. Run the participant again.'


@dataclass(frozen=True)
class RunResults:
    """One run that was used: its label, its size and its files."""

    label: str
    n_volumes: int
    repetition_time: float
    """Seconds."""
    bold: Path
    mask: Path
    events: Path
    confounds: Path | None = None
    n_trials: int = 0
    n_confounds: int | None = None
    """Columns of the table of confounds; None: an older record, which does not say."""


@dataclass(frozen=True)
class SplitResults:
    """What was held out."""

    by: str
    """What is held out whole, as in ``split.by``."""
    protocol: str
    """Such as ``leave-one-out-by-run``."""
    n_folds: int
    repeats_cross: bool
    """Whether presentations of one stimulus are on both sides (splits by run or session)."""
    why: str = ''
    """Why this split, and what was kept together or left out for it."""
    n_samples: int = 0
    """Of all samples; 0: an older record, which does not say, nor the following."""
    n_held_out: tuple[int, ...] = ()
    """Samples that each fold holds out."""
    n_units: int = 0
    """Runs, sessions, stimuli, ... (what is kept whole)."""
    n_units_held_out: tuple[int, ...] = ()
    shares_runs: bool | None = None
    """Whether a run has both training and held-out samples in a fold; None: not known."""


@dataclass(frozen=True)
class BetaResults:
    """How the single-trial betas were made; tuples hold an entry per fit (all data, or a fold)."""

    model: str
    """``B``, ``C`` or ``D``, of the betas that are written and of the final model."""
    engine: str
    tuning: str
    """``training`` or ``all``: which trials chose components and fractions."""
    n_components: tuple[int, ...] = ()
    component_curves: tuple[tuple[float, ...], ...] = ()
    """Cross-validated score of 0, 1, 2, ... noise components (higher is better)."""
    n_noise_pool: int | None = None
    onoff_threshold: float | None = None
    """ON-OFF R2 in percent below which a voxel is in the noise pool."""
    hrf_times_to_peak: tuple[float, ...] = ()
    """Seconds from onset to peak of each HRF of the library, in the order of the index map."""
    fold_models: tuple[str, ...] = ()
    """Of each fold's betas; empty where there is one for all."""
    model_scores: tuple[dict[str, float], ...] = ()
    """Share of pairs that each model identified within the training trials, of all trials and of
    each fold; empty where the model was not chosen so."""


@dataclass(frozen=True)
class NullResults:
    """A score under shuffled pairings."""

    values: Path
    """``.npy`` of shape (n_permutations,)."""
    observed: float
    metric: str
    """Its name in the metrics table."""


@dataclass(frozen=True)
class ConfusionResults:
    """How often each stimulus or category (rows) was taken for each other one (columns)."""

    matrix: Path
    """``.npy`` of shape (n_labels, n_labels), counts."""
    labels: tuple[str, ...]


@dataclass(frozen=True)
class VoxelResults:
    """How many voxels there were, how many were used, and by which rule."""

    n_mask: int
    n_selected: int
    rule: str
    """In words, such as ``repeats agree over runs, FDR 0.05``."""
    n_scored: tuple[int, ...] = ()
    """Of the models of each fold, which the scores are of; empty where these are the same."""
    scored_ceiling: float | None = None
    """Median noise ceiling of averaged held-out trials, of betas that are scored and are not
    those that are written; None where these are the same, or no held-out stimulus is repeated."""


@dataclass(frozen=True)
class NetworkResults:
    """The movie network, beside the linear models."""

    mode: str
    """``joint``, ``encoder`` or ``decoder``."""
    design: str
    perceptual: str
    """What the perceptual loss compared: ``gabor``, ``vgg16`` or ``none``."""
    n_voxels: int
    n_parameters: int
    curves: Path | None
    """Table: ``fold``, ``epoch``, ``part``, ``loss`` and its terms; None where it was applied."""
    voxels: Path
    """Mask of the voxels that it takes."""
    frames: Path | None = None
    """Table of example frames (``kind``, ``film``, ``onset``, ``similarity``); ``.npy`` beside it
    holds them, (n, 2, height, width, 3): shown and reconstructed."""
    regions: Path | None = None
    """Table of the share of saliency by region."""
    perturbation: Path | None = None
    """Table of what disturbed regions cost the reconstruction, against sets like them."""
    concepts: Path | None = None
    """Table of the concepts that predicted responses depend on."""


@dataclass(frozen=True)
class GenerationResults:
    """The images that were made in two stages, beside those that were retrieved."""

    generator: str
    """``small``, ``published``, or what another one is called."""
    why: str
    """Why this one, in one line."""
    regressor: str
    """From responses to latents."""
    facts: tuple[str, ...]
    """Sizes of its parts, one line each."""
    n_pictures: int
    table: Path
    """One row per image: ``picture``, ``space``, ``fold``, ``stimulus``, ``n_repeats``,
    ``nearest`` and its scores."""
    folder: Path
    """Where the images lie, as PNG."""
    sheets: tuple[Path, ...] = ()
    """All images beside what was shown, as PNG."""
    examples: Path | None = None
    """Table of example images (``kind`` and columns of ``table``); ``.npy`` beside it holds
    them, (n, 4, height, width, 3): shown, initial, final, retrieved."""
    curves: Path | None = None
    """Table: ``fold``, ``network``, ``part``, ``step``, ``loss``."""
    judges: tuple[str, ...] = ()
    """Networks that compared images with those shown."""
    guided_by: tuple[str, ...] | None = None
    """Networks that had a part in the images; None: an older record, which does not say."""
    caution: str = ''
    """What a generator of another package says of its images."""


@dataclass(frozen=True)
class EncodingResults:
    """An encoding model of images: what it predicted of the responses."""

    model: str
    bands: tuple[str, ...]
    """Feature spaces."""
    space: str
    """What the maps are of: ``single-trial`` or ``repeat-average``; ``predicted`` where there is
    no response to hold the predictions against."""
    voxels: Path
    """Mask of the voxels that are predicted."""
    n_pictures: int
    betas: Path
    """Predicted betas, one volume a row of ``betas_table``."""
    betas_table: Path
    maps: Mapping[str, Path] = field(default_factory=dict)
    """``pearsonr``, ``noiseceiling``, ``noisenormalized``, ``significant``, ``ridge`` (its
    correlation), and of a partition ``fullvariance``, ``sharedvariance``,
    ``uniquevariance-<band>`` and ``unique-<band>`` (mask)."""
    n_parameters: int | None = None
    """Of a network."""
    examples: Path | None = None
    """Table of example samples (``kind``, ``stimulus``, ``similarity``, ``rank``,
    ``n_candidates``); ``.npy`` beside it holds them, (n, 2, n_voxels): measured, predicted."""
    null_r: Path | None = None
    """``.npy``: quantiles of the permuted correlations of all voxels."""
    curves: Path | None = None
    """Table: ``fold``, ``epoch``, ``part``, ``loss``."""


@dataclass(frozen=True)
class ConditionResults:
    """Conditions without stimulus files."""

    names: tuple[str, ...]
    dissimilarity: Path
    """Table: ``condition_a``, ``condition_b``, ``distance``, ``ci_low``, ``ci_high``, ``p`` and
    ``p_fdr``, one row per pair."""
    n_predicted: int
    """Voxels whose responses to conditions are predicted."""
    n_predicted_fdr: int | None
    """Of these, at a false discovery rate of .05; None where that was not tested."""
    regions: Path | None = None
    """Table: ``name``, ``n_voxels``, ``balanced_accuracy``, ``chance``, ``ci_low``, ``ci_high``,
    ``p`` and ``p_fdr``, one row per region of the atlas."""
    n_lights: int = 0
    """Searchlights."""
    n_lights_fdr: int | None = None


@dataclass(frozen=True)
class AgreementResults:
    """What participants who saw the same films share, on held-out volumes."""

    n_participants: int
    """How many were compared, this one among them (or how many the mean is of)."""
    ceiling: Path
    """Map of the correlation that a perfect model of what is shared would reach."""
    accuracy: Path
    """Map of the correlation that the linear model reaches."""
    voxels: Path
    """Mask of the voxels that it predicts."""


@dataclass(frozen=True)
class VoxelTestResults:
    """How many voxels a model predicts better than chance."""

    model: str
    n_tested: int
    n_fdr: int
    """At a false discovery rate of 0.05."""
    n_fwer: int
    """By the maximum over voxels, 0.05."""
    r_fwer: float | None
    """The correlation above which that is."""


@dataclass(frozen=True)
class AboveZero:
    """In how many columns the mean of a map over participants was tested, and is above 0."""

    n_tested: int
    n_fdr: int
    """At a false discovery rate of 0.05."""
    n_fwer: int
    """By the maximum over columns, 0.05."""


@dataclass(frozen=True)
class StageResults:
    """What one stage of the workflow took."""

    name: str
    seconds: float
    memory_gb: float | None = None
    """Peak resident memory."""


RESPONSES_ALONE = frozenset({'betas', 'responses'})
"""What a run is called that stops after the responses: of trials, and of films."""


@dataclass(frozen=True)
class ParticipantResults(Paradigmatic):
    """Everything that the page of one participant shows.

    ``maps`` are 3-D NIfTI files on one grid, by the names of :data:`bids.maps.MAPS`, plus
    ``reliable`` (selected voxels) and ``dseg`` (atlas). ``trials`` has the columns ``onset``,
    ``duration`` (s), ``stimulus``, ``run`` and, where known, ``run_label``, ``session``,
    ``trial_type`` and ``repeat``. ``predictions`` has one row per held-out sample: ``fold``,
    ``sample``, ``stimulus``, ``n_candidates``, ``rank`` (1 is best), ``retrieved`` (file of the
    nearest training stimulus) and, where known, ``similarity``, ``identified`` (what the sample
    scores, from 0 to 1) and ``space`` (as in the metrics table; the page shows the samples of its
    main score). Stimulus names are files relative to ``stimuli_dir``.
    """

    participant: str
    version: str
    run_id: str
    system: str
    paradigm: Paradigm
    task: str
    bids_name: str
    """The name that the dataset gives itself, else that of its folder."""
    runs: tuple[RunResults, ...]
    derivatives: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    """What of the test was seen in training: stands in red above all scores."""
    space: str | None = None
    resolution: str = ''
    """Size of the voxels, or label of the density; empty: not known."""
    in_mni: bool = False
    split: SplitResults | None = None
    betas: BetaResults | None = None
    voxels: VoxelResults | None = None
    trials: Path | None = None
    maps: Mapping[str, Path] = field(default_factory=dict)
    mean_bold: Path | None = None
    metrics: Path | None = None
    predictions: Path | None = None
    confusion: ConfusionResults | None = None
    null: NullResults | None = None
    network: NetworkResults | None = None
    encoding: EncodingResults | None = None
    generation: GenerationResults | None = None
    conditions: ConditionResults | None = None
    agreement: AgreementResults | None = None
    voxel_tests: tuple[VoxelTestResults, ...] = ()
    members: tuple[str, ...] = ()
    """Of a group brain: the participants that it is the mean of."""
    stimuli_dir: Path | None = None
    features: Mapping[str, Path] = field(default_factory=dict)
    """Tables of features that the user brought: of each film by its name, of images under
    ``*``."""
    layout: str = 'bids'
    """Of the dataset: ``bids``, or ``nsd`` or ``emofilm`` as they are published."""
    extension: Mapping[str, Any] = field(default_factory=dict)
    """What a system of another package keeps for its sections of the page."""
    decoded_regions: Path | None = None
    """Table of what each region of the atlas scores alone (images)."""
    parcels: Path | None = None
    """Table of scores a parcel (movies): ``name`` and one column per score."""
    stages: tuple[StageResults, ...] = ()
    config: Path | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits_models(self) -> bool:
        """Whether anything was fitted to the responses, which are else all that was made."""
        return self.system not in RESPONSES_ALONE

    @property
    def form(self) -> Form | None:
        """What maps and series are in; None: volumes."""
        own = (*self.maps.values(), *([] if self.mean_bold is None else [self.mean_bold]))
        files = (*own, *(run.bold for run in self.runs))
        return form_of(files[0]) if files else None

    def to_json(self, folder: Path | None = None) -> str:
        """Write the record as JSON (paths as text).

        Parameters
        ----------
        folder
            Where it is kept: paths are written relative to it, so that an output folder can be
            moved, and published without paths of a machine. None: they stay.
        """

        def text_of(value: object) -> str:
            absolute = isinstance(value, Path) and value.is_absolute()
            if folder is None or not absolute:
                return str(value)
            return os.path.relpath(str(value), folder.absolute())

        return json.dumps(dataclasses.asdict(self), default=text_of, indent=2) + '\n'

    @classmethod
    def from_json(
        cls, text: str | bytes, *, source: str = 'results.json', folder: Path | None = None
    ) -> Self:
        """Read what :meth:`to_json` wrote.

        Parameters
        ----------
        text
            The record.
        source
            What a message names.
        folder
            Where the record is kept, which relative paths start from.

        Raises
        ------
        ReportError
            If it is not such a record; ``source`` is what the message names.
        """
        with raised_as(ReportError, BROKEN, ValueError, source=source):
            record = read_as(cls, text)
            return record if folder is None else _placed(record, folder.absolute())


def common_form(participants: Iterable[ParticipantResults]) -> Form | None:
    """Return what the data of participants are in; None: volumes, or not the same in all."""
    forms = {results.form for results in participants}
    return forms.pop() if len(forms) == 1 else None


def _placed(value: Any, folder: Path) -> Any:
    """Return what a record holds, with relative paths from its folder on."""
    if isinstance(value, Path):
        places = (folder / value, folder.resolve() / value)
        # the folder may be reached through a link, beside which there is nothing else
        found = [Path(os.path.normpath(place)) for place in places]
        return next((place for place in found if place.exists()), found[0])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _placed(getattr(value, f.name), folder) for f in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple):
        return tuple(_placed(each, folder) for each in value)
    if isinstance(value, dict):
        return {key: _placed(each, folder) for key, each in value.items()}
    return value
