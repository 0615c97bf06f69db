"""
Betas of your own data
======================

Single-trial betas from preprocessed series and events tables: GLMsingle's models in three lines.
"""

# %%
# Any preprocessed runs with BIDS events will do. These are simulated: one participant, six runs, 40 images that are
# shown three times each.

import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting

import bids_neurodecode as nd

data = Path(mkdtemp()) / 'data'
demo = [sys.executable, '-m', 'bids_neurodecode.cli.tools', 'demo', str(data)]
options = ['--n-subjects', '1', '--n-images', '40', '--voxel-size', '10', '--snr', '1']
subprocess.run([*demo, *options], check=True, capture_output=True)

# %%
# Files as one has them: a series and an events table a run, and a brain mask. Tables may be ``pandas.DataFrame`` too, and series
# images of nibabel or nilearn, surfaces, CIFTI or arrays.

func = data / 'derivatives' / 'fmriprep' / 'sub-01' / 'func'
images = sorted(func.glob('*desc-preproc_bold.nii.gz'))
mask = next(func.glob('*run-01*desc-brain_mask.nii.gz'))
events = sorted((data / 'sub-01' / 'func').glob('*_events.tsv'))

betas = nd.fit_betas(images, events, mask=mask)
betas

# %%
# The notes say how the model was chosen. All that the engine found is in ``estimates``: the response that each voxel took, the noise
# pool, fractions of ridge.

for note in betas.notes:
    print('-', note)
best = np.argsort(betas.rsquared)[-200:]
index = np.bincount(betas.estimates.hrf_index[best], minlength=20)
plt.bar(range(20), index)
plt.xlabel('response of the library')
plt.ylabel('voxels (the best 200)')

# %%
# Back on the brain: one value per voxel, or the betas themselves with a volume a trial (``betas.to_image()``).

plotting.plot_stat_map(
    betas.to_image(betas.rsquared), title='variance explained (%)', vmin=0, cmap='inferno'
)
print(betas.to_image().shape)

# %%
# **Before decoding.** Components (C) and fractions (D) are chosen by how well repeats of an image predict each other, so they look at
# which image was shown. For a decoder that is judged on some trials, have the choices made without them:

held_out = np.isin(betas.stimuli, np.unique(betas.stimuli)[:8])
tuned = nd.fit_betas(images, events, mask=mask, model='D', training_sets=[~held_out])
difference = np.abs(tuned.training[0] - tuned.values).mean() / np.abs(tuned.values).mean()
print(f'betas change by {difference:.1%} when {held_out.sum()} trials take no part in the tuning')

plt.show()
