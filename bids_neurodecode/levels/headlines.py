"""What a run says at its end on the terminal: the scores that head its pages, in their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.report import scores
from bids_neurodecode.report.reader import Reader, confidence_of, reading
from bids_neurodecode.report.results import ParticipantResults, common_form
from bids_neurodecode.report.verdicts import DECODED, FINAL, score_verdict


def participant_headlines(results: ParticipantResults) -> tuple[str, ...]:
    """Return the main score of a participant beside chance, and that of reconstructions.

    Parameters
    ----------
    results
        The record.

    Raises
    ------
    ReportError
        If a file of the results is gone or broken.
    """
    with reading(f'sub-{results.participant}'):
        reader = Reader(results)
        if reader.metrics is None:
            from bids_neurodecode.report.section_signal import ceiling_text

            lines = tuple(filter(None, [ceiling_text(results)]))
        else:
            confidence = confidence_of(reader)
            lines = _lines(
                reader.metrics, lambda row: score_verdict(row, confidence).text, reader.guides
            )
        return tuple(in_nouns(line, results.form) for line in lines)


def group_headlines(participants: Sequence[ParticipantResults]) -> tuple[str, ...]:
    """Return the main scores over participants beside chance.

    Parameters
    ----------
    participants
        Their records.

    Raises
    ------
    ReportError
        If a file of the results is gone or broken.
    """
    from bids_neurodecode.levels.group_scores import (
        gather_metrics,
        group_verdict,
        guides_of,
        same_score,
    )

    with reading('the group'):
        readers = [Reader(results) for results in participants]
        metrics = gather_metrics(readers)
        lines = _lines(
            metrics,
            lambda row: group_verdict(same_score(metrics, row)).text,
            guides_of(readers),
        )
        return tuple(in_nouns(line, common_form(participants)) for line in lines)


def _lines(
    metrics: pd.DataFrame, say: Callable[[pd.Series[Any]], str], guides: Sequence[str] = ()
) -> tuple[str, ...]:
    """Write the score that heads the page and, where images were made, theirs."""
    if metrics.empty:
        return ()
    main, made = scores.headline(metrics), scores.of_final_images(metrics, guides)
    # one line for all participants
    made = made.drop_duplicates('metric')
    lines = [] if main is None else [say(main)]
    if main is not None and len(made) and main['space'] != 'final':
        lines = [DECODED.format(text=line) for line in lines]
    return (*(FINAL.format(text=say(row)) for _, row in made.iterrows()), *lines)
