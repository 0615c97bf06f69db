"""Every setting of a run: validated, frozen, and written beside the outputs as TOML.

A :class:`Config` is built once (preset, recipe, file, command line) and handed down in parts;
nothing else in the package holds settings. An unknown key is an error, and so is a file written
for another version of these settings.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, raised_as, retold
from bids_neurodecode.extensions import find_system
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.settings.base import Name, Settings
from bids_neurodecode.settings.conditions import ConditionSettings
from bids_neurodecode.settings.encoding import EncodingSettings
from bids_neurodecode.settings.events import EventSettings, Rows
from bids_neurodecode.settings.movie import MovieSettings
from bids_neurodecode.settings.reconstruction import ReconstructionSettings
from bids_neurodecode.text import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SCHEMA_VERSION: Literal[1] = 1

SettingsT = TypeVar('SettingsT', bound=Settings)
UNREADABLE = (
    'Cannot read the settings in {file}: {reason}. Fix the file, or choose a preset: {presets}.'
)
UNKNOWN_PRESET = 'No preset or file is called {name!r}.{near} Presets: {presets}.'
INVALID = 'Invalid setting in {file}: {key}: {reason}.'
OTHER_VERSION = (
    'The settings in {file} are of version {found}; this program reads version {expected}. '
    'Start from a preset of this version: {presets}.'
)

Fraction = Annotated[float, Field(gt=0, le=1)]
BandName = Annotated[str, Field(pattern=r'^[A-Za-z0-9][A-Za-z0-9_.-]*$')]


class CleanSettings(Settings):
    """How the BOLD series are cleaned (nilearn's names of strategies)."""

    strategy: tuple[
        Literal['motion', 'wm_csf', 'global_signal', 'compcor', 'ica_aroma', 'scrub'], ...
    ] = ()
    """Strategies as :func:`nilearn.interfaces.fmriprep.load_confounds` names them."""
    columns: tuple[Name, ...] = ()
    """Columns of the confounds table to regress out, beside the strategies."""
    high_pass: Annotated[float, Field(ge=0)] | None = 0.008
    """High-pass cut-off in Hz (delayed series only; single-trial betas model the drift);
    ``none`` switches it off."""
    scaling: Literal['psc', 'zscore', 'none'] = 'psc'
    """Percent signal change, z-scores over a run, or the data's own units."""


class BetaSettings(Settings):
    """Single-trial betas (GLMsingle's four models)."""

    engine: Literal['native', 'glmsingle'] = 'native'
    """Our own engine, or the reference package GLMsingle, which has to be installed."""
    model: Literal['auto', 'B', 'C', 'D'] = 'auto'
    """Which of the models feeds the decoders: FITHRF (B), with GLMdenoise (C), with fractional
    ridge too (D). ``auto``: the one that best identifies held-out runs within the training trials
    of each fold; B where these do not repeat stimuli over enough runs."""
    off_grid: Literal['error', 'resample'] = 'resample'
    """Onsets between volumes: an error, or the series resampled to a finer grid."""
    n_components: Annotated[int, Field(ge=0, le=10)] | None = None
    """A fixed number of noise components; chosen by cross-validation if left out."""
    fraction: Fraction | None = None
    """A fixed fraction for the ridge; chosen by cross-validation if left out."""
    tuning: Literal['training', 'all'] = 'training'
    """Which trials choose components and fractions: each fold's training trials, or all
    (as GLMsingle does; then the test trials' repeats have had a say)."""
    precomputed: str | None = None
    """Name of the derivatives dataset whose betas are taken instead of estimating any; in NSD's
    own layout, the folder of another version of its betas."""
    repeats: Literal['single', 'mean'] = 'single'
    """Precomputed betas trial by trial, or the mean of each image's trials (Brain-Diffuser)."""
    standardize: Literal['none', 'training', 'session'] = 'none'
    """Betas as they are (models standardise by training samples of all sessions together);
    ``training``: each session is brought to the mean and deviation over sessions, a voxel at a
    time, by its training trials alone; ``session``: precomputed betas z-scored a voxel within each
    session, held-out trials included (MindEye)."""

    @model_validator(mode='after')
    def _of_one_session(self) -> Self:
        if self.standardize == 'training' and self.repeats == 'mean':
            msg = 'standardize = "training" needs single trials: a mean is of several sessions'
            raise ValueError(msg)
        return self


class DelaySettings(Settings):
    """Alignment of continuous series with the haemodynamic response (films)."""

    seconds: Annotated[float, Field(ge=0, le=20)] = 5.2
    """By how much responses lag behind what is seen."""
    fir_seconds: tuple[Annotated[float, Field(ge=0, le=30)], ...] = (2.6, 3.9, 5.2, 6.5, 7.8)
    """Delays of the finite impulse response of linear encoding models."""


class RoiFile(NamedTuple):
    """The file of a region: voxels above 0, or above a threshold, are in it."""

    file: Path
    threshold: float | None = None

    @property
    def above(self) -> float:
        """What values have to be above."""
        return self.threshold or 0.0

    @classmethod
    def of(cls, text: str, subject: str = '{sub}') -> Self:
        """Read ``FILE`` or ``FILE > NUMBER``; ``{sub}`` is the participant's label.

        Parameters
        ----------
        text
            ``FILE`` or ``FILE > NUMBER``; the threshold is in the units of the map.
        subject
            Label that takes the place of ``{sub}``.

        Examples
        --------
        >>> RoiFile.of('/rois/sub-{sub}_stat-z_statmap.nii.gz > 3.1', '02')
        RoiFile(file=PosixPath('/rois/sub-02_stat-z_statmap.nii.gz'), threshold=3.1)
        """
        name, sign, number = text.rpartition(' > ')
        file = Path((name if sign else text).strip().replace('{sub}', subject))
        return cls(file.expanduser().absolute(), float(number) if sign else None)


HERE = '{here}'
"""In a path of a file of settings: the folder of that file."""


class AtlasSettings(Settings):
    """A parcellation, or regions of your own, and which of them are used."""

    name: str | None = None
    """TemplateFlow name, such as ``Schaefer2018_desc-100Parcels7Networks``; or see ``file``."""
    file: Path | None = None
    """A ``dseg`` NIfTI file in the space of the data."""
    table: Path | None = None
    """Its table (TSV with ``index`` and ``name`` or ``label``); found beside it if left out."""
    rois: dict[BandName, str] = Field(default={})
    """Regions of your own instead of an atlas: names, and a file each (NIfTI, GIFTI or CIFTI;
    ``{sub}`` stands for the participant's label). Of a mask the voxels above 0, of a map (the
    contrast of a localizer) those above a threshold: ``FFA =
    "loc/sub-{sub}_contrast-faces_stat-z_statmap.nii.gz > 3.1"``; of labels each as a region."""
    regions: tuple[Name, ...] = ()
    """Regions or networks whose voxels are used (whole names, or parts between underscores); all
    of the brain mask if left out."""

    @property
    def given(self) -> bool:
        """Whether there are regions."""
        return self.name is not None or self.file is not None or bool(self.rois)

    @property
    def said(self) -> str:
        """What they are called in messages."""
        return str(self.name or self.file or f'atlas.rois ({", ".join(self.rois)})')

    @field_validator('file', 'table')
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        """Make paths absolute, as steps run in folders of their own."""
        return None if file is None else file.expanduser().absolute()

    @field_validator('rois')
    @classmethod
    def _readable(cls, rois: dict[str, str]) -> dict[str, str]:
        given = {name: RoiFile.of(text) for name, text in rois.items()}
        return {
            name: str(one.file) if one.threshold is None else f'{one.file} > {one.threshold:g}'
            for name, one in given.items()
        }

    @model_validator(mode='after')
    def _one_atlas(self) -> Self:
        if sum((self.name is not None, self.file is not None, bool(self.rois))) > 1:
            msg = 'give one of name, file and rois'
            raise ValueError(msg)
        if self.regions and not self.given:
            msg = 'regions need an atlas: give a name, a file or rois'
            raise ValueError(msg)
        return self


class SelectionSettings(Settings):
    """Which voxels are used: chosen on the training samples of each fold that is scored.

    The final model and the maps, which are not scored, have voxels chosen on all samples.
    """

    measure: Literal[
        'auto', 'ncsnr', 'noise_ceiling', 'snr', 'prediction', 'tsnr', 'isc', 'none'
    ] = 'auto'
    """``auto``: ``ncsnr`` where stimuli are repeated over runs, else ``prediction``: the share of
    responses that stimulus features (ridge regression) and the mean response explain in folds
    within training. ``tsnr`` says nothing of the stimulus: strong responses lower it."""
    rule: Literal['fdr', 'top', 'threshold'] = 'fdr'
    """``fdr``: the voxels whose repeats agree over runs more than chance (stimuli exchanged within
    runs); ``prediction`` by ``auto`` has no such test and takes the voxels above 0."""
    sessions: Literal['pooled', 'union', 'majority', 'every'] = 'pooled'
    """The rule is applied to the trials of all sessions together, or within each session; then the
    voxels are used that pass in any (``union``), in more than half, or in every session."""
    fdr: Fraction = 0.05
    """False discovery rate of the rule ``fdr``."""
    fraction: Fraction = 0.3
    """The share of voxels that ``top`` keeps."""
    threshold: float = 0.2
    """What the measure has to reach with the rule ``threshold``."""
    min_voxels: Annotated[int, Field(ge=1)] = 20
    """Fewer than this pass: the best of them are taken instead, with a warning."""


class SplitSettings(Settings):
    """What is held out."""

    by: Literal[
        'auto',
        'run',
        'session',
        'stimulus',
        'cluster',
        'category',
        'imagery',
        'imagery-unseen',
        'film',
        'time',
        'given',
        'paper',
    ] = 'auto'
    """``auto``: by stimulus, by run where all runs show the same few images; films in time.
    ``cluster``: groups of images that are alike in feature space (``n_clusters``), so that the
    nearest training image of a test image is far from it. ``category``: whole categories of
    images. ``imagery``: what ``test`` (or ``file``) names was imagined; models learn from all
    that was seen, the same images among it; with ``imagery-unseen``, in each of ``n_folds``, from
    all but the images that are tested there.
    ``given``: as the column ``part`` of the trials (or ``file``) says, which ``auto`` takes where
    it is there.
    ``paper``: films as in arXiv 2507.12009, without a gap, for comparison only."""
    n_folds: Annotated[int, Field(ge=1)] | None = None
    """Folds of a cross-validation; ``auto``: one a run or a session, one for stimuli and films."""
    n_clusters: Annotated[int, Field(ge=2)] = 10
    """Clusters of images (k-means on the features of all stimuli); folds share them out."""
    category: Literal['trial_type', 'folder'] = 'trial_type'
    """Where the category of an image stands: in the events, or in the name of its folder."""
    test: Rows = Field(default={})
    """Test samples, by columns of the events or entities of the run: those to which each named
    column gives one of its values, such as ``{trial_type = ["test"]}`` or ``{session =
    ["perceptionTest*"]}`` (``*`` stands for any text, ``n/a`` for a missing value). All others
    are training samples, unless ``train`` says which. ``file``, and any other ``by`` than
    those of imagery, come first."""
    train: Rows = Field(default={})
    """Training samples, as in ``test``; what neither names is left out."""
    validation: Rows = Field(default={})
    """Validation samples, as in ``test``."""
    file: Path | None = None
    """A table (TSV, CSV) that says what is held out: one column ``stimulus``, ``run`` or ``trial``
    and one ``split`` (``train``, ``validation``, ``test``, or ``n/a`` for neither); or JSON with
    lists of stimuli (``train`` and ``test``, ``train_ids`` and ``test_ids``). The name of the file
    is the name of the split."""
    name: str | None = None
    """One of several splits of that file: the column that stands for ``split``, or the key of the
    lists."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share that is held out where there is one fold."""
    gap: Annotated[float, Field(ge=0)] = 10.4
    """Seconds left out between training and test blocks of one film."""
    whole_films: tuple[Name, ...] = ()
    """Films that are test samples as a whole, beside the end of the others (file names, with or
    without extension); by ``time`` in one fold, and by ``paper``."""

    @model_validator(mode='after')
    def _one_fold(self) -> Self:
        if self.file is not None and self.by not in {'auto', 'given', 'imagery', 'imagery-unseen'}:
            msg = 'file goes with by = "given", "imagery", "imagery-unseen" or "auto"'
            raise ValueError(msg)
        if (self.train or self.validation) and not self.test:
            msg = 'train and validation go with test: say what is held out'
            raise ValueError(msg)
        if self.name is not None and self.file is None:
            msg = 'name goes with file'
            raise ValueError(msg)
        one = self.n_folds in {None, 1}
        if self.by == 'paper' and not one:
            msg = 'by = "paper" has one fold'
            raise ValueError(msg)
        if self.whole_films and not (one and self.by in {'auto', 'time', 'paper'}):
            msg = 'whole_films goes with by = "time" or "paper" in one fold'
            raise ValueError(msg)
        return self


class FeatureSettings(Settings):
    """What an image is turned into before it is decoded or encoded."""

    extractor: str = 'gabor'
    """Name of the feature extractor; ``gabor`` needs no weights, ``efficientnet-lite0``,
    ``efficientnet-lite2`` and ``mobilenetv2`` (and their layers, as ``mobilenetv2:stage5``) the
    extra ``cpu-nets``; ``gabor+efficientnet-lite0`` has the features of both, and is what images
    are described by where nothing is set and that extra is installed.
    ``table``: features of your own, see ``table``; where ``stim_file`` names such tables, nothing
    needs to be set."""
    table: str | None = None
    """Features of your own: TSV, CSV, npy, h5 or safetensors, one row per image, or one row per
    moment of a film; below ``stimuli/``, or a path. ``{film}`` stands for the name of the film
    without its extension, ``{sub}``, ``{ses}``, ``{task}``, ``{run}`` for labels; such a film
    needs no film file."""
    table_key: str | None = None
    """The column (or array) of the table that names images; ``stim_file``, ``stimulus``,
    ``image``, ``file`` or ``name`` if left out."""
    table_rate: Annotated[float, Field(gt=0)] | None = None
    """Rows a second of a film's table without times (column ``time`` or ``onset``, s); one row per
    volume if left out."""
    bands: dict[BandName, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(default={})
    """Feature spaces of the table: the columns of each, with ``*`` for any characters
    (``text = ["text*"]``). Left out: arrays by their names, columns by what these share."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 64
    """Pixels along a side at which images and frames are described."""
    n_components: Annotated[int, Field(ge=1)] | None = 100
    """Principal components kept (fitted on training stimuli), at unit variance; ``none`` for
    all. A film's table with no more columns is used as it is, each column standardised."""


class RidgeSettings(Settings):
    """Cross-validated ridge regression."""

    alphas: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = tuple(
        10.0**k for k in range(-2, 7)
    )
    """Penalties to choose from."""
    n_folds: Annotated[int, Field(ge=2)] = 5
    """Folds in which the penalty is chosen, within training samples."""
    per_target: bool = True
    """One alpha a target, or one for all."""


class EvaluationSettings(Settings):
    """How scores are tested."""

    n_permutations: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    """Permutations of a test; 0 leaves p values out."""
    permutation: Literal['labels', 'refit'] = 'labels'
    """What is permuted: the ``labels`` of held-out samples, models being fitted once; or the
    labels of all samples, ridge models being fitted again each time (``refit``:
    identification by the linear decoder, and ridge encoding of images; slower by the time of
    their fits)."""
    n_bootstrap: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    """Resamplings of an interval; 0 leaves intervals out."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Coverage of the intervals."""


class Config(Settings):
    """All settings of one run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Of these settings; a file of another version is refused."""
    system: str = 'auto'
    """``auto``: reconstruction for images, movie for films, conditions where events name neither
    (``trial_type`` alone). ``encoding`` (of images) and systems of other packages by name."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 20260101
    """The one seed of all randomness."""
    events: EventSettings = EventSettings()
    clean: CleanSettings = CleanSettings()
    betas: BetaSettings = BetaSettings()
    delay: DelaySettings = DelaySettings()
    atlas: AtlasSettings = AtlasSettings()
    selection: SelectionSettings = SelectionSettings()
    split: SplitSettings = SplitSettings()
    features: FeatureSettings = FeatureSettings()
    ridge: RidgeSettings = RidgeSettings()
    movie: MovieSettings = MovieSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    encoding: EncodingSettings = EncodingSettings()
    conditions: ConditionSettings = ConditionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    extensions: dict[str, dict[str, Any]] = Field(default={})
    """Settings of systems of other packages, a group each: ``[extensions.<system>]``."""

    @field_validator('system')
    @classmethod
    def _known_system(cls, name: str) -> str:
        with retold(ValueError, ArgumentsError):
            find_system(name)
        return name

    @field_validator('extensions')
    @classmethod
    def _of_extensions(cls, groups: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Fill in the defaults; a group of a system that is not there is refused."""
        return {name: _settings_of_extension(name, group) for name, group in groups.items()}

    @model_validator(mode='after')
    def _with_extension(self) -> Self:
        """Write down the settings of the system that is asked for, its defaults among them."""
        system = find_system(self.system)
        if (
            system is not None
            and system.settings is not None
            and self.system not in self.extensions
        ):
            own = _settings_of_extension(self.system, {})
            # the settings are frozen, and not handed out yet
            object.__setattr__(self, 'extensions', {**self.extensions, self.system: own})
        return self

    def extension(self, name: str) -> Any:
        """Return the settings of a system of another package: an object of its own class."""
        system = find_system(name)
        if system is None or system.settings is None:
            return None
        return system.settings.model_validate(self.extensions.get(name, {}))

    @model_validator(mode='before')
    @classmethod
    def _own_features(cls, values: Any) -> Any:
        """Take the table of features that is named, unless another extractor is named too."""
        if not isinstance(values, Mapping):
            return values
        features, encoding = (values.get(name, {}) for name in ('features', 'encoding'))
        if not isinstance(features, Mapping) or not isinstance(encoding, Mapping):
            return values
        if features.get('table') is not None:
            features = {'extractor': 'table', **features}
        if features.get('extractor') == 'table':
            encoding = {'bands': ('table',), **encoding}
        return {**values, 'features': features, 'encoding': encoding}

    def to_toml(self, folder: Path | None = None) -> str:
        """Write all settings as TOML: see :meth:`Settings.written`.

        Parameters
        ----------
        folder
            Where the text is kept: absolute paths are written relative to it (:data:`HERE`), as
            what is published says nothing of a machine. None: they stay.
        """
        import tomli_w

        written = self.written()
        if folder is not None:
            written = _with_paths(written, lambda text: _from_here(text, folder))
        if not self.extensions:
            written.pop('extensions', None)
        return tomli_w.dumps(written)


def _settings_of_extension(name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of a system of another package; return them with its defaults."""
    with retold(ValueError, ArgumentsError):
        system = find_system(name)
    if system is None or system.settings is None:
        msg = f'the system {name!r} has no settings of its own'
        raise ValueError(msg)
    try:
        checked: dict[str, Any] = system.settings.model_validate(group).model_dump(
            mode='json', exclude_none=True
        )
    except ValidationError as error:
        key, reason = reason_of(error, system.settings, group)
        msg = f'{name}.{key}: {reason}'
        raise ValueError(msg) from error
    return checked


def preset_names() -> list[str]:
    """Return the names of the presets in the package, sorted."""
    folder = resources.files('bids_neurodecode') / 'presets'
    return sorted(
        p.name.removesuffix('.toml') for p in folder.iterdir() if p.name.endswith('.toml')
    )


def _with_paths(values: Any, change: Callable[[str], str]) -> Any:
    """Return nested settings with each text changed."""
    if isinstance(values, Mapping):
        return {key: _with_paths(value, change) for key, value in values.items()}
    if isinstance(values, list):
        return [_with_paths(value, change) for value in values]
    return change(values) if isinstance(values, str) else values


def _from_here(text: str, folder: Path) -> str:
    if not Path(text).is_absolute():
        return text
    return f'{HERE}/{os.path.relpath(text, folder.absolute())}'


def _to_place(text: str, folder: Path) -> str:
    if HERE not in text:
        return text
    return os.path.normpath(text.replace(HERE, str(folder.absolute())))


def read_settings(source: str | Path) -> dict[str, Any]:
    """Read a preset (by name) or a TOML file into a nested dictionary, not yet validated.

    Parameters
    ----------
    source
        The name of a preset, or the path of a TOML file.

    Raises
    ------
    ArgumentsError
        If it is neither, cannot be read, or is of another version.
    InputError
        If it is a stand-in for a file that was not fetched.
    """
    names, folder = preset_names(), None
    presets = ', '.join(names)
    place = resources.files('bids_neurodecode') / 'presets' / f'{source}.toml'
    if str(source) not in names:
        place = path = Path(source)
        folder = path.parent
        check_fetched(path)
        if not path.is_file():
            near = did_you_mean(source, names)
            raise ArgumentsError(
                UNKNOWN_PRESET.format(name=str(source), near=near, presets=presets)
            )
    with raised_as(ArgumentsError, UNREADABLE, *BROKEN_TEXT, file=source, presets=presets):
        values = tomllib.loads(place.read_text('utf-8-sig'))
    version = values.get('schema_version', SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ArgumentsError(
            OTHER_VERSION.format(
                file=source, found=version, expected=SCHEMA_VERSION, presets=presets
            )
        )
    if folder is None:
        return values
    placed: dict[str, Any] = _with_paths(values, lambda text: _to_place(text, folder))
    return placed


WHOLE = frozenset({'exclude', 'train', 'validation', 'test'})
"""Settings that are tables themselves: the last one stands, and is not added to others."""


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested settings; later layers win, key by key.

    Examples
    --------
    >>> merge({'a': {'x': 1, 'y': 2}}, {'a': {'y': 3}})
    {'a': {'x': 1, 'y': 3}}
    >>> merge({'split': {'test': {'run': '1'}}}, {'split': {'test': {'session': 'b'}}})
    {'split': {'test': {'session': 'b'}}}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            if both and key not in WHOLE:
                merged[key] = merge(merged[key], value)
            else:
                merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def build_config(*layers: Mapping[str, Any], source: str = 'the settings') -> Config:
    """Merge the layers and validate the result.

    Parameters
    ----------
    *layers
        Nested settings, the strongest last (preset, file, command line).
    source
        What an error names as the place of a bad setting.

    Raises
    ------
    ArgumentsError
        For an unknown key or a value out of range, naming the key.
    """
    return validated(Config, merge(*layers), INVALID, file=source)


def validated(
    kind: type[SettingsT], given: Mapping[str, Any], message: str, **told: object
) -> SettingsT:
    """Read settings; of the first that is wrong, say which it is and why.

    Parameters
    ----------
    kind
        The settings.
    given
        Their values.
    message
        What is said, with the fields ``key`` and ``reason``.
    **told
        Its other fields.

    Raises
    ------
    ArgumentsError
        With that message.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        key, reason = reason_of(error, kind, given)
        raise ArgumentsError(message.format(key=key, reason=reason, **told)) from error


def reason_of(
    error: ValidationError, model: type[Settings], given: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the key of a bad setting and what is wrong; of an unknown key, the nearest.

    Parameters
    ----------
    error
        What pydantic found.
    model
        The settings that were read.
    given
        Their values.
    """
    errors = error.errors()
    # a misspelt key says more than that its right name is missing
    first = next((e for e in errors if e['type'] == 'extra_forbidden'), errors[0])
    *above, last = first['loc'] or ('settings',)
    key = '.'.join(_path(first, given)) or str(last)
    if first['type'] != 'extra_forbidden':
        choices = re.findall(r"'([^']*)'", first.get('ctx', {}).get('expected', ''))
        near = did_you_mean(first['input'], choices) if first['type'] == 'literal_error' else ''
        return key, first['msg'].removeprefix('Value error, ') + near.replace(' D', '; d')
    for part in above:
        if isinstance(part, str) and (inner := _inner(model, part)) is not None:
            model = inner
    close = difflib.get_close_matches(str(last), model.model_fields, n=1)
    names = (str(part) for part in (*above, *close))
    return key, f'unknown key; did you mean {".".join(names)}?' if close else 'unknown key'


def _path(error: ErrorDetails, given: Any) -> Iterator[str]:
    """Yield the keys of a value; of a choice of kinds, pydantic also says which it tried."""
    for part in error['loc']:
        try:
            given = given[part]
        except (LookupError, TypeError):
            if isinstance(given, Mapping) and error['type'] == 'missing':
                yield str(part)
        else:
            yield str(part)


def _inner(model: type[Settings], name: str) -> type[Settings] | None:
    """Return the settings that a field holds, alone or in a list."""
    field = model.model_fields.get(name)
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Settings)), None)


def load_config(path: Path) -> Config:
    """Read a whole configuration, as :meth:`Config.to_toml` wrote it."""
    return build_config(read_settings(path), source=str(path))
