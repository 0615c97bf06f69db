"""Anatomical derivatives beside a series: of the same space, and of tissue alone."""

from pathlib import Path

import pytest

from bids_neurodecode.bids.anatomy import anatomical_image, tissue_file

MNI = 'space-MNI152NLin6Asym'
FILES = (
    'sub-01/anat/sub-01_dseg.nii.gz',
    'sub-01/anat/sub-01_desc-preproc_T1w.nii.gz',
    'sub-01/anat/sub-01_desc-aparcaseg_dseg.nii.gz',
    f'sub-01/anat/sub-01_{MNI}_dseg.nii.gz',
    f'sub-01/anat/sub-01_{MNI}_desc-preproc_T1w.nii.gz',
    f'sub-01/anat/sub-01_{MNI}_atlas-Schaefer2018_dseg.nii.gz',
    'sub-02/ses-a/anat/sub-02_ses-a_space-MNI152NLin6Asym_res-2_dseg.nii.gz',
)


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ('bold', 'tissue', 'anatomy'),
    [
        (f'sub-01/func/sub-01_task-x_{MNI}_desc-preproc_bold.nii.gz', FILES[3], FILES[4]),
        (f'sub-01/ses-b/func/sub-01_ses-b_task-x_{MNI}_bold.nii.gz', FILES[3], FILES[4]),
        ('sub-01/func/sub-01_task-x_space-T1w_desc-preproc_bold.nii.gz', FILES[0], FILES[1]),
        (f'sub-02/ses-a/func/sub-02_ses-a_task-x_{MNI}_bold.nii.gz', FILES[6], None),
        ('sub-01/func/sub-01_task-x_space-fsLR_bold.nii.gz', None, None),
        # on the grid of the scanner: nothing says that the two lie on each other
        ('sub-01/func/sub-01_task-x_desc-preproc_bold.nii.gz', None, None),
        ('elsewhere/run1.nii.gz', None, None),
    ],
)
def test_files_in_the_space_of_the_series(
    derivatives: Path, bold: str, tissue: str | None, anatomy: str | None
) -> None:
    series = derivatives / bold
    assert tissue_file(series) == (None if tissue is None else derivatives / tissue)
    assert anatomical_image(series) == (None if anatomy is None else derivatives / anatomy)
