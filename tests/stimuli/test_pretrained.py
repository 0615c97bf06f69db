"""Pretrained extractors, with random weights: shapes, preprocessing, folders, captions."""

from collections import OrderedDict

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.stimuli import pretrained
from bids_neurodecode.stimuli.features import (
    extract_captioned_features,
    extract_features,
    get_captioned_extractor,
    get_extractor,
)

torch = pytest.importorskip('torch')
pytest.importorskip('transformers')

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
SMALL = {
    'hidden_size': 24,
    'intermediate_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'image_size': 32,
    'patch_size': 8,
}
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'cat', 'on', 'the', 'mat']


@pytest.fixture(scope='module')
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def clip_folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp('clip'))


@pytest.fixture(scope='module')
def blip_folder(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp('blip'))


def write_clip(folder):
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**SMALL, projection_dim=16))
    model.save_pretrained(folder)
    size = {'height': 32, 'width': 32}
    CLIPImageProcessorPil(size={'shortest_edge': 32}, crop_size=size).save_pretrained(folder)
    return folder


def write_dinov2(folder):
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(folder)
    size = {'height': 32, 'width': 32}
    BitImageProcessorPil(size={'shortest_edge': 36}, crop_size=size).save_pretrained(folder)


def write_blip(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BlipConfig,
        BlipForImageTextRetrieval,
        BlipImageProcessorPil,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    vision = {**SMALL, 'initializer_range': 0.2}  # the default is next to nothing
    text = {
        **SMALL,
        'initializer_range': 0.2,
        'encoder_hidden_size': 24,
        'vocab_size': len(WORDS) + 2,
    }
    text = {k: v for k, v in text.items() if k not in {'image_size', 'patch_size'}}
    model = BlipForImageTextRetrieval(BlipConfig(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    BlipImageProcessorPil(size={'height': 32, 'width': 32}).save_pretrained(folder)
    vocabulary = OrderedDict((word, number) for number, word in enumerate(WORDS))
    core = Tokenizer(models.WordLevel(vocabulary, unk_token='[UNK]'))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(('[SEP]', 3), ('[CLS]', 2))
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]'
    ).save_pretrained(folder)
    return folder


def test_clip_from_a_folder(clip_folder, images, tmp_path):
    extractor = get_extractor('clip', folder=clip_folder)
    features = extract_features(images, extractor, cache_dir=tmp_path, batch_size=2)
    assert features.shape == (3, 16)
    assert features.dtype == np.float32
    assert not any(p.requires_grad for p in extractor.model.parameters())
    again = extract_features(images[::-1], extractor, cache_dir=tmp_path)
    np.testing.assert_array_equal(again, features[::-1])  # from the cache, whatever the order
    np.testing.assert_allclose(extractor.transform(images[:1]), features[:1], atol=1e-5)


def test_pooling_and_layers(clip_folder, images):
    def features(**options):
        return get_extractor('clip', folder=clip_folder, **options).transform(images)

    tokens = features(pooling='tokens', layer=-1).reshape(3, 17, 24)
    np.testing.assert_allclose(features(pooling='cls', layer=-1), tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(
        features(pooling='mean', layer=-1), tokens[:, 1:].mean(1), atol=1e-5
    )
    assert not np.allclose(features(pooling='cls', layer=1), tokens[:, 0])
    with pytest.raises(ArgumentsError, match='layers 0 to 2'):
        features(pooling='cls', layer=9)
    with pytest.raises(ArgumentsError, match='pooling must be one of'):
        features(pooling='max')


def test_mixed_precision_is_close_and_has_a_cache_of_its_own(clip_folder, images):
    full = get_extractor('clip', folder=clip_folder)
    mixed = get_extractor('clip', folder=clip_folder, precision='bfloat16')
    a, b = full.transform(images), mixed.transform(images)
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max())
    assert full.params != mixed.params


def test_clip_preprocessing_by_hand(clip_folder):
    """A uniform image becomes (value / 255 - mean) / deviation, once."""
    extractor = get_extractor('clip', folder=clip_folder)
    colour = np.array([200, 100, 0], dtype=np.uint8)
    pixels = pretrained.preprocess(extractor.processor, np.tile(colour, (1, 64, 80, 1)))
    assert pixels.shape == (1, 3, 32, 32)
    expected = (colour / 255 - MEAN) / STD
    np.testing.assert_allclose(pixels.numpy().mean(axis=(0, 2, 3)), expected, atol=1e-5)


def test_tiny_pictures_keep_their_axes(clip_folder):
    """An image of three rows is not taken for one with three channels first."""
    extractor = get_extractor('clip', folder=clip_folder)
    pixels = pretrained.preprocess(extractor.processor, np.zeros((1, 3, 8, 3), dtype=np.uint8))
    assert pixels.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(pixels.numpy().mean(axis=(0, 2, 3)), -MEAN / STD, atol=1e-5)


def test_floating_point_pictures_are_refused(clip_folder, images):
    extractor = get_extractor('clip', folder=clip_folder)
    with pytest.raises(DataError, match='uint8'):
        extractor.transform(images / 255)


def test_dinov2(images, tmp_path):
    write_dinov2(tmp_path)
    assert get_extractor('dinov2', folder=tmp_path).transform(images).shape == (3, 24)
    tokens = get_extractor('dinov2', folder=tmp_path, pooling='tokens').transform(images)
    assert tokens.shape == (3, 17 * 24)
    with pytest.raises(ArgumentsError, match='pooling'):
        get_extractor('dinov2', folder=tmp_path, pooling='projected')


def test_blip_pictures(blip_folder, images):
    assert get_extractor('blip', folder=blip_folder).transform(images).shape == (3, 24)


def test_blip_captions(blip_folder, images, tmp_path):
    extractor = get_captioned_extractor('blip-caption', folder=blip_folder)
    captions = ['a cat on the mat', 'the mat', 'a cat ' * 50]
    features = extract_captioned_features(images, captions, extractor, cache_dir=tmp_path)
    assert features.shape == (3, 32 * 24)
    tokens = features.reshape(3, 32, 24)
    assert np.isfinite(tokens).all()
    # both the image and the words count
    other = extract_captioned_features(images, captions[::-1], extractor, cache_dir=tmp_path)
    assert not np.allclose(other[0], features[0], atol=1e-4)
    np.testing.assert_array_equal(other[1], features[1])
    swapped = extractor.transform(images[[1, 0, 2]], captions)
    assert not np.allclose(swapped[0], features[0], atol=1e-4)
    # padding is not attended to: a longer batch does not change a caption
    alone = extractor.transform(images[1:2], captions[1:2])
    np.testing.assert_allclose(alone[0], features[1], atol=1e-5)
    with pytest.raises(DataError, match='one caption per image'):
        extract_captioned_features(images, captions[:1], extractor)


def test_captions_start_with_the_encoders_token(blip_folder, images):
    seen = {}
    extractor = get_captioned_extractor('blip-caption', folder=blip_folder)
    embeddings = extractor.model.text_encoder.embeddings.word_embeddings
    handle = embeddings.register_forward_pre_hook(lambda _, args: seen.update(ids=args[0].clone()))
    extractor.transform(images[:1], ['a cat'])
    handle.remove()
    assert seen['ids'][0, :5].tolist() == [len(WORDS) + 1, 5, 6, 3, 0]


def test_published_blip_configuration():
    """223,744,258 parameters, 577 x 768 for an image, 32 x 768 with a caption."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    text = {'encoder_hidden_size': 768, 'num_attention_heads': 12}
    with torch.device('meta'):
        model = BlipForImageTextRetrieval(
            BlipConfig(text_config=text, vision_config={}, image_text_hidden_size=256)
        ).eval()
        assert sum(p.numel() for p in model.parameters()) == 223_744_258
        seen = model.vision_model(pixel_values=torch.zeros(2, 3, 384, 384)).last_hidden_state
        words = model.text_encoder(
            input_ids=torch.zeros(2, 32, dtype=torch.long), encoder_hidden_states=seen
        ).last_hidden_state
    assert seen.shape == (2, 577, 768)
    assert words.shape == (2, 32, 768)


def test_missing_weights_name_the_command(tmp_path, clip_folder):
    with pytest.raises(InputError, match='bids_neurodecode-tools weights fetch clip-vit-l14') as e:
        get_extractor('clip', folder=tmp_path)
    assert '\n' not in str(e.value)
    (tmp_path / 'config.json').write_text((clip_folder / 'config.json').read_text())
    (tmp_path / 'preprocessor_config.json').write_text('{}')
    (tmp_path / 'model.safetensors').write_bytes(b'cut short')
    with pytest.raises(InputError, match='cannot be read') as e:
        get_extractor('clip', folder=tmp_path)
    assert '\n' not in str(e.value)


def test_digest_tells_weights_apart(tmp_path):
    for name in ('config.json', 'model.safetensors', 'preprocessor_config.json'):
        (tmp_path / name).write_bytes(b'{}')
    first = pretrained.digest(tmp_path)
    assert pretrained.digest(tmp_path) == first
    (tmp_path / 'model.safetensors').write_bytes(b'other')
    second = pretrained.digest(tmp_path)
    assert second != first
    (tmp_path / 'record.json').write_text('{"files": {}}')
    assert pretrained.digest(tmp_path) not in {first, second}
