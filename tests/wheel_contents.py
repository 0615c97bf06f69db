"""Check that a wheel holds every data file: ``python -m tests.wheel_contents WHEEL``."""

import sys
import zipfile
from pathlib import Path


def missing_files(wheel: Path) -> list[str]:
    """Return the package's tracked files that the wheel lacks."""
    root = Path(__file__).resolve().parents[1]
    package = root / 'bids_neurodecode'
    expected = {
        path.relative_to(root).as_posix()
        for path in package.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        return sorted(expected - set(archive.namelist()))


if __name__ == '__main__':
    lacking = missing_files(Path(sys.argv[1]))
    sys.exit(f'The wheel lacks {", ".join(lacking)}' if lacking else 0)
