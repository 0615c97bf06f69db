"""The feature spaces of encoding: a node each, frozen networks among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.extras import PACKAGED
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.features import WEIGHTS, image_size_of
from bids_neurodecode.systems.steps.own_features import picture_table
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import step

CAPTIONED = frozenset({'blip-caption', 'wordllama'})
PICTURES_AT_ONCE = 256


def add_bands(ladder: Ladder) -> None:
    """Add a step for each feature space; ``features`` lists their files in order."""
    from bids_neurodecode.models.weights import weights_path

    run = ladder.run
    names = []
    for number, band in enumerate(run.config.encoding.bands, 1):
        needed = WEIGHTS.get(band)
        name = f'features_{number if ":" in band else band.replace("-", "_")}'
        ladder.add(
            extract_band,
            name,
            made={'band': name},
            band_name=band,
            image_size=image_size_of(band, run.config.features.image_size),
            weights='' if needed is None else str(weights_path(needed, run.weights_dir)),
            cache=str(run.work_dir / 'features'),
            device=run.device,
        )
        names.append(name)
    ladder.gather('features', names)


def band_options(band: str, weights: str, device: str) -> dict[str, str]:
    """Return what the extractor of a feature space is made with.

    Parameters
    ----------
    band
        The feature space.
    weights
        Folder of its weights; empty: none needed.
    device
        Where networks are run.
    """
    options = {'folder': weights} if weights else {}
    network = band.partition(':')[0] in PACKAGED and band not in CAPTIONED
    return {**options, 'device': device} if weights or network else options


@step('features', seconds=4, makes=('band',), settings=('features',), memory=lambda _: 0.8)
def extract_band(
    participant: ParticipantInput,
    config: Config,
    band_name: str,
    image_size: int,
    weights: str,
    device: str,
    cache: str,
) -> Mapping[str, object]:
    """Extract one feature space of images (and their captions), each image once.

    Parameters
    ----------
    participant, config
        Whose images; settings of tables of features.
    band_name
        Of the feature space: an extractor, or ``table:<band>``.
    image_size
        Pixels a side.
    weights, device
        Folder of the pretrained weights (empty: none needed), and where they are run.
    cache
        Where features are kept by content.
    """
    from bids_neurodecode.bids.captions import first_captions
    from bids_neurodecode.stimuli import features as f
    from bids_neurodecode.stimuli.images import load_images

    kind, _, own = band_name.partition(':')
    names = participant.stimuli
    if kind == TABLE:
        table = picture_table(participant, config.features)
        return {'band': table.of_stimuli(names, config.features.bands)[own]}
    options = band_options(band_name, weights, device)
    captions: Mapping[str, str] = {}
    if band_name in CAPTIONED:
        captions = first_captions(participant)
        reader = f.get_captioned_extractor(band_name, **options)
    else:
        extractor = f.get_extractor(band_name, **options)
    parts = []
    for start in range(0, len(names), PICTURES_AT_ONCE):
        chunk = names[start : start + PICTURES_AT_ONCE]
        files = [participant.stimuli_dir / name for name in chunk]
        images = load_images(files, size=image_size)
        if captions:
            texts = [captions[name] for name in chunk]
            rows = f.extract_captioned_features(images, texts, reader, cache_dir=Path(cache))
        else:
            rows = f.extract_features(images, extractor, cache_dir=Path(cache))
        parts.append(rows)
    return {'band': np.concatenate(parts)}
