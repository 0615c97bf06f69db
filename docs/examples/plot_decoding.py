"""
Decoding images from responses
==============================

Which image was seen? A linear decoder, cross-validated over images that it never saw, beside what guessing and shuffled labels score.
"""

# %%
# One simulated participant: 60 images, three repeats in six runs.

import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GroupKFold, cross_val_score

import bids_neurodecode as nd

data = Path(mkdtemp()) / 'data'
demo = [sys.executable, '-m', 'bids_neurodecode.cli.tools', 'demo', str(data)]
options = ['--n-subjects', '1', '--n-images', '60', '--voxel-size', '10', '--snr', '1']
subprocess.run([*demo, *options], check=True, capture_output=True)
sub = nd.load_dataset(data)['01']
sub

# %%
# Responses and, for each trial, the features of its image. Model B of the betas does not look at which image was shown, so that nothing
# of the held-out images leaks into the training.

samples = sub.samples(model='B')
features = sub.features('gabor')
image = samples.table['stimulus']
print(samples.values.shape, features.shape)

# %%
# All repeats of an image are held out together. The score of :class:`ImageDecoder` is two-way identification: how often the decoded
# features are more similar to those of the image that was seen than to those of another held-out one. Chance is .5.

folds = GroupKFold(5)
scores = cross_val_score(nd.ImageDecoder(), samples.values, features, groups=image, cv=folds)
print(
    f'two-way identification of images never seen in training: {scores.mean():.2f} (chance 0.50)'
)

# %%
# What does the same procedure score without a signal? Exchange the images, all repeats of one together:

rng = np.random.default_rng(0)
names = np.unique(image)
place = np.searchsorted(names, image)
first = np.array([np.flatnonzero(place == k)[0] for k in range(len(names))])
null = []
for _ in range(10):
    shuffled = features[first[rng.permutation(len(names))[place]]]
    null.append(
        cross_val_score(nd.ImageDecoder(), samples.values, shuffled, groups=image, cv=folds).mean()
    )
plt.hist(null, 6, color='0.7', label='images exchanged')
plt.axvline(scores.mean(), color='C0', label='decoder')
plt.axvline(0.5, color='C3', linestyle='dashed', label='chance')
plt.xlabel('two-way identification')
plt.legend()

# %%
# One fold by hand: the ten best matches among the held-out images.

train, test = next(folds.split(samples.values, features, image))
decoder = nd.ImageDecoder().fit(samples.values[train], features[train])
candidates = np.unique(image.to_numpy()[test])
offered = features[[np.flatnonzero(image == name)[0] for name in candidates]]
named = candidates[decoder.identify(samples.values[test], offered)]
print(
    f'named among {len(candidates)}: {(named == image.to_numpy()[test]).mean():.2f} (chance {1 / len(candidates):.2f})'
)

plt.show()
