"""The feature spaces of encoding: a node each, frozen networks among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    TraitedSpec,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import FeatureSettings
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.own_features import picture_table
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

WEIGHTS = {
    'clip': 'clip-vit-l14',
    'dinov2': 'dinov2-base',
    'blip': 'blip-itm-base',
    'blip-caption': 'blip-itm-base',
}
"""The weights of each feature space that needs some."""
PICTURE_SIZE = {'clip': 224, 'dinov2': 256, 'blip': 384, 'blip-caption': 384}
"""Pixels a side at which pictures are handed to each network, which crops and scales itself."""
CAPTIONED = frozenset({'blip-caption'})
PICTURES_AT_ONCE = 256


class ExtractBandInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    band = traits.Str(mandatory=True, desc='name of the feature extractor')
    settings = traits.Str(mandatory=True, desc='settings of the features, as JSON')
    image_size = traits.Int(mandatory=True, desc='pixels a side')
    weights = traits.Str('', usedefault=True, desc='folder of the pretrained weights')
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')
    cache = Directory(mandatory=True, desc='where features are kept by content')


class ExtractBandOutput(TraitedSpec):
    features = File(exists=True, desc='.npy, stimuli x features, stimuli in order of their names')


class ExtractBand(Stage):
    """Pictures (and their captions) to one feature space, each picture once."""

    input_spec = ExtractBandInput
    output_spec = ExtractBandOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.bids.captions import first_captions
        from bids_neurodecode.stimuli import features as f
        from bids_neurodecode.stimuli.images import load_images

        inputs = self.inputs
        participant = ParticipantInput.from_json(inputs.participant)
        kind, _, own = inputs.band.partition(':')
        if kind == TABLE:
            settings = FeatureSettings.model_validate_json(inputs.settings)
            table = picture_table(participant, settings)
            np.save(
                folder / 'features.npy',
                table.of_stimuli(participant.stimuli, settings.bands)[own],
            )
            return {'features': folder / 'features.npy'}
        options = {'folder': inputs.weights, 'device': inputs.device} if inputs.weights else {}
        names, cache = participant.stimuli, Path(inputs.cache)
        captions: Mapping[str, str] = {}
        if inputs.band in CAPTIONED:
            captions = first_captions(participant)
            reader = f.get_captioned_extractor(inputs.band, **options)
        else:
            extractor = f.get_extractor(inputs.band, **options)
        parts = []
        for start in range(0, len(names), PICTURES_AT_ONCE):
            chunk = names[start : start + PICTURES_AT_ONCE]
            files = [participant.stimuli_dir / name for name in chunk]
            images = load_images(files, size=inputs.image_size)
            if captions:
                texts = [captions[name] for name in chunk]
                rows = f.extract_captioned_features(images, texts, reader, cache_dir=cache)
            else:
                rows = f.extract_features(images, extractor, cache_dir=cache)
            parts.append(rows)
        np.save(folder / 'features.npy', np.concatenate(parts))
        return {'features': folder / 'features.npy'}


def connect_bands(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add a node for each feature space; return the one that lists their files in order (out)."""
    from nipype.interfaces.utility import Merge

    from bids_neurodecode.models.weights import weights_path

    bands = run.config.encoding.bands
    gathered = node(Merge(len(bands)), 'bands', run, size)
    for number, band in enumerate(bands, 1):
        needed = WEIGHTS.get(band)
        own = run.device if needed else 'cpu'
        extract = node(
            ExtractBand(
                participant=participant.to_json(),
                band=band,
                settings=run.config.features.model_dump_json(),
                image_size=PICTURE_SIZE.get(band, run.config.features.image_size),
                weights='' if needed is None else str(weights_path(needed, run.weights_dir)),
                device=own,
                use_gpu=own == 'cuda',
                cache=str(run.work_dir / 'features'),
            ),
            f'features_{number if ":" in band else band.replace("-", "_")}',
            run,
            size,
        )
        workflow.connect(extract, 'features', gathered, f'in{number}')
    return gathered


__all__ = ['CAPTIONED', 'WEIGHTS', 'ExtractBand', 'connect_bands']
