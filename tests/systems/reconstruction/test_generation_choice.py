"""Which generator makes images, why, and what is refused before work starts."""

from pathlib import Path

import pytest
from PIL import Image

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.models.weights import find_entry
from bids_neurodecode.systems.reconstruction.generation.published import PublishedGenerator
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    ALL_THERE,
    ASKED,
    FALLEN_BACK,
    NO_FOLDER,
    NO_PICTURES_MADE,
    NO_REGIONS,
    PUBLISHED_WEIGHTS,
    check_generation,
    choose_generator,
    further_pictures,
    metric_weights,
)


def settings(**reconstruction):
    return build_config({'reconstruction': reconstruction})


def put(folder: Path, name: str) -> None:
    """Write the files that an entry of the manifest needs."""
    for file in find_entry(name).needs:
        place = folder / name / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text('weights')


@pytest.fixture
def weights(tmp_path):
    for name in PUBLISHED_WEIGHTS:
        put(tmp_path / 'weights', name)
    return tmp_path / 'weights'


def test_what_is_asked_for_is_taken(tmp_path):
    none = choose_generator(settings(generator='none'), 'cpu', tmp_path)
    assert (none.name, none.why) == ('none', NO_PICTURES_MADE)
    small = choose_generator(settings(generator='small'), 'cuda', tmp_path)
    assert (small.name, small.why) == ('small', ASKED.format(name='small'))


def test_auto_wants_all_weights_and_a_gpu(tmp_path, weights):
    found = choose_generator(settings(), 'cuda', weights)
    assert (found.name, found.why) == ('published', ALL_THERE.format(folder=weights))
    assert set(found.weights) == set(PUBLISHED_WEIGHTS)
    assert all(Path(file).exists() for file in found.weights.values())
    without_gpu = choose_generator(settings(), 'cpu', weights)
    assert (without_gpu.name, without_gpu.why) == ('small', FALLEN_BACK.format(needs='a GPU'))
    nothing = choose_generator(settings(), 'cpu', tmp_path / 'empty')
    needs = f'the weights {" and ".join(PUBLISHED_WEIGHTS)} and a GPU'
    assert (nothing.name, nothing.why) == ('small', FALLEN_BACK.format(needs=needs))


@pytest.mark.parametrize('name', PUBLISHED_WEIGHTS)
def test_one_missing_weight_is_enough(weights, name):
    for file in find_entry(name).needs:
        (weights / name / file).unlink()
    found = choose_generator(settings(), 'cuda', weights)
    assert found.why == FALLEN_BACK.format(needs=f'the weights {name}')
    with pytest.raises(InputError, match=f'weights fetch {name}') as caught:
        check_generation(settings(generator='published'), 'cuda', weights)
    assert '\n' not in str(caught.value)


def test_regions_need_an_atlas(tmp_path):
    message = NO_REGIONS.format(regressor='regions-gru')
    with pytest.raises(ArgumentsError) as caught:
        check_generation(settings(regressor='regions-gru'), 'cpu', tmp_path)
    assert str(caught.value) == message
    atlas = build_config({'atlas': {'name': 'X'}, 'reconstruction': {'regressor': 'regions-gru'}})
    assert check_generation(atlas, 'cpu', tmp_path).name == 'small'


@pytest.mark.parametrize(
    ('extractor', 'network', 'refused'),
    [
        ('efficientnet-lite0+efficientnet-lite2+mobilenetv2', 'none', True),
        ('efficientnet-lite0+efficientnet-lite2', 'mobilenetv2', True),
        ('efficientnet-lite0', 'mobilenetv2', False),
    ],
)
def test_a_run_without_a_judge_is_refused_before(tmp_path, extractor, network, refused):
    """A network that fits or guides judges nothing: nobody would be left after all training."""
    told = {'generator': 'small', 'protocol': 'cpu-1', 'match_network': network}
    config = build_config({'features': {'extractor': extractor}, 'reconstruction': told})
    if not refused:
        assert check_generation(config, 'cpu', tmp_path).name == 'small'
        return
    with pytest.raises(ArgumentsError, match=r'cpu-1 has no network left .*: .*mobilenetv2 made'):
        check_generation(config, 'cpu', tmp_path)


@pytest.mark.parametrize(
    ('guides', 'encoder', 'says'),
    [
        ('["clip-vit-l-14"]', 'painter', 'judges nothing. Did you mean clip-vit-l14'),
        ('[]', 'clip-vit-l14', 'it reads clip-vit-l14, which judges images: name it in guided_by'),
        (
            '["efficientnet-lite0", "efficientnet-lite2", "mobilenetv2"]',
            'painter',
            'left to compare',
        ),
        ('["efficientnet-lite2"]', 'painter', ''),
    ],
)
def test_what_guides_a_recipe_of_one_s_own_judges_nothing(tmp_path, guides, encoder, says):
    put(tmp_path, 'vdvae-imagenet64')
    put(tmp_path, 'clip-vit-l14')
    (tmp_path / 'painter').mkdir()
    file = tmp_path / 'mine.toml'
    file.write_text(
        f"""title = "Mine"\nsource = "here"\nconditions = ["vision"]\nencoder = "{encoder}"
        starts = false\nguided_by = {guides}\noracle = "none"\n[[stages]]
        pipeline = "StableUnCLIPImg2ImgPipeline"\nweights = "painter"\nembeds = "image_embeds"
        n_steps = 2\nguidance = 1.0"""
    )
    config = settings(generator=str(file), protocol='cpu-1')
    if says:
        with pytest.raises(ArgumentsError, match=says) as error:
            check_generation(config, 'cpu', tmp_path)
        assert '\n' not in str(error.value)
        return
    assert check_generation(config, 'cpu', tmp_path).name == str(file)
    made = PublishedGenerator(None, None, None, name=str(file))
    assert made.used == {'efficientnet-lite2'}
    assert PublishedGenerator(None, None, None, name='stable-cascade').used == set()


def test_further_pictures_are_looked_for_before(tmp_path):
    folder = tmp_path / 'more'
    for reason in ('is not there', 'holds no image'):
        with pytest.raises(InputError) as caught:
            check_generation(settings(prior_pictures=str(folder)), 'cpu', tmp_path)
        assert str(caught.value) == NO_FOLDER.format(folder=folder, reason=reason)
        folder.mkdir(exist_ok=True)
        (folder / 'notes.txt').touch()
    for name in ('b.png', 'a.JPG', 'deep/c.jpeg'):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(folder / name)
    assert [file.name for file in further_pictures(folder)] == ['a.JPG', 'b.png', 'c.jpeg']


def test_networks_of_metrics_are_those_that_are_there(tmp_path):
    put(tmp_path, 'alexnet')
    put(tmp_path, 'efficientnet-b1-v2')
    assert set(metric_weights(tmp_path, 'me2-1000')) == {'alexnet', 'efficientnet-b1-v2'}
    found = metric_weights(tmp_path, 'bd-982')
    assert set(found) == {'alexnet'}
    assert Path(found['alexnet']).is_file()
