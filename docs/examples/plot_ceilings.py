"""
Noise ceilings and reliable voxels
==================================

How much of the variance of a response could any model explain, and in which voxels do repeats agree more than chance?
"""

# %%
# Simulated betas with a known truth: 60 images, three repeats in different runs, 500 voxels without a signal and 500 whose signal has
# as much variance as the noise of a trial.

import matplotlib.pyplot as plt
import numpy as np

import bids_neurodecode as nd

rng = np.random.default_rng(0)
stimuli = np.concatenate([rng.permutation(60) for _ in range(3)])
runs = np.repeat([0, 1, 2], 60)
signal = rng.normal(size=(60, 1000)) * np.repeat([0.0, 1.0], 500)
betas = signal[stimuli] + rng.normal(size=(180, 1000))

# %%
# The noise ceiling is a share of variance, so a squared correlation. The truth is 1/2 for a single trial, and 3/4 for the mean of
# three. Betas of :func:`fit_betas` know their stimuli and runs; arrays need them told.

single = nd.noise_ceiling(betas, stimuli, n_averaged=1)
mean = nd.noise_ceiling(betas, stimuli)
print(
    f'single trials: {np.median(single[500:]):.2f} (truth 0.50), means: {np.median(mean[500:]):.2f} (truth 0.75)'
)

bins = np.linspace(0, 1, 41)
for part, name in ((slice(0, 500), 'no signal'), (slice(500, 1000), 'signal')):
    plt.hist(mean[part], bins, alpha=0.6, label=name)
plt.axvline(0.75, color='k', linestyle='dashed', label='truth')
plt.xlabel('noise ceiling of the mean over three repeats')
plt.ylabel('voxels')
plt.legend()

# %%
# **A voxel without a signal has a ceiling above 0 by chance**, so the ceiling is no test. The test of repeats exchanges stimuli within
# runs, which holds where noise is autocorrelated:

table = nd.reliability(betas, stimuli, runs=runs)
table['signal'] = np.repeat([False, True], 500)
print(table.groupby('signal')[['ncsnr', 'noise_ceiling_mean', 'agreement']].median().round(2))
found = table['p'] < 0.05
false, true = found[:500].mean(), found[500:].mean()
print(f'p < .05 in {false:.1%} of the voxels without a signal, in {true:.1%} of those with one')

# %%
# Both are estimates from these very trials: select voxels within training trials alone when a model is judged on held-out ones.

plt.show()
