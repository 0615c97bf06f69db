"""Maps of a participant as blocks of the page: on slices or surfaces, whole, selected voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from bids_neurodecode.bids.maps import MapSpec
from bids_neurodecode.report import brain
from bids_neurodecode.report.build import Plot
from bids_neurodecode.report.cortex import HOW, plot_cortex
from bids_neurodecode.report.sheets import Sheet, where_shown

LOWER_TSNR = (
    ' It is lower in the selected voxels because responses to stimuli, for which they were '
    'selected, add to the standard deviation over time. This is no sign of worse data.'
)
SELECTION = MapSpec(
    'The voxels that were selected',
    'voxels selected (%)',
    'Share of the voxels of the mask through the depth of the cortex that were selected: pale, '
    'none; dark, all.',
    'YlOrBr',
    high=100.0,
    scale=100.0,
)
SLICES = ' Slices run from the bottom to the top of the mask (z in mm); left is left.'
RIGHT = (
    ' Right panel: distribution over the voxels of the {of} (grey){selected}, dashed: {medians}.'
)


@dataclass(frozen=True, eq=False)
class MapBlocks:
    """Draws maps over one mask.

    Parameters
    ----------
    mask
        The voxels of the analysis.
    background
        Mean BOLD image; None: none.
    sheet
        Surfaces on which maps are shown; None for volumes.
    name
        Returns the name of a figure from its ``desc`` and suffix.
    """

    mask: nib.Nifti1Image
    background: nib.Nifti1Image | None
    sheet: Sheet | None
    name: Callable[[str, str], str]

    def on_slices(
        self,
        key: str,
        image: nib.Nifti1Image,
        spec: MapSpec,
        selected: nib.Nifti1Image | None,
        regions: nib.Nifti1Image | None = None,
        more: str = '',
    ) -> Plot:
        """Show a map on slices (or surfaces) with its distribution.

        Parameters
        ----------
        key, image, spec
            Its name, itself, and how it is shown.
        selected
            Voxels whose distribution is drawn beside that of the mask.
        regions
            An atlas whose borders are drawn on surfaces.
        more
            Said below it.
        """
        figure = brain.plot_map(
            image,
            spec,
            mask=self.mask,
            background=self.background,
            selected=selected,
            sheet=self.sheet,
            regions=regions,
        )
        inside = np.asarray(self.mask.dataobj) > 0
        volume = np.asarray(image.dataobj)
        values = volume[inside & np.isfinite(volume)]
        unit = ' %' if spec.scale == 100 else ''
        middle = ''
        if values.size:
            middle = f'median {spec.scale * np.median(values):.3g}{unit} over {values.size} voxels'
        if selected is not None and values.size:
            used = volume[inside & (np.asarray(selected.dataobj) > 0) & np.isfinite(volume)]
            if used.size:
                middle += (
                    f', {spec.scale * np.median(used):.3g}{unit} over the {used.size} selected'
                )
        comment = ''
        if key == 'tsnr' and selected is not None and values.size:
            lower = bool(used.size) and np.median(used) < np.median(values)
            comment = LOWER_TSNR if lower else ''
        right = RIGHT.format(
            of=spec.of,
            selected='' if selected is None else ' and those selected (blue)',
            medians='median' if selected is None else 'medians',
        )
        where = (SLICES if self.sheet is None else where_shown(self.sheet, values.size)) + right
        if regions is not None and self.sheet is not None and self.sheet.meshes:
            where += ' Grey lines: borders of the atlas.'
        caption = f'{spec.title}: {middle}. {spec.how_to_read}{more}{comment}{where}'
        kind = 'slices' if self.sheet is None else 'surfaces'
        return Plot(self.name(key, 'map'), figure, caption, f'{spec.title} on {kind}; {middle}.')

    def whole_brain(
        self, key: str, image: nib.Nifti1Image, spec: MapSpec, *, on_cortex: bool
    ) -> Plot:
        """Show a map in MNI space as a whole: on the cortex if it can be, or through glass.

        Parameters
        ----------
        key, image, spec
            Its name, itself, and how it is shown.
        on_cortex
            Whether it is to be shown on the cortex.
        """
        figure = plot_cortex(image, spec, mask=self.mask) if on_cortex else None
        if figure is not None:
            text, alt = f'{spec.title} on the cortex. {HOW}', 'on the inflated cortex.'
            return Plot(self.name(f'{key}cortex', 'map'), figure, text, f'{spec.title} {alt}')
        caption = (
            f'{spec.title} seen through a glass brain in MNI space: for each line of sight the '
            'strongest voxel is shown, and only the strongest tenth of all voxels.'
        )
        figure = brain.plot_glass(image, spec, mask=self.mask)
        return Plot(
            self.name(f'{key}glass', 'map'), figure, caption, f'{spec.title}, glass brain.'
        )

    def selection(self, selected: nib.Nifti1Image, rule: str) -> Plot:
        """Show which voxels were selected.

        Parameters
        ----------
        selected
            Above 0 where they were.
        rule
            By which; nothing where that is not known.
        """
        n = int((np.asarray(selected.dataobj) > 0).sum())
        said = f' Rule: {rule.rstrip(".")}.' if rule else ''
        caption = (
            f'The {n} voxels that were selected (orange) over the mean BOLD image; white line: '
            f'edge of the mask.{said}'
        )
        if self.sheet is not None:
            where = where_shown(self.sheet, n, alone=True)
            caption = f'The {n} voxels that were selected (orange).{where}{said}'
        figure = brain.plot_selection(
            selected, mask=self.mask, background=self.background, sheet=self.sheet
        )
        kind = 'voxels on slices' if self.sheet is None else 'voxels on surfaces'
        return Plot(self.name('selected', 'mask'), figure, caption, f'{n} selected {kind}.')

    def selection_on_cortex(self, selected: nib.Nifti1Image) -> list[Plot]:
        """Show which voxels in MNI space were used; nothing where none reaches the cortex."""
        figure = plot_cortex(selected, SELECTION, mask=self.mask)
        if figure is None:
            return []
        caption = f'{SELECTION.title} on the cortex. {SELECTION.how_to_read} {HOW}'
        return [
            Plot(
                self.name('selectedcortex', 'mask'),
                figure,
                caption,
                f'{SELECTION.title} on the cortex.',
            )
        ]

    def atlas(self, labels: nib.Nifti1Image, names: Mapping[int, str]) -> Plot:
        """Show an atlas on the grid of the data.

        Parameters
        ----------
        labels
            Number of each voxel's region.
        names
            Of the regions, by number.
        """
        regions = np.unique(np.asarray(labels.dataobj))
        n = int((regions > 0).sum())
        named = self.sheet is None and brain.have_own_colors(regions[regions > 0])
        colours = (
            'each in the colour of the legend' if named else 'colours only tell neighbours apart'
        )
        caption = (
            f'The {n} regions of the atlas on the grid of the data; {colours}. Regions that do '
            'not follow the grey matter point to a wrong space.'
        )
        figure = brain.plot_parcels(
            labels,
            mask=self.mask,
            background=self.background,
            sheet=self.sheet,
            names=names if named else None,
        )
        return Plot(
            self.name('atlas', 'dseg'), figure, caption, f'Atlas of {n} regions on slices.'
        )
