"""The published route through the program on NSD's own layout: everything real but the size.

Weights are random, of networks in tiny, in the files and folders of the published ones.
"""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cosine

from bids_neurodecode.bids.captions import captions_of
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.cli.main import main
from bids_neurodecode.evaluation import networks
from bids_neurodecode.evaluation.protocols import get_protocol
from bids_neurodecode.extras import has_packaged
from bids_neurodecode.models.clip_targets import ClipTargets
from bids_neurodecode.models.generators import read_recipe
from bids_neurodecode.models.storage import load_arrays
from bids_neurodecode.models.vdvae import VDVAE
from bids_neurodecode.models.vdvae_checkpoint import save_vdvae
from bids_neurodecode.models.vdvae_config import VDVAEConfig
from bids_neurodecode.models.visionnets import MetricNetwork
from bids_neurodecode.models.weights import CONVERTED
from bids_neurodecode.models.weights_fetch import convert_pickle
from bids_neurodecode.stimuli import packaged
from bids_neurodecode.systems.reconstruction.generation import caption_scores
from bids_neurodecode.systems.reconstruction.generation.small import prior_config
from bids_neurodecode.systems.reconstruction.generation.steps import choice as generation_choice
from tests.app.test_science import validate
from tests.models import test_clip_targets as clip
from tests.models import test_diffusion as diffusion
from tests.models import test_pipelines
from tests.published import BRICK, N_OWN, N_PICTURES, N_SHARED, make_nsd, read_record
from tests.running import HERE

pytestmark = pytest.mark.slow
SETTINGS = """
[features]
n_components = 6
[evaluation]
n_permutations = 50
n_bootstrap = 50
[reconstruction]
latents = 2
n_steps = 4
"""
# what the tiny vocabulary can read; of each image five, some of them empty
CAPTIONS = ['ab c', ' d e ', '', 'a b c d e f', '']


def write_prior(folder):
    """Write a tiny VDVAE as the manifest's entry."""
    prior = folder / 'vdvae-imagenet64'
    prior.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config: VDVAEConfig = prior_config(16)
        save_vdvae(VDVAE(config), prior / CONVERTED)


def write_weights(folder):
    """Write tiny networks as the manifest's entries."""
    write_prior(folder)
    place = folder / 'versatile-diffusion'
    names = ('image_unet', 'text_unet', 'vae')
    for name, network in zip(names, diffusion.make_networks(), strict=True):
        network.save_pretrained(place / name)
    for name, network in zip(('image_encoder', 'text_encoder'), clip.make_networks(), strict=True):
        network.save_pretrained(place / name)
    clip.write_tokenizer(place / 'tokenizer')
    (place / 'scheduler').mkdir()
    for file in ('model_index.json', 'scheduler/scheduler_config.json'):
        (place / file).write_text('{}')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('published')
    data = make_nsd(folder / 'nsd', participants=(1,), captions=True)
    texts = [[f'{text} {"abcdefghi"[k % 9]}' * bool(text) for text in CAPTIONS] for k in range(90)]
    np.save(data / 'COCO_73k_annots_curated.npy', np.array(texts))
    write_weights(folder / 'weights')
    (folder / 'settings.toml').write_text(SETTINGS)
    code = main(
        [
            *(str(data), str(folder / 'out'), 'participant', '-w', str(folder / 'work')),
            *('--preset', 'nsd-ridge', '--config-file', str(folder / 'settings.toml')),
            *('--weights-dir', str(folder / 'weights'), '--participant-label', '01'),
            *(*HERE, '--device', 'cpu'),
        ]
    )
    assert code == 0
    return folder, texts


def test_text_features_are_those_of_the_captions(made):
    """The regression's intercept is the mean of its targets: CLIP's text of each image."""
    folder, texts = made
    (file,) = (folder / 'out' / 'sub-01' / 'models').glob('*desc-generated_model.safetensors')
    arrays, description = load_arrays(file)
    told = description['model']
    assert told['conditions'] == {'vision': [17, 12], 'text': [9, 12]}
    assert told['generator']['generator'] == 'published'
    numbers = [int(name.removeprefix('nsd')) for name in told['library']]
    assert len(set(numbers)) == len(numbers) == N_SHARED + N_OWN
    known = ClipTargets.from_folder(folder / 'weights' / 'versatile-diffusion')
    targets = known.of_captions([texts[number - 1] for number in numbers])
    intercept = arrays['conditions.text.ridge.intercept'].reshape(9, 12)
    np.testing.assert_allclose(intercept, targets.mean(axis=0), atol=1e-5)
    assert np.abs(targets - targets.mean(axis=0)).max() > 0.05  # captions do differ


def test_each_picture_has_its_own_captions(made):
    folder, texts = made
    request = Request(bids_dir=folder / 'nsd', made_dir=folder / 'made', participants=('01',))
    captions = captions_of(find_inputs(request).participants[0])
    assert len(captions) == N_SHARED + N_OWN
    for name, found in captions.items():
        known = texts[int(name.removeprefix('nsd')) - 1]
        assert list(found) == [' '.join(text.split()) for text in known if text]


def test_both_stages_of_the_shared_pictures(made):
    folder, _ = made
    (file,) = (folder / 'out' / 'sub-01').rglob('*desc-generated_metrics.tsv')
    table = pd.read_csv(file, sep='\t')
    assert set(table['protocol']) <= {'nsd-shared1000/bd-982', 'nsd-shared1000'}
    own = table[(table['model'] == 'ridge') & (table['metric'] == 'pixcorr')]
    assert {'initial', 'final'} <= set(own['space'])
    assert set(own['n']) == {N_SHARED}
    info = json.dumps(read_record(folder / 'out', '01'))
    assert 'as asked for' in info


def test_derivatives_are_valid_bids(made):
    validate(made[0] / 'out')


@pytest.mark.parametrize(
    ('recipe', 'changes'),
    [
        ('kandinsky-2.2', [('"kandinsky-2.2-decoder"', '"painter"')]),
        ('sdxl-ip-adapter', []),
        ('stable-cascade', [('size = 1024', 'size = 128'), ('n_steps = 10', 'n_steps = 2')]),
        ('unclip-2.1', []),
    ],
)
def test_another_second_stage_is_named_and_what_is_decoded_follows(tmp_path, recipe, changes):
    """In the place of Versatile Diffusion: one embedding of the pipeline's own image encoder.

    By the recipe of the package, or by a file of one's own with weights beside it.
    """
    data = make_nsd(tmp_path / 'nsd', participants=(1,))
    weights = tmp_path / 'weights'
    write_prior(weights)
    test_pipelines.write_weights(recipe, weights)
    for file in [*weights.rglob('*.bin')]:  # as "weights fetch" leaves them
        convert_pickle(file)
    name = shown = recipe
    if changes:
        name, shown = test_pipelines.own_recipe(tmp_path, *changes, of=recipe), 'mine'
    if recipe == 'kandinsky-2.2':
        (weights / 'kandinsky-2.2-decoder').rename(tmp_path / 'painter')
    (tmp_path / 'settings.toml').write_text(f'{SETTINGS}generator = "{name}"\n')
    common = [
        *('participant', '-w', str(tmp_path / 'work'), '--weights-dir', str(weights)),
        *(*HERE, '--device', 'cpu', '--skip-bids-validation'),
        *('--preset', 'nsd-ridge', '--config-file', str(tmp_path / 'settings.toml')),
    ]
    assert main([str(data), str(tmp_path / 'out'), *common]) == 0
    (file,) = (tmp_path / 'out' / 'sub-01' / 'models').glob('*desc-generated_model.safetensors')
    arrays, description = load_arrays(file)
    told = description['model']
    assert told['generator']['generator'] == name
    assert told['conditions'] == {'vision': [test_pipelines.WIDTH]}
    assert arrays['conditions.vision.ridge.intercept'].shape == (test_pipelines.WIDTH,)
    table = pd.read_csv(next((tmp_path / 'out').rglob('*desc-generated_metrics.tsv')), sep='\t')
    own = table[(table['model'] == 'ridge') & (table['metric'] == 'pixcorr')]
    assert {'initial', 'final'} <= set(own['space'])
    page = ' '.join((tmp_path / 'out' / 'sub-01.html').read_text().split())
    assert read_recipe(name).title in page
    assert f'made by the {shown} generator, as asked for' in page
    # the program refuses what the recipe cannot do, and weights that are not there
    (tmp_path / 'settings.toml').write_text(f'{SETTINGS}generator = "versatile-diffusion"\n')
    assert main([str(data), str(tmp_path / 'other'), *common]) == 2


@pytest.mark.real
def test_photographs_are_compared_by_their_captions(shared, tmp_path, monkeypatch):
    """Scores again by hand: captions of the training photograph that a network finds nearest."""
    judges = {'mobilenetv2', 'wordllama'}
    if not all(map(has_packaged, judges)):
        pytest.skip('the extra cpu-nets is not installed')
    told = pd.read_csv(shared / 'data' / 'coco_open' / 'captions.tsv', sep='\t')[:N_PICTURES]
    photographs = [
        Image.open(shared / 'data' / 'coco_open' / name).convert('RGB').resize((64, 64))
        for name in told['file']
    ]
    texts = {f'nsd{k:05d}': row.split(' || ') for k, row in enumerate(told['captions'], 1)}
    data = make_nsd(tmp_path / 'nsd', participants=(1,))
    with h5py.File(data / BRICK, 'w') as file:
        file['imgBrick'] = np.stack([np.asarray(x) for x in photographs])
    rows = [(name, text) for name, known in texts.items() for text in known]
    table = pd.DataFrame(rows, columns=['stim_file', 'caption'])
    table.to_csv(data / 'captions.tsv', sep='\t', index=False)
    # one judge is enough
    monkeypatch.setattr(generation_choice, 'has_packaged', judges.__contains__)
    small = 'generator = "small"\nprior_size = 16\nprior_steps = 4\nrefiner_steps = 4\n'
    quick = 'protocol = "cpu-1"\nbrain_correlation = false\n'
    (tmp_path / 'settings.toml').write_text(SETTINGS + small + quick)
    code = main(
        [
            *(str(data), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')),
            *('--config-file', str(tmp_path / 'settings.toml'), '--device', 'cpu'),
            *(*HERE, '--skip-bids-validation'),
        ]
    )
    assert code == 0
    (file,) = (tmp_path / 'out').rglob('*desc-generated_metrics.tsv')
    found = pd.read_csv(file, sep='\t').query('space == "final"').set_index(['model', 'metric'])
    shown, (model,) = (
        tmp_path / 'out' / 'stimuli',
        (tmp_path / 'out').rglob('*generated_model.safetensors'),
    )
    made = {x.name.split('_')[0]: x for x in shown.rglob('*_desc-final_image.png')}
    # the final model knows all images, that of the fold those which are not held out
    library = [name for name in load_arrays(model)[1]['model']['library'] if name not in made]
    assert len(made) == found['n']['ridge', 'caption_2way'] == N_SHARED
    protocol, network = get_protocol('cpu-1'), MetricNetwork(packaged.read_convnet('mobilenetv2'))
    metric = next(m for m in protocol.metrics if m.network == 'mobilenetv2')

    def see(images):
        pixels = np.stack([np.asarray(image) for image in images])
        return networks.describe(pixels, network, [metric], protocol)['avgpool']

    known = see([photographs[int(name[3:]) - 1] for name in library])
    embed = packaged.CaptionEmbedding().embed

    def meaning(name):
        values = embed(texts[name]).astype(float)
        return (values / np.linalg.norm(values, axis=1)[:, None]).mean(axis=0)

    alike = []
    for seen in see([Image.open(file) for file in made.values()]):
        nearest = library[np.argmax([np.corrcoef(seen, x)[0, 1] for x in known])]
        alike.append([1 - cosine(meaning(nearest), meaning(name)) for name in made])
    own, others = np.diag(alike), ~np.eye(len(made), dtype=bool)
    similarity = found.loc[('ridge', 'caption_similarity')]
    assert similarity['value'] == pytest.approx(own.mean(), abs=1e-5)
    # by as many permutations as were drawn
    assert similarity['chance'] == pytest.approx(np.array(alike)[others].mean(), abs=0.02)
    wins = (own[:, None] > alike)[others].mean() + (own[:, None] == alike)[others].mean() / 2
    assert found['value']['ridge', 'caption_2way'] == pytest.approx(wins, abs=1e-5)
    page = ' '.join((tmp_path / 'out' / 'sub-01.html').read_text().split())
    assert caption_scores.STANDS_IN.format(network='mobilenetv2') in page
