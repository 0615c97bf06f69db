"""Getting pretrained weights: from the web, from the Hugging Face hub, or from a local copy.

Only ever called because a person asked for it. A download that breaks off is kept and goes on
where it stopped; nothing gets its final name before it was compared with what the manifest knows.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import ArgumentsError, DataError, InputError, ResourceError, raised_as
from bids_neurodecode.models.weights import (
    CONVERTED,
    RECORD,
    Progress,
    WeightsEntry,
    hash_file,
    record_files,
    verify_weights,
)
from bids_neurodecode.text import one_line

if TYPE_CHECKING:
    import requests

NOT_FETCHED = (
    'Cannot fetch the weights {name!r} from {source}: {reason}. Try again (a download goes on '
    'where it stopped), or copy them by hand and use "bids_neurodecode-tools weights import '
    '{name} PATH".'
)
WRONG_FILE = (
    'The weights {name!r} from {source} are not the published ones: {reason}. '
    'Nothing of them was kept.'
)
NO_SUCH_COPY = 'There is no {what} {path} to import the weights {name!r} from.'
LACKS = 'The folder {path} is no copy of the weights {name!r}: it lacks {file}.'
NO_CONVERSION = 'The weights {name!r} ask for an unknown conversion: {convert}.'
NO_SPACE = (
    'The weights {name!r} need {needed:.1f} GB, and {free:.1f} GB are free in {folder}. '
    'Free some, or choose another folder with --weights-dir.'
)
NOT_WRITABLE = 'The folder of weights {folder} cannot be written: {reason}.'

_TIMEOUT = (10, 60)  # seconds to connect, and between two packets
_ATTEMPTS = 3
_BLOCK = 1 << 16  # bytes; a broken connection loses the block under way
_VALIDATORS = ('ETag', 'Last-Modified')

NOT_WEIGHTS = 'The file {file} cannot be converted: {reason}. It must hold tensors alone.'

_OWN_NAMES = {'pytorch_model.bin': 'model.safetensors'}
_PICKLES = frozenset({'pytorch_model.bin', 'diffusion_pytorch_model.bin'})


def fetch_weights(
    entry: WeightsEntry,
    weights_dir: Path,
    *,
    progress: Progress | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download weights, compare them with the manifest, and record them.

    Weights that are there and whole are left as they are.

    Parameters
    ----------
    entry
        Of the manifest.
    weights_dir
        The folder of weights; made if need be.
    progress
        Called with (bytes, all bytes) of the file under way.
    endpoint
        Another address of the Hugging Face hub (a mirror).

    Returns
    -------
    pathlib.Path
        The file, or the folder of a repository.

    Raises
    ------
    DataError
        If a download fails, or is not what was published.
    ResourceError
        If the folder cannot be written, or is too small.
    """
    if verify_weights(entry, weights_dir).state == 'good':  # before anything is written
        return entry.path_in(weights_dir)
    with _locked(entry, weights_dir):
        if verify_weights(entry, weights_dir).state == 'good':  # another process was faster
            return entry.path_in(weights_dir)
        folder = weights_dir / entry.name
        (folder / RECORD).unlink(missing_ok=True)
        if entry.kind == 'hub':
            source = _fetch_repository(entry, folder, endpoint)
            record_files(folder, source)
        else:
            _fetch_file(entry, folder, progress)
        return entry.path_in(weights_dir)


def import_weights(entry: WeightsEntry, source: Path, weights_dir: Path) -> Path:
    """Take weights from a local copy: compare them with the manifest, copy and record them.

    Parameters
    ----------
    entry
        Of the manifest.
    source
        The published file (or its safetensors form), or the folder of a repository.
    weights_dir
        The folder of weights; made if need be.

    Returns
    -------
    pathlib.Path
        The file, or the folder of a repository.

    Raises
    ------
    InputError
        If the copy is not there, incomplete, or not what was published.
    ResourceError
        If the folder cannot be written.
    """
    is_there = source.is_dir() if entry.kind == 'hub' else source.is_file()
    if not is_there:
        what = 'folder' if entry.kind == 'hub' else 'file'
        raise InputError(NO_SUCH_COPY.format(what=what, path=source, name=entry.name))
    with _locked(entry, weights_dir):
        folder = weights_dir / entry.name
        if entry.kind == 'hub':
            _import_repository(entry, source, folder)
            record_files(folder, str(source))
        else:
            _import_file(entry, source, folder)
    return entry.path_in(weights_dir)


def _fetch_file(entry: WeightsEntry, folder: Path, progress: Progress | None) -> None:
    import pooch

    target = folder / entry.file
    target.unlink(missing_ok=True)  # it was found damaged, or never compared with anything
    pooch.get_logger().setLevel('WARNING')
    failed = ''
    for url in entry.urls:
        try:
            pooch.retrieve(
                url,
                known_hash=None,
                fname=entry.file,
                path=folder,
                downloader=_Resuming(entry, folder, progress),
            )
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            failed = NOT_FETCHED.format(
                name=entry.name, source=url, reason=one_line(error).rstrip('.')
            )
            continue
        found = hash_file(target)
        wrong = _differs(entry, target, found)
        if wrong:
            target.unlink()
            failed = WRONG_FILE.format(name=entry.name, source=url, reason=wrong)
            continue
        _keep(entry, target, folder, url, found)
        return
    raise DataError(failed)


def _import_file(entry: WeightsEntry, source: Path, folder: Path) -> None:
    found = hash_file(source)
    converted = bool(entry.convert) and source.suffix == '.safetensors'
    wrong = '' if converted else _differs(entry, source, found)
    if wrong:
        raise InputError(WRONG_FILE.format(name=entry.name, source=source, reason=wrong))
    if entry.convert:
        _convert(entry, source, folder / CONVERTED)
        # the published file's hash is not known from its converted form
        record_files(folder, str(source), '' if converted else found)
        return
    _copy(source, folder / entry.file)
    record_files(folder, str(source), found)


def _keep(entry: WeightsEntry, target: Path, folder: Path, source: str, found: str) -> None:
    if entry.convert:
        try:
            _convert(entry, target, folder / CONVERTED)
        finally:
            target.unlink()
    record_files(folder, source, found)


def _convert(entry: WeightsEntry, source: Path, target: Path) -> None:
    from bids_neurodecode.models.vdvae_checkpoint import convert_vdvae
    from bids_neurodecode.models.vdvae_config import vdvae_preset

    what, _, configuration = entry.convert.partition(':')
    if what != 'vdvae':
        raise ArgumentsError(NO_CONVERSION.format(name=entry.name, convert=entry.convert))
    convert_vdvae(source, target, vdvae_preset(configuration))


def _differs(entry: WeightsEntry, file: Path, digest: str) -> str:
    """Say how a file differs from the published one; nothing if it does not."""
    size = file.stat().st_size
    if entry.size and size != entry.size:
        return f'it has {size} bytes instead of {entry.size}'
    if not digest.startswith(entry.sha256):
        return f'its SHA-256 is {digest[:16]}... instead of {entry.sha256[:16]}...'
    return '' if size else 'it is empty'


def _fetch_repository(entry: WeightsEntry, folder: Path, endpoint: str | None) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # the hub's own errors do not cover those of connecting, which its HTTP library raises
    failures: tuple[type[BaseException], ...] = (
        OSError,
        ValueError,
        *HfHubHTTPError.__bases__,
    )
    api = HfApi(endpoint=endpoint)
    source = f'{endpoint or "huggingface.co"}/{entry.repo}'
    try:
        # asked for first: without a network the download would take an incomplete folder as it is
        commit = api.repo_info(entry.repo, revision=entry.revision).sha
        tree = list(api.list_repo_tree(entry.repo, recursive=True, revision=commit))
        snapshot_download(
            entry.repo,
            revision=commit,
            local_dir=folder,
            allow_patterns=_chosen(entry, [item.path for item in tree]),
            endpoint=endpoint,
        )
    except failures as error:
        reason = one_line(error).rstrip('.')
        raise DataError(
            NOT_FETCHED.format(name=entry.name, source=source, reason=reason)
        ) from error
    _compare_with_tree(entry, folder, tree, source)
    _convert_pickles(entry, folder)
    _check_complete(entry, folder, source)
    return f'{source}@{commit}'


def _compare_with_tree(entry: WeightsEntry, folder: Path, tree: list[Any], source: str) -> None:
    chosen = set(_chosen(entry, [item.path for item in tree]))
    for item in tree:
        file = folder / item.path
        size = getattr(item, 'size', None)
        if size is None or item.path not in chosen:
            continue
        reason = ''
        if not file.is_file() or file.stat().st_size != size:
            reason = f'{item.path} does not have {size} bytes'
        elif item.lfs is not None and hash_file(file) != item.lfs.sha256:
            reason = f'the SHA-256 of {item.path} differs'
        if reason:
            file.unlink(missing_ok=True)
            raise DataError(WRONG_FILE.format(name=entry.name, source=source, reason=reason))


def _check_complete(entry: WeightsEntry, folder: Path, source: str) -> None:
    lacking = [name for name in entry.requires if not (folder / name).is_file()]
    if lacking:
        reason = f'{lacking[0]} is not there'
        raise DataError(WRONG_FILE.format(name=entry.name, source=source, reason=reason))


def _import_repository(entry: WeightsEntry, source: Path, folder: Path) -> None:
    files = [file.relative_to(source) for file in sorted(source.rglob('*')) if file.is_file()]
    names = [x.as_posix() for x in files if not any(part.startswith('.') for part in x.parts)]
    chosen = _chosen(entry, names)
    kept = {safetensors_name(x) if is_pickle(x, entry.requires) else x for x in chosen}
    for required in entry.requires:
        if required not in kept:
            raise InputError(LACKS.format(path=source, name=entry.name, file=required))
    for name in chosen:
        _copy(source / name, folder / name)
    _convert_pickles(entry, folder)


def _convert_pickles(entry: WeightsEntry, folder: Path) -> None:
    for file in sorted(folder.rglob('*.bin')):
        if is_pickle(file.relative_to(folder).as_posix(), entry.requires):
            convert_pickle(file)


def _chosen(entry: WeightsEntry, names: Sequence[str]) -> list[str]:
    """Return the files of a repository that are wanted: of weights in both forms, safetensors."""
    there = set(names)
    chosen = []
    for name in names:
        if is_pickle(name, entry.requires):
            other = safetensors_name(name)
            if other in there or not (_wanted(entry, name) or _wanted(entry, other)):
                continue
        elif not _wanted(entry, name):
            continue
        chosen.append(name)
    return chosen


def _copy(file: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'.{target.name}.part')
    shutil.copyfile(file, part)
    part.replace(target)


def _wanted(entry: WeightsEntry, name: str) -> bool:
    return not entry.patterns or any(fnmatch.fnmatch(name, p) for p in entry.patterns)


class _Resuming:
    """A downloader for pooch that goes on where a broken download stopped.

    What has arrived is kept beside the target until it is whole. It is only gone on with if the
    server can say, by its validator, that the file is still the same.
    """

    def __init__(self, entry: WeightsEntry, folder: Path, progress: Progress | None) -> None:
        self._entry = entry
        self._folder = folder
        self._progress = progress
        self._part = folder / f'.{entry.file}.download'
        self._validator = folder / f'.{entry.file}.validator'

    def __call__(self, url: str, output_file: Any, pooch: Any, **_: Any) -> None:
        """Download ``url`` to ``output_file``, as pooch asks."""
        import requests

        del pooch
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if self._stream(url):
                    break
            except (requests.ConnectionError, requests.Timeout, OSError) as error:
                refused = isinstance(error, requests.HTTPError)
                if refused or attempt == _ATTEMPTS:
                    raise
        else:
            msg = f'it broke off after {self._part.stat().st_size} bytes'
            raise OSError(msg)
        self._part.replace(output_file)
        self._validator.unlink(missing_ok=True)

    def _stream(self, url: str) -> bool:
        """Receive what is missing; True if the file is then whole."""
        import requests

        start = self._part.stat().st_size if self._part.is_file() else 0
        validator = self._validator.read_text() if self._validator.is_file() else ''
        headers = {'Accept-Encoding': 'identity'}
        if start and validator:
            headers |= {'Range': f'bytes={start}-', 'If-Range': validator}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                self._part.unlink()  # all of it had come, or too much
                return False
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            start = start if resumed else 0
            left = int(answer.headers.get('Content-Length', 0))
            self._check_space(left)
            self._remember(answer)
            with self._part.open('ab' if resumed else 'wb') as stream:
                self._receive(answer, stream, start, start + left)
        return not left or self._part.stat().st_size == start + left

    def _receive(self, answer: requests.Response, stream: Any, done: int, total: int) -> None:
        for block in answer.iter_content(_BLOCK):
            stream.write(block)
            done += len(block)
            if self._progress is not None:
                self._progress(done, max(total, done))

    def _remember(self, answer: requests.Response) -> None:
        found = [answer.headers[name] for name in _VALIDATORS if name in answer.headers]
        if found and not found[0].startswith('W/'):
            self._validator.write_text(found[0])
        else:
            self._validator.unlink(missing_ok=True)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise ResourceError(
                NO_SPACE.format(
                    name=self._entry.name,
                    needed=needed / 1e9,
                    free=free / 1e9,
                    folder=self._folder.parent,
                )
            )


@contextmanager
def _locked(entry: WeightsEntry, weights_dir: Path) -> Iterator[None]:
    """Let one process at a time write an entry's folder, and make it."""
    from filelock import FileLock

    try:
        (weights_dir / entry.name).mkdir(parents=True, exist_ok=True)
        lock = FileLock(weights_dir / f'.{entry.name}.lock')
        lock.acquire()
    except OSError as error:
        reason = error.strerror or one_line(error).rstrip('.')
        raise ResourceError(NOT_WRITABLE.format(folder=weights_dir, reason=reason)) from error
    try:
        yield
    finally:
        lock.release()


def safetensors_name(name: str) -> str:
    """Return the name under which a ``.bin`` is kept.

    Examples
    --------
    >>> safetensors_name('unet/diffusion_pytorch_model.bin'), safetensors_name('pytorch_model.bin')
    ('unet/diffusion_pytorch_model.safetensors', 'model.safetensors')
    """
    path = PurePosixPath(name)
    return path.with_name(_OWN_NAMES.get(path.name, f'{path.stem}.safetensors')).as_posix()


def is_pickle(name: str, required: tuple[str, ...]) -> bool:
    """Return whether a file is one that is kept as safetensors.

    Parameters
    ----------
    name
        Path of the file within its entry.
    required
        Files that the entry needs.
    """
    path = PurePosixPath(name)
    known = path.name in _PICKLES or safetensors_name(name) in required
    return path.suffix == '.bin' and known


def convert_pickle(file: Path) -> Path:
    """Write the tensors of a ``.bin`` as safetensors beside it, and remove it; nothing in it runs.

    Tensors of nested mappings are named by the path to them, with dots.

    Raises
    ------
    DataError
        If it holds anything but tensors.
    """
    import torch
    from safetensors.torch import save_file

    target = file.with_name(PurePosixPath(safetensors_name(file.name)).name)
    # torch raises what it likes for files that are none of its own
    with raised_as(DataError, NOT_WEIGHTS, Exception, file=file):
        found = torch.load(file, map_location='cpu', weights_only=True)
        # tensors that share memory are written each
        tensors = {name: x.clone().contiguous() for name, x in _flat(found).items()}
        part = target.with_name(f'.{target.name}.part')
        save_file(tensors, part, metadata={'format': 'pt'})
    part.replace(target)
    file.unlink()
    return target


def _flat(values: Any, before: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{before}{name}.')
        else:
            flat[f'{before}{name}'] = value
    return flat
