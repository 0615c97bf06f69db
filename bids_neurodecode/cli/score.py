"""``bids_neurodecode-tools score``: reconstructions and predicted responses of any program."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode._version import __version__
from bids_neurodecode.cli.values import count_value
from bids_neurodecode.errors import ArgumentsError, raised_as
from bids_neurodecode.evaluation.metrics import METRICS, Score, describe, scores_table
from bids_neurodecode.evaluation.protocols import PROTOCOLS, get_protocol, published_scores
from bids_neurodecode.models.weights import WEIGHTS_VARIABLE

if TYPE_CHECKING:
    from bids_neurodecode.bids.imagesets import Matched
    from bids_neurodecode.report.scored import Examples, Scored
    from bids_neurodecode.systems.reconstruction.steps.image_scores import ImageScores

NEEDS_PROTOCOL = 'Name the protocol of the scores (--protocol): {names}.'
NOT_OF_RESPONSES = '{option} is of images; leave it out with --responses.'
NOT_OF_IMAGES = '{option} is of responses: add --responses, or leave it out.'
NONE_AND_SOME = '--guided-by takes names of networks, or "none" alone.'
NOT_WRITTEN = 'The file {file} cannot be written ({reason}). Give another one with --output.'
NOT_TSV = 'The file of scores must end in .tsv ({file}): .json and .html are written beside it.'
TOO_FEW = 'Scores need two images or more; {n} matched by name.'
WRITTEN = 'Written: {files}'


def add_score_parser(subparsers: Any) -> None:
    """Add ``score`` to the sub-commands of a parser."""
    text = (
        'Score reconstructions of any program against what was seen, matched by name, beside '
        'chance, baselines and published scores. Each side is a folder with images, an output of '
        'bids_neurodecode, or a .pt, .npy or .npz file of images.'
    )
    parser = subparsers.add_parser(
        'score', help='score reconstructions, or predicted responses', description=text
    )
    parser.add_argument('truth', type=Path, metavar='TRUTH', help='what was seen (or measured)')
    parser.add_argument(
        'found', type=Path, metavar='RECONSTRUCTIONS', help='reconstructions (or predictions)'
    )
    parser.add_argument('--protocol', choices=tuple(PROTOCOLS), help='of the scores of images')
    parser.add_argument(
        '--stage', choices=('final', 'initial'), default='final', help='of outputs of this program'
    )
    judges = sorted({m.network for p in PROTOCOLS.values() for m in p.metrics})
    parser.add_argument(
        '--guided-by',
        nargs='+',
        choices=('none', *judges),
        metavar='NETWORK',
        help='networks that had a part in the reconstructions, and so do not judge them '
        f'(of {", ".join(judges)}; or none)',
    )
    parser.add_argument(
        '--output', type=Path, metavar='FILE.tsv', help='write the table, JSON and a page, too'
    )
    parser.add_argument(
        '--responses', action='store_true', help='score predicted responses against measured ones'
    )
    parser.add_argument(
        '--regions', type=Path, metavar='FILE', help='dseg with its table, or .npz of masks'
    )
    parser.add_argument(
        '--ncsnr', type=Path, metavar='FILE', help='noise-ceiling SNR (default: from repeats)'
    )
    parser.add_argument(
        '--weights-dir',
        type=Path,
        metavar='DIR',
        help=f'folder of weights (default: ${WEIGHTS_VARIABLE}, else one in the cache)',
    )
    parser.add_argument('--n-permutations', type=count_value(0), default=1000, metavar='N')
    parser.add_argument('--seed', type=count_value(0), default=0, metavar='N')
    parser.set_defaults(run=run_score)


def run_score(options: argparse.Namespace) -> int:
    """Score, print, and write.

    Raises
    ------
    ArgumentsError, InputError, DataError
        One line, where something is missing or does not fit.
    """
    _check(options)
    scored = _responses(options) if options.responses else _images(options)
    for line in (*scored.warnings, *scored.notes):
        print(line)
    _print(scored)
    if options.output is not None:
        _write(options, scored)
    return 0


def _check(options: argparse.Namespace) -> None:
    if not options.responses and options.protocol is None:
        raise ArgumentsError(NEEDS_PROTOCOL.format(names=', '.join(PROTOCOLS)))
    for option in ('protocol', 'guided_by'):
        if options.responses and getattr(options, option) is not None:
            name = option.replace('_', '-')
            raise ArgumentsError(NOT_OF_RESPONSES.format(option=f'--{name}'))
    if 'none' in (options.guided_by or ()) and len(options.guided_by) > 1:
        raise ArgumentsError(NONE_AND_SOME)
    for option in ('regions', 'ncsnr'):
        if not options.responses and getattr(options, option) is not None:
            raise ArgumentsError(NOT_OF_IMAGES.format(option=f'--{option}'))
    if options.output is not None and options.output.suffix != '.tsv':
        raise ArgumentsError(NOT_TSV.format(file=options.output))
    if options.output is not None:
        # before work: scoring may take long
        with raised_as(ArgumentsError, NOT_WRITTEN, OSError, file=options.output):
            options.output.parent.mkdir(parents=True, exist_ok=True)
            begun = options.output.exists()
            with options.output.open('a', encoding='utf-8'):
                pass
            if not begun:
                options.output.unlink()


def _images(options: argparse.Namespace) -> Scored:
    from bids_neurodecode.bids.imagesets import match_images, read_image_set
    from bids_neurodecode.report.scored import Scored
    from bids_neurodecode.systems.reconstruction.steps.image_scores import (
        protocol_networks,
        score_images,
    )

    matched = match_images(
        read_image_set(options.truth, options.stage),
        read_image_set(options.found, options.stage),
        get_protocol(options.protocol).pixel_size,
    )
    n = len(set(matched.names))
    if n < 2:
        raise ArgumentsError(TOO_FEW.format(n=n))
    found = score_images(
        matched.truth,
        matched.made,
        matched.names,
        options.protocol,
        protocol_networks(options.protocol, options.weights_dir),
        baselines=True,
        n_permutations=options.n_permutations,
        seed=options.seed,
        guided_by=matched.guided_by if options.guided_by is None else options.guided_by,
    )
    return Scored(
        title=f'Scores of {options.found.name or options.found}',
        subtitle=f'{len(matched.names)} reconstructions · protocol {options.protocol}',
        scores=found.scores,
        notes=(*matched.notes, *found.notes),
        version=__version__,
        published=published_scores(options.protocol),
        examples=_examples(matched, found),
        warnings=found.warnings,
    )


def _examples(matched: Matched, found: ImageScores) -> Examples | None:
    """Put images in order by a network's identification, else by pixels."""
    from bids_neurodecode.report.scored import Examples
    from bids_neurodecode.systems.reconstruction.steps.image_scores import MODEL, SPACE

    known = [metric for model, space, metric in found.kept if (model, space) == (MODEL, SPACE)]
    able = sorted(known, key=lambda name: (not name.endswith('_2way'), name == 'pixel_2way'))
    able = [name for name in able if not name.startswith('identification_')]
    if not able:
        return None
    values, _ = found.kept[MODEL, SPACE, able[0]]
    return Examples(matched.truth, matched.made, matched.names, able[0], values)


def _responses(options: argparse.Namespace) -> Scored:
    from bids_neurodecode.bids.responsesets import read_regions, read_responses, read_values
    from bids_neurodecode.report.scored import Scored
    from bids_neurodecode.systems.encoding.steps.response_scores import score_response_sets

    measured = read_responses(options.truth, 'singletrial')
    predicted = read_responses(options.found, 'predicted')
    scores, notes = score_response_sets(
        measured,
        predicted,
        ratio=None if options.ncsnr is None else read_values(options.ncsnr),
        regions={} if options.regions is None else read_regions(options.regions, measured),
        n_permutations=options.n_permutations,
        seed=options.seed,
    )
    return Scored(
        title=f'Predicted responses of {options.found.name or options.found}',
        subtitle='against measured responses',
        scores=scores,
        notes=notes,
        version=__version__,
    )


def _print(scored: Scored) -> None:
    """Print one line per score, with what the baselines score, and published rows last."""
    baselines: dict[tuple[str, str], list[str]] = {}
    for score in scored.scores:
        if score.model.startswith('baseline-'):
            said = f'{score.model} {METRICS[score.metric].write(score.value)}'
            baselines.setdefault((score.space, score.metric), []).append(said)
    for score in scored.scores:
        if not score.model.startswith('baseline-'):
            print(', '.join([_line(score), *baselines.get((score.space, score.metric), [])]))
    for row in scored.published:
        values = ', '.join(f'{name} {METRICS[name].write(x)}' for name, x in row.scores.items())
        print(f'published: {row.label} ({row.source}; {row.of}): {values}')


def _line(score: Score) -> str:
    metric = METRICS[score.metric]
    limits = [metric.write(x) for x in (score.ci_low, score.ci_high) if x is not None]
    interval = f' [{" to ".join(limits)}]' if len(limits) == 2 else ''
    parts = [f'{score.space}: {score.metric} {metric.write(score.value)}{interval}']
    for name in ('chance', 'ceiling'):
        value = getattr(score, name)
        if value is not None and math.isfinite(value):
            parts.append(f'{name} {metric.write(value)}')
    if score.p is not None:
        parts.append(f'p {score.p:.3g}')
    return ', '.join(parts)


def _write(options: argparse.Namespace, scored: Scored) -> None:
    from bids_neurodecode.bids.sink import write_json, write_tsv
    from bids_neurodecode.report.scored import write_score_page

    files = [options.output.with_suffix(end) for end in ('.tsv', '.json', '.html')]
    with raised_as(ArgumentsError, NOT_WRITTEN, OSError, file=options.output):
        write_tsv(files[0], scores_table(scored.scores))
        write_json(files[1], {**describe(scored.scores), 'Scoring': _facts(options, scored)})
        write_score_page(scored, files[0], files[2])
    print(WRITTEN.format(files=', '.join(map(str, files))))


def _facts(options: argparse.Namespace, scored: Scored) -> dict[str, Any]:
    published: Sequence[dict[str, Any]] = [
        {'label': row.label, 'of': row.of, 'source': row.source, 'scores': dict(row.scores)}
        for row in scored.published
    ]
    return {
        'Truth': str(options.truth),
        'Scored': str(options.found),
        'Protocol': options.protocol or 'responses',
        'Notes': list(scored.notes),
        'Warnings': list(scored.warnings),
        'Published': published,
        'Seed': options.seed,
        'NPermutations': options.n_permutations,
        'Version': __version__,
    }
