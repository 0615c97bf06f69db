"""CLIP features in tiny: every number again by another way, and the trap of scaling twice."""

import json

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models.clip_targets import ClipTargets, clip_pixels

LAST = 21  # the token of the end has the highest number, as in the published vocabulary


def make_networks():
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    shared = {
        'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 2,
        'num_attention_heads': 2, 'projection_dim': 12,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(image_size=32, patch_size=8, **shared)
        )
        text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=LAST + 1, max_position_embeddings=9, bos_token_id=LAST - 1,
                eos_token_id=LAST, pad_token_id=LAST, **shared,
            )
        )  # fmt: skip
        for network in (vision, text):  # the initial normalisations are all alike
            for parameter in network.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
    return vision.eval(), text.eval()


class Words:
    """A tokenizer whose words are numbers."""

    def __call__(self, texts, *, padding, max_length, truncation, return_tensors):
        assert (padding, truncation, return_tensors) == ('max_length', True, 'pt')
        rows = []
        for text in texts:
            words = [int(word) for word in text.split()][: max_length - 2]
            row = [LAST - 1, *words, LAST]
            rows.append(row + [LAST] * (max_length - len(row)))
        return {'input_ids': torch.tensor(rows)}


def write_tokenizer(folder):
    """Write the files of a tokenizer that reads the letters a to i, and ab as one word."""
    folder.mkdir()
    letters = [*'abcdefghi'] + [f'{c}</w>' for c in 'abcdefghi']
    words = [*letters, 'ab</w>', 'zz</w>', '<|startoftext|>', '<|endoftext|>']
    assert len(words) == LAST + 1
    (folder / 'vocab.json').write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / 'merges.txt').write_text('#version: 0.2\na b</w>\n')


@pytest.fixture(scope='module')
def targets():
    return ClipTargets(*make_networks(), Words())


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def layer_norm(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return scaled * layer.weight.numpy() + layer.bias.numpy()


def test_pixels_are_those_of_the_processor_of_transformers(images):
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={'shortest_edge': 224}, crop_size={'height': 224, 'width': 224}
    )
    wide = [
        Image.fromarray(image).resize((512, 512), Image.Resampling.BILINEAR) for image in images
    ]
    expected = processor(images=wide, return_tensors='pt')['pixel_values']
    found = clip_pixels(images)
    assert found.shape == (3, 3, 224, 224)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_pixels_of_one_colour():
    """The numbers that a second scaling by 255 would shift to about -1.8, -1.7 and -1.5."""
    grey = np.full((1, 50, 30, 3), 102, dtype=np.uint8)
    means = clip_pixels(grey, 32).mean(dim=(0, 2, 3)).numpy()
    expected = (np.array([0.4, 0.4, 0.4]) - [0.48145466, 0.4578275, 0.40821073]) / [
        0.26862954, 0.26130258, 0.27577711,
    ]  # fmt: skip
    np.testing.assert_allclose(means, expected, atol=1e-6)
    with pytest.raises(DataError, match='uint8'):
        clip_pixels(grey / 255.0)


def expected_vision(vision, pixels):
    with torch.no_grad():
        output = vision(pixels, output_hidden_states=True)
    states = output.hidden_states[-1].numpy()
    normal = layer_norm(states, vision.vision_model.post_layernorm)
    projected = normal @ vision.visual_projection.weight.detach().numpy().T
    expected = projected / np.sqrt((projected[:, :1] ** 2).sum(-1, keepdims=True))
    return expected, output.image_embeds.numpy()


def test_vision(targets, images):
    expected, embedding = expected_vision(targets.vision, clip_pixels(images, 32))
    found = targets.of_pictures(images, batch_size=2)
    assert found.shape == (3, 17, 12) == (3, *targets.vision_shape)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    # the class token is CLIP's embedding, of length 1; the others are not
    embedding = embedding / np.linalg.norm(embedding, axis=-1, keepdims=True)
    np.testing.assert_allclose(found[:, 0], embedding, rtol=2e-4, atol=2e-5)
    lengths = np.linalg.norm(found, axis=-1)
    np.testing.assert_allclose(lengths[:, 0], 1, rtol=1e-5)
    assert np.abs(lengths[:, 1:] - 1).max() > 0.01


def test_text(targets):
    text, caption = targets.text, '3 1 4 1'
    ids = Words()(
        [caption], padding='max_length', max_length=9, truncation=True, return_tensors='pt'
    )
    with torch.no_grad():
        output = text(**ids, output_hidden_states=True)
    final = next(m for n, m in text.named_modules() if n.endswith('final_layer_norm'))
    states = layer_norm(output.hidden_states[-1].numpy(), final)
    projected = states @ text.text_projection.weight.detach().numpy().T
    end = ids['input_ids'][0].tolist().index(LAST)
    expected = projected / np.linalg.norm(projected[:, end], axis=-1)[:, None, None]
    found = targets.of_captions([[caption]])
    assert found.shape == (1, 9, 12) == (1, *targets.text_shape)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_captions_are_averaged_without_empty_ones(targets):
    pair = targets.of_captions([['1 2', '', '7 8 9', ' ']])
    one, other = targets.of_captions([['1 2'], ['7 8 9']])
    np.testing.assert_allclose(pair[0], (one + other) / 2, rtol=1e-5, atol=1e-6)
    assert np.abs(one - other).max() > 0.01
    long = ' '.join(['5'] * 40)  # cut at the length of the network
    np.testing.assert_array_equal(
        targets.of_captions([[long]]), targets.of_captions([[' '.join(['5'] * 7)]])
    )
    with pytest.raises(DataError, match='Image 1'):
        targets.of_captions([['1'], ['', ' ']])


def test_unconditional(targets):
    nothing = targets.unconditional()
    np.testing.assert_allclose(nothing['text'], targets._read([''])[0], rtol=1e-4, atol=1e-5)
    # exactly half, which 8 bits cannot say
    grey = [0.06903686, 0.16139335, 0.33283861]
    pixels = torch.tensor(grey)[None, :, None, None].expand(1, 3, 32, 32)
    expected, _ = expected_vision(targets.vision, pixels)
    np.testing.assert_allclose(nothing['vision'], expected[0], rtol=1e-4, atol=1e-5)


def test_writes_into_a_memory_map(targets, images, tmp_path):
    out = np.lib.format.open_memmap(
        tmp_path / 'vision.npy', mode='w+', dtype=np.float16, shape=(3, 17, 12)
    )
    targets.of_pictures(images, out=out, batch_size=2)
    np.testing.assert_allclose(
        np.load(tmp_path / 'vision.npy'), targets.of_pictures(images), atol=5e-3
    )
    with pytest.raises(DataError, match=r'must be of shape \(3, 17, 12\)'):
        targets.of_pictures(images, out=out[:2])


def test_folder(targets, images, tmp_path):
    targets.vision.save_pretrained(tmp_path / 'image_encoder')
    targets.text.save_pretrained(tmp_path / 'text_encoder')
    folder = tmp_path / 'tokenizer'
    with pytest.raises(InputError, match=r'tokenizer/vocab\.json is missing\. Get them with'):
        ClipTargets.from_folder(tmp_path)
    write_tokenizer(folder)
    found = ClipTargets.from_folder(tmp_path)
    np.testing.assert_allclose(found.of_pictures(images), targets.of_pictures(images), rtol=1e-4)
    # a, b and the merged pair: one and two tokens after the first
    np.testing.assert_allclose(
        found.of_captions([['ab c']]), targets.of_captions([['18 11']]), rtol=1e-4, atol=1e-5
    )
    (tmp_path / 'image_encoder' / 'model.safetensors').write_bytes(b'no')
    with pytest.raises(InputError, match='cannot be read'):
        ClipTargets.from_folder(tmp_path)
