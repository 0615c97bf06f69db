"""Scores of decoded features and of reconstructions, as the program's metrics table has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.api.features import load
from bids_neurodecode.api.usage import UsageError, speaking_of_arguments
from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.identification import Measure

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.evaluation.networks import FeatureNetwork

NOT_PAIRED = 'y_true {true} and y_pred {found} must have one row a sample and the same columns.'
ONE_CANDIDATE = 'Two-way identification needs two different rows of y_true; there is one.'
OTHER_COUNT = '{true} true images and {found} reconstructions were given; give one for each.'
TOO_FEW = 'Scores need two images or more; there is {n}.'
COLUMNS = ('metric', 'value', 'chance', 'ci_low', 'ci_high', 'p', 'n', 'image_size')


def two_way(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, measure: Measure = 'pearson'
) -> float:
    """Two-way identification: how often the truth is more similar than another candidate.

    Parameters
    ----------
    y_true
        True features (or pixels, or responses), (n_samples, n_features). Equal rows are one
        candidate (repeats of one image).
    y_pred
        Predicted ones, of the same shape.
    measure
        ``pearson`` or ``cosine``.

    Returns
    -------
    float
        Mean over samples of the share of other candidates that are less similar to the
        prediction than the truth is, ties counting half. Chance is .5.

    Raises
    ------
    UsageError
        If the arrays do not match, or there is one candidate only.

    Notes
    -----
    The order of arguments is that of :mod:`sklearn.metrics`, so that
    ``make_scorer(nd.two_way)`` goes into cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> true = np.random.default_rng(0).normal(size=(50, 20))
    >>> nd.two_way(true, true), nd.two_way(true, np.zeros((50, 20)))
    (1.0, 0.5)
    """
    from bids_neurodecode.evaluation.identification import identification_2way, similarity

    true, predicted = (np.asarray(x, dtype=np.float64) for x in (y_true, y_pred))
    if true.shape != predicted.shape or true.ndim < 2:
        raise UsageError(NOT_PAIRED.format(true=true.shape, found=predicted.shape))
    true, predicted = (x.reshape(len(x), -1) for x in (true, predicted))
    candidates, codes = np.unique(true, axis=0, return_inverse=True)
    if len(candidates) < 2:
        raise UsageError(ONE_CANDIDATE)
    with speaking_of_arguments():
        return identification_2way(similarity(predicted, candidates, measure), codes.ravel())


def score_reconstructions(
    true: Any,
    reconstructed: Any,
    *,
    protocol: str = 'bd-982',
    networks: bool = True,
    weights_dir: str | Path | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare reconstructions with what was seen, beside chance and with intervals.

    Parameters
    ----------
    true, reconstructed
        Files, a folder, or uint8 arrays (n, h, w, 3), one reconstruction an image in the same
        order (of folders, in order of names).
    protocol
        Sizes, interpolation and networks: ``bd-982`` (Brain-Diffuser) or ``me2-1000``
        (MindEye2). Scores of different protocols do not compare.
    networks
        Use the networks whose weights are there; scores of Gabor features stand in for the
        others, under a name of their own.
    weights_dir
        Folder of pretrained weights; the program's default if left out. Nothing is downloaded.
    n_permutations
        Of the pairing of images and reconstructions; 0 leaves p values out.
    seed
        Of permutations and intervals.

    Returns
    -------
    pandas.DataFrame
        One row a metric: ``value``, ``chance`` (known, or the mean over permuted pairings),
        ``ci_low`` and ``ci_high`` (95 %, over images), ``p`` (permutation), ``n``,
        ``image_size`` (pixels at which pixel metrics compare) and ``higher_is_better``;
        ``attrs['notes']`` says what its reader should know. Below six images there is no
        interval and no p.

    Raises
    ------
    UsageError
        If there is no such protocol, or images and reconstructions are not one to one.
    InputError
        If a file is no image that can be read.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> true = rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    >>> table = nd.score_reconstructions(true, true, networks=False, n_permutations=99)
    >>> table.set_index('metric').loc['pixel_2way', ['value', 'chance']].tolist()
    [1.0, 0.5]
    """
    from bids_neurodecode.evaluation.metrics import METRICS, scores_table
    from bids_neurodecode.evaluation.networks import notes_on
    from bids_neurodecode.evaluation.protocols import get_protocol
    from bids_neurodecode.stimuli.features import get_extractor
    from bids_neurodecode.systems import generation_scores as scoring

    with speaking_of_arguments():
        chosen = get_protocol(protocol)
        shown, made = load(true, None), load(reconstructed, None)
        _check(shown, made)
        board = scoring.Board(
            split=_held_out(len(shown)),
            settings=EvaluationSettings(n_permutations=n_permutations),
            stand_in=get_extractor('gabor').transform,
            nets=_networks(protocol, weights_dir) if networks else {},
            rng=np.random.default_rng(seed),
            protocol=chosen,
        )
        part = scoring.Judged(_outcome(len(shown)), made, shown)
        scores, _, notes = scoring.score_pictures(board, [part], thorough=True)
        notes += board.notes([part.outcome])
        notes += notes_on(chosen, board.nets, len(shown), stand_in=True)
    # there are no decoded features to identify images by
    table = scores_table([s for s in scores if not s.metric.startswith('identification_')])
    table = table[[*COLUMNS]].assign(
        higher_is_better=[METRICS[name].higher_is_better for name in table['metric']]
    )
    table.attrs |= {'protocol': protocol, 'notes': notes}
    return table


def _check(true: npt.NDArray[Any], made: npt.NDArray[Any]) -> None:
    if len(true) != len(made):
        raise UsageError(OTHER_COUNT.format(true=len(true), found=len(made)))
    if len(true) < 2:
        raise UsageError(TOO_FEW.format(n=len(true)))


def _held_out(n: int) -> Any:
    """Return a split that holds out all images; what was trained on is one row nobody knows."""
    import pandas as pd

    from bids_neurodecode.samples import Fold, Split

    names = [*(f'{k:06d}' for k in range(n)), 'training']
    table = pd.DataFrame({'stimulus': names, 'run': [*['1'] * n, '0']})
    return Split('stimulus', (Fold(train=np.array([n]), test=np.arange(n)),), table)


def _outcome(n: int) -> Any:
    import pandas as pd

    from bids_neurodecode.systems.outcomes import Outcome

    names = tuple(f'{k:06d}' for k in range(n))
    table = pd.DataFrame({'sample': np.arange(n), 'stimulus': names, 'run': '1'})
    nothing = ('',) * n
    return Outcome(
        'reconstructions', 'images', 0, table, names, np.zeros((n, n)), nothing, nothing, (),
        np.empty((n, 0), dtype=np.float32),
    )  # fmt: skip


def _networks(protocol: str, weights_dir: str | Path | None) -> dict[str, FeatureNetwork]:
    """Read the networks of a protocol whose weights are on this machine."""
    from bids_neurodecode.workflow.generation import load_networks
    from bids_neurodecode.workflow.generation_choice import metric_weights

    folder = None if weights_dir is None else Path(weights_dir)
    return load_networks(metric_weights(folder, protocol), 'cpu')
