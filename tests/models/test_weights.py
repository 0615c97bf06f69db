"""Weights: the manifest, a folder of them, and downloads from a server on this machine."""

import dataclasses
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bids_neurodecode.errors import ArgumentsError, DataError, InputError, ResourceError
from bids_neurodecode.models import weights, weights_fetch
from bids_neurodecode.models.weights import (
    WeightsEntry,
    check_sizes,
    default_weights_dir,
    find_entry,
    load_manifest,
    verify_weights,
    weights_path,
)
from bids_neurodecode.models.weights_fetch import fetch_weights, import_weights

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = 'c' * 40
REPOSITORY = {
    'model_index.json': b'{"a": 1}',
    'vae/weights.bin': CONTENT,
    'vae/config.json': b'{}',
    'extra/large.bin': b'not wanted',
}


class Server(ThreadingHTTPServer):
    """Serves one file, with ranges, and repositories; breaks off where it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.ranges: list[str | None] = []
        self.repositories = {'some/repo': dict(REPOSITORY)}
        self.lfs_digest = DIGEST

    @property
    def repository(self):
        return self.repositories['some/repo']

    @repository.setter
    def repository(self, files):
        self.repositories['some/repo'] = files

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_address[1]}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'  # the end of an answer is the end of its connection

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        path = self.path.split('?')[0]
        if path == '/file.bin':
            self._file(body)
        elif asked := re.match('/api/models/([^/]+/[^/]+)', path):
            self._api(path, asked[1])
        elif asked := re.fullmatch(f'/([^/]+/[^/]+)/resolve/{COMMIT}/(.+)', path):
            content = self.server.repositories[asked[1]][asked[2]]
            headers = {
                'ETag': f'"{hashlib.sha256(content).hexdigest()}"', 'X-Repo-Commit': COMMIT
            }  # fmt: skip
            self._send(200, content if body else b'', headers, len(content))
        else:
            self._send(404, b'no such thing', {}, 13)

    def _file(self, body):
        server = self.server
        asked = self.headers.get('Range')
        server.ranges.append(asked)
        start = 0
        if asked and self.headers.get('If-Range') == server.etag:
            start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1])
        if start >= len(server.content):
            self._send(416, b'', {}, 0)
            return
        rest = server.content[start:]
        sent = rest[: server.breaks.pop(0)] if server.breaks else rest
        headers = {'ETag': server.etag} if server.etag else {}
        self._send(206 if start else 200, sent if body else b'', headers, len(rest))

    def _api(self, path, repo):
        files = self.server.repositories[repo]
        if '/tree/' in path:
            told = [self._item(*item) for item in files.items()]
        else:
            names = [{'rfilename': name} for name in files]
            told = {'id': repo, 'sha': COMMIT, 'siblings': names}
        content = json.dumps(told).encode()
        self._send(200, content, {'Content-Type': 'application/json'}, len(content))

    def _item(self, name, content):
        item = {'type': 'file', 'path': name, 'size': len(content), 'oid': 'b' * 40}
        if name.endswith('weights.bin'):
            item['lfs'] = {
                'oid': self.server.lfs_digest, 'size': len(content), 'pointerSize': 100
            }  # fmt: skip
        return item

    def _send(self, code, content, headers, length):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join(timeout=10)


def entry(url='http://127.0.0.1:9/file.bin', **changes):
    values = {
        'name': 'some', 'kind': 'file', 'licence': 'MIT', 'urls': (url,), 'file': 'file.bin',
        'sha256': DIGEST, 'size': len(CONTENT), **changes,
    }  # fmt: skip
    return WeightsEntry(**values)


@pytest.fixture
def hub():
    return WeightsEntry(
        name='repo', kind='hub', licence='MIT', repo='some/repo',
        patterns=('model_index.json', 'vae/*'), requires=('model_index.json', 'vae/config.json'),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'weights'


def leftovers(folder):
    return sorted(
        path.name for path in folder.rglob('*') if path.is_file() and '.lock' not in path.name
    )


class TestManifest:
    def test_every_entry_says_where_from_for_what_and_under_which_licence(self):
        manifest = load_manifest()
        assert {'vdvae-imagenet64', 'versatile-diffusion', 'alexnet'} <= set(manifest)
        for found in manifest.values():
            assert found.licence
            assert found.about
            assert found.used_by
            assert all(url.startswith('https://') for url in found.urls)
            assert found.kind == 'hub' or found.urls[0].endswith(found.file)

    def test_digits_in_pytorch_s_file_names_are_the_ones_given(self):
        for found in load_manifest().values():
            for url in found.urls:
                if 'download.pytorch.org' in url:
                    assert found.file.endswith(f'-{found.sha256}.pth')

    @pytest.mark.parametrize(
        ('text', 'reason'),
        [
            ('weights = 3', 'not iterable'),
            ('[[weights]]\nname = "a"\nkind = "file"\nlicence = "x"', 'urls and file are needed'),
            ('[[weights]]\nname = "a"\nkind = "hub"\nlicence = "x"', 'repo and requires'),
            ('[[weights]]\nname = "a/b"\nkind = "hub"\nlicence = "x"', 'no plain name'),
            ('[[weights]]\nname = "a"\nkind = "hub"\nlicence = ""', 'a licence is missing'),
            ('[[weights]]\nname = "a"\nshape = 3', 'unknown key shape'),
            ('[[weights', 'Expected'),
        ],
    )  # fmt: skip
    def test_a_wrong_manifest(self, tmp_path, text, reason):
        file = tmp_path / 'weights.toml'
        file.write_text(text)
        with pytest.raises(ArgumentsError, match=reason) as caught:
            load_manifest(file)
        assert str(file) in str(caught.value)

    @pytest.mark.parametrize('digits', ['A' * 64, '0' * 7, '0' * 65])
    def test_a_hash_that_is_none(self, digits):
        with pytest.raises(ValueError, match='lower-case hexadecimal digits'):
            entry(sha256=digits)

    def test_an_unknown_name_lists_the_known(self):
        with pytest.raises(ArgumentsError, match='vdvae-imagenet64'):
            find_entry('vdvae')

    def test_the_folder_comes_from_the_environment(self, monkeypatch):
        monkeypatch.setenv('XDG_CACHE_HOME', '/c')
        monkeypatch.setenv('BIDS_NEURODECODE_WEIGHTS', '/w')
        assert default_weights_dir() == Path('/w')
        monkeypatch.delenv('BIDS_NEURODECODE_WEIGHTS')
        assert default_weights_dir() == Path('/c/bids_neurodecode/weights')
        monkeypatch.delenv('XDG_CACHE_HOME')
        assert default_weights_dir().is_relative_to(Path.home())


class TestFetch:
    def test_a_file_is_fetched_checked_and_recorded(self, server, folder):
        some = entry(f'{server.url}/file.bin')
        seen = []
        path = fetch_weights(some, folder, progress=lambda *a: seen.append(a))
        assert path.read_bytes() == CONTENT
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert verify_weights(some, folder).state == 'good'
        assert leftovers(folder) == ['file.bin', 'record.json']
        assert weights_path('some', folder, manifest={'some': some}) == path

    def test_what_is_there_is_not_fetched_again(self, server, folder):
        some = entry(f'{server.url}/file.bin')
        fetch_weights(some, folder)
        fetch_weights(some, folder)
        assert len(server.ranges) == 1

    def test_whole_weights_in_a_folder_that_cannot_be_written(self, tmp_path, folder, monkeypatch):
        (tmp_path / 'copy').write_bytes(CONTENT)
        path = import_weights(entry(), tmp_path / 'copy', folder)
        monkeypatch.setattr(weights_fetch, '_locked', pytest.fail)
        assert fetch_weights(entry(), folder) == path

    def test_damaged_weights_are_fetched_anew(self, server, folder):
        some = entry(f'{server.url}/file.bin')
        path = fetch_weights(some, folder)
        path.write_bytes(CONTENT[:-1] + b'x')
        assert fetch_weights(some, folder).read_bytes() == CONTENT

    def test_a_broken_download_goes_on_where_it_stopped(self, server, folder):
        server.breaks = [100_000, 70_000]
        some = entry(f'{server.url}/file.bin')
        assert fetch_weights(some, folder).read_bytes() == CONTENT
        assert server.ranges == [None, 'bytes=65536-', 'bytes=131072-']

    def test_the_next_call_goes_on_too(self, server, folder):
        server.breaks = [100_000, 0, 0]
        some = entry(f'{server.url}/file.bin')
        with pytest.raises(DataError, match=r'Cannot fetch the weights .some.') as caught:
            fetch_weights(some, folder)
        assert '\n' not in str(caught.value)
        assert check_sizes(some, folder).state == 'missing'
        server.ranges.clear()
        assert fetch_weights(some, folder).read_bytes() == CONTENT
        assert server.ranges == ['bytes=65536-']
        assert leftovers(folder) == ['file.bin', 'record.json']

    @pytest.mark.parametrize('etag', ['"two"', ''])
    def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(self, server, folder, etag):
        server.breaks = [100_000, 0, 0]
        some = entry(f'{server.url}/file.bin', sha256='', size=0)
        with pytest.raises(DataError):
            fetch_weights(some, folder)
        server.content, server.etag = CONTENT[::-1], etag
        assert fetch_weights(some, folder).read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            ({'sha256': '0' * 64}, 'its SHA-256 is'),
            ({'sha256': '01234567'}, 'its SHA-256 is'),
            ({'size': 12}, 'instead of 12'),
        ],
    )
    def test_another_file_than_the_published_one_is_not_kept(self, server, folder, change, reason):
        some = entry(f'{server.url}/file.bin', **change)
        with pytest.raises(DataError, match=reason) as caught:
            fetch_weights(some, folder)
        assert '\n' not in str(caught.value)
        assert leftovers(folder) == []

    @pytest.mark.parametrize('digits', [DIGEST[:8], ''])
    def test_a_hash_that_is_not_published_whole_is_recorded(self, server, folder, digits):
        some = entry(f'{server.url}/file.bin', sha256=digits, size=0)
        path = fetch_weights(some, folder)
        assert json.loads((folder / 'some' / 'record.json').read_text())['published'] == DIGEST
        path.write_bytes(bytes(reversed(CONTENT)))
        assert verify_weights(some, folder).state == 'damaged'

    def test_the_second_address_is_tried(self, server, folder):
        some = entry(urls=(f'{server.url}/gone.bin', f'{server.url}/file.bin'))
        assert fetch_weights(some, folder).read_bytes() == CONTENT

    def test_what_is_not_there_is_one_line(self, server, folder):
        with pytest.raises(DataError, match='404') as caught:
            fetch_weights(entry(f'{server.url}/gone.bin'), folder)
        assert 'weights import some PATH' in str(caught.value)
        assert '\n' not in str(caught.value)

    def test_without_a_server(self, server, folder):
        url = server.url
        server.server_close()
        with pytest.raises(DataError, match='Cannot fetch') as caught:
            fetch_weights(entry(f'{url}/file.bin'), folder)
        assert '\n' not in str(caught.value)

    def test_too_little_space(self, server, folder, monkeypatch):
        usage = type('Usage', (), {'free': 10})
        monkeypatch.setattr(weights_fetch.shutil, 'disk_usage', lambda _: usage)
        with pytest.raises(ResourceError, match='GB are free'):
            fetch_weights(entry(f'{server.url}/file.bin'), folder)

    def test_a_folder_that_is_a_file(self, folder):
        folder.write_text('')
        with pytest.raises(ResourceError, match='cannot be written'):
            fetch_weights(entry(), folder)


class TestHub:
    def test_a_repository_is_fetched_compared_and_recorded(self, server, folder, hub):
        path = fetch_weights(hub, folder, endpoint=server.url)
        assert (path / 'vae' / 'weights.bin').read_bytes() == CONTENT
        assert not (path / 'extra').exists()
        assert verify_weights(hub, folder).state == 'good'
        record = json.loads((path / 'record.json').read_text())
        assert record['source'].endswith(f'some/repo@{COMMIT}')
        assert set(record['files']) == set(REPOSITORY) - {'extra/large.bin'}

    def test_a_file_with_another_hash_than_the_hub_s(self, server, folder, hub):
        server.lfs_digest = '0' * 64
        with pytest.raises(DataError, match=r'weights\.bin') as caught:
            fetch_weights(hub, folder, endpoint=server.url)
        assert '\n' not in str(caught.value)
        assert not (folder / 'repo' / 'record.json').exists()

    def test_an_unfinished_folder_is_not_taken_for_whole_without_a_network(
        self, server, folder, hub
    ):
        (folder / 'repo').mkdir(parents=True)
        (folder / 'repo' / 'model_index.json').write_bytes(b'{}')
        url = server.url
        server.server_close()
        with pytest.raises(DataError, match='Cannot fetch') as caught:
            fetch_weights(hub, folder, endpoint=url)
        assert '\n' not in str(caught.value)

    def test_a_rehearsal_with_networks_in_both_forms(self, server, folder, tmp_path, small_clip):
        """As the hub may hold them: .bin is read as weights only, and kept as safetensors."""
        known = small_clip(tmp_path / 'safe')
        tensors = known.state_dict()
        torch.save(tensors, tmp_path / 'pytorch_model.bin')
        torch.save({'a': {'b': torch.ones(2)}, 'c': torch.zeros(1)}, tmp_path / 'adapter.bin')
        config = (tmp_path / 'safe' / 'config.json').read_bytes()
        pickle = (tmp_path / 'pytorch_model.bin').read_bytes()
        safe = (tmp_path / 'safe' / 'model.safetensors').read_bytes()
        needs = ('one/model.safetensors', 'two/model.safetensors', 'ip/adapter.safetensors')
        entry = WeightsEntry(
            name='both', kind='hub', licence='MIT', repo='some/repo',
            patterns=('*/config.json', *needs), requires=needs,
        )  # fmt: skip
        server.repository = {
            'one/config.json': config, 'one/model.safetensors': safe,
            'one/pytorch_model.bin': b'never fetched where the other form is there',
            'two/config.json': config, 'two/pytorch_model.bin': pickle,
            'ip/adapter.bin': (tmp_path / 'adapter.bin').read_bytes(),
        }  # fmt: skip
        path = fetch_weights(entry, folder, endpoint=server.url)
        names = {p.relative_to(path).as_posix() for p in path.rglob('*') if p.is_file()}
        assert {name for name in names if name.endswith('.bin')} == set()
        assert set(needs) <= names
        assert verify_weights(entry, folder).state == 'good'
        for part in ('one', 'two'):
            loaded = type(known).from_pretrained(path / part, local_files_only=True).state_dict()
            assert all(torch.equal(loaded[name], x) for name, x in tensors.items())
        assert set(load_file(path / 'ip' / 'adapter.safetensors')) == {'a.b', 'c'}
        (tmp_path / 'clone' / 'two').mkdir(parents=True)
        for name in ('one/config.json', 'two/pytorch_model.bin'):
            (tmp_path / 'clone' / name).parent.mkdir(exist_ok=True)
            (tmp_path / 'clone' / name).write_bytes(server.repository[name])
        less = dataclasses.replace(entry, name='less', requires=('two/model.safetensors',))
        other = import_weights(less, tmp_path / 'clone', folder)
        assert (other / 'two' / 'model.safetensors').is_file()
        assert verify_weights(less, folder).state == 'good'

    def test_a_pickle_that_is_more_than_tensors_is_refused(self, server, folder, tmp_path, capfd):
        torch.save({'a': Evil()}, tmp_path / 'pytorch_model.bin')
        server.repository = {'pytorch_model.bin': (tmp_path / 'pytorch_model.bin').read_bytes()}
        entry = WeightsEntry(
            name='evil', kind='hub', licence='MIT', repo='some/repo',
            patterns=('model.safetensors',), requires=('model.safetensors',),
        )  # fmt: skip
        with pytest.raises(DataError, match='must hold tensors alone'):
            fetch_weights(entry, folder, endpoint=server.url)
        assert 'this must not run' not in capfd.readouterr().out
        assert verify_weights(entry, folder).state == 'missing'


class Evil:
    def __reduce__(self):
        return (print, ('this must not run',))


@pytest.fixture
def small_clip():
    """Write the tiny image encoder of a recipe."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    def write(place):
        config = CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            image_size=8, patch_size=4, projection_dim=4,
        )  # fmt: skip
        network = CLIPVisionModelWithProjection(config)
        network.save_pretrained(place)
        return network

    return write


class TestImport:
    def test_a_file(self, tmp_path, folder):
        (tmp_path / 'copy').write_bytes(CONTENT)
        path = import_weights(entry(), tmp_path / 'copy', folder)
        assert path.read_bytes() == CONTENT
        assert verify_weights(entry(), folder).state == 'good'

    def test_another_file(self, tmp_path, folder):
        (tmp_path / 'copy').write_bytes(CONTENT[1:])
        with pytest.raises(InputError, match='are not the published ones'):
            import_weights(entry(), tmp_path / 'copy', folder)
        assert leftovers(folder) == []

    @pytest.mark.parametrize('kind', ['file', 'hub'])
    def test_nothing(self, tmp_path, folder, hub, kind):
        with pytest.raises(InputError, match='to import the weights'):
            import_weights(entry() if kind == 'file' else hub, tmp_path / 'none', folder)

    def test_a_repository(self, tmp_path, folder, hub):
        source = tmp_path / 'clone'
        for name, content in {**REPOSITORY, '.git/config': b'x'}.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        path = import_weights(hub, source, folder)
        names = {p.relative_to(path).as_posix() for p in path.rglob('*') if p.is_file()}
        assert names == {'model_index.json', 'vae/weights.bin', 'vae/config.json', 'record.json'}
        (source / 'vae' / 'config.json').unlink()
        with pytest.raises(InputError, match=r'lacks vae/config\.json'):
            import_weights(hub, source, folder)

    def test_a_vdvae_is_converted(self, tmp_path, folder):
        import torch

        from bids_neurodecode.models.vdvae import VDVAE
        from bids_neurodecode.models.vdvae_checkpoint import load_vdvae
        from bids_neurodecode.models.vdvae_config import SMALL32

        model = VDVAE(SMALL32)
        published = tmp_path / 'model.th'
        state = {f'module.{key}': value for key, value in model.state_dict().items()}
        torch.save(state, published)
        some = entry(convert='vdvae:small32', sha256='', size=0)
        path = import_weights(some, published, folder)
        assert path.name == 'model.safetensors'
        again = load_vdvae(path).state_dict()
        assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
        assert verify_weights(some, folder).state == 'good'
        # and once more, from its converted form
        import_weights(some, path, tmp_path / 'other')
        assert verify_weights(some, tmp_path / 'other').state == 'good'
        state.popitem()
        torch.save(state, published)
        with pytest.raises(InputError, match='lacks 1 of the'):
            import_weights(some, published, folder)

    def test_an_unknown_conversion(self, tmp_path, folder):
        (tmp_path / 'copy').write_bytes(CONTENT)
        with pytest.raises(ArgumentsError, match='unknown conversion'):
            import_weights(entry(convert='gan:x'), tmp_path / 'copy', folder)


class TestPath:
    def test_missing_weights_name_the_command(self, folder):
        with pytest.raises(InputError) as caught:
            weights_path('alexnet', folder)
        expected = f'bids_neurodecode-tools weights fetch alexnet --weights-dir {folder}'
        assert expected in str(caught.value)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize('content', [b'', CONTENT[:-1]])
    def test_truncated_weights(self, tmp_path, folder, content):
        (tmp_path / 'copy').write_bytes(CONTENT)
        import_weights(entry(), tmp_path / 'copy', folder).write_bytes(content)
        with pytest.raises(InputError, match=r'are damaged: file\.bin has'):
            weights_path('some', folder, manifest={'some': entry()})

    def test_a_lost_file_of_a_repository(self, tmp_path, folder, hub):
        self.test_a_repository_put_there_by_hand(folder, hub)
        weights.record_files(folder / 'repo', 'by hand')
        (folder / 'repo' / 'vae' / 'weights.bin').unlink()
        with pytest.raises(InputError, match=r'damaged: vae/weights\.bin is not there'):
            weights_path('repo', folder, manifest={'repo': hub})

    def test_a_repository_put_there_by_hand(self, folder, hub):
        for name, content in REPOSITORY.items():
            (folder / 'repo' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'repo' / name).write_bytes(content)
        assert weights_path('repo', folder, manifest={'repo': hub}) == folder / 'repo'
        assert verify_weights(hub, folder).state == 'unverified'

    def test_a_file_put_there_by_hand_is_compared_with_the_manifest(self, folder):
        (folder / 'some').mkdir(parents=True)
        file = folder / 'some' / 'file.bin'
        file.write_bytes(CONTENT)
        assert verify_weights(entry(), folder).state == 'good'
        assert verify_weights(entry(sha256=''), folder).state == 'unverified'
        file.write_bytes(CONTENT[::-1])
        assert verify_weights(entry(), folder).state == 'damaged'

    def test_changed_weights_are_refused_before_they_are_used(self, tmp_path, folder, monkeypatch):
        (tmp_path / 'copy').write_bytes(CONTENT)
        file = import_weights(entry(), tmp_path / 'copy', folder)
        manifest = {'some': entry()}
        read = []
        hashed = weights.hash_file
        monkeypatch.setattr(weights, 'hash_file', lambda *a: read.append(a) or hashed(*a))
        for _ in range(3):
            weights_path('some', folder, manifest=manifest)
        assert len(read) == 1  # once in a process
        file.write_bytes(CONTENT[::-1])
        with pytest.raises(InputError, match=r'are damaged: the SHA-256 of file\.bin differs'):
            weights_path('some', folder, manifest=manifest)

    def test_a_manifest_that_was_corrected_since(self, tmp_path, folder):
        (tmp_path / 'copy').write_bytes(CONTENT)
        import_weights(entry(sha256=''), tmp_path / 'copy', folder)
        assert verify_weights(entry(sha256='0' * 64), folder).state == 'damaged'

    def test_a_damaged_record(self, tmp_path, folder):
        (tmp_path / 'copy').write_bytes(CONTENT)
        import_weights(entry(), tmp_path / 'copy', folder)
        (folder / 'some' / 'record.json').write_text('{')
        with pytest.raises(InputError, match='cannot be read'):
            weights_path('some', folder, manifest={'some': entry()})

    @pytest.mark.parametrize('name', ['../secret', '/etc/passwd', 'a/../../b'])
    def test_names_that_lead_out_of_the_folder(self, tmp_path, folder, name):
        (tmp_path / 'copy').write_bytes(CONTENT)
        import_weights(entry(), tmp_path / 'copy', folder)
        told = json.loads((folder / 'some' / 'record.json').read_text())
        told['files'][name] = {'size': 1, 'sha256': ''}
        (folder / 'some' / 'record.json').write_text(json.dumps(told))
        with pytest.raises(InputError, match='lies outside of the folder of the weights'):
            weights_path('some', folder, manifest={'some': entry()})
        for wrong in ({'name': name}, {'file': name}, {'file': '..'}):
            with pytest.raises(ValueError, match='is no plain name'):
                entry(**wrong)

    def test_nothing_is_downloaded_unasked(self, folder, monkeypatch):
        monkeypatch.setattr(weights_fetch, 'fetch_weights', pytest.fail)
        for name in load_manifest():
            with pytest.raises(InputError):
                weights_path(name, folder)
        assert not folder.exists()
