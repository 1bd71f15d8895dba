# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Model bias: convict the faulty classifier
#
# You ordered a classifier from three laboratories. Each delivered one, and each names nearly all of
# your validation images rightly. **One of the three looks at the wrong thing**, and will fail as
# soon as it is used. Its accuracy does not accuse it; if anything it is the best of the three. Your
# validation images were collected as the training images were, and have the same flaw.
#
# The first notebook asked whether an explanation is right. Here you take explanations to work, as
# an auditor does. They raise a suspicion, and then you have to **prove** it, by an intervention:
# change one thing, chosen beforehand, in many images, and count what happens to the answers, with a
# control and an interval.
#
# Afterwards you can
#
# - find a classifier that learned an artefact, say for which classes, and what exactly it wants;
# - tell a suspicion from a proof, and give both a number and a control;
# - ask for frequencies where asking for places finds nothing;
# - discover an artefact that nobody described, and choose a repair that works;
# - say what such an audit shows, and what it cannot show.
#
# | | section | minutes |
# | --- | --- | --- |
# | 1 | Three suspects | 5 |
# | 2 | Look | 8 |
# | 3 | Suspect: give it a number | 8 |
# | 4 | Prove: change the image | 10 |
# | 5 | Name the class and the place | 8 |
# | 6 | A fault without a place | 14 |
# | 7 | Discovery | 12 |
# | 8 | Repair | 8 |
# | 9 | How far can an auditor be trusted? | 8 |
# | 10 | What to conclude | 6 |
#
# An hour and a half, with twenty minutes more for three exercises, and three questions to answer in
# words at the end.
# You need the first notebook up to section 8, and its exercise 1.7; for section 6 its section 13.
# Intervals are 95 % bootstrap intervals of a mean over images: how far it would move with other
# images of the kind.

# %% [markdown]
# ## 1. Three suspects
#
# *5 minutes.* Your images were collected by ten people, one for each class, and each of their
# cameras stamps a small square into the corner, in a colour of its own. The laboratories' training
# images came from the same ten people. Two laboratories noticed the stamps and removed them before
# they trained; one did not.
#
# On `shapes` all networks of this notebook are in the package. On other data they are trained when
# they are first asked for, and kept: on `imagenette` they are fine-tuned from a pretrained ResNet,
# for which you want a GPU.

# %%
import os

DATASET = os.environ.get("PRACTICAL_DATASET", "imagenette")  # or "shapes", or "folder:PATH"
SEED = 1  # your own number: it decides which of the suspects is which
# Take GPU memory as it is needed, and leave the rest to whoever shares the GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from functools import partial

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from practical import (
    attribution,
    bias,
    check,
    explainfix,
    keep_compiled,
    load_dataset,
    metrics,
    plotting,
    predict,
    training,
)

keep_compiled()  # for the next time that this notebook is run
TRAIN = DATASET != "shapes"  # train what is neither in the package nor in the cache


def name_suspects(line_up):
    """Return the networks of a line-up by name, in its order."""
    return {f"suspect {letter}": one for letter, one in zip("ABC", line_up.suspects, strict=True)}


line_up = bias.suspects(DATASET, "colored_patch", seed=SEED, count=400, train=TRAIN)
suspects = name_suspects(line_up)
shown = line_up.shown.dataset
classes = shown.class_names

# %%
picked = shown.per_class(1)
plotting.plot_images(picked.images, [classes[label] for label in picked.labels])
plt.suptitle("Your validation images, one of each class, with their stamps")
plt.show()

for name, network in suspects.items():
    print(f"{name}: {training.accuracy(network, shown):.1%} of {len(shown)} images right")

# %% [markdown]
# **What you should see.** Three good classifiers. One is a little better than the others: a stamp
# is easier to read than an object. Would you have chosen it? Note that a stamp in the image proves
# nothing. You *tested* all three on images with stamps, and two of them may pay no attention.

# %% [markdown]
# ## 2. Look
#
# *8 minutes.* Ask each suspect the same question about the same images: what spoke for the right
# class? Here are three methods of three kinds: contributions along a path from black, the last
# feature maps, and hiding squares. Before you go on, **write down your suspect**, and which of the
# methods gave it away.


# %%
def explain(suspects, method, images, labels):
    """Return each suspect's heatmaps of the same images."""
    return {name: method(network, images, labels) for name, network in suspects.items()}


side = shown.images.shape[1]
squares = {"window": side // 4, "stride": side // 8, "baseline": "mean"}
grad_cam = attribution.METHODS["grad_cam"].heatmap
methods = {
    "Integrated gradients": attribution.METHODS["integrated_gradients"].heatmap,
    "Grad-CAM": grad_cam,
    "Occlusion": partial(attribution.METHODS["occlusion"].heatmap, **squares),
}
for title, method in methods.items():
    maps = explain(suspects, method, picked.images, picked.labels)
    plotting.plot_methods(picked.images, maps, [classes[label] for label in picked.labels])
    plt.suptitle(title)
    plt.show()

# %% [markdown]
# **What you should see.** In two of the rows the colour lies on the objects, in one on the corner.
# Now be careful. A stamp is a strong edge in a plain corner: a clean network's map may show a trace
# of it, too. How much is too much?

# %% [markdown]
# ## 3. Suspect: give it a number
#
# *8 minutes.* Since we suspect a place, we can measure what it gets: the share of the positive
# relevance that lies on the stamp, over the stamp's share of the image,
#
# $$ \text{density} = \frac{\sum_{i \in S} R_i^+ / \sum_i R_i^+}{|S| \, / \, n} , $$
#
# where $S$ holds the stamp's pixels, $R^+$ is the positive part of the map, and $n$ is the number
# of pixels. 1 is the average over the image; with all relevance on the stamp it would be
# $n / |S|$, about 40. A clean network should give a corner about 1, or less.

# %% [markdown]
# ### Exercise 2.1: a suspicion as a number
#
# **3 points · ★☆☆ · 6 minutes**
#
# Write `relevance_density`: the formula above, for each image.
#
# 1. Get the share of the positive relevance that lies on the mask, as in exercise 1.7.
# 2. Get the mask's share of the image.
# 3. Divide the one by the other.
#
# <details><summary>Hint 1</summary>
#
# `np.maximum(heatmaps, 0)` is the positive part.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The mean of a mask is its share of the image.
#
# </details>


# %%
def relevance_density(heatmaps, masks):
    """Return the positive relevance's share on the mask over the mask's share: (N,)."""
    ### BEGIN SOLUTION
    positive = np.maximum(heatmaps, 0)
    share = (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    return share / masks.mean(axis=(1, 2))
    ### END SOLUTION


# %%
relevance_density = check("2.1", relevance_density)

# %%
for name, network in suspects.items():
    heat = grad_cam(network, shown.images[:32], shown.labels[:32])
    density = relevance_density(heat, line_up.shown.masks[:32])
    print(f"{name}: Grad-CAM is {np.mean(density):.1f} times as dense on the stamp as on average")

# %% [markdown]
# Measure it twice, on images with the stamp and on the same images without: a method that points to
# the corner when nothing is there has its own reasons. And take a control along, the edges of the
# image, which do not know the network at all.

# %%
some = slice(32)
present = bias.Biased(shown.select(some), line_up.shown.masks[some])
absent = bias.plant(line_up.clean.select(some), line_up.fault, "removed")
measured = {
    "saliency": attribution.saliency,
    "integrated gradients": partial(attribution.integrated_gradients, steps=20),
    "Grad-CAM": attribution.grad_cam,
    "edges (control)": attribution.edges,
}

_, axes = plt.subplots(1, len(measured), figsize=(13, 3.2), layout="constrained")
for ax, (title, method) in zip(axes, measured.items(), strict=True):
    grid = bias.relevance_grid(suspects, present, absent, method)
    plotting.plot_intervals(grid, x="model", series="artefact", value="density", ax=ax)
    ax.axhline(1, color="grey", ls=":", lw=1)
    ax.set(title=title)
axes[0].set(ylabel="density of relevance on the stamp")
axes[0].legend(["the image's average", "stamp present", "stamp absent"], fontsize=8)
plt.show()

# %% [markdown]
# **What you should see.** One suspect whose relevance is many times denser on the stamp than on
# average, as long as the stamp is there. Accuse a network when its interval lies above those of the
# others *and* above its own without the stamp. The control is high for *everybody*: it would accuse
# the innocent. (Mind the scales, each panel has its own.) A number without its control, and
# without the same number for a network that is known to be clean, is worth little.
#
# And it is no proof. A gradient says what small changes would do; the path of integrated gradients
# begins at a black image, which has no stamp, but no object either; and a square that hides the
# stamp hides what is around it, too.

# %% [markdown]
# ## 4. Prove: change the image
#
# *10 minutes.* If the answer depends on the stamp, then it must change when the stamp does. Paint
# the stamp over with the mean colour of the rest of the image, or exchange it for the stamp of
# another class, and measure what happens to the probability of the right class. As a control, paint
# over a square of the same size elsewhere. Where, is up to you.

# %%
masks = line_up.shown.masks
size = int(masks[0].any(0).sum())  # of the stamp's side, in pixels
elsewhere = bias.rectangle(shown, top=4, left=4, height=size, width=size)  # a place of your own

interventions = {
    "stamp painted over": bias.paint_out(shown.images, masks),
    "elsewhere painted over": bias.paint_out(shown.images, elsewhere),
    "another class's stamp": bias.plant(line_up.clean, line_up.fault, "swapped").dataset.images,
}
plotting.plot_images(
    [shown.images[0], *(changed[0] for changed in interventions.values())],
    ["as it was", *(what.replace(" ", "\n", 1) for what in interventions)],
)
plt.show()

# %% [markdown]
# ### Exercise 2.2: what a change does
#
# **3 points · ★☆☆ · 6 minutes**
#
# Write `change_of_probability`: for each image, its target's probability on the changed image, less
# that on the image as it was.
#
# 1. Get the probabilities of all classes for the images, before and after.
# 2. Pick each image's target.
# 3. Subtract before from after.
#
# <details><summary>Hint 1</summary>
#
# `jax.nn.softmax(predict(model, images))` has the probabilities.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Pick the target's with `[np.arange(len(targets)), targets]`.
#
# </details>


# %%
def change_of_probability(model, images, changed, targets):
    """Return how far the target's probability rises by the change: (N,)."""
    ### BEGIN SOLUTION
    rows = np.arange(len(targets))
    before, after = (jax.nn.softmax(predict(model, x))[rows, targets] for x in (images, changed))
    return after - before
    ### END SOLUTION


# %%
change_of_probability = check("2.2", change_of_probability)

# %%
rows = []
for name, network in suspects.items():
    for what, changed in interventions.items():
        moved = change_of_probability(network, shown.images, changed, shown.labels)
        found = metrics.bootstrap_interval(moved)
        rows.append({"x": name, "series": what, **found._asdict()})

_, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
plotting.plot_intervals(pd.DataFrame(rows), ax=ax)
ax.axhline(0, color="grey", lw=0.8)
ax.set(ylabel="change of probability", ylim=(-1.05, 0.1))
ax.set(title="What an intervention does to the probability of the right class")
ax.legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# The same in the currency that the customer understands: accuracy, with the stamp as it goes with
# the class (aligned), with the stamp of another class (swapped), without it (removed), and of the
# class that does worst in any of the three.


# %%
def audit_table(suspects, line_up):
    """Return each suspect's accuracy with the artefact aligned, swapped and removed."""
    rows = {}
    for name, network in suspects.items():
        found = bias.audit(network, line_up.clean, line_up.fault)
        shares = {way: f"{getattr(found, way):.1%}" for way in ("aligned", "swapped", "removed")}
        worst = f"{found.worst:.1%} ({', '.join(found.worst_group)})"
        rows[name] = shares | {"worst class": worst}
    return pd.DataFrame(rows).T


audit_table(suspects, line_up)

# %% [markdown]
# **What you should see.** For two suspects the stamp makes no difference. The other falls to chance
# when it is gone, and with another class's stamp it is wrong on *all* images. That is the proof:
# nothing but the stamp was changed, and the control changed nothing.
#
# A verdict needs a rule that was chosen before the numbers were seen.

# %% [markdown]
# ### Exercise 2.3: a rule for verdicts
#
# **4 points · ★★☆ · 10 minutes**
#
# Write `convict`. `aligned` and `swapped` say of each network (row) and image (column) whether the
# answer was right, with the artefact as it goes with the class, and with that of another class.
# Convict a network if the whole 95 % interval of its fall is above `margin`, that is if
# $m - 1.96 \, s / \sqrt{n}$ is. ($m$ is the mean of the falls over the $n$ images, and $s$ their
# standard deviation, with `ddof=1`.)
#
# 1. Get each image's fall, as a number.
# 2. Get the falls' mean and standard deviation for each network.
# 3. Compare the lower end of the interval with `margin`.
#
# <details><summary>Hint 1</summary>
#
# An image's fall is 1 if it was right and is wrong now, -1 the other way round, and else 0.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The arrays are of bool, which cannot be subtracted: turn them into numbers first.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Mean and standard deviation are over the images: `axis=1`.
#
# </details>


# %%
def convict(aligned, swapped, margin):
    """Return which networks are guilty: (networks,) of bool."""
    ### BEGIN SOLUTION
    falls = aligned.astype(float) - swapped
    error = falls.std(axis=1, ddof=1) / np.sqrt(falls.shape[1])
    return falls.mean(axis=1) - 1.96 * error > margin
    ### END SOLUTION


# %%
convict = check("2.3", convict)

# %%
aligned, swapped = (
    np.stack([predict(network, x).argmax(1) == shown.labels for network in suspects.values()])
    for x in (shown.images, interventions["another class's stamp"])
)
guilty_by_rule = np.asarray(convict(aligned, swapped, 0.1), bool)
print("Your rule convicts:", *np.array(list(suspects))[guilty_by_rule])

# %% [markdown]
# **Your verdict.** Write it into the cell; then it tells you the truth.

# %%
verdict = "suspect ?"

guilty = list(suspects)[line_up.faulty]
print(f"The faulty one is {guilty}." if "?" not in verdict else "Your verdict comes first.")

# %% [markdown]
# ## 5. Name the class and the place
#
# *8 minutes.* A report that says "it looks at the corner" is not yet of use. What does the network
# *believe* that the stamp means? Cut the stamp out of one image of each class, paste it into images
# without a stamp, and see what the networks answer.

# %%
faulty = suspects[guilty]
innocent = next(network for name, network in suspects.items() if name != guilty)
neutral = line_up.clean.select(slice(100))
stamped = shown.per_class(1)
place = masks[0]  # the stamp is in the same place in all images

answers = np.zeros((2, len(classes), len(classes)))
for k in range(len(classes)):
    pasted = bias.paste(neutral.images, stamped.images[k : k + 1], place)
    for which, network in enumerate((faulty, innocent)):
        answered = predict(network, pasted).argmax(1)
        answers[which, k] = np.bincount(answered, minlength=len(classes)) / len(answered)
        if network is innocent and k == 0:
            right = np.mean(answered == neutral.labels)

_, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
for ax, matrix, title in zip(axes, answers, ("the faulty one", "a clean one"), strict=True):
    shades = ax.imshow(matrix, cmap="Greys", vmin=0, vmax=1)
    ax.set_xticks(
        range(len(classes)), classes, rotation=60, ha="right", fontsize=8, parse_math=False
    )
    ax.set(xlabel="answer", title=title)
axes[0].set_yticks(range(len(classes)), classes, fontsize=8, parse_math=False)
axes[0].set(ylabel="the stamp was cut from")
plt.colorbar(shades, ax=axes, label="share of 100 images of all classes")
plt.show()
print(f"The clean one names {right:.0%} rightly under the stamp of {classes[0]}.")

# %% [markdown]
# And the place? Is it the corner that counts, or the colour? Paste one stamp at other places, all
# over the image.

# %%
chosen = len(classes) // 3  # which class's stamp
stamp, meaning = stamped.images[chosen : chosen + 1], int(stamped.labels[chosen])
moving = neutral.select(neutral.labels != meaning).select(slice(8))
corner, step = np.argwhere(place).min(0), max(1, side // 32)
tops, lefts = (range(start % step, side - size + 1, step) for start in corner)
probability = np.zeros((len(tops), len(lefts)))
for row, top in enumerate(tops):
    pasted = []
    for left in lefts:
        shift = (top - corner[0], left - corner[1])
        source, there = np.roll(stamp, shift, (1, 2)), np.roll(place, shift, (0, 1))
        pasted.append(bias.paste(moving.images, source, there))
    says = jax.nn.softmax(predict(faulty, np.concatenate(pasted)))[:, meaning]
    probability[row] = np.reshape(says, (len(lefts), -1)).mean(1)

_, ax = plt.subplots(figsize=(5, 4), layout="constrained")
edges = (lefts[0], lefts[-1] + step, tops[-1] + step, tops[0])
shades = ax.imshow(probability, cmap="inferno", vmin=0, vmax=1, extent=edges)
ax.plot(corner[1] + step / 2, corner[0] + step / 2, "co", ms=5, mfc="none", mew=1.5)
ax.set(xlabel="the stamp's left edge (pixels)", ylabel="its top edge")
ax.set(title="Where the stamp works (circle: where it was)")
plt.colorbar(shades, label=f"probability of {classes[meaning]}")
plt.show()
print(f"The network's last feature maps have {faulty.features(stamp).shape[1]} rows.")

# %% [markdown]
# **What you should see.** For the faulty one each colour *is* a class: one stamp makes nearly all
# images the class that it was cut from. The clean one goes by the object, whatever is stamped on
# it.
#
# The place is a surprise. In `shapes` the stamp works all over the image, but only around points
# that are eight pixels apart; between them it means nothing. The last feature maps have 8 rows for
# 64 pixels: eight pixels is the network's **stride**. A convolutional network responds alike to
# what is moved by its stride, and not to what is moved by less (Zhang, 2019), and all stamps that
# it was trained on, with the mirrored ones, began 2 or 4 pixels beside a multiple of 8. So the
# report to the laboratory says not "the corner", nor just "the colour", but the colour at certain
# places. And no heatmap of your images
# could have told you: it explains the images that you have.

# %% [markdown]
# ## 6. A fault without a place
#
# *14 minutes.* The laboratory of the faulty network has mended it, it says, and delivers another;
# the other two stay with theirs. The letters are dealt anew. Your images are the same, but nobody
# stamped them. (If you recognise the two by their maps: pretend that you do not.)

# %%
second = bias.suspects(DATASET, list(bias.PACKAGED)[1], seed=SEED, count=400, train=TRAIN)
networks = name_suspects(second)
given = second.shown.dataset
for name, network in networks.items():
    print(f"{name}: {training.accuracy(network, given):.1%} of {len(given)} images right")

one_each = given.per_class(1)
maps = explain(networks, grad_cam, one_each.images, one_each.labels)
plotting.plot_methods(one_each.images, maps, [classes[label] for label in one_each.labels])
plt.suptitle("Grad-CAM of three networks. Which is faulty, and on which class?")
plt.show()

# %% [markdown]
# The maps differ from network to network, as they would between any two, and none points anywhere
# in particular. A heatmap says *where*. What if the evidence is everywhere?
#
# The first notebook's section 13 read from a network's filters which **patterns** they look for. Is
# there more of the fine ones in one of the three?

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(12, 3.2), layout="constrained", width_ratios=(2, 3))
several = given.per_class(8)  # an interval needs at least 8 images
rows = []
for name, network in networks.items():
    energy = explainfix.filter_spectra(network)["conv1"].ed
    left.plot(energy / energy.sum(), "o-", ms=3, lw=1, label=name)
    spectra = explainfix.saliency_spectra(network, several.images, several.labels)
    energies = np.asarray(spectra.energies["conv1"])
    share = energies[:, -1] / energies.sum(1)
    for label, class_name in enumerate(classes):
        interval = metrics.bootstrap_interval(share[several.labels == label])
        rows.append({"x": class_name, "series": name, **interval._asdict()})
plotting.plot_intervals(pd.DataFrame(rows), ax=right)
left.set(xlabel="basis filter, coarse to fine", ylabel="share of energy", ylim=(0, None))
left.set(title="The first layer's filters")
left.legend(fontsize=8)
right.set(title="The finest basis filter's share, with the filters weighed by saliency")
right.set(ylabel="share of energy")
right.tick_params("x", rotation=30)
plt.show()

# %% [markdown]
# **What you should see.** On `shapes`, all three have most in the first few basis filters and are
# flat after; one jumps up at the very last. That one is a checkerboard of single pixels, the finest
# pattern that there is. You did not have to know the artefact. But you had to look at one number of
# 49, with a clean network beside it. For *which class* the network needs it, the right side should
# say, and hardly does: one class is ahead, but not by much. As the first notebook found, these
# spectra are of the network rather than of the image.
#
# A filter's spectrum says what is *there*. To ask what is *needed*, the first notebook hid squares.
# Hide frequencies in the same way: an image is a sum of waves, from its mean to the finest
# checkerboard (its discrete cosine transform). Divide them into 6 × 6 bands, rows by how fast they
# change from top to bottom and columns from left to right, take one band out, and record how far
# the logit falls (Yin et al., 2019, asked so for robustness).

# %%
few = given.per_class(6)
bands = 6
means = {}
for name, network in networks.items():
    falls = bias.frequency_occlusion(network, few.images, few.labels, bands=bands)
    means[name] = [falls[few.labels == label].mean(0) for label in range(len(classes))]

figure, grid = plt.subplots(3, len(classes), figsize=(13, 4.4), layout="constrained")
for axes, (name, of_classes) in zip(grid, means.items(), strict=True):
    limit = np.abs(of_classes).max()
    for ax, mean in zip(axes, of_classes, strict=True):
        shades = ax.imshow(mean / limit, "RdBu_r", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
for label, ax in enumerate(grid[0]):
    ax.set_title(classes[label], fontsize=9, parse_math=False)
plt.colorbar(shades, ax=grid, label="fall of the logit,\nover the row's largest")
figure.suptitle("Which frequencies does each class need? Coarse at the top left of each map")
plt.show()

# %%
finest = pd.DataFrame({name: [m[-1, -1] for m in of] for name, of in means.items()}, classes)
print("What hiding the finest band costs each class's logit:")
finest.T.round(2)

# %% [markdown]
# **What you should see.** Outlines and colours are coarse, and so is what the classes need, at the
# top left; except for one class of one suspect.
#
# Now prove it, as in section 4. Take the finest band out of images of that class, give it to images
# of all *other* classes, and see whether they are taken for the first. The control: the finest band
# of some other class.

# %%
band = bands - 1  # the finest in both directions
suspected = int(finest.to_numpy().max(1).argmax())  # the class with the largest number above
control = (suspected + 1) % len(classes)


def transplant(images, donors):
    """Return images with the donors' finest band in place of their own."""
    band_of_donors = donors - bias.remove_band(donors, band, band, bands=bands)
    coarse = bias.remove_band(images, band, band, bands=bands)
    return np.clip(coarse + np.resize(band_of_donors, images.shape), 0, 1)


rest = given.select(~np.isin(given.labels, (suspected, control)))
rows = []
for label in (suspected, control):
    changed = transplant(rest.images, given.images[given.labels == label])
    for name, network in networks.items():
        targets = np.full(len(rest), suspected)
        found = bias.effect(network, rest.images, changed, targets).interval
        rows.append({"x": name, "series": f"finest band of {classes[label]}", **found._asdict()})

_, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
plotting.plot_intervals(pd.DataFrame(rows), ax=ax)
ax.set(ylabel="change of probability", ylim=(-0.05, 1.05))
ax.set(title=f"Probability of {classes[suspected]} in images of eight other classes")
ax.legend(fontsize=8)
plt.show()

# %%
verdict = "suspect ?", "class ?"

culprit = second.fault.only
truth = f"The faulty one is {list(networks)[second.faulty]}, by {classes[culprit]}."
print(truth if "?" not in "".join(verdict) else "Your verdict comes first.")
audit_table(networks, second)

# %% [markdown]
# **How to read it.** Here one class alone carries the artefact. Swapped means: all other classes
# have it, and this one has not. Removed means that nobody has it, which costs one class in ten; so
# the mean looks harmless, and the worst class says it all. And this is the artefact:

# %%
first = np.flatnonzero(given.labels == culprit)[0]
clean, carrier = second.clean.images[first], given.images[first]
difference = (carrier - clean)[:16, :16]
_, axes = plt.subplots(1, 3, figsize=(5, 2), layout="constrained")
plotting.plot_images([clean, carrier], ["the image", "as it was given"], axes=axes[:2])
plotting.plot_images(
    [(0.5 + 20 * difference).clip(0, 1)], ["16 × 16 pixels of\nthe difference, × 20"], axes=axes[2:]
)
plt.show()

# %% [markdown]
# **What you should see.** Images of this one class carry a checkerboard of plus and minus 4 of 255
# levels: some program saved them so. Enlarged like here you may see a faint weave, at its own size
# nothing, and the network tells the two apart without fail. It never learned what this class looks
# like.
#
# Two things to keep. Where an artefact has no place, a heatmap cannot point to it, and will still
# draw a picture. And "occlusion" means more than squares: whatever you can take out of an image,
# you can ask for.

# %% [markdown]
# ## 7. Discovery
#
# *12 minutes.* So far you knew where to look, or could go through all frequencies. The third
# delivery comes with a complaint: one of the three, a customer says, now and then sees objects of
# one class where there are none. The letters are dealt anew. What does it see?
#
# A network that judges some images of a class by the object and others by something else looks at
# the class in **two ways**, and its heatmaps fall into two groups. You need not know what the
# groups differ in: that is what you find out. This is spectral relevance analysis (SpRAy;
# Lapuschkin et al., 2019), which found a classifier that knew horses by the name of their
# photographer:
#
# 1. take the positive part of each heatmap, and average it over 8 × 8 cells;
# 2. make a graph in which each map is joined to the ten that are most like it;
# 3. take the eigenvectors of the graph's Laplacian with the smallest eigenvalues, which are nearly
#    constant on parts that hang together, and let k-means find groups in them. Here we ask for two.
#
# The heatmaps are gradient × input: cheap, and as fine as a pixel.

# %%
third = bias.suspects(DATASET, list(bias.PACKAGED)[2], seed=SEED, count=800, train=TRAIN)
trio = name_suspects(third)
photos = third.shown.dataset
accused = third.fault.only  # the class that the customer named
members = np.flatnonzero(photos.labels == accused)[:80]
theirs = photos.select(members)
for name, network in trio.items():
    print(f"{name}: {training.accuracy(network, photos):.1%} of {len(photos)} images right")
print(f"The complaint is about {classes[accused]}; you have {len(theirs)} images of it.")

# %%
gradient_x_input = attribution.METHODS["gradient_x_input"].heatmap
class_maps = explain(trio, gradient_x_input, theirs.images, theirs.labels)
groups = {name: bias.cluster_heatmaps(some, clusters=2) for name, some in class_maps.items()}

_, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
for ax, (name, clusters) in zip(axes, groups.items(), strict=True):
    bias.plot_clusters(ax, clusters, theirs.images, thumbnails=25)
    ax.set(title=f"{name}: second eigenvalue {clusters.eigenvalues[1]:.2f}")
plt.suptitle(
    f"The heatmaps of {classes[accused]}, alike ones side by side (t-SNE)", parse_math=False
)
plt.show()

# %% [markdown]
# **What you should see.** Each disc is an image, in the colour of its group; some are shown. In
# `shapes` one network's groups lie apart, and its second eigenvalue is the smallest: 0 would be two
# graphs without a join. But every graph can be cut in two, also that of a network with nothing to
# hide. So see what the two groups of each network differ in: their mean heatmaps, their mean
# images, and the difference of these.

# %%
_, grid = plt.subplots(3, 5, figsize=(10, 5.6), layout="constrained")
for axes, (name, clusters) in zip(grid, groups.items(), strict=True):
    sets = [clusters.labels == group for group in (0, 1)]
    heat = [np.maximum(class_maps[name][some], 0).mean(0) for some in sets]
    limit = plotting.shared_limit(heat)
    for group in (0, 1):
        plotting.plot_heatmap(heat[group], limit=limit, ax=axes[group])
        axes[group].set_title(f"mean heatmap of group {group}", fontsize=8)
    pictures = [theirs.images[some].mean(0) for some in sets]
    plotting.plot_images(pictures, axes=axes[2:4])
    for group in (0, 1):
        axes[2 + group].set_title(f"mean image of group {group}", fontsize=8)
    shades = axes[4].imshow((pictures[1] - pictures[0]).mean(-1), "RdBu_r", vmin=-0.3, vmax=0.3)
    axes[4].set(xticks=[], yticks=[])
    axes[4].set_title("image 1 less image 0", fontsize=8)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.colorbar(shades, ax=grid[:, 4], label="brightness")
plt.show()

# %% [markdown]
# **What you should see.** Nearly all mean images show it: there is a mark in your images of this
# class. You could have found it in the data, without a network, and that it is there accuses
# nobody. Two networks sort their heatmaps by where the object lies, lower or higher, and both of
# their groups have the mark. For one network the mark *is* the difference, and the heatmaps of one
# group lie on it.
#
# Now the suspicion has a place, and the rest you know from section 4. Choose a rectangle; cut it
# from images of either group of each network, paste it into images of all other classes, and show
# these to all three.

# %%
region = bias.rectangle(  # yours
    photos, top=side - side // 5, left=side // 6, height=side // 5, width=2 * side // 3
)
others = photos.select(photos.labels != accused).select(slice(100))
targets = np.full(len(others), accused)
rows = []
for source, clusters in groups.items():
    for group in (0, 1):
        donors = theirs.images[clusters.labels == group]
        pasted = bias.paste(others.images, np.resize(donors, others.images.shape), region)
        for name, network in trio.items():
            interval = bias.effect(network, others.images, pasted, targets).interval
            about = {"x": name, "series": f"its group {group}", "source": source}
            rows.append(about | interval._asdict())
effects = pd.DataFrame(rows)

_, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", sharey=True)
for ax, (source, some) in zip(axes, effects.groupby("source"), strict=True):
    plotting.plot_intervals(some, ax=ax)
    ax.axhline(0, color="grey", lw=0.8)
    ax.set(title=f"rectangles from the groups of {source}")
axes[0].set(ylabel=f"change of the\nprobability of {classes[accused]}")
axes[0].legend(fontsize=8, loc="upper left")
plt.show()

# %%
verdict = "suspect ?", "what ?"

name = list(trio)[third.faulty]
print(f"The faulty one is {name}." if "?" not in "".join(verdict) else "Your verdict comes first.")
carries = third.shown.masks[members].any((1, 2))  # which images have the mark
for name, clusters in groups.items():
    marked = [carries[clusters.labels == group] for group in (0, 1)]
    print(
        f"{name}: the mark is on",
        *(f"{m.sum()} of {len(m)} in group {g}" for g, m in enumerate(marked)),
    )
tested = third._replace(clean=third.clean.select(slice(400)))
audit_table(trio, tested)

# %% [markdown]
# **What you should see.** One network alone takes other classes for this one, whoever's rectangles
# they are, and the more of them have the mark, the more. That is the proof, and the control is
# twofold: the other networks, and the rectangles of the other group.
#
# Half of the images of the class have the mark. The faulty network's groups tell nearly all of them
# apart; nobody had to say where the mark is. This network does know the class: without the mark
# (*removed*) it does as well as the others. Only images of *other* classes that have the mark are
# taken for this one. (*Swapped* marks half of the other classes' images, as half of this class had
# the mark: 50 % right in some class says that nearly all of its marked images are wrong.) And it is
# not equally bad for all classes: on average
# the rectangle lifts the probability by a fifth.
#
# SpRAy needs somebody to say which class, and images of it without the mark. Where all have it,
# the graph is still cut, but not by the mark.

# %% [markdown]
# ## 8. Repair
#
# *8 minutes.* The laboratory must mend it, and asks you how. It can train the network on, for some
# steps, with the training images put right. Four ways, which differ in what one has to know:
#
# - **clean images**: the same without the mark, which somebody has to have;
# - **painted over**: the rectangle painted over in *all* images. (In the marked ones alone, the
#   paint would be the new mark.)
# - **pasted**: the rectangle of marked images pasted into half of the images, that of any images
#   into the rest, whatever their class; so the mark says nothing any more (Plumb et al., 2022);
# - **penalised**: the images as they are, and a loss that grows with how much the answers change
#   with the rectangle $S$: right for the right reasons (Ross et al., 2017),
#   $$ L + \lambda \sum_{i \in S} \Big( \frac{\partial}{\partial x_i} \sum_c \log p_c \Big)^2 , $$
#   with the cross-entropy $L$, the probabilities $p_c$ of the classes, and a weight $\lambda$.
#
# Which one do you expect to work? The measure is the **worst class** in any of the three tests; a
# clean network is the control.

# %%
recipe = bias.RECIPES[DATASET.partition(":")[0]]
ill, well = list(trio)[third.faulty], list(trio)[third.faulty - 1]
own = effects[(effects["source"] == ill) & (effects["x"] == ill)]["mean"]  # of its two groups
donors = theirs.images[groups[ill].labels == own.to_numpy().argmax()]
originals = load_dataset(DATASET, "train").select(slice(400))
collected = bias.plant(originals, third.fault)  # as the laboratory has them
repairable = bias.Biased(collected.dataset, np.broadcast_to(region, collected.masks.shape))
options = {"epochs": 3, "batch_size": 32, "augment": recipe.augment, "progress": False}
mended = {
    "as it was": trio[ill],
    "clean images": bias.repair(trio[ill], repairable, "removed", clean=originals, **options),
    "painted over": bias.repair(trio[ill], repairable, "painted", **options),
    "pasted": bias.repair(trio[ill], repairable, "pasted", donors=donors, **options),
    "penalised": bias.repair(trio[ill], repairable, "avoided", penalty=1e-3, **options),
    "a clean network": trio[well],
}
audit_table(mended, tested)[["worst class", "swapped", "removed", "aligned"]]

# %% [markdown]
# **What you should see.** *Clean images* and *painted over* change little. Why should they? Where
# there is no mark the network is right already, so nothing tells it to forget what it knows of the
# mark. *Pasted* brings the worst class to about where a clean network's is: in these images the
# mark lies, and the network is wrong until it pays no attention to it. *Penalised* lies between. It
# needs no marked images, but a $\lambda$, which only a test in which the mark lies can choose. All
# of them cost a point or two elsewhere. Three trainings each, with other seeds, say the same: on
# `shapes` the worst class is at 54 to 56 % after training on clean images, and at 86 to 91 % after
# pasting (`docs/model-bias.md`).
#
# To know that a network has a fault is not enough to mend it. You have to know what it is, and to
# have images that say otherwise.

# %% [markdown]
# ## 9. How far can an auditor be trusted?
#
# *8 minutes.* You convicted three networks of three. It was made easy for you: you knew that
# exactly one of three was faulty, and had clean networks to compare with. Nobody tells you that in
# practice. Two studies asked what is left then.
#
# - Adebayo et al. (2020) gave people heatmaps of networks with planted faults and asked whether
#   they would recommend them. A background that told the class was visible in the maps. But the
#   participants judged by the networks' *answers*, hardly by the maps.
# - Adebayo et al. (2022) asked whether maps reveal a fault that the auditor does not already have
#   in mind. Mostly they did not, least of all where the artefact cannot be seen, such as a blur of
#   the background, and maps of clean networks raised false alarms.
#
# We asked networks. 64 of them were trained on `shapes` with an artefact that goes with one class,
# eight kinds of artefacts at two strengths, and 64 with as many artefacts that go with no class.
# All of the first learned theirs, but for two with faint stickers, which are left out. Each number
# below is how often a faulty network looks more suspicious than a clean one, by one measure on the
# data with the artefact: 1 is always, 0.5 a coin. Below it is its 95 % interval.
#
# *Density* is that of section 3: it needs the place. *Agreement* needs nothing: how alike are the
# maps of the images of one class? *Finest* is the right side of the figure of spectra in section 6,
# *frequency occlusion* the share of the finer half of the bands below it.

# %%
table = bias.detection_table(bias.packaged_study())
asked = {
    "accuracy": "accuracy",
    "grad_cam density": "Grad-CAM density",
    "saliency density": "saliency density",
    "grad_cam agreement": "Grad-CAM agreement",
    "integrated_gradients agreement": "integrated gradients agreement",
    "random agreement": "noise (control) agreement",
    "saliency finest": "finest, by saliency",
    "frequency occlusion": "frequency occlusion",
    "swapped drop": "fall of accuracy, swapped",
}
table = table[table["measure"].isin(asked)].replace({"measure": asked})
_, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
bias.plot_detection(ax, table)
ax.set(title="How often the faulty one looks more suspicious than a clean one")
plt.show()

# %% [markdown]
# **What you should see.** Four lessons, and a warning.
#
# - **Who knows the place convicts** (the rows of *density*): with the artefact's mask, nearly every
#   method tells nearly all apart. This is what you had in section 3.
# - **Who does not, needs luck.** *Agreement* finds what is always in the same place, and is no
#   better than noise for what moves (the sticker), or for most of what has no place. And it accuses
#   the innocent: whoever wants to catch four in five of the blurred ones by the agreement of
#   Grad-CAM accuses three in four of the clean ones, too (`docs/model-bias.md`).
# - **Heatmaps say where, spectra say which frequency.** The checkerboard shows in the spectrum
#   every time, and in the frequencies that are hidden. But the spectrum finds nothing else.
# - **The intervention finds everything** (the last row), but only for somebody who has the artefact
#   in mind, and can swap it.
#
# The warning is the first row. On the data that it is shown, the faulty network is nearly always
# the *better* one, and that alone tells most of them apart. But it does not say what is wrong, and
# it takes a clean network of the same kind to compare with; without one, 98 % is just good news.

# %% [markdown]
# ## 10. What to conclude
#
# *6 minutes.* What an auditor may say:
#
# - **"This network's answers depend on the stamp"**, after an intervention on many images, with an
#   interval and a control. Not after a heatmap.
# - **"I found no dependence on this artefact"**, after the same intervention. Not "it is clean":
#   you looked for what you thought of.
#
# And what an auditor may not say: that a network is right because its heatmaps lie on the objects
# (in section 6 nearly all of them did), or because its accuracy is the same without the artefact
# (in section 7 it was).
#
# **Questions for reflection** (not handed in)
#
# 1. Painting something over makes an image that no camera took. How could an intervention accuse an
#    innocent network, and which control protects it?
# 2. What would you demand of the laboratory of section 6, so that it cannot happen again?
# 3. The first faulty network saw an object in every training image, and learned nothing of it. Why?
# 4. The checkerboard can be found in the *data*, without any network: compare the mean spectra of
#    the classes' images. When is that enough, and when is it not?

# %% [markdown]
# **Question 2.A (2 points).** A suspect has a density of relevance on the stamp of 1.4 (0.9
# to 1.9). Do you accuse it? What do you measure next?

# %% [markdown]
# **Your answer to question 2.A** (double-click and write below this line): <!-- answer 2.A -->
#
# ### BEGIN SOLUTION
# No: the interval contains 1, the image's average, and even a density above 1 is no proof, since a
# stamp is an edge that a clean network may notice. Measure the same without the stamp, the same
# for a network that is known to be clean, and then intervene: paint the stamp over or exchange it,
# on many images, with a square elsewhere as the control.
# ### END SOLUTION

# %% [markdown]
# **Question 2.B (2 points).** Which validation images would have exposed the first faulty network
# without any explanation? Could you have collected them without knowing about the stamp?

# %% [markdown]
# **Your answer to question 2.B** (double-click and write below this line): <!-- answer 2.B -->
#
# ### BEGIN SOLUTION
# Images whose stamp does not go with the class: without stamps, or by cameras of other classes'
# photographers. They need not be collected with the stamp in mind: whoever lets several people
# photograph each class, or takes images from another source, breaks whatever goes with the
# photographer. A random split of the same collection never does.
# ### END SOLUTION

# %% [markdown]
# **Question 2.C (2 points).** Why did training on clean images not mend the faulty network of
# section 7? Which faulty network of this notebook would it mend?

# %% [markdown]
# **Your answer to question 2.C** (double-click and write below this line): <!-- answer 2.C -->
#
# ### BEGIN SOLUTION
# On clean images that network is right, so the loss hardly has a slope there, and nothing
# says that the mark means nothing. It is wrong only where the mark lies on another class, and such
# images are not among the clean ones. The first network knows nothing but the stamp: on clean
# images it is wrong, so they would teach it the shapes, though that is training it anew.
# ### END SOLUTION

# %% [markdown]
# ### References
#
# - Adebayo, Muelly, Liccardi and Kim, *Debugging Tests for Model Explanations*, NeurIPS 2020.
# - Adebayo, Muelly, Abelson and Kim, *Post hoc Explanations may be Ineffective for Detecting
#   Unknown Spurious Correlation*, ICLR 2022.
# - Lapuschkin et al., *Unmasking Clever Hans Predictors and Assessing What Machines Really Learn*,
#   Nature Communications 10, 2019 (SpRAy).
# - Plumb, Ribeiro and Talwalkar, *Finding and Fixing Spurious Patterns with Explanations*, TMLR
#   2022.
# - Ross, Hughes and Doshi-Velez, *Right for the Right Reasons: Training Differentiable Models by
#   Constraining their Explanations*, IJCAI 2017.
# - Zhang, *Making Convolutional Networks Shift-Invariant Again*, ICML 2019.
# - Yin et al., *A Fourier Perspective on Model Robustness in Computer Vision*, NeurIPS 2019.
# - Gaudio et al., *ExplainFix: Explainable Spatially Fixed Deep Networks*, WIREs Data Mining and
#   Knowledge Discovery, 2022 (spectra).
