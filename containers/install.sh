#!/bin/bash
# What goes into the images, step by step; the Dockerfile and Singularity.def both call it.
# Usage: install.sh {runtime,tools,dependencies,glmsingle,sbom,package FOLDER,templates,clean}
# Run in the folder that holds pyproject.toml and constraints.txt. Read from the environment:
#   TORCH          cpu (default); cuda for PyPI's own build; or the name of an index of PyTorch's, such as cu130
#   PIP_FIND_LINKS a folder of wheels to use besides PyPI, as pip reads it; containers/wheels is one as well
#   GLMSINGLE      1 installs the reference GLMsingle package from its pinned source
#   TEMPLATES      TemplateFlow templates to put into the image where there is a network
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_USE_PEP517=1 PIP_ROOT_USER_ACTION=ignore
here=$(cd "$(dirname "$0")" && pwd)
prefix=/opt/bids_neurodecode
home=/opt/templateflow
torch=${TORCH:-cpu}
glmsingle=https://github.com/cvnlab/GLMsingle/archive/1ab54a65edd3ea41a6133d4b4ecb78a9c7296684.tar.gz

install() { python3 -m pip --python "$prefix/bin/python" install --quiet --constraint constraints.txt "$@"; }

runtime() { # what a run needs of the system
  apt-get update -q
  apt-get install -y -q --no-install-recommends ca-certificates python3
  clean
}

tools() { # what only the build needs; tools that are dropped with the build stage or by "purge"
  apt-get update -q
  apt-get install -y -q --no-install-recommends python3-pip python3-venv
  clean
}

purge() {
  apt-get purge -y -q --auto-remove python3-pip python3-venv
  clean
}

clean() { rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old; }

dependencies() {
  local wheels=()
  [ -d "$here/wheels" ] && wheels=(--find-links "$here/wheels")
  python3 -m venv --without-pip "$prefix"
  # torch first, alone: asked for by another package, pip would take the newest build
  case $torch in
    cpu) if compgen -G "$here/wheels/torch-*+cpu-*" >/dev/null || compgen -G "${PIP_FIND_LINKS:-/none}/torch-*+cpu-*" >/dev/null
         then install "${wheels[@]}" torch
         else install --extra-index-url https://download.pytorch.org/whl/cpu torch
         fi ;;
    cuda) PIP_FIND_LINKS='' install torch ;;
    *) PIP_FIND_LINKS='' install --extra-index-url "https://download.pytorch.org/whl/$torch" torch ;;
  esac
  "$prefix/bin/python" -W ignore - "$torch" <<'PYTHON'
import sys

import torch

if (torch.version.cuda is None) != (sys.argv[1] == 'cpu'):
    sys.exit(f'TORCH={sys.argv[1]} was asked for, and torch {torch.__version__} was found')
PYTHON
  python3 - > /tmp/requirements.txt <<'PYTHON'
import tomllib

with open('pyproject.toml', 'rb') as stream:
    project = tomllib.load(stream)['project']
extras = project['optional-dependencies']
wanted = [project['dependencies'], *(extras[name] for name in ['networks', 'motion'])]
print(*(line for lines in wanted for line in lines), sep='\n')
PYTHON
  install "${wheels[@]}" --requirement /tmp/requirements.txt
  rm /tmp/requirements.txt
  python3 -m pip --python "$prefix/bin/python" install --quiet --no-deps --require-hashes "${wheels[@]}" --requirement cpu-nets.txt
  # the libraries' own tests, and what only a compiler, which is not here, would read
  find "$prefix/lib" -depth -type d -name tests -exec rm -rf {} +
  rm -rf "$prefix"/lib/python3*/site-packages/torch/include
  find "$prefix"/lib/python3*/site-packages/torch/bin -mindepth 1 ! -name torch_shm_manager -delete
}

glmsingle() {
  if [ "${GLMSINGLE:-}" = 1 ]; then install "glmsingle @ $glmsingle"; fi
}

sbom() { # what is in the image: a CycloneDX list of its Python packages; Debian's are in /var/lib/dpkg/status
  python3 -m venv /tmp/sbom
  /tmp/sbom/bin/python -m pip install --quiet 'cyclonedx-bom==7.5.0'
  /tmp/sbom/bin/cyclonedx-py environment --output-reproducible --output-file "$prefix/sbom.cdx.json" "$prefix/bin/python"
  rm -r /tmp/sbom
}

package() { # the program itself, below FOLDER, so that it is a small layer of its own
  python3 -m pip wheel --quiet --no-deps --wheel-dir /tmp/wheel .
  python3 -m pip --python "$prefix/bin/python" install --quiet --no-deps --no-index --prefix "$1$prefix" /tmp/wheel/*.whl
  rm -r /tmp/wheel
}

templates() { # without a network the image holds the names only, and the templates are mounted
  local names=()
  read -ra names <<< "${TEMPLATES-}"
  TEMPLATEFLOW_HOME=$home "$prefix/bin/python" "$here/templates.py" "${names[@]}"
  chmod -R a+rX "$home"
}

"$@"
