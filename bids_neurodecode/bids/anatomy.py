"""Anatomical derivatives of a participant beside the series: tissue segmentation, T1 image."""

from __future__ import annotations

from pathlib import Path

from bids_neurodecode.bids.entities import parse_entities

NOT_TISSUE = {'desc', 'atlas', 'seg', 'label', 'hemi'}
"""Entities of segmentations of something else than tissue (``desc-aparcaseg``)."""


def tissue_file(bold: Path) -> Path | None:
    """Return the tissue segmentation in the space of a series, or None where there is none.

    Its labels are those of BIDS derivatives: 1 grey matter, 2 white matter, 3 CSF.

    Parameters
    ----------
    bold
        A preprocessed series in a derivative dataset, as fMRIPrep writes it.
    """
    return next(
        (file for file in _anatomical(bold, 'dseg') if not NOT_TISSUE & set(parse_entities(file))),
        None,
    )


def anatomical_image(bold: Path) -> Path | None:
    """Return the T1-weighted image in the space of a series, or None where there is none."""
    files = _anatomical(bold, 'T1w')
    return next((f for f in files if parse_entities(f).get('desc') == 'preproc'), None)


def place_of(bold: Path) -> tuple[Path | None, str | None]:
    """Return where the anatomy of a series is looked for: a participant's folder, and a space."""
    own = parse_entities(bold)
    subject = next((p for p in bold.parents if p.name == f'sub-{own.get("sub")}'), None)
    return subject, own.get('space')


def _anatomical(bold: Path, suffix: str) -> list[Path]:
    """Return files of a suffix in the space of a series, in order of their names."""
    subject, space = place_of(bold)
    if subject is None or space is None:
        return []
    # images in the space of the participant's own T1 image carry no space in their name
    wanted = None if space == 'T1w' else space
    files = [*subject.glob(f'anat/*_{suffix}.nii*'), *subject.glob(f'ses-*/anat/*_{suffix}.nii*')]
    return sorted(file for file in files if parse_entities(file).get('space') == wanted)
