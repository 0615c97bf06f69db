"""
Encoding with your own features
===============================

Predict the response of every voxel from any features: annotations, embeddings of a network, tables. Several feature spaces at once
are banded ridge.
"""

# %%
# One simulated participant. The features are those that a user brings: here the category of each image (from the events) and Gabor
# energies.

import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from nilearn import plotting

import bids_neurodecode as nd

data = Path(mkdtemp()) / 'data'
demo = [sys.executable, '-m', 'bids_neurodecode.cli.tools', 'demo', str(data)]
options = ['--n-subjects', '1', '--n-images', '60', '--voxel-size', '10', '--snr', '1']
subprocess.run([*demo, *options], check=True, capture_output=True)
sub = nd.load_dataset(data)['01']
betas = nd.fit_betas(sub.bold, sub.events, mask=sub.mask, model='B')

energies = sub.features('gabor')
category = pd.get_dummies(sub.trials['trial_type']).to_numpy(dtype=float)
X = np.hstack([energies, category])
bands = {'energy': slice(0, energies.shape[1]), 'category': slice(energies.shape[1], X.shape[1])}

# %%
# A fifth of the images is held out, with all of their repeats; what is fitted (standardisation, components, penalties) sees the others.

held_out = np.isin(betas.stimuli, np.unique(betas.stimuli)[::5])
model = nd.VoxelEncoder(bands=bands).fit(X[~held_out], betas.values[~held_out])
predicted = model.predict(X[held_out])

measured = betas.values[held_out]
r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, measured.T, strict=True)])
print(
    f'median r over all voxels {np.nanmedian(r):.3f}, over the best tenth {np.nanquantile(r, 0.9):.3f} (chance 0)'
)

# %%
# Beside the ceiling: no model can be expected to reach a squared correlation above the noise ceiling of single trials. It is estimated
# from the training trials, so that choosing voxels by it does not touch the test.

ceiling = nd.noise_ceiling(betas.values[~held_out], betas.stimuli[~held_out], n_averaged=1)
plt.plot(ceiling, r, '.', markersize=3)
grid = np.linspace(0, ceiling.max(), 50)
plt.plot(grid, np.sqrt(grid), 'k--', label='the most that can be expected')
plt.axhline(0, color='C3', linewidth=1, label='chance')
plt.xlabel('noise ceiling (single trials)')
plt.ylabel('r of prediction and response, held-out images')
plt.legend()

# %%
# Which of the two spaces helps? Leave one out, and see what is lost in the voxels that can be predicted.

good = ceiling > 0.1
for name, columns in bands.items():
    alone = nd.VoxelEncoder().fit(X[~held_out][:, columns], betas.values[~held_out])
    score = alone.score(X[held_out][:, columns], measured)
    print(f'{name:9s} alone: median r {score:.3f} over all voxels')
together = np.nanmedian(r[good])
print(f'both: median r {together:.3f} over {good.sum()} voxels with a ceiling above .1')

# %%
plotting.plot_stat_map(betas.to_image(r), title='r, held-out images', threshold=0.2)
plt.show()
