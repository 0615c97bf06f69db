"""What a batch job, a container or a full disk allow, and what a killed run leaves."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bids_neurodecode.cli import checks_places, levels
from bids_neurodecode.cli import main as program
from bids_neurodecode.cli.checks_places import (
    check_own,
    memory_limits,
    n_processors,
    processor_quotas,
    total_memory_gb,
)
from bids_neurodecode.cli.environment import set_environment
from bids_neurodecode.cli.exits import FAILED, USAGE
from bids_neurodecode.cli.holding import hold
from bids_neurodecode.cli.levels import plugin_of, remove_leftovers
from bids_neurodecode.cli.parser import parse_arguments
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.models.weights import load_manifest, weights_path
from bids_neurodecode.signals.atlas import region_table
from bids_neurodecode.systems.encoding.recipe import SHARED_NOISE, ceiling_notes
from bids_neurodecode.workflow.run import NO_ROOM, read_crash


def control_groups(folder, groups, files):
    """Write what the kernel says of the control groups of a process."""
    (folder / 'proc' / 'self').mkdir(parents=True)
    (folder / 'proc' / 'self' / 'cgroup').write_text(f'{groups}\n')
    for name, text in files.items():
        file = folder / 'sys' / 'fs' / 'cgroup' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{text}\n')


def test_processors_are_those_of_the_job(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 3}, raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 64)
    assert n_processors() == 2


@pytest.mark.parametrize(
    ('groups', 'files', 'expected'),
    [
        ('0::/job/step', {'job/memory.max': '1000', 'job/step/memory.max': 'max'}, [1000]),
        ('0::/', {'memory.max': '2000'}, [2000]),
        ('4:memory:/job\n3:cpu:/x', {'memory/job/memory.limit_in_bytes': '3000'}, [3000]),
        ('0::/job', {}, []),
    ],
)
def test_memory_is_that_of_the_control_group(tmp_path, groups, files, expected):
    control_groups(tmp_path, groups, files)
    assert memory_limits(tmp_path) == expected
    assert memory_limits(tmp_path / 'nothing') == []
    assert total_memory_gb() > 0


@pytest.mark.parametrize(
    ('groups', 'files', 'expected'),
    [
        ('0::/job/step', {'job/cpu.max': '150000 100000', 'job/step/cpu.max': 'max 1'}, [1.5]),
        (
            '4:cpu,cpuacct:/job',
            {'cpu/job/cpu.cfs_quota_us': '400000', 'cpu/job/cpu.cfs_period_us': '100000'},
            [4],
        ),
        (
            '4:cpu:/',
            {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'},
            [],
        ),
        ('0::/', {}, []),
    ],
)
def test_processors_are_those_that_the_control_group_allows(
    tmp_path, monkeypatch, groups, files, expected
):
    control_groups(tmp_path, groups, files)
    assert processor_quotas(tmp_path) == expected
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(checks_places, 'processor_quotas', lambda _: expected)
    assert n_processors() == {1.5: 2, 4: 4}.get(min(expected, default=8), 8)


def test_nodes_together_ask_for_no_more_than_the_job_has(monkeypatch, tmp_path):
    monkeypatch.setattr(levels, 'total_memory_gb', lambda: 1.0)
    monkeypatch.setattr(levels, 'n_processors', lambda: 2)
    argv = [str(tmp_path), str(tmp_path / 'out'), 'participant']
    settings = plugin_of(parse_arguments(argv)).arguments
    assert (settings['memory_gb'], settings['n_procs']) == (0.9, 2)
    assert plugin_of(parse_arguments([*argv, '--mem', '3G'])).arguments['memory_gb'] == 3


def test_what_is_closed_is_one_line(monkeypatch, capsys, tmp_path):
    def closed(*_: object) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied', '/others/work/cache')

    monkeypatch.setattr(program, '_run', closed)
    assert program.main([str(tmp_path), str(tmp_path / 'out'), 'participant']) == USAGE
    line = program.NO_PERMISSION.format(file='/others/work/cache')
    assert capsys.readouterr().err.strip() == f'error: {line}'
    monkeypatch.setattr(program, '_run', lambda *_: refuse())
    assert program.main([str(tmp_path), str(tmp_path / 'out'), 'participant']) == USAGE
    assert capsys.readouterr().err.startswith('error: A file or folder that this run needs cannot')


def test_a_full_disk_is_one_line(monkeypatch, capsys, tmp_path):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device', str(tmp_path / 'out' / 'a.tsv'))

    monkeypatch.setattr(program, '_run', full)
    argv = [str(tmp_path), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]
    assert program.main(argv) == FAILED
    line = program.NO_SPACE.format(where=f' in {tmp_path / "out"}')
    assert capsys.readouterr().err.strip() == f'error: {line}'

    def other(*_: object) -> None:
        raise OSError(errno.EIO, 'broken')

    monkeypatch.setattr(program, '_run', other)
    with pytest.raises(OSError, match='broken'):
        program.main(argv)


def test_an_empty_crash_file_points_to_the_disk(tmp_path):
    (tmp_path / 'crash.txt').write_text('')
    assert read_crash(tmp_path / 'crash.txt').reason == NO_ROOM.format(file=tmp_path / 'crash.txt')


def test_what_a_killed_run_had_begun_is_removed_and_nothing_else(tmp_path):
    mine = [tmp_path / '.tmp-abcsub-01.html', tmp_path / 'sub-01' / 'func' / '.tmp-xsub-01_a.tsv']
    others = [tmp_path / '.tmp-abcsub-02.html', tmp_path / 'sub-01' / 'func' / 'sub-01_a.tsv']
    for file in (*mine, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('')
    remove_leftovers(tmp_path, ['01'])
    assert not any(file.exists() for file in mine)
    assert all(file.exists() for file in others)


def test_a_work_folder_that_others_write_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / 'work'
    check_own(folder)  # it is made by the run
    folder.mkdir(mode=0o700)
    check_own(folder)
    folder.chmod(0o702)
    with pytest.raises(ArgumentsError, match=r'Others may write in .*chmod -R go-w'):
        check_own(folder)
    folder.chmod(0o700)
    monkeypatch.setattr(os, 'geteuid', lambda: folder.stat().st_uid + 1)
    check_own(folder)  # a file system that gives all files to one user
    monkeypatch.setattr(checks_places, 'TemporaryDirectory', lambda **_: refuse())
    with pytest.raises(ArgumentsError, match='belongs to another user'):
        check_own(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ('name', 'members', 'other', 'private'),
    [
        ('me', [], 0, True),
        ('me', ['me'], 0, True),
        ('me', ['you'], 0, False),
        ('staff', [], 0, False),
        ('me', [], 1, False),
    ],
)
def test_a_group_of_one_is_nobody_else(tmp_path, monkeypatch, name, members, other, private):
    tmp_path.chmod(0o770)
    user = SimpleNamespace(pw_name='me', pw_gid=tmp_path.stat().st_gid + other)
    group = SimpleNamespace(gr_name=name, gr_mem=members)
    monkeypatch.setattr(checks_places.pwd, 'getpwuid', lambda _: user)
    monkeypatch.setattr(checks_places.grp, 'getgrgid', lambda _: group)
    if private:
        check_own(tmp_path)
    else:
        with pytest.raises(ArgumentsError, match='Others may write'):
            check_own(tmp_path)


@pytest.mark.parametrize(
    ('number', 'raised', 'said'),
    [
        (errno.EACCES, ArgumentsError, 'belongs to another user'),
        (errno.ENOSPC, OSError, 'No space left'),
        (errno.EIO, ArgumentsError, 'cannot be written'),
    ],
)
def test_a_full_disk_is_no_other_user(tmp_path, monkeypatch, number, raised, said):
    def fail(**_):
        raise OSError(number, os.strerror(number))

    tmp_path.chmod(0o702)
    monkeypatch.setattr(checks_places, 'TemporaryDirectory', fail)
    with pytest.raises(raised, match=said):
        check_own(tmp_path)


def refuse():
    raise PermissionError(errno.EACCES, 'Permission denied')


def test_a_work_folder_is_nobody_elses(tmp_path):
    before = os.umask(0)
    try:
        with hold(tmp_path / 'a' / 'b', ['01']):
            assert (tmp_path / 'a' / 'b').stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_without_a_home_there_is_one_below_the_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(os, 'environ', os.environ.copy())

    def nobody() -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(Path, 'home', nobody)
    set_environment(tmp_path)
    assert os.environ['HOME'] == str(tmp_path)


def test_regions_of_one_name_are_told_apart():
    table = pd.DataFrame({'index': [3, 1, 2, 4], 'name': ['V1', 'V1', 'V2', 'V-1']})
    assert region_table(table)['name'].tolist() == ['V1 (1)', 'V2', 'V1 (3)', 'V-1']


def test_weights_that_were_not_fetched_are_named(tmp_path):
    entry = next(e for e in load_manifest().values() if e.kind == 'file' and not e.convert)
    folder = tmp_path / entry.name
    folder.mkdir()
    (folder / entry.needs[0]).write_text('/annex/objects/SHA256E-s9--ab.pth\n')
    with pytest.raises(InputError, match=r'was not fetched: .*datalad get'):
        weights_path(entry.name, tmp_path)


def test_repeats_within_a_run_make_ceilings_too_high():
    apart = pd.DataFrame({'stimulus': ['a', 'b', 'a', 'b'], 'run': [0, 0, 1, 1]})
    assert ceiling_notes(apart) == ()
    assert ceiling_notes(apart.assign(run=[0, 1, 0, 1])) == (SHARED_NOISE.format(some='All'),)
    some = pd.concat([apart, apart.iloc[:1]])
    assert ceiling_notes(some) == (SHARED_NOISE.format(some='Some'),)
