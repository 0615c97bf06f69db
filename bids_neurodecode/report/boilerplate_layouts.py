"""Methods text on data that were not read as BIDS with estimated betas."""

from __future__ import annotations

from bids_neurodecode.config import Config


def published_inputs(layout: str, version: str) -> str:
    """Return the paragraph on a dataset in the layout in which it is published.

    Parameters
    ----------
    layout
        ``nsd``, ``emofilm``, ``algonauts`` or ``algonauts2025``.
    version
        Of this program.
    """
    if layout == 'nsd':
        return (
            'Single-trial betas, design and images of the Natural Scenes Dataset '
            '[@allen2022nsd] were read in its own layout and analysed with bids_neurodecode '
            f'{version}, a BIDS-App [@gorgolewski2017bidsapps]. Images that all participants '
            'saw (the shared 1,000) are the published test set.'
        )
    if layout == 'algonauts':
        return (
            'Responses and images of the Algonauts Project 2023 Challenge '
            '[@gifford2023algonauts], which are from the Natural Scenes Dataset [@allen2022nsd], '
            'were read in its own layout and analysed with bids_neurodecode '
            f'{version}, a BIDS-App [@gorgolewski2017bidsapps]. The responses to its test images '
            'are not public: all scores are of training images that were held out.'
        )
    if layout == 'algonauts2025':
        return (
            'Series of parcels of the Algonauts Project 2025 Challenge [@gifford2025algonauts], '
            'from the Courtois NeuroMod project, were read in its own '
            f'layout and analysed with bids_neurodecode {version}, a BIDS-App '
            '[@gorgolewski2017bidsapps]. Series of its test films are not public: all scores are '
            'of training films that were held out.'
        )
    return (
        'Emo-FilM (OpenNeuro ds004892) was organised according to BIDS [@gorgolewski2016bids] and '
        f'analysed with bids_neurodecode {version}, a BIDS-App [@gorgolewski2017bidsapps], from '
        'the series that are published with it: preprocessed with FSL, smoothed by 6 mm, motion, '
        'white matter and cerebrospinal fluid regressed out, in the space of FSL. Voxels that '
        'vary over the first 20 volumes of all runs make the mask. Quality was judged by the '
        'temporal signal-to-noise ratio [@murphy2007tsnr].'
    )


def taken_betas(config: Config, layout: str) -> str:
    """Return the paragraph on betas that were there already.

    Parameters
    ----------
    config
        Settings of ``betas``.
    layout
        Of the dataset: ``bids``, ``nsd``, ``algonauts``, ...
    """
    betas = config.betas
    if layout == 'algonauts':
        text = (
            'The responses of the challenge were used: means over the presentations of an image.'
        )
    elif layout == 'nsd':
        version = betas.precomputed or 'betas_fithrf_GLMdenoise_RR'
        text = (
            f"The dataset's own single-trial betas ({version}) of its region nsdgeneral were used."
        )
    else:
        text = f'Single-trial betas were taken from the derivatives dataset {betas.precomputed}.'
    if betas.standardize == 'session':
        text += (
            ' Each voxel was z-scored over the trials of its session, held-out trials included.'
        )
    if betas.repeats == 'mean':
        text += " The betas of each image's trials were averaged, in training and test."
    return text
