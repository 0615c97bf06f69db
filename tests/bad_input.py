"""How kinds of bad input are tried: one line, nothing written, the other participants unharmed."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.cli.checks import check_all
from bids_neurodecode.cli.exits import USAGE
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.parser import parse_arguments, settings_from
from bids_neurodecode.errors import LONGEST

FILM = {'film': 'film.mp4'}
"""Of a dataset that shows a film."""
WAY_OUT = re.compile(
    r'\b(give|choose|add|fix|regenerate|check|correct|run|make|replace|copy|leave|use|ask|name|found|'
    r'known|see|pass|get|split|write|free|install|fetch|resample|keep|remove|save|take|change|show|'
    r'put|download|presets?|recipes|studies|types|invalid setting)\b',
    re.IGNORECASE,
)
Spoil = Callable[..., list[str] | None]


@dataclass
class Kinds:
    """The kinds of bad input, gathered by decorators in ``tests/bad``."""

    all: list[Any] = field(default_factory=list)
    of_one: list[Any] = field(default_factory=list)

    def __call__(self, line: str, *, one: bool = False, **spec: Any) -> Callable[[Spoil], Spoil]:
        """Register a function that spoils a dataset, and what the error says of it.

        The function may return further arguments. ``one``: the data of one participant are
        spoiled, and the others go on. ``spec`` says what dataset it is.
        """

        def register(spoil: Spoil) -> Spoil:
            kind = pytest.param(spoil, line, spec, id=spoil.__name__)
            self.all.append(kind)
            if one:
                self.of_one.append(kind)
            return spoil

        return register


fault = Kinds()


def spoiled(spoil: Spoil, data: Any, datasets: Any) -> list[str]:
    """Spoil a dataset; return the further arguments."""
    wants = spoil.__code__.co_varnames[: spoil.__code__.co_argcount]
    return (spoil(data, datasets) if 'datasets' in wants else spoil(data)) or []


def refused(argv: list[str], line: str, folder: Path, capsys: Any) -> None:
    """Check that a call ends with code 2 and one line that says a way out, and writes nothing."""
    before = listing(folder)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always', UserWarning)
        warnings.simplefilter('always', RuntimeWarning)
        code, stderr = run_cli(argv, capsys)
    lines = [said for said in stderr.splitlines() if said.startswith('error: ')]
    assert code == USAGE, stderr
    assert 'Traceback' not in stderr
    assert len(lines) == 1, stderr
    # others are shown to developers alone
    seen = [each for each in warned if issubclass(each.category, UserWarning | RuntimeWarning)]
    assert not seen, [str(each.message) for each in seen]
    assert len(lines[0]) < LONGEST + 100
    assert re.search(line, lines[0]), lines[0]
    assert WAY_OUT.search(lines[0]), lines[0]
    assert listing(folder) == before


def left_out(spoil: Spoil, line: str, data: Any, datasets: Any) -> None:
    """Check that participants 02 and 03 are read where the data of 01 are spoiled."""
    extra = spoiled(spoil, data, datasets)
    inputs = check(data, extra)
    assert [person.label for person in inputs.participants] == ['02', '03']
    assert set(inputs.failures) == {'01'}
    assert re.search(line, inputs.failures['01'])
    assert '\n' not in inputs.failures['01']


def run_cli(argv: list[str], capsys: Any) -> tuple[int, str]:
    """Call the program in this process: its exit code and what it writes to stderr."""
    return main([*argv, '--dry-run']), capsys.readouterr().err


def check(data: Any, extra: Any = ()) -> Any:
    """Return what the checks find."""
    arguments = parse_arguments(command(data, extra))
    return check_all(arguments, settings_from(arguments))


def command(data: Any, extra: Any = ()) -> list[str]:
    """Return the command line for a dataset; OUTPUT and LEVEL in ``extra`` replace the usual."""
    extra = list(extra)
    usual = {'OUTPUT': str(data.root.parent / 'out'), 'LEVEL': 'participant'}
    for key in usual:
        if key in extra:
            place = extra.index(key)
            usual[key] = extra[place + 1]
            del extra[place : place + 2]
    work = [] if '--work-dir' in extra else ['--work-dir', str(data.root.parent / 'work')]
    options = ['--skip-bids-validation', *work, *extra]
    return [str(data.root), usual['OUTPUT'], usual['LEVEL'], *options]


def listing(folder: Path) -> dict[Path, int | None]:
    """Return all files and folders, and when files were changed."""
    return {
        path: path.lstat().st_mtime_ns if path.is_file() else None for path in folder.rglob('*')
    }


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def config(data: Any, text: str) -> list[str]:
    """Write settings beside the dataset; return the arguments that name them."""
    file = data.root.parent / 'config.toml'
    file.write_text(text)
    return ['--config-file', str(file)]


def filters(data: Any, content: Any) -> list[str]:
    """Write filters beside the dataset; return the arguments that name them."""
    file = data.root.parent / 'filters.json'
    file.write_text(json.dumps(content))
    return ['--bids-filter-file', str(file)]


def plugin(data: Any, text: str) -> list[str]:
    """Write a plugin file beside the dataset; return the arguments that name it."""
    file = data.root.parent / 'plugin.yml'
    file.write_text(text)
    return ['--use-plugin', str(file)]


def set_stimulus(data: Any, name: str, **run: Any) -> None:
    """Let the first trial of a run show a stimulus."""
    data.rewrite_events([[2, 2, 'x', name], [6, 2, 'y', 'b.png']], **run)


def write_atlas(data: Any, labels: np.ndarray, origin: float = 0.0) -> Path:
    """Write an atlas of two parcels beside the dataset."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = origin
    path = data.root.parent / 'my_space-MNI152NLin6Asym_dseg.nii.gz'
    nib.save(nib.Nifti1Image(labels.astype(np.int16), affine), path)
    path.with_name('my_space-MNI152NLin6Asym_dseg.tsv').write_text('index\tname\n1\tV1\n2\tV2\n')
    return path
