"""Wall time and peak memory of each stage, and what indexing, checks and graph cost.

``python benchmarks/bench_stages.py BIDS_DIR [more options of the program]``
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from bids_neurodecode.cli.checks import check_all
from bids_neurodecode.cli.levels import run_settings
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.parser import parse_arguments, settings_from


def overhead(argv: list[str]) -> dict[str, float]:
    """Return seconds of the steps around the nodes."""
    from bids_neurodecode.bids.query import find_inputs
    from bids_neurodecode.bids.request import Request
    from bids_neurodecode.levels.participant import init_run_wf

    arguments = parse_arguments(argv)
    config = settings_from(arguments)
    times = {}
    start = time.perf_counter()
    find_inputs(
        Request(
            bids_dir=arguments.bids_dir,
            derivatives=arguments.derivatives,
            participants=arguments.participant_label,
            sessions=(),
            tasks=(),
            runs=(),
            space=arguments.space,
            filters={},
            database_dir=None,
            betas_from=None,
        )
    )
    times['find runs (index)'] = time.perf_counter() - start
    start = time.perf_counter()
    inputs = check_all(arguments, config)
    times['all checks (index, validator, every series read)'] = time.perf_counter() - start
    run = run_settings(arguments, config, inputs, 'benchmark')
    start = time.perf_counter()
    init_run_wf(inputs.participants, run)
    times['build the graph'] = time.perf_counter() - start
    return times


def bench(argv: list[str]) -> None:
    """Run once cold and once with everything cached, and print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        out, work = Path(folder) / 'out', Path(folder) / 'work'
        call = [argv[0], str(out), 'participant', '-w', str(work), *argv[1:]]
        start = time.perf_counter()
        code = main(call)
        cold = time.perf_counter() - start
        start = time.perf_counter()
        main(call)
        again = time.perf_counter() - start
        tables = [
            pd.read_csv(file, sep='\t').assign(participant=file.parts[-4])
            for file in sorted(out.glob('sub-*/log/*/stages.tsv'))
        ]
        stages = pd.concat(tables).drop_duplicates(['participant', 'stage'])
        print(stages.groupby('stage')[['seconds', 'memory_gb']].max().to_string())
        print(f'exit code {code}; cold {cold:.1f} s, all cached {again:.1f} s')
        for name, seconds in overhead(call).items():
            print(f'{name}: {seconds:.2f} s')


if __name__ == '__main__':
    bench(sys.argv[1:])
