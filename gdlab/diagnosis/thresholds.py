"""The thresholds that separate faulty from sound runs, with their reasons.

All were set on the tuning sets of `experiments.diagnosis_check`, or from closed forms; none was set on the checking
set. The quoted ranges are those of sound runs of the tuning sets; a threshold without a range is a choice. Losses are
compared with the loss at the start, so that no threshold has a unit.
"""

# How well a run did: the share of its first loss that is left. Between the two nothing is concluded from the level.
# Above the first it learned next to nothing; sound runs end below 0.27.
UNLEARNED = 0.7
UNFINISHED = 0.25

# Rates, as the measured fraction of the largest stable one, rate * curvature / (2 + 2 momentum): theory says 1.
# Batches and large steps widen the border a little; planted rates that are too large start above 2.8.
UNSTABLE = 1.5
# Hovering at the border: Cohen et al. 2021 find 1 and a little above; the examples of the probes may add to it.
EDGE = (0.9, 1.4)
# The fastest direction takes 100 updates and more to fall by a factor of e; sound runs reach 0.021 and
# more, planted rates that are too small at most 0.0007.
TINY_RATE = 0.005
# The loss over its first value: beyond what the batches of a sound run scatter.
GREW = 3.0
# What all updates together could cover, as a share of the parameters' norm: too little to have learned anything.
TRAVEL = 0.1

# Layers.
# Smallest gradient of a layer over the largest at the start; sound networks stay above 0.009, planted faults below
# 1.3e-4.
VANISHED = 1e-3
# Relative change of the loss for a relative change of one layer's parameters; sound networks start below 7.1.
SENSITIVE = 30.0
# First loss over that of predicting the classes' shares; sound starts are below 1.8.
CHANCE = 5.0
# Share of a layer's units without any gradient; sound runs end below 0.26.
DEAD = 0.9

# Relative change of the loss for one of the layers without a gradient: 0 where they are dead, above 0.02 where the
# gradient was stopped; rounding adds 1e-5.
ANSWERS = 1e-3
# What each update should have changed of a layer that never changed, as a share of it, if updates are shared out like
# gradients: what is a hundred times float32's rounding is not lost in it.
SHOULD_MOVE = 1e-5

# Mistakes of a script.
# Share of examples whose loss is one that only a softmax of a softmax has: above 0.99 there, 0 in sound runs.
SOFTMAX_TWICE = 0.9
# Median cosine of the step between two evaluations and the gradient at the first: sound runs stay below -0.05, ascent
# is above 0.5 with Adam and 0.6 with plain updates.
UPHILL = 0.25
# Share of what neighbours could tell of a label, at most; the sound data here have 0.97 and more.
NEIGHBOURS_TELL = 0.25
# How far from the loss of guessing the training loss may end, as a share of it.
NOTHING_LEARNED = 0.1

# Held-out loss, as a share of that of guessing.
# The least improvement that shows that inputs tell the labels, and the least that shows it although nearest
# neighbours do not: 400 random labels of inputs in two clusters gave 0.15 by chance.
TOLD = 0.05
TOLD_BY_CHANCE = 0.3
# The least fall of the training loss that shows that something is being learned.
LEARNED = 0.02
# Of what the training loss gained and the test loss did not, at the end; sound runs are below 0.17. A choice as well:
# a fifth of what was to be had.
GAP = 0.2
# The same as a share of the loss of guessing: below it, the difference does not matter.
GAP_SIZE = 0.1
# Standard errors by which nearest neighbours must agree more than chance.
NEIGHBOURS = 4.0

# Schedules.
# Rate over its peak: it no longer moves anything.
FROZEN = 0.01
# Share of the updates spent so; step decays and cosines of a sound run spend less.
FROZEN_SHARE = 0.25
# The gradient that is still there when the rate is gone, over the first one.
STEEP = 0.1

# Oscillation over the second half.
# Share of single full-batch updates that raised the loss; descent below the border raises none.
ASCENTS = 0.03
# Squared gradient estimates over the squared gradient: more noise than signal.
NOISY = 2.0
# Median distance of a batch's loss from the training loss, as a share of it. Below the first, batches are the whole
# set and differ by one update; above the second they are noisy.
FULL_BATCH = 0.02
APART = 0.2
# Standard deviation of the training loss from one evaluation to the next, as a share of the first loss; sound runs are
# below 0.015.
SCATTER = 0.03
# The least fall over the second half that is progress, as a share of the first loss.
FLAT = 0.01

# Data.
# Root mean square of inputs: standardised ones have 1, pixels in [0, 1] less.
SCALE = 10.0
# Mean over standard deviation of the median feature.
OFFSET = 10.0
# Share of features that never change; the corners of images are a few in a hundred.
CONSTANT = 0.6
# The fewest examples for a statement about a data set, and the most in the search for neighbours.
MIN_EXAMPLES = 10
MAX_EXAMPLES = 1000
