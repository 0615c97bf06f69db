"""What a very deep VAE is built from: its configuration, read from the published strings.

Child (2021), *Very deep VAEs generalize autoregressive models and can outperform them on images*,
arXiv 2011.10650.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bids_neurodecode.errors import DataError

BAD_BLOCK = 'The {part} {text!r} has the block {block!r}: write {form}.'
BAD_ENCODER = (
    'The encoder {text!r} has a block at resolution {found} where the image is {expected} wide. '
    'Pool with RdK down to each resolution.'
)
BAD_DECODER = 'The decoder {text!r} cannot be built: {reason}.'
BAD_CONFIG = 'A VDVAE needs {what}; {found!r} is not that.'
UNKNOWN_PRESET = 'No VDVAE is called {name!r}. There are: {names}.'
UNKNOWN_CONFIG = 'Unknown or missing settings of a VDVAE: {names}.'


@dataclass(frozen=True)
class Level:
    """One block of the encoder or the decoder: where it works, and where it goes or comes from."""

    resolution: int
    pool: int | None = None
    """Factor by which the encoder pools after the block."""
    mixin: int | None = None
    """Resolution whose state the decoder adds before the block."""


@dataclass(frozen=True)
class VDVAEConfig:
    """What a very deep VAE is built from.

    Parameters
    ----------
    image_size
        Height and width of the images.
    width
        Channels of the residual stream.
    encoder_blocks, decoder_blocks
        Comma-separated: ``RxN`` is N blocks at resolution R, ``RdK`` a block at R and then
        average-pooling by K, ``RmS`` a block at R to which the state of resolution S is added.
    n_latent_channels
        Channels of each latent.
    bottleneck
        Channels inside a block, as a share of its width.
    n_mixtures
        Logistic components of each pixel.
    no_bias_above
        Above this resolution the decoder starts from zeros instead of a learned grid.
    custom_widths
        ``R:W`` pairs, comma-separated: other widths at some resolutions.
    input_mean, input_std
        What 8-bit images are standardised with.
    """

    image_size: int
    width: int
    encoder_blocks: str
    decoder_blocks: str
    n_latent_channels: int = 16
    bottleneck: float = 0.25
    n_mixtures: int = 10
    no_bias_above: int = 64
    custom_widths: str = ''
    input_mean: float = 115.92961967
    input_std: float = 69.37404
    encoder: tuple[Level, ...] = field(init=False, repr=False, compare=False)
    decoder: tuple[Level, ...] = field(init=False, repr=False, compare=False)
    widths: Mapping[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ('image_size', 'width', 'n_latent_channels', 'n_mixtures'):
            if getattr(self, name) < 1:
                what = f'{name} of at least 1'
                raise DataError(BAD_CONFIG.format(what=what, found=getattr(self, name)))
        if not 0 < self.bottleneck <= 1 or int(self.width * self.bottleneck) < 1:
            what = 'a bottleneck between 0 and 1 that leaves a channel'
            raise DataError(BAD_CONFIG.format(what=what, found=self.bottleneck))
        object.__setattr__(self, 'encoder', _read_encoder(self.encoder_blocks, self.image_size))
        resolutions = {self.image_size, *(_after(level) for level in self.encoder)}
        decoder = _read_decoder(self.decoder_blocks, self.image_size, resolutions)
        object.__setattr__(self, 'decoder', decoder)
        object.__setattr__(self, 'widths', _read_widths(self.custom_widths))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VDVAEConfig:
        """Build a configuration from :meth:`to_dict`; unknown and missing names are an error."""
        allowed = {f.name for f in fields(cls) if f.init}
        required = {'image_size', 'width', 'encoder_blocks', 'decoder_blocks'}
        wrong = sorted((set(values) - allowed) | (required - set(values)))
        if wrong:
            raise DataError(UNKNOWN_CONFIG.format(names=', '.join(wrong)))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that :meth:`from_dict` takes."""
        made = {f.name for f in fields(self) if not f.init}
        return {name: value for name, value in asdict(self).items() if name not in made}

    def width_at(self, resolution: int) -> int:
        """Return the channels of the residual stream at a resolution."""
        return self.widths.get(resolution, self.width)

    def inner_width_at(self, resolution: int) -> int:
        """Return the channels inside the blocks of a resolution."""
        return int(self.width_at(resolution) * self.bottleneck)

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Shapes (channels, rows, columns) of the latents, in the decoder's order."""
        return tuple(
            (self.n_latent_channels, level.resolution, level.resolution) for level in self.decoder
        )

    @property
    def decoder_resolutions(self) -> tuple[int, ...]:
        """The decoder's resolutions, ascending."""
        return tuple(sorted({level.resolution for level in self.decoder}))

    def n_latents_of(self, length: int) -> int | None:
        """Return how many of the first latents have this many values together, if any have."""
        total = 0
        for n_latents, shape in enumerate(self.latent_shapes, start=1):
            total += math.prod(shape)
            if total >= length:
                return n_latents if total == length else None
        return None


def _read_encoder(text: str, image_size: int) -> tuple[Level, ...]:
    levels: list[Level] = []
    for resolution, letter, number in _read_blocks(text, 'encoder', 'xd', 'RxN or RdK'):
        count = number if letter == 'x' else 1
        levels += [Level(resolution, pool=number if letter == 'd' else None)] * count
    current = image_size
    for level in levels:
        if level.resolution != current or current % (level.pool or 1):
            raise DataError(
                BAD_ENCODER.format(text=text, found=level.resolution, expected=current)
            )
        current = _after(level)
    return tuple(levels)


def _read_decoder(text: str, image_size: int, known: set[int]) -> tuple[Level, ...]:
    levels: list[Level] = []
    for resolution, letter, number in _read_blocks(text, 'decoder', 'xm', 'RxN or RmS'):
        count = number if letter == 'x' else 1
        levels += [Level(resolution, mixin=number if letter == 'm' else None)] * count
    done: set[int] = set()
    for level in levels:
        reason = ''
        if level.resolution not in known:
            reason = f'the encoder has no activation at resolution {level.resolution}'
        elif level.mixin is not None and level.mixin not in done:
            reason = f'no block before {level.resolution}m{level.mixin} is at {level.mixin}'
        elif level.mixin is not None and level.resolution % level.mixin:
            reason = f'{level.resolution} is no multiple of {level.mixin}'
        if reason:
            raise DataError(BAD_DECODER.format(text=text, reason=reason))
        done.add(level.resolution)
    if image_size not in done:
        reason = f'no block is at the size of the images, {image_size}'
        raise DataError(BAD_DECODER.format(text=text, reason=reason))
    return tuple(levels)


def _read_blocks(text: str, part: str, letters: str, form: str) -> list[tuple[int, str, int]]:
    blocks = []
    for block in text.split(','):
        found = re.fullmatch(rf'([1-9]\d*)([{letters}])([1-9]\d*)', block.strip())
        if found is None:
            raise DataError(BAD_BLOCK.format(part=part, text=text, block=block, form=form))
        blocks.append((int(found[1]), found[2], int(found[3])))
    return blocks


def _read_widths(text: str) -> dict[int, int]:
    widths = {}
    for pair in filter(None, text.split(',')):
        found = re.fullmatch(r'([1-9]\d*):([1-9]\d*)', pair.strip())
        if found is None:
            raise DataError(
                BAD_BLOCK.format(part='custom widths', text=text, block=pair, form='R:W')
            )
        widths[int(found[1])] = int(found[2])
    return widths


def _after(level: Level) -> int:
    return level.resolution // (level.pool or 1)


IMAGENET64 = VDVAEConfig(
    image_size=64,
    width=512,
    encoder_blocks='64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5',
    decoder_blocks='1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12',
)
"""The published model of ImageNet at 64 x 64: 75 latents, 125,005,860 parameters."""

SMALL64 = VDVAEConfig(
    image_size=64,
    width=64,
    encoder_blocks='64d2,32d2,16x2,16d2,8x2,8d2,4x1,4d4,1x1',
    decoder_blocks='1x1,4m1,4x2,8m4,8x3,16m8,16x3,32m16,64m32',
    n_latent_channels=8,
    bottleneck=0.5,
    n_mixtures=5,
    custom_widths='64:16,32:32',
)
"""A model that learns from a dataset's own images in minutes on a CPU: 14 latents."""

SMALL32 = VDVAEConfig(
    image_size=32,
    width=48,
    encoder_blocks='32d2,16x1,16d2,8x1,8d2,4x1,4d4,1x1',
    decoder_blocks='1x1,4m1,4x1,8m4,8x2,16m8,16x2,32m16',
    n_latent_channels=8,
    bottleneck=0.5,
    n_mixtures=5,
    custom_widths='32:24',
)
"""The same at half the size, for demonstrations: 10 latents."""

PRESETS = {'imagenet64': IMAGENET64, 'small64': SMALL64, 'small32': SMALL32}


def vdvae_preset(name: str) -> VDVAEConfig:
    """Return a named configuration.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise DataError(UNKNOWN_PRESET.format(name=name, names=', '.join(PRESETS)))
    return PRESETS[name]
