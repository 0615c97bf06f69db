"""Pipelines of diffusers as second stages: tiny random networks of the true classes."""

import json
from importlib import resources

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    VQModel,
)
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.models import diffusion, generators, pipelines
from bids_neurodecode.models.diffusion import MemorySettings
from bids_neurodecode.systems.reconstruction.generation.steps import choice
from tests.models import test_clip_targets as clip

WIDTH = 32
RECIPES = tuple(name for name in generators.recipe_names() if name != 'versatile-diffusion')


def vision():
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            image_size=16, patch_size=4, projection_dim=WIDTH,
        )
    ).eval()  # fmt: skip


def text(kind=CLIPTextModel):
    config = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        vocab_size=99, projection_dim=WIDTH, max_position_embeddings=9,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return kind(config).eval()


def ddim():
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule='linear', clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def processor():
    return CLIPImageProcessor(size={'shortest_edge': 16}, crop_size={'height': 16, 'width': 16})


def unet(**more):
    return UNet2DConditionModel(
        **{
            'sample_size': 8,
            'block_out_channels': (32, 64),
            'layers_per_block': 1,
            'attention_head_dim': (2, 4),
            'cross_attention_dim': WIDTH,
            'down_block_types': ('DownBlock2D', 'CrossAttnDownBlock2D'),
            'up_block_types': ('CrossAttnUpBlock2D', 'UpBlock2D'),
            'use_linear_projection': True,
            **more,
        }
    ).eval()


def vae():
    return AutoencoderKL(
        block_out_channels=(32, 64), latent_channels=4, norm_num_groups=8, sample_size=16,
        down_block_types=('DownEncoderBlock2D',) * 2, up_block_types=('UpDecoderBlock2D',) * 2,
    ).eval()  # fmt: skip


def kandinsky(folder, tokenizer):
    blocks = {
        'down_block_types': ('ResnetDownsampleBlock2D', 'SimpleCrossAttnDownBlock2D'),
        'up_block_types': ('SimpleCrossAttnUpBlock2D', 'ResnetUpsampleBlock2D'),
    }
    network = unet(
        **blocks, mid_block_type='UNetMidBlock2DSimpleCrossAttn', out_channels=8,
        addition_embed_type='image', encoder_hid_dim=WIDTH, encoder_hid_dim_type='image_proj',
        attention_head_dim=4, resnet_time_scale_shift='scale_shift', cross_attention_dim=100,
        use_linear_projection=False,
    )  # fmt: skip
    movq = VQModel(
        block_out_channels=(32, 64), latent_channels=4, norm_num_groups=8, norm_type='spatial',
        num_vq_embeddings=12, vq_embed_dim=4,
        down_block_types=('DownEncoderBlock2D', 'AttnDownEncoderBlock2D'),
        up_block_types=('AttnUpDecoderBlock2D', 'UpDecoderBlock2D'),
    ).eval()  # fmt: skip
    made = diffusers.KandinskyV22Img2ImgPipeline(unet=network, scheduler=ddim(), movq=movq)
    made.save_pretrained(folder / 'kandinsky-2.2-decoder')
    vision().save_pretrained(folder / 'kandinsky-2.2-prior' / 'image_encoder')


def unclip(folder, tokenizer):
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

    network = unet(class_embed_type='projection', projection_class_embeddings_input_dim=2 * WIDTH)
    diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=processor(), image_encoder=vision(),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        image_noising_scheduler=DDPMScheduler(beta_schedule='squaredcos_cap_v2'),
        tokenizer=tokenizer, text_encoder=text(), unet=network, scheduler=ddim(), vae=vae(),
    ).save_pretrained(folder / 'unclip-2.1')  # fmt: skip


def adapter(network):
    """Return the arrays of an IP-Adapter of a network, as its files hold them."""
    arrays, cross = {}, network.config.cross_attention_dim
    number = 1
    for name, module in network.named_modules():
        if name.endswith('attn2'):
            inner = module.to_k.out_features
            for part in ('to_k_ip', 'to_v_ip'):
                arrays[f'ip_adapter.{number}.{part}.weight'] = torch.randn(inner, cross) * 0.2
            number += 2
    arrays['image_proj.proj.weight'] = torch.randn(4 * cross, WIDTH) * 0.2
    arrays['image_proj.proj.bias'] = torch.zeros(4 * cross)
    arrays['image_proj.norm.weight'] = torch.ones(cross)
    arrays['image_proj.norm.bias'] = torch.zeros(cross)
    return arrays


def sdxl(folder, tokenizer):
    network = unet(
        addition_embed_type='text_time', addition_time_embed_dim=8, cross_attention_dim=2 * WIDTH,
        transformer_layers_per_block=1, projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )  # fmt: skip
    diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=vae(), text_encoder=text(), text_encoder_2=text(CLIPTextModelWithProjection),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=network,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', steps_offset=1,
            timestep_spacing='leading',
        ),
    ).save_pretrained(folder / 'sdxl-base-1.0')  # fmt: skip
    place = folder / 'ip-adapter' / 'sdxl_models'
    place.mkdir(parents=True)
    torch.save(nested(adapter(network)), place / 'ip-adapter_sdxl.bin')
    vision().save_pretrained(place / 'image_encoder')


def nested(arrays):
    found = {'image_proj': {}, 'ip_adapter': {}}
    for name, values in arrays.items():
        part, _, rest = name.partition('.')
        found[part][rest] = values
    return found


def cascade(folder, tokenizer):
    from diffusers.models import StableCascadeUNet
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    prior = StableCascadeUNet(
        in_channels=4, out_channels=4, conditioning_dim=32, block_out_channels=(32, 32),
        num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1), switch_level=(False,),
        block_types_per_layer=(
            ('SDCascadeResBlock', 'SDCascadeTimestepBlock', 'SDCascadeAttnBlock'),
        ) * 2,
        clip_image_in_channels=WIDTH, clip_text_in_channels=WIDTH,
        clip_text_pooled_in_channels=WIDTH, dropout=(0.1, 0.1),
    ).eval()  # fmt: skip
    diffusers.StableCascadePriorPipeline(
        tokenizer=tokenizer, text_encoder=text(CLIPTextModelWithProjection), prior=prior,
        scheduler=DDPMWuerstchenScheduler(), feature_extractor=processor(),
        image_encoder=vision(),
    ).save_pretrained(folder / 'stable-cascade-prior')  # fmt: skip
    decoder = StableCascadeUNet(
        in_channels=4, out_channels=4, conditioning_dim=32, block_out_channels=(16, 32),
        num_attention_heads=(-1, 2), down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(2, 2), switch_level=None,
        block_types_per_layer=(
            ('SDCascadeResBlock', 'SDCascadeTimestepBlock'),
            ('SDCascadeResBlock', 'SDCascadeTimestepBlock', 'SDCascadeAttnBlock'),
        ),
        clip_text_pooled_in_channels=WIDTH, effnet_in_channels=4, dropout=(0.1, 0.1),
    ).eval()  # fmt: skip
    diffusers.StableCascadeDecoderPipeline(
        decoder=decoder, tokenizer=tokenizer, text_encoder=text(CLIPTextModelWithProjection),
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2).eval(),
    ).save_pretrained(folder / 'stable-cascade')  # fmt: skip
    # as published: a module that diffusers has moved
    index = folder / 'stable-cascade' / 'model_index.json'
    told = json.loads(index.read_text())
    told['vqgan'] = ['wuerstchen', 'PaellaVQModel']
    index.write_text(json.dumps(told))


BUILDERS = {
    'kandinsky-2.2': kandinsky,
    'unclip-2.1': unclip,
    'sdxl-ip-adapter': sdxl,
    'stable-cascade': cascade,
}


def write_weights(name, folder):
    """Write tiny networks of a recipe as the manifest's entries."""
    clip.write_tokenizer(folder / 'words')
    tokenizer = CLIPTokenizer.from_pretrained(folder / 'words')
    tokenizer.model_max_length = 9
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BUILDERS[name](folder, tokenizer)


def small(name):
    recipe = generators.read_recipe(name)
    stages = tuple(stage.model_copy(update={'n_steps': 2}) for stage in recipe.stages)
    size = None if recipe.size is None else 128
    return recipe.model_copy(update={'stages': stages, 'size': size})


@pytest.fixture(scope='module', params=RECIPES)
def stage(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_weights(request.param, folder)
    recipe = small(request.param)
    places = {entry: folder / entry for entry in recipe.weights}
    embeddings, called = pipelines.load_pipelines(recipe, places, MemorySettings())
    refiner = pipelines.PipelineRefiner(recipe, called, embeddings.unconditional())
    return recipe, embeddings, refiner, places


@pytest.fixture(scope='module')
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((40, 40), 2)) for x in coarse])


@pytest.mark.slow
def test_images_are_those_of_the_pipeline_s_own_call(stage, pictures):
    """Embeddings and start images enter where the pipeline itself would put them."""
    recipe, embeddings, refiner, _ = stage
    found = embeddings.of_pictures(pictures)
    assert found.shape == (3, WIDTH)
    made = refiner.refine(pictures, {'vision': found}, [5, 6, 7])
    assert made.shape == (3, refiner.size, refiner.size, 3)
    for row, seed in enumerate((5, 6, 7)):
        expected = own_call(recipe, refiner, pictures[row], found[row], seed)
        # of images in 8 bits, a step apart where rounding differs
        assert np.abs(made[row].astype(int) - expected).max() <= 1


def own_call(recipe, refiner, picture, embedding, seed):
    """Call diffusers' pipelines by hand, with images where they take them."""
    generator = torch.Generator().manual_seed(seed)
    image = Image.fromarray(picture)
    start = image.resize((refiner.size,) * 2, Image.Resampling.BICUBIC)
    encoded = torch.from_numpy(embedding)[None]
    first = refiner.pipelines[0]
    common = {'num_inference_steps': 2, 'generator': generator}
    if recipe.name == 'unclip-2.1':
        out = first(image, prompt='', guidance_scale=10.0, output_type='np', **common)
    elif recipe.name == 'kandinsky-2.2':
        size = {'height': refiner.size, 'width': refiner.size}
        nothing = torch.from_numpy(refiner._nothing)[None]
        out = first(
            encoded, start, nothing, guidance_scale=4.0, strength=0.75, output_type='np',
            **size, **common,
        )  # fmt: skip
    elif recipe.name == 'sdxl-ip-adapter':
        both = torch.cat([torch.zeros_like(encoded), encoded])[:, None]
        out = first(
            '', image=start, strength=0.75, guidance_scale=5.0, output_type='np',
            ip_adapter_image_embeds=[both], **common,
        )  # fmt: skip
    else:
        size = {'height': refiner.size, 'width': refiner.size}
        prior = first('', images=[image], guidance_scale=4.0, **size, **common)
        out = refiner.pipelines[1](
            prior.image_embeddings, '', guidance_scale=0.0, output_type='np', **common
        )
    return np.rint(np.clip(out.images[0], 0, 1) * 255).astype(int)


@pytest.mark.slow
def test_an_image_depends_on_its_own_seed_and_embedding_alone(stage, pictures):
    recipe, embeddings, refiner, _ = stage
    found = embeddings.of_pictures(pictures)
    made = refiner.refine(pictures, {'vision': found}, [5, 6, 7])
    alone = refiner.refine(pictures[1:2], {'vision': found[1:2]}, [6])
    np.testing.assert_array_equal(alone[0], made[1])
    seeded = refiner.refine(pictures[1:2], {'vision': found[1:2]}, [8])
    assert (seeded[0] != made[1]).any()
    other = refiner.refine(pictures[1:2], {'vision': 9 * found[2:3] + 1}, [6])
    assert (other[0] != made[1]).any()
    moved = refiner.refine(255 - pictures[1:2], {'vision': found[1:2]}, [6])
    assert (moved[0] != made[1]).any() == recipe.starts
    nothing = refiner.refine(None, {'vision': found[1:2]}, [6])
    assert nothing.shape == alone.shape


def test_embeddings_are_those_of_the_processor(pictures):
    """The square images that are regressed on need no crop: one resize, as in diffusers' calls."""
    network = vision()
    found = pipelines.ImageEmbeddings(network).of_pictures(pictures, batch_size=2)
    pixels = processor()(list(pictures), return_tensors='pt').pixel_values
    with torch.inference_mode():
        expected = network(pixels).image_embeds.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())
    kinds = [
        pipelines.ImageEmbeddings(network, x).unconditional() for x in ('zeros', 'mean-colour')
    ]
    assert (kinds[0]['vision'] == 0).all()
    assert (kinds[1]['vision'] != 0).any()


def test_recipes_say_what_they_need():
    for name in generators.recipe_names():
        recipe = generators.read_recipe(name)
        declared = any(stage.start for stage in recipe.stages)
        assert recipe.starts == (declared or recipe.loop == 'versatile-diffusion')
        assert bool(recipe.stages[0].strength) == recipe.starts
        assert recipe.oracle
        assert all(hasattr(diffusers, stage.pipeline) for stage in recipe.stages)
    with pytest.raises(ArgumentsError, match=r'There are: kandinsky-2\.2'):
        generators.read_recipe('dalle')


def own_recipe(folder, *changes, of='kandinsky-2.2'):
    """A recipe as a user would write it, with words of the package's exchanged."""
    text = resources.files('bids_neurodecode').joinpath(f'data/generators/{of}.toml').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / 'mine.toml'
    file.write_text(text)
    return str(file)


def test_a_recipe_of_one_s_own_makes_what_the_package_s_makes(tmp_path, pictures):
    """Its weights are folders beside it, under any name."""
    write_weights('kandinsky-2.2', tmp_path)
    (tmp_path / 'kandinsky-2.2-decoder').rename(tmp_path / 'painter')
    steps = ('n_steps = 50', 'n_steps = 2')
    file = own_recipe(tmp_path, ('"kandinsky-2.2-decoder"', '"painter"'), steps)
    made = []
    for name in (file, 'kandinsky-2.2'):
        recipe = generators.read_recipe(name)
        pipelines.check_recipe(recipe)
        places = {entry: tmp_path / entry for entry in recipe.weights}
        if name != file:
            recipe = small(name)
            places['kandinsky-2.2-decoder'] = tmp_path / 'painter'
        embeddings, called = pipelines.load_pipelines(recipe, places, MemorySettings())
        refiner = pipelines.PipelineRefiner(recipe, called, embeddings.unconditional())
        conditions = {'vision': embeddings.of_pictures(pictures[:1])}
        made.append(refiner.refine(pictures[1:2], conditions, [3]))
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ('of', 'old', 'new', 'says'),
    [
        ('kandinsky-2.2', 'guidance', 'guidence', r'0\.guidence: unknown key; did you mean'),
        ('kandinsky-2.2', 'encoder =', 'encodr =', 'encodr: unknown key; did you mean encoder?'),
        ('kandinsky-2.2', '= ["vision"]', '= ["visoin"]', 'did you mean vision?'),
        (
            'kandinsky-2.2',
            'strength = 0.75',
            'strength = 7.5',
            r'stages\.0\.strength: .*equal to 1',
        ),
        ('kandinsky-2.2', 'starts = true', 'starts = false', 'starts = false, and a stage has'),
        ('kandinsky-2.2', 'start = "image"', '', 'starts = true, and no stage has "start"'),
        ('unclip-2.1', 'n_steps = 20', 'n_steps = 20\nstrength = 0.5', 'without "start" has a'),
        ('kandinsky-2.2', '[[stages]]', '[[stages', r'mine\.toml cannot be used: '),
        ('kandinsky-2.2', 'Img2ImgPipeline', 'Img2ImgPipelin', 'no KandinskyV22Img2ImgPipelin,'),
        ('kandinsky-2.2', '"image_embeds"', '"image_embed"', 'no such argument. Did you mean'),
        ('unclip-2.1', 'noise_level', 'noise', "hands 'noise' to StableUnCLIPImg2ImgPipeline"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_before_work(tmp_path, of, old, new, says):
    with pytest.raises(ArgumentsError, match=says) as error:
        pipelines.check_recipe(generators.read_recipe(own_recipe(tmp_path, (old, new), of=of)))
    assert '\n' not in str(error.value)


def test_recipes_of_the_package_pass_and_files_that_are_gone_do_not(tmp_path):
    for name in generators.recipe_names():
        pipelines.check_recipe(generators.read_recipe(name))
    with pytest.raises(ArgumentsError, match=r'gone\.toml cannot be used: .*No such file'):
        generators.read_recipe(str(tmp_path / 'gone.toml'))
    config = build_config({'reconstruction': {'generator': own_recipe(tmp_path)}})
    assert choice.weights_of(config.reconstruction.generator)[1:] == (
        'kandinsky-2.2-prior', 'kandinsky-2.2-decoder',
    )  # fmt: skip
    other = own_recipe(tmp_path, ('"kandinsky-2.2-decoder"', '"painter"'))
    for entry in ('vdvae-imagenet64', 'kandinsky-2.2-prior'):
        assert entry in choice.weights_of(other)
    with pytest.raises(InputError, match=r'vdvae-imagenet64|painter'):
        choice.find_weights(tmp_path, other)


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(ArgumentsError, match='has no NoSuchPipeline, which the generator x is'):
        pipelines.find_class('NoSuchPipeline', 'x')
    recipe = generators.read_recipe('kandinsky-2.2')
    places = {entry: tmp_path / entry for entry in recipe.weights}
    with pytest.raises(InputError, match=r'weights fetch kandinsky-2\.2-prior'):
        pipelines.load_pipelines(recipe, places, MemorySettings())
    monkeypatch.setitem(
        __import__('sys').modules, 'diffusers.pipelines.deprecated.versatile_diffusion', None
    )
    with pytest.raises(InputError, match='has no Versatile Diffusion any more'):
        diffusion.text_network()


@pytest.mark.slow
@pytest.mark.parametrize('ending', ['.safetensors', '.bin'])
def test_a_damaged_adapter_is_named(tmp_path, ending):
    write_weights('sdxl-ip-adapter', tmp_path)
    recipe = small('sdxl-ip-adapter')
    places = {entry: tmp_path / entry for entry in recipe.weights}
    (tmp_path / 'ip-adapter/sdxl_models' / f'ip-adapter_sdxl{ending}').write_bytes(b'no weights')
    with pytest.raises(InputError, match=rf'ip-adapter_sdxl\{ending}'):
        pipelines.load_pipelines(recipe, places, MemorySettings())
