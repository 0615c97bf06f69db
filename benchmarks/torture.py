"""Runs that are killed, starved and crowded: ``python -m benchmarks.torture [--kills N]``.

Each system runs once undisturbed, on the smallest data, then from the settings that this left, and
on two threads. It is ended by SIGKILL, SIGTERM and SIGINT at random moments and resumed; moments
are counted in processor time, so that a busy machine moves none of them. The disk is filled while
it runs (output, work, log); one of its workers is killed; several runs write into one folder;
locks of the dead lie about; folders are read-only or another user's; a control group has too
little memory. In the end the output has the same bytes as the undisturbed run's (times and run ids
aside), and after every kill each file under a final name is whole. Full disks, closed folders and
control groups need root, which may mount: else they are skipped, and that is said.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from benchmarks import golden

KINDS = ('conditions', 'retrieval', 'ridge', 'films', 'films-network', 'small')
"""The smallest run of each system, and of what trains in processes of its own."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDED = {signal.SIGKILL: -9, signal.SIGTERM: 130, signal.SIGINT: 130}
"""Exit codes of a run that a signal ended."""
LEFT = re.compile(r'^only in .*/crash-[^/]*\.txt$|\.lock$')
"""What may differ: crash files of steps that failed before, and what the dead wrote into locks."""
TRAINED = ('network|frames', '0.3')
"""Files of a network trained anew, and how far they may differ: what one weight does that starts
one unit in its last place higher, on one thread (at most .29 of 100; docs/limits.md)."""
LIMIT = 3600
"""Seconds of patience with one run."""


class Kind:
    """One kind of golden run, with workers, below a folder of its own."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.golden = golden.RUNS[name]
        golden.simulate(root, {self.golden.data})

    @property
    def data(self) -> Path:
        """The simulated dataset."""
        return self.root / 'data' / self.golden.data

    def place(self, label: str) -> Path:
        """Return the folder of one disturbed run."""
        return self.root / label / self.name

    def command(
        self,
        label: str,
        *more: str,
        settings: str = '',
        work: str = 'work',
        level: str = 'participant',
    ) -> list[str]:
        """Return the command line of one disturbed run."""
        place = self.place(label)
        place.mkdir(parents=True, exist_ok=True)
        options = [x for x in self.golden.options if x != '--participant-label' and x != '01']
        if 'ATLAS' in options:
            (atlas,) = self.data.rglob('*atlas-Sim_dseg.nii.gz')
            options[options.index('ATLAS')] = str(atlas)
        file = place / f'{work}.toml'
        file.write_text(settings or self.golden.settings)
        return [
            *(sys.executable, '-m', 'bids_neurodecode.cli', str(self.data), str(place / 'out')),
            *(level, '-w', str(place / work), '--skip-bids-validation', '--device', 'cpu'),
            *('--nprocs', '2', '--omp-nthreads', '1', '--config-file', str(file), *options),
            *(more or ('--participant-label', '01') if level == 'participant' else ()),
        ]

    def start(self, label: str, command: list[str], **options: object) -> subprocess.Popen[str]:
        """Start a run whose errors go to a file."""
        log = (self.place(label) / 'log.txt').open('a+')
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, **options)  # type: ignore[call-overload]

    def run(self, label: str, **options: object) -> int:
        """Run to the end; return the exit code."""
        return self.start(label, self.command(label), **options).wait(LIMIT)

    def said(self, label: str) -> str:
        """Return what runs wrote to the terminal."""
        return (self.place(label) / 'log.txt').read_text()

    def differs(self, label: str) -> list[str]:
        """Compare the output with that of the undisturbed run."""
        mine, theirs = (self.place(x) / 'out' for x in ('whole', label))
        return [x for x in golden.differences(mine, theirs) if not LEFT.search(x)]


def broken(out: Path) -> list[str]:
    """Return the files under a final name that are not whole."""
    files = sorted(x for x in out.rglob('*') if x.is_file() and not x.name.startswith('.'))
    return [str(file.relative_to(out)) for file in files if not whole(file)]


def whole(file: Path) -> bool:
    """Read a file of any kind that the program writes to its end."""
    import av
    import nibabel as nib
    from PIL import Image
    from safetensors.numpy import load_file

    if golden.TIMED.search(file.name):
        return True
    try:
        if file.name.endswith(('.nii.gz', '.nii', '.gii')):
            np.asarray(nib.load(file).dataobj)
        elif file.suffix == '.json':
            json.loads(file.read_text())
        elif file.suffix == '.html':
            return file.read_text().rstrip().endswith('</html>')
        elif file.suffix == '.png':
            Image.open(file).load()
        elif file.suffix == '.safetensors':
            load_file(file)
        elif file.suffix == '.mp4':
            with av.open(str(file)) as film:
                return sum(1 for _ in film.decode(video=0)) > 0
        elif file.suffix in {'.tsv', '.md', '.bib', '.toml', '.svg'}:
            return file.read_text().endswith(('\n', '>'))
    except Exception as error:  # noqa: BLE001  any reader's
        print(f'  {file}: {error!r}')
        return False
    return True


def spent(pid: int) -> float:
    """Return the processor time of a run and of all that it started, in seconds."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        run = psutil.Process(pid)
        for process in (run, *run.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # its own, and of those that ended below it
    return total


def reached(process: subprocess.Popen[str], moment: float) -> bool:
    """Wait until a run has taken so much processor time; tell whether it still goes on."""
    while process.poll() is None:
        if spent(process.pid) >= moment:
            return True
        time.sleep(0.05)
    return False


def kills(kind: Kind, n: int, rng: np.random.Generator, longest: float) -> Iterator[str]:
    """End a run ``n`` times at random moments, four at most in one output; yield what is wrong.

    A run that ends before its moment is none of the ``n``: its output is compared.
    """
    landed = chain = 0
    while landed < n:
        label = f'killed-{chain}'
        shutil.rmtree(kind.place(label), ignore_errors=True)
        for life in range(5):
            process = kind.start(label, kind.command(label))
            # what was done is not done again
            share = float(rng.uniform(0.05, 1.0 if life == 0 else 0.7))
            number = SIGNALS[int(rng.integers(len(SIGNALS)))]
            if life == 4 or landed == n or not reached(process, share * longest):
                if (code := process.wait(LIMIT)) != 0:
                    yield f'{label}: resumed, exit {code}'
                break
            workers = workers_of(process.pid)
            process.send_signal(number)
            code = process.wait(LIMIT)
            landed += code != 0
            print(f'  {label}: {number.name} at {share:.0%}, exit {code}', flush=True)
            # a signal may come before the program listens, or as it ends
            if code not in {ENDED[number], -number, 0}:
                yield f'{label}: exit {code} after {number.name}'
            _, alive = psutil.wait_procs(workers, timeout=60)
            if alive:
                yield f'{label}: {len(alive)} processes outlive {number.name}'
            out = kind.place(label) / 'out'
            yield from (f'{label}: not whole after {number.name}: {x}' for x in broken(out))
        yield from (f'{label}: {line}' for line in kind.differs(label))
        left = [x.name for x in (kind.place(label) / 'out').rglob('.tmp-*')]
        yield from (f'{label}: left behind: {name}' for name in left)
        if 'Traceback' in kind.said(label):
            yield f'{label}: a traceback, see log.txt'
        chain += 1
    print(f'{kind.name}: {landed} signals in {chain} outputs', flush=True)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(['mount', *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=False)


def can_mount(root: Path) -> bool:
    """Tell whether file systems can be mounted here."""
    if os.geteuid() != 0:
        return False
    (root / 'try').mkdir(exist_ok=True)
    tried = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', str(root / 'try')],
        capture_output=True,
        check=False,
    )
    subprocess.run(['umount', str(root / 'try')], capture_output=True, check=False)
    return tried.returncode == 0


def full_disk(kind: Kind, where: str, rng: np.random.Generator, longest: float) -> Iterator[str]:
    """Fill the disk below one folder while a run writes to it; then make room and resume."""
    label = f'full-{where.replace("/", "-")}'
    folder = kind.place(label) / where
    with mounted(folder, '-t', 'tmpfs', '-o', 'size=2g', 'none'):
        process = kind.start(label, kind.command(label))
        ballast = folder / '.ballast'
        if reached(process, float(rng.uniform(0.2, 0.7)) * longest):
            # from here on all that is free is taken, again and again
            with ballast.open('wb', buffering=0) as stream:
                while process.poll() is None:
                    try:
                        stream.write(bytes(1 << 20))
                    except OSError:
                        time.sleep(0.05)
        code = process.wait(LIMIT)
        ballast.unlink(missing_ok=True)
        said = kind.said(label)
        if code not in {0, 1, 2, 3}:
            yield f'{label}: exit {code}'
        if 'Traceback' in said:
            yield f'{label}: a traceback, see log.txt'
        if code and not any(x in said for x in ('space', 'disk', 'Disk')):
            yield f'{label}: exit {code} says nothing of the disk: {said[-300:]!r}'
        yield from (f'{label}: not whole: {x}' for x in broken(kind.place(label) / 'out'))
        print(f'  {label}: exit {code}')
        if (code := kind.run(label)) != 0:
            yield f'{label}: with room again, exit {code}'
        yield from (f'{label}: {line}' for line in kind.differs(label))


def killed_worker(kind: Kind, rng: np.random.Generator, longest: float) -> Iterator[str]:
    """Kill a worker as the kernel does where memory is short; then resume."""
    label = 'worker'
    process = kind.start(label, kind.command(label))
    killed = False
    moment = float(rng.uniform(0.3, 0.6)) * longest
    while not killed and reached(process, moment):
        if workers := workers_of(process.pid):
            workers[int(rng.integers(len(workers)))].kill()
            killed = True
        time.sleep(0.05)
    process.wait(LIMIT)
    said = kind.said(label)
    print(f'  {label}: killed {killed}, exit {process.returncode}')
    if process.returncode not in {0, 1, 3}:
        yield f'{label}: exit {process.returncode}'
    if 'Traceback' in said:
        yield f'{label}: a traceback, see log.txt'
    if (code := kind.run(label)) != 0:
        yield f'{label}: resumed, exit {code}'
    yield from (f'{label}: {line}' for line in kind.differs(label))


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the workers of a run; none where it ends."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [x for x in children if 'spawn_main' in ''.join(x.cmdline())]
    except psutil.NoSuchProcess:  # zombies too
        return []


def two_settings(kind: Kind) -> Iterator[str]:
    """Two settings into one folder: one run is refused, and the other's results are whole."""
    label = 'two'
    other = kind.golden.settings.replace('n_permutations = 20', 'n_permutations = 30')
    both = [
        kind.start(label, kind.command(label)),
        kind.start(label, kind.command(label, settings=other, work='other')),
    ]
    codes = sorted(x.wait(LIMIT) for x in both)
    print(f'  {label}: exits {codes}')
    if codes != [0, 2] or 'being written by another run' not in kind.said(label):
        yield f'{label}: exits {codes}, and not one run of two'
    if (code := kind.run(label)) != 0:
        yield f'{label}: then one alone, exit {code}'
    yield from (f'{label}: {line}' for line in kind.differs(label))


def crowd(root: Path, n: int) -> Iterator[str]:
    """Several participants into one folder at once, then the group, give what one call gives."""
    kind = Kind('conditions', root / 'crowd')
    if not (data := root / 'crowd' / 'data' / 'crowd').exists():
        tool = [sys.executable, '-m', 'bids_neurodecode.cli.tools', 'demo', str(data)]
        options = golden.DATA['pictures'].replace('--n-subjects 2', f'--n-subjects {n}').split()
        subprocess.run([*tool, *options], check=True, stdout=subprocess.DEVNULL)
    kind.golden = golden.Golden('crowd', kind.golden.settings, ('--system', 'conditions'))
    labels = [f'{number:02d}' for number in range(1, n + 1)]
    alone = kind.command('whole', '--participant-label', *labels)
    if (code := kind.start('whole', alone).wait(LIMIT)) != 0:
        yield f'crowd: in one call, exit {code}'
    processes = [
        kind.start('crowd', kind.command('crowd', '--participant-label', label))
        for label in labels
    ]
    codes = [process.wait(LIMIT) for process in processes]
    print(f'crowd: exits {codes}', flush=True)
    if any(codes):
        yield f'crowd: exits {codes}'
    for label in ('whole', 'crowd'):
        yield from (f'{label}: not whole: {x}' for x in broken(kind.place(label) / 'out'))
        if (code := kind.start(label, kind.command(label, level='group')).wait(LIMIT)) != 0:
            yield f'{label}: group, exit {code}'
    print(f'crowd: {len(golden.contents(kind.place("crowd") / "out"))} files', flush=True)
    yield from (f'crowd: {line}' for line in kind.differs('crowd'))


def stale_locks(kind: Kind, longest: float) -> Iterator[str]:
    """Locks of runs that died, on this host or another, stop nothing."""
    label = 'stale'
    process = kind.start(label, kind.command(label))
    if reached(process, 0.5 * longest):
        process.kill()
    process.wait(LIMIT)
    locks = [x for x in kind.place(label).rglob('.*') if x.suffix == '.lock']
    for lock in locks:
        lock.write_text('4242\nnode-that-died\n')
    print(f'  {label}: {len(locks)} locks')
    if not locks:
        yield f'{label}: no lock was left'
    if (code := kind.run(label)) != 0:
        yield f'{label}: exit {code}'
    yield from (f'{label}: {line}' for line in kind.differs(label))


def read_only(kind: Kind) -> Iterator[str]:
    """Read-only data are no obstacle; a read-only output or work folder is one line, code 2."""
    for what, expected in (('data', 0), ('out', 2), ('work', 2)):
        label = f'ro-{what}'
        folder = kind.data if what == 'data' else kind.place(label) / what
        folder.mkdir(parents=True, exist_ok=True)
        command = kind.command(label)
        inner = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"'
        code = kind.start(label, ['unshare', '-m', 'sh', '-c', inner, 'sh', *command]).wait(LIMIT)
        said = kind.said(label)
        print(f'  {label}: exit {code}')
        if code != expected or 'Traceback' in said:
            yield f'{label}: exit {code}: {said[-300:]!r}'
        if expected == 0:
            yield from (f'{label}: {line}' for line in kind.differs(label))


def own_config(kind: Kind) -> Iterator[str]:
    """The settings that the undisturbed run wrote, and no others, give the same bytes."""
    label = 'own-config'
    (config,) = (kind.place('whole') / 'out').glob('sub-01/log/*/config.toml')
    command = kind.command(label, settings=config.read_text())
    for option in ('--system', '--atlas'):
        if option in command:
            at = command.index(option)
            del command[at : at + 2]
    if (code := kind.start(label, command).wait(LIMIT)) != 0:
        yield f'{label}: exit {code}'
    yield from (f'{label}: {line}' for line in kind.differs(label))


def two_threads(kind: Kind) -> Iterator[str]:
    """Two threads a step, and one worker, give the same numbers within the tolerance."""
    label = 'threads'
    command = kind.command(label)
    command[command.index('--omp-nthreads') + 1] = '2'
    command[command.index('--nprocs') + 1] = '1'
    if (code := kind.start(label, command).wait(LIMIT)) != 0:
        yield f'{label}: exit {code}'
    places = [str(kind.place(x) / 'out') for x in ('whole', label)]
    # of two penalties as good as equal (10^-5 of variance explained) rounding may take either
    tolerances = ['5e-3', *(TRAINED if kind.name == 'films-network' else ())]
    compare = [
        *(sys.executable, str(golden.ROOT / '.ci' / 'compare_outputs.py'), *places, *tolerances)
    ]
    done = subprocess.run(compare, capture_output=True, text=True, check=False)
    print(f'  {label}: {done.stdout.strip().splitlines()[-1:]}')
    if done.returncode:
        yield f'{label}: {done.stdout[-300:]!r}'


@contextmanager
def limited(n_bytes: int) -> Iterator[Path]:
    """Make a control group with a limit of memory; yield the file that processes join it by.

    Raises
    ------
    OSError
        Where none can be made.
    """
    top = Path('/sys/fs/cgroup')
    first = (top / 'memory' / 'memory.limit_in_bytes').is_file()
    folder = (top / 'memory' if first else top) / f'torture-{os.getpid()}'
    folder.mkdir()
    try:
        file = folder / ('memory.limit_in_bytes' if first else 'memory.max')
        file.write_text(str(n_bytes))
        yield folder / 'cgroup.procs'
    finally:
        end = time.monotonic() + 60  # for as long as any of its processes ends
        while folder.is_dir() and time.monotonic() < end:
            with suppress(OSError):
                folder.rmdir()
            time.sleep(0.1)


def control_group(kind: Kind) -> Iterator[str]:
    """A control group's limit is seen before work; where it is passed by, the kernel kills."""
    label = 'cgroup'
    plugin = kind.place(label) / 'plugin.yml'
    command = kind.command(label)
    plugin.write_text('plugin: MultiProc\nplugin_args: {n_procs: 2, memory_gb: 64}\n')
    try:
        # 3: the step that makes the page was killed, or one that others do not need
        for more, expected in (([], {2}), (['--use-plugin', str(plugin)], {-9, 1, 3})):
            with limited(600 << 20) as procs:
                inner = f'echo $$ > {procs} && exec "$@"'
                code = kind.start(label, ['sh', '-c', inner, 'sh', *command, *more]).wait(LIMIT)
            said = kind.said(label)
            print(f'  {label}: exit {code}: {said.strip().splitlines()[-1]}')
            if code not in expected or 'Traceback' in said:
                yield f'{label}: exit {code}: {said[-300:]!r}'
    except OSError as error:
        print(f'SKIP {label}: {error}')
        return
    yield from (f'{label}: not whole: {x}' for x in broken(kind.place(label) / 'out'))
    if (code := kind.run(label)) != 0:
        yield f'{label}: resumed, exit {code}'
    yield from (f'{label}: {line}' for line in kind.differs(label))


RIGHTS = 'dac_override,-dac_read_search'
"""What lets root pass by the permissions of files; without, others' folders are closed to it."""


def closed(kind: Kind) -> Iterator[str]:
    """Others' folders: output and work are refused, and a participant is left out alone."""
    data = kind.place('closed') / 'data'
    drop = ['setpriv', f'--bounding-set=-{RIGHTS}', f'--inh-caps=-{RIGHTS}', '--']
    if not data.exists():
        shutil.copytree(kind.data, data)
    for what, expected in (('out', 2), ('work', 2), ('data', 1)):
        label = f'closed-{what}'
        command = kind.command(label, '--participant-label', '01', '02')
        folder = kind.place(label) / what
        if what == 'data':
            command[command.index(str(kind.data))] = str(data)
            folder = data / 'sub-02'
        folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, 65534)
        folder.chmod(0o700)
        code = kind.start(label, [*drop, *command]).wait(LIMIT)
        said = kind.said(label)
        print(f'  {label}: exit {code}: {said.strip().splitlines()[-1]}')
        if code != expected or 'Traceback' in said:
            yield f'{label}: exit {code}: {said[-300:]!r}'
    pages = [x.name for x in (kind.place('closed-data') / 'out').glob('sub-*.html')]
    if pages != ['sub-01.html']:
        yield f'closed-data: pages {pages}'


def children() -> float:
    """Return the processor time of all that was started and has ended, in seconds."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def torture(kind: Kind, n: int, rng: np.random.Generator, faults: bool) -> list[str]:
    """Do everything to one kind of run; return what is wrong."""
    began = children()
    shutil.rmtree(kind.place('whole'), ignore_errors=True)
    if (code := kind.run('whole')) != 0:
        return [f'undisturbed: exit {code}']
    longest = children() - began
    files = len(golden.contents(kind.place('whole') / 'out'))
    size = sum(x.stat().st_size for x in (kind.place('whole') / 'out').rglob('*') if x.is_file())
    print(
        f'{kind.name}: {files} files, {size} bytes, {longest:.0f} s of processor time', flush=True
    )
    wrong = list(kills(kind, n, rng, longest))
    wrong += own_config(kind)
    wrong += two_threads(kind)
    if faults:
        acts = [killed_worker(kind, rng, longest), two_settings(kind), stale_locks(kind, longest)]
        if can_mount(kind.root):
            acts += [full_disk(kind, x, rng, longest) for x in ('out', 'work', 'out/logs')]
            acts += [read_only(kind), control_group(kind), closed(kind)]
        else:
            print('SKIP full disks, closed folders and limits: nothing can be mounted here')
        for act in acts:
            wrong += act
            sys.stdout.flush()
    return wrong


def main() -> int:
    """Torture; the exit code says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20, help='of each system')
    parser.add_argument('--only', nargs='*', default=list(KINDS), choices=KINDS)
    parser.add_argument('--faults', nargs='*', default=['conditions'], choices=KINDS)
    parser.add_argument('--crowd', type=int, default=8, help='participants in one folder at once')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', type=Path, help='where everything is kept')
    args = parser.parse_args()
    # a shell's background job ignores it, and what it starts would too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = args.folder or Path(tempfile.mkdtemp(prefix='torture-'))
    root.mkdir(parents=True, exist_ok=True)
    wrong: Mapping[str, list[str]] = {
        name: torture(
            Kind(name, root.resolve()),
            args.kills,
            np.random.default_rng([args.seed, number]),
            name in args.faults,
        )
        for number, name in enumerate(args.only)
    }
    if args.crowd:
        wrong |= {'crowd': list(crowd(root.resolve(), args.crowd))}
    for name, lines in wrong.items():
        print(f'{name}: {len(lines)} wrong')
        print(*(f'  {line}' for line in lines), sep='\n')
    if args.folder is None and not any(wrong.values()):
        shutil.rmtree(root)
    return int(any(wrong.values()))


if __name__ == '__main__':
    sys.exit(main())
