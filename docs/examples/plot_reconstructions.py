"""
Scoring reconstructions
=======================

Reconstructions of your own, or of the program, compared with what was seen: each metric beside its chance level, an interval and a p
value.
"""

# %%
# Twelve images, and two sets of "reconstructions": blurred copies with noise, and the same ones in a wrong order. Files or folders do as
# well as arrays.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

import bids_neurodecode as nd

rng = np.random.default_rng(0)
coarse = gaussian_filter(rng.normal(size=(12, 96, 96, 3)), (0, 6, 6, 0))
true = np.clip(128 + 900 * coarse, 0, 255).astype(np.uint8)
blurred = gaussian_filter(true.astype(float), (0, 4, 4, 0)) + rng.normal(0, 30, true.shape)
made = np.clip(blurred, 0, 255).astype(np.uint8)
wrong = made[[*range(1, 12), 0]]

figure, axes = plt.subplots(2, 6, figsize=(9, 3.2))
for column in range(6):
    for row, (name, stack) in enumerate((('seen', true), ('made', made))):
        axes[row, column].imshow(stack[column])
        axes[row, column].set(xticks=[], yticks=[], ylabel=name if column == 0 else '')

# %%
# The protocol says sizes, interpolation and networks; scores of different protocols do not compare. Networks count where their weights
# are on this machine (``bids_neurodecode-tools weights``); Gabor features stand in for the others, under a name of their own.

table = nd.score_reconstructions(true, made, protocol='bd-982', networks=False)
table.round(3)

# %%
# Blur is rewarded by pixels: look at identification beside them, and at what wrong reconstructions score.

nothing = nd.score_reconstructions(true, wrong, protocol='bd-982', networks=False)
for metric in ('pixcorr', 'pixel_2way', 'ssim_2d'):
    own, other = (t.set_index('metric').loc[metric] for t in (table, nothing))
    print(
        f'{metric:10s} {own.value:.3f} (chance {own.chance:.3f}, p {own.p:.3f}); in a wrong order {other.value:.3f} (p {other.p:.3f})'
    )

# %%
# What a reader should know of these scores:

for note in table.attrs['notes']:
    print('-', note)

# %%
# The program's own reconstructions are scored by the same functions: ``nd.load_results('out').metrics`` holds them for every
# participant, beside baselines.

plt.show()
