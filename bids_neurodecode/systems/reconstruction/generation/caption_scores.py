"""Reconstructions compared with what was seen by captions, where images have some.

No network that writes captions is at hand: that of a reconstruction is the caption of the
training image which a judging network finds nearest to it. It can say no more than the captions
of training images do, and is no caption of a reconstruction as published metrics have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bids_neurodecode.evaluation import identification, networks
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.generation.scores import (
    Judged,
    ReconstructionScorer,
    Table,
)
from bids_neurodecode.typing import Float32Array, FloatArray

SIMILARITY, TWO_WAY = 'caption_similarity', 'caption_2way'
STANDS_IN = (
    'Captions of reconstructions are those of the training images that {network} finds nearest to '
    'them, in the place of a network that writes captions: these scores compare with no published '
    'number.'
)
NO_CAPTIONS = (
    'Captions are not compared: {n} of {total} images have none in the table of captions (first: '
    '{first}).'
)

Embed = Callable[[Sequence[str]], Float32Array]


@dataclass(frozen=True, eq=False)
class Captions:
    """What compares captions.

    Parameters
    ----------
    embed
        Turns texts into embeddings, (n, n_values).
    of
        Captions of each image, by its name.
    pictures
        Of all stimuli, (n_stimuli, h, w, 3), uint8.
    """

    embed: Embed
    of: Mapping[str, Sequence[str]]
    pictures: PerStimulus
    _known: dict[str, FloatArray] = field(default_factory=dict, init=False, repr=False)

    def scores(
        self,
        board: ReconstructionScorer,
        parts: Sequence[Judged],
        libraries: Mapping[int, Sequence[str]],
    ) -> tuple[list[Score], list[str]]:
        """Score what one model made in all folds.

        Parameters
        ----------
        board
            What makes rows, with the networks and the protocol that judge.
        parts
            One a fold.
        libraries
            Training stimuli of each fold.

        Returns
        -------
        tuple
            Rows of the metrics table, and notes.
        """
        judges = [m for m in board.protocol.metrics if m.network in board.nets]
        names = {*(x for p in parts for x in p.outcome.candidates)}
        names |= {x for p in parts for x in libraries[p.outcome.fold]}
        lacking = sorted(name for name in names if not self.of.get(name))
        if lacking and len(lacking) < len(names):
            told = {'n': len(lacking), 'total': len(names), 'first': lacking[0]}
            return [], [NO_CAPTIONS.format(**told)]
        if lacking or not judges:
            return [], []
        judge = judges[-1]
        network = board.nets[judge.network]
        values = []
        for part in parts:
            known = tuple(libraries[part.outcome.fold])
            features = [
                networks.describe(images, network, [judge], board.protocol)[judge.layer]
                for images in (part.pictures, self.pictures.of(known))
            ]
            nearest = identification.nearest(networks.correlations(*features))
            said = self._embedded([known[k] for k in nearest])
            values.append(said @ self._embedded(part.outcome.candidates).T)
        return self._rows(board, parts, values), [STANDS_IN.format(network=judge.network)]

    def _rows(
        self, board: ReconstructionScorer, parts: Sequence[Judged], values: Sequence[FloatArray]
    ) -> list[Score]:
        outcomes = [part.outcome for part in parts]
        model, space = outcomes[0].model, outcomes[0].space
        pairs = [identification.outcomes_2way(table) for table in values]
        tables = (
            Table(SIMILARITY, model, space, values, outcomes),
            Table(TWO_WAY, model, space, pairs, outcomes, 0.5),
        )
        return [board.row(table)[0] for table in tables]

    def _embedded(self, names: Sequence[str]) -> FloatArray:
        """Return the mean direction of each image's captions, (n, n_values), of length 1."""
        for name in names:
            if name in self._known:  # of another fold or model
                continue
            values = self.embed(list(self.of[name])).astype(np.float64)
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            mean = (values / np.where(lengths > 0, lengths, np.inf)).mean(axis=0)
            self._known[name] = np.round(mean / (np.linalg.norm(mean) or np.inf), 12)
        return np.stack([self._known[name] for name in names])
