"""The two definitions of images say the same; .ci/container builds and runs them."""

import re
import subprocess
from pathlib import Path

import pytest

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import CONTAINER_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / 'Dockerfile').read_text('utf-8')
SINGULARITY = (ROOT / 'Singularity.def').read_text('utf-8')


def docker_environment():
    block = re.search(r'^ENV (PATH=(?:.*\\\n)+.*)$', DOCKERFILE, flags=re.MULTILINE)[1]
    return dict(word.split('=', 1) for word in block.replace('\\\n', ' ').split())


def singularity_environment():
    block = SINGULARITY.split('%environment')[1].split('\n%')[0]
    return dict(re.findall(r'^ +export (\w+)="?([^"\n]*)"?$', block, flags=re.MULTILINE))


def test_versions_are_those_of_the_program():
    assert f'\nARG VERSION={__version__}\n' in DOCKERFILE
    tag = f'bids_neurodecode:{__version__}'
    assert singularity_environment()[CONTAINER_VARIABLE] == f'singularity:{tag}'
    assert f'ENV {CONTAINER_VARIABLE}=docker:bids_neurodecode:${{VERSION}}' in DOCKERFILE
    assert f'org.opencontainers.image.version {__version__}\n' in SINGULARITY


def test_same_base():
    assert SINGULARITY.startswith('Bootstrap: docker\nFrom: debian:bookworm-slim\n')
    assert '\nARG BASE=debian:bookworm-slim\n' in DOCKERFILE


def test_same_environment():
    docker, singularity = docker_environment(), singularity_environment()
    del singularity[CONTAINER_VARIABLE]
    assert set(docker) == set(singularity)
    for name, value in docker.items():
        # a user's own value wins in Apptainer, which passes it on
        assert singularity[name] in {value, f'${{{name}:-{value}}}', '${LOGNAME:-$USER}'}


def test_no_cache_has_a_fixed_place():
    """Below ``/tmp`` it could be another user's, below HOME it may not be writable."""
    for value in docker_environment().values():
        assert not value.startswith(('/tmp', '/root', '/home'))


@pytest.mark.parametrize('step', re.findall(r'install\.sh (\w+)', DOCKERFILE))
def test_same_steps(step):
    assert re.search(rf'containers/install\.sh {step}\b', SINGULARITY)
    assert re.search(
        rf'^{step}\(\)', (ROOT / 'containers' / 'install.sh').read_text(), re.MULTILINE
    )


def test_context_holds_what_is_copied():
    allowed = set(
        re.findall(r'^!(\S+)$', (ROOT / '.dockerignore').read_text('utf-8'), re.MULTILINE)
    )
    copied = {
        word.rstrip('/')
        for words in re.findall(r'^COPY (?!--from)(.*) \S+$', DOCKERFILE, flags=re.MULTILINE)
        for word in words.split()
    }
    assert copied == allowed
    files = SINGULARITY.split('%files')[1].split('\n%')[0]
    assert {line.split()[0] for line in files.strip().splitlines()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize(
    'script', ['containers/install.sh', '.ci/run', '.ci/container', '.ci/slurm']
)
def test_scripts_are_bash(script):
    subprocess.run(['bash', '-n', str(ROOT / script)], check=True)
    assert (ROOT / script).stat().st_mode & 0o111
