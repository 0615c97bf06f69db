"""A dress rehearsal: every repository of the manifest, tiny, from a hub on this machine to images.

What a hub holds is not known here: each network is served as safetensors and as ``.bin``, fetched
by the program, and must make the same images and features.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bids_neurodecode.cli.tools import main
from bids_neurodecode.config import Config
from bids_neurodecode.models import generators
from bids_neurodecode.models.weights import load_manifest, weights_path
from bids_neurodecode.models.weights_fetch import convert_pickle
from bids_neurodecode.stimuli.features import get_captioned_extractor, get_extractor
from bids_neurodecode.systems.reconstruction.generation.generators import Described
from bids_neurodecode.systems.reconstruction.generation.published import published_generator
from bids_neurodecode.systems.reconstruction.generation.steps.choice import find_weights
from tests.app import test_published_route as published
from tests.models import test_pipelines, test_weights
from tests.stimuli import test_pretrained

server = test_weights.server
SIDE = 40
PICTURES = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
HUB = {name: entry for name, entry in load_manifest().items() if entry.kind == 'hub'}


def as_safetensors(folder):
    for file in sorted(folder.rglob('*.bin')):
        convert_pickle(file)


def as_bin(folder):
    """Keep the tensors of each network as PyTorch did before safetensors."""
    for file in sorted(folder.rglob('*.safetensors')):
        name = 'pytorch_model.bin' if file.name == 'model.safetensors' else f'{file.stem}.bin'
        torch.save(load_file(file), file.with_name(name))
        file.unlink()


def serve(server, folder):
    """Put the entries that lie in a folder into the repositories that they are published in."""
    for place in folder.iterdir():
        files = [file for file in sorted(place.rglob('*')) if file.is_file()]
        server.repositories[HUB[place.name].repo] = {
            file.relative_to(place).as_posix(): file.read_bytes() for file in files
        }


def fetch(server, folder, weights, form, capsys):
    """Serve what is in a folder in a form, and fetch it as a person would."""
    form(folder)
    serve(server, folder)
    names = sorted(place.name for place in folder.iterdir())
    where = ['--weights-dir', str(weights)]
    assert main(['weights', 'fetch', *names, '--hub-endpoint', server.url, *where]) == 0
    assert main(['weights', 'verify', *names, *where]) == 0
    said = capsys.readouterr().out
    assert all(f'{name}: good' in said for name in names)
    assert not [*weights.rglob('*.bin')]
    return {name: weights_path(name, weights) for name in names}


def both(server, tmp_path, capsys, write):
    """Fetch one set of networks in both forms; return where each lies."""
    (tmp_path / 'made').mkdir()
    write(tmp_path / 'made')
    return [
        fetch(server, tmp_path / 'made', tmp_path / form.__name__, form, capsys)
        for form in (as_safetensors, as_bin)
    ]


def test_no_repository_of_the_manifest_is_left_out():
    recipes = map(generators.read_recipe, generators.recipe_names())
    rehearsed = {name for recipe in recipes for name in recipe.weights}
    assert rehearsed | {'clip-vit-l14', 'dinov2-base', 'blip-itm-base'} == set(HUB)
    for entry in HUB.values():  # a copy without its weights is no copy
        assert any(file.endswith('.safetensors') for file in entry.requires), entry.name


def write_tiny(generator, folder):
    """Write the tiny networks of a generator as entries of the manifest, but for the prior."""
    if generator == 'versatile-diffusion':
        published.write_weights(folder)
        shutil.rmtree(folder / 'vdvae-imagenet64')
    else:
        test_pipelines.write_weights(generator, folder)
        shutil.rmtree(folder / 'words')


@pytest.mark.slow
@pytest.mark.parametrize('generator', generators.recipe_names())
def test_both_stages_make_the_same_images_from_either_form(
    server, tmp_path, capsys, monkeypatch, generator
):
    """By the program's own generator, from what the program finds in its folder of weights."""
    recipe = generators.read_recipe(generator)
    few = test_pipelines.small(generator)
    monkeypatch.setattr(generators, 'read_recipe', lambda _: few)
    told = {'generator': generator, 'latents': 2, 'n_steps': 4}
    made = []
    for places in both(server, tmp_path, capsys, lambda folder: write_tiny(generator, folder)):
        assert set(places) == {name for name in recipe.weights if name in HUB}
        folder = next(iter(places.values())).parent
        published.write_prior(folder)
        weights = {name: Path(x) for name, x in find_weights(folder, generator).items()}
        config = Config.model_validate({'reconstruction': told})
        made_by = published_generator(config, name=generator, weights=weights)
        initial = made_by.decode(made_by.encode(PICTURES), [5, 6])
        described = Described(PICTURES, np.empty((2, 0), np.float32), [['ab c'], ['d']])
        found = made_by.conditions(described)
        assert set(found) == set(recipe.conditions)
        made.append(made_by.refine(initial, found, [5, 6], made_by.sampling, 'both'))
    np.testing.assert_array_equal(*made)
    assert made[0].shape[0] == 2
    assert made[0].std() > 1


def test_features_are_the_same_from_either_form(server, tmp_path, capsys):
    def write(folder):
        for name, of in (
            ('clip-vit-l14', test_pretrained.write_clip),
            ('dinov2-base', test_pretrained.write_dinov2),
            ('blip-itm-base', test_pretrained.write_blip),
        ):
            (folder / name).mkdir()
            of(folder / name)

    made = []
    for places in both(server, tmp_path, capsys, write):
        captioned = get_captioned_extractor('blip-caption', folder=places['blip-itm-base'])
        rows = [captioned.transform(PICTURES, ['a cat', 'the mat'])]
        for name, place in (('clip', 'clip-vit-l14'), ('dinov2', 'dinov2-base')):
            rows.append(get_extractor(name, folder=places[place]).transform(PICTURES))
        made.append(np.concatenate(rows, axis=1))
    np.testing.assert_array_equal(*made)
    assert (made[0].std(axis=0) > 0).mean() > 0.5
