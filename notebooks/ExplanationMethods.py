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
# # Explanation methods
#
# A network predicts *church* with a confidence of 99 %. **Where in the picture did it look, and how
# do we know that the answer to that question is true?** A heatmap that looks right to us can be
# wrong about the network: it may show what *we* would have looked at. This practical therefore has
# two halves. First you make heatmaps with six methods and learn what each of them really computes.
# Then you stop judging by eye, and measure.
#
# Afterwards you can
#
# - say in one sentence and one formula what occlusion, saliency, gradient × input, integrated
#   gradients, SmoothGrad and Grad-CAM compute, and what each is blind to;
# - explain saturation, and how averaging the gradient along a path repairs it;
# - test whether an explanation depends on the network, and find one that changes little when the
#   network's upper half is destroyed;
# - measure an explanation where the truth is known, and by deletion and insertion where it is not,
#   and say what these numbers do not tell;
# - read the spectrum of a network's filters, and tell what is in a network from what it needs.
#
# | | section | minutes |
# | --- | --- | --- |
# | 1 | The question and the model | 8 |
# | 2 | Occlusion: hide it and see | 12 |
# | 3 | Saliency: which pixels matter at all? | 10 |
# | 4 | Gradient × input, and saturation | 14 |
# | 5 | Integrated gradients, and completeness | 14 |
# | 6 | Noise, and SmoothGrad | 8 |
# | 7 | Grad-CAM: what the last layer sees | 8 |
# | 8 | Side by side | 4 |
# | 9 | A sanity check: destroy the network | 10 |
# | 10 | Where the evidence is known | 8 |
# | 11 | Deletion and insertion: which one is right? | 12 |
# | 12 | The protocol decides | 6 |
# | 13 | What do the filters look for? | 20 |
# | 14 | Try it yourself | 4 |
# | 15 | What to conclude | 2 |
#
# That is two hours of reading and running, and twenty minutes for section 13, which can be done on
# another day. In between there are twelve **exercises**, a few lines of code each, an hour and a
# half to two hours in all, and five **questions** to answer in words. The line under an exercise,
# `check(...)`, tells you whether your function is correct and, if it is not, what is wrong; the
# first time it may compute for half a minute. (The grader runs additional tests, with other
# images.) While an exercise is blank, the cells below it use the package's function, so you can
# run everything at once, and do the exercises in any order. If you have three hours in all, do
# 1.1, 1.2, 1.4, 1.6 and 1.8.
#
# You need to know what a convolutional network and a gradient are, and NumPy: indexing,
# broadcasting, einsum. The only JAX that you need is `jax.grad`, which comes with exercise 1.2.
# Everything that is called here is in the package `practical`; `help(attribution.occlusion)`, for
# example, explains what it does, and its source is short. Do not call `attribution`, `metrics` and
# similar modules inside an exercise's function: they are not available to the grader. The arrays
# that your function is given are read-only: to change one, make a copy with `np.array(...)`.
# `model(images)` returns the logits as a JAX array; use it inside `jax.grad`.
# `predict(model, images)` computes the same logits in batches and returns a NumPy array, so it
# cannot be differentiated.

# %% [markdown]
# ## 1. The question and the model
#
# *8 minutes.* The cell below chooses the data. `imagenette` is ten easy classes of ImageNet
# photographs, with a ResNet that was trained on all of ImageNet, of whose 1,000 outputs we keep
# these ten; so "99 %" means: among these ten. `shapes` needs no download: ten drawn shapes on
# cloudy backgrounds, with a small ResNet that comes with the package. In `shapes` the background is
# independent of the class, so the right answer to "where is the evidence?" is known: on the
# object. Your own images work as well: `folder:PATH`, with one folder per class, and your own
# network.

# %%
import os

DATASET = os.environ.get("PRACTICAL_DATASET", "imagenette")  # or "shapes", or "folder:PATH"
MODEL = os.environ.get("PRACTICAL_MODEL", "shapes" if DATASET == "shapes" else "resnet18")
# Take GPU memory as it is needed, and leave the rest to whoever shares the GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from practical import (
    attribution,
    check,
    data,
    explainfix,
    keep_compiled,
    load_dataset,
    load_image,
    load_model,
    metrics,
    plotting,
    predict,
    training,
    widgets,
)
from practical.models import new_resnet

keep_compiled()  # for the next time that this notebook is run
device = jax.devices()[0]
print(f"data: {DATASET}; model: {MODEL}; running on {device.platform.upper()} ({device})")
if device.platform == "cpu":
    print("No GPU is in use. On shapes that is fine; on photographs some cells take minutes.")

# %%
dataset = load_dataset(DATASET)
model = load_model(MODEL, dataset=DATASET)
assert model.class_names == dataset.class_names, "This model knows other classes than the data has."

picked = dataset.per_class(1)  # the first image of each class
probabilities = jax.nn.softmax(predict(model, picked.images))
predicted = np.argmax(probabilities, axis=1)
names = [model.class_names[i] for i in predicted]
titles = [f"{name}\n{p:.1%}" for name, p in zip(names, probabilities.max(1), strict=True)]

plotting.plot_images(picked.images, titles)
plt.suptitle("The network's prediction for one image of each class, and its confidence")
plt.show()
# %% [markdown]
# **What you should see.** Ten images, most of them classified correctly, many with a confidence
# near 100 %. Where does that confidence come from?
#
# Three conventions hold everywhere below:
#
# - an image is an array of shape (height, width, 3) with values in [0, 1]; the network normalizes
#   by itself, so "black" is 0 and means black;
# - we explain the **logit** $f_c(x)$ of the class $c$ that the network predicts, the number before
#   the softmax. A probability can rise because *other* classes fell; a logit speaks of its own
#   class;
# - a heatmap has one number per pixel. It is drawn in color over a gray copy of the image. Pixels
#   without color have values near 0. Maps with a sign are red for the class and blue against it.
#   Maps without one (how strongly, not in which direction) range from black through violet to
#   yellow. The scale beside a row holds for all images in that row.

# %%
targets = predicted
images = picked.images
logits = predict(model, images)
print(f"images {images.shape}, from {images.min():.2f} to {images.max():.2f}")
print(f"logits {logits.shape}; the predicted classes' logits are", logits.max(1).round(1))

# %% [markdown]
# ## 2. Occlusion: hide it and see
#
# *12 minutes.* The most direct question: if I hide this part, how far does the logit fall? Slide a
# square $S$ over the image, paint it in one color $b$, and record
#
# $$ \text{occlusion}(S) = f_c(x) - f_c(x \text{ with } x_S = b). $$
#
# A pixel's value is the mean over all squares that cover it. There is no gradient and no look
# inside: any black box can be explained this way, and the answer is a measured effect. The price
# is one forward pass for every square (Zeiler and Fergus, 2014).

# %% [markdown]
# ### Exercise 1.1: hide squares
#
# **4 points · ★★☆ · 12 minutes**
#
# Write `occlusion`. Its squares have a side of `window` pixels, and their upper left corners lie at
# the multiples of `stride`, as long as the square lies inside the image. You may assume that the
# squares cover every pixel; the images need not be square. `color` is the color of the squares:
# three numbers, or three for each image, (B, 1, 1, 3).
#
# 1. Get the logits of the targets before anything is hidden.
# 2. For each square, paint it in a copy of the images, and see how far the logits fall.
# 3. Add the fall to all pixels of the square, and count how many squares cover each pixel.
# 4. Divide.
#
# <details><summary>Hint 1</summary>
#
# `predict(model, images)[np.arange(len(images)), targets]` is the logit of each image's target.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Slices paint a square in all images at once: `hidden[:, a:b, c:d] = color`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `falls[:, None, None]` has a value for each image, and fits a square of any size.
#
# </details>


# %%
def occlusion(model, images, targets, window, stride, color):
    """Return how far the target's logit falls when squares are hidden: (B, H, W)."""
    ### BEGIN SOLUTION
    rows, (height, width) = np.arange(len(images)), images.shape[1:3]
    before = predict(model, images)[rows, targets]
    total, covers = np.zeros(images.shape[:3]), np.zeros((height, width))
    for top in range(0, height - window + 1, stride):
        for left in range(0, width - window + 1, stride):
            hidden = np.array(images)
            hidden[:, top : top + window, left : left + window] = color
            falls = before - predict(model, hidden)[rows, targets]
            total[:, top : top + window, left : left + window] += falls[:, None, None]
            covers[top : top + window, left : left + window] += 1
    return total / np.maximum(covers, 1)
    ### END SOLUTION


# %%
occlusion = check("1.1", occlusion)

# %%
side = images.shape[1]
window, stride = side // 4, side // 16
mean_color = images.mean((1, 2), keepdims=True)  # of each image
occluded = occlusion(model, images, targets, window, stride, mean_color)

squares = (1 + (side - window) // stride) ** 2
plotting.plot_methods(
    images, {"occlusion": occluded}, names, units={"occlusion": "fall of the logit"}
)
plt.suptitle(f"Hiding a {window}-pixel square, at {squares} places: where does the logit fall?")
plt.show()
print(f"The values lie between {occluded.min():.1f} and {occluded.max():.1f} logits.")

# %% [markdown]
# **What you should see.** Red regions on the objects. A negative value, drawn in blue, means that
# hiding something *raised* the logit. The printed line shows how far that goes here: on `shapes`,
# the lowest value is so small compared with the highest that hardly any blue is visible.
#
# Two choices went into this picture, and neither came from the network: how large the square is,
# and its color. Look at their effect.

# %%
choices = {}
for size in (side // 8, side // 3):
    for color in ("black", "mean"):
        choices[f"{size} pixels,\n{color}"] = attribution.occlusion(
            model, images, targets, window=size, stride=size // 2, baseline=color
        )

plotting.plot_methods(images, choices, names)
plt.suptitle("The same network and images, other squares: occlusion answers the question you ask")
plt.show()
for label, heat in choices.items():
    lowest = heat.min(axis=(1, 2))
    print(
        f"{label.replace(chr(10), ' ')}: the lowest value is {lowest.min():.1f} logits, in the "
        f"image of the {names[lowest.argmin()]}"
    )

# %% [markdown]
# **What you should see.** A small square shows where the evidence lies; a large one only shows
# roughly where. (Read each row's scale before you compare colors.) A black square on a dark object
# may hide little; on a bright background it is a new object with four sharp corners. In `shapes`,
# large black squares far from the object *raise* the logit of the class "square": the blue in the
# second column, and the lowest of the printed values. Hiding is never neutral: *every* method that
# compares "with" and "without" has to define what "without" looks like. That color is called the
# **baseline**, and it will come back.

# %% [markdown]
# **Question 1.A (2 points).** A large black square far from the object raises the logit of its
# class. Somebody concludes that the background speaks against the class. What else could it be,
# and what would you measure to find out?

# %% [markdown]
# **Your answer to question 1.A** (double-click and write below this line): <!-- answer 1.A -->
#
# ### BEGIN SOLUTION
# The square does not only take the background away, it puts a black shape with four corners there,
# which may itself look like the class, or like an object. The fall compares two images, one of
# which the network was never trained on. Hide the same place with other colors, with a blur, or
# with another image's background. If the effect stays, it is the background's; if it goes with the
# color, it was the square's. And compare with other squares of the same color on plain
# backgrounds.
# ### END SOLUTION

# %% [markdown]
# ## 3. Saliency: which pixels matter at all?
#
# *10 minutes.* Occlusion needs hundreds of passes. Calculus does all pixels in one: the derivative
# of the logit with respect to each pixel, by backpropagation to the input,
#
# $$ g = \frac{\partial f_c(x)}{\partial x}, \qquad
#    \text{saliency}_{ij} = \max_k |g_{ijk}| . $$
#
# (Simonyan et al., 2014.) There are three color channels $k$ per pixel; the paper takes the largest
# magnitude. Another common choice is the length $\|g_{ij}\|_2$, the **gradient norm**.

# %% [markdown]
# ### Exercise 1.2: one backward pass
#
# **3 points · ★☆☆ · 8 minutes**
#
# Write `saliency`.
#
# 1. Write a function of the images alone that adds up the logits of the targets. Each image has a
#    logit of its own, so the derivative of the sum has each image's gradient in its place.
# 2. Let `jax.grad` differentiate it at the images.
# 3. Reduce the color channels.
#
# <details><summary>Hint 1</summary>
#
# With `np.arange(len(images))` as `rows`, `model(x)[rows, targets].sum()` is one number, which
# `jax.grad` wants.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `jax.grad(f)` is a function again: call it with the images, as a JAX array (`jnp.asarray`).
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# First the magnitude, then the largest over the last axis.
#
# </details>


# %%
def saliency(model, images, targets):
    """Return the largest slope of the target's logit over each pixel's channels: (B, H, W)."""
    ### BEGIN SOLUTION
    rows = np.arange(len(images))
    slopes = jax.grad(lambda x: model(x)[rows, targets].sum())(jnp.asarray(images))
    return jnp.abs(slopes).max(axis=-1)
    ### END SOLUTION


# %%
saliency = check("1.2", saliency)

# %%
gradients = attribution.gradient(model, images, targets)
maps = {
    "gradient,\nsum": attribution.heatmap(gradients, reduce="sum"),
    "saliency,\nmax |g|": saliency(model, images, targets),
    "gradient\nnorm": attribution.saliency(model, images, targets, reduce="l2"),
}
print("gradient:", gradients.shape, " saliency:", maps["saliency,\nmax |g|"].shape)

plotting.plot_methods(
    images, maps, names, units=dict.fromkeys(maps, "logit change per\nunit of pixel value")
)
plt.suptitle("One backward pass: how sensitive is the logit to each pixel?")
plt.show()
pd.DataFrame(
    {"logit": logits.max(1), "mean saliency": maps["saliency,\nmax |g|"].mean((1, 2))}, index=names
).T.round(2)

# %% [markdown]
# **What you should see.** Speckle, denser on and around the object. With the sign kept, red and
# blue pixels lie side by side; without it, maximum and norm look nearly the same. In `shapes` the
# ring's map is nearly empty: it has the lowest mean in the table, and the highest logit. Keep that
# in mind.
#
# Read the definition again before you read the picture. The derivative answers "if this pixel
# changed **a little**, how fast would the logit change?". It does not say how much of the logit the
# pixel *contributes*. A pixel that the decision rests on can have a derivative of zero.

# %% [markdown]
# ## 4. Gradient × input, and saturation
#
# *14 minutes.* For a linear model $f(x) = \sum_i w_i x_i$ there is no ambiguity about how much each
# input contributes: it is $w_i x_i$, and all of these add up to the output. The derivative gives
# $w_i$; multiply by the input:
#
# $$ \text{gradient} \times \text{input} = x_i \, \frac{\partial f_c(x)}{\partial x_i} . $$
#
# (Shrikumar et al., 2016.) A network is not linear, but perhaps nearly so around the image?

# %% [markdown]
# ### Exercise 1.3: gradient × input
#
# **2 points · ★☆☆ · 4 minutes**
#
# Write `gradient_x_input`. It keeps the channels, and the sign.
#
# 1. Get the gradient of the sum of the targets' logits, as in 1.2.
# 2. Multiply it by the images, value by value.
#
# <details><summary>Hint 1</summary>
#
# The gradient is that of 1.2, before its channels are reduced. You may move it into a function of
# its own, which the next exercise can use, too.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The images and their gradient have the same shape, (B, H, W, 3).
#
# </details>


# %%
def gradient_x_input(model, images, targets):
    """Return each value times the slope of the target's logit there: (B, H, W, 3)."""
    ### BEGIN SOLUTION
    rows, images = np.arange(len(images)), jnp.asarray(images)
    return images * jax.grad(lambda x: model(x)[rows, targets].sum())(images)
    ### END SOLUTION


# %%
gradient_x_input = check("1.3", gradient_x_input)

# %%
times_input = attribution.heatmap(gradient_x_input(model, images, targets))
plotting.plot_methods(
    images, {"gradient\n× input": times_input}, names, units={"gradient\n× input": "logits"}
)
plt.suptitle("Gradient times input, in logits, red for the class and blue against it")
plt.show()
# %% [markdown]
# Test it. Fade one image in from black: $\alpha x$ with $\alpha$ from 0 to 1. If the network were
# linear, its logit would rise in a straight line, with the same slope all the way.

# %%
image, target = images[0], targets[0]
alphas = np.linspace(0, 1, 101, dtype=np.float32)
path = alphas[:, None, None, None] * image
along = predict(model, path)[:, target]
# d f(alpha x) / d alpha is the sum over pixels of x times the gradient at alpha x.
path_slopes = (attribution.gradient(model, path, [target] * len(path)) * image).sum((1, 2, 3))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(alphas, along)
left.set(xlabel="α: 0 is black, 1 is the image", ylabel="logit", title=f"Logit of {names[0]}")
right.plot(alphas, path_slopes)
right.fill_between(alphas, path_slopes, alpha=0.2, label="area: the whole change of the logit")
right.plot(1, path_slopes[-1], "o", label="the only slope that gradient × input uses")
right.axhline(0, color="gray", lw=0.5)
right.set(xlabel="α", ylabel="slope of the logit", title="Its slope along the way")
right.legend(fontsize=8)
plt.show()
# %%
print(f"the logit changes by          {along[-1] - along[0]:8.2f}")
print(f"gradient × input adds up to   {path_slopes[-1]:8.2f}")

# %% [markdown]
# **What you should see.** The curve on the left is not straight. Nearly all of the rise happens on
# a part of the way (for the disk of `shapes`, between 0.25 and 0.55). After that the evidence still
# grows stronger, but the logit hardly rises, or falls a little. An output is **saturated** when
# more evidence no longer increases it. Gradient × input uses only the slope at $\alpha = 1$, the
# dot on the right. For the disk it is below 0, and so the contributions add up to a negative
# number, though the logit rose.
#
# The smallest case in which this goes wrong is worth knowing by heart. Let
# $f(x) = \min(x, 1)$ and let the input be $x = 2$. The output is 1, and all of it is due to $x$.
# But the derivative at 2 is 0, and so is gradient × input: it claims that the only input of the
# function does not matter.

# %% [markdown]
# ## 5. Integrated gradients, and completeness
#
# *14 minutes.* The figure above shows the repair: not the slope at the end, but the **area** under
# the slope. Walk from a baseline $x'$ to the image, and average the gradient on the way:
#
# $$ \text{IG}_i = (x_i - x'_i) \int_0^1
#    \frac{\partial f_c(x' + \alpha (x - x'))}{\partial x_i} \, d\alpha . $$
#
# By the fundamental theorem of calculus the contributions of all pixels add up to exactly what has
# to be explained, no more and no less:
#
# $$ \sum_i \text{IG}_i = f_c(x) - f_c(x') . $$
#
# That is **completeness** (Sundararajan et al., 2017).

# %% [markdown]
# ### Exercise 1.4: average along the way
#
# **5 points · ★★☆ · 12 minutes**
#
# Write `integrated_gradients`. The integral becomes a mean over `steps` values of $\alpha$, the
# middles of equal steps: $\alpha_k = (k + \frac12) / \text{steps}$ for $k = 0, \ldots, \text{steps}
# - 1$. (Other rules come near the same integral. The check expects this one.)
#
# 1. For each $\alpha$, the point of the way is `baseline + alpha * (images - baseline)`.
# 2. Take the gradient there, and average the gradients.
# 3. Multiply by the whole way.
#
# `baseline` is an image, (H, W, 3), or one for each of the images.
#
# <details><summary>Hint 1</summary>
#
# Write the slope as a function of the point, and call it in a loop over the alphas.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Add the gradients up in one array, so that a hundred steps take no more memory than one.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The factor in front of the integral is $x - x'$, not $x$.
#
# </details>


# %%
def integrated_gradients(model, images, targets, baseline, steps):
    """Return the contributions along the way from the baseline: (B, H, W, 3)."""
    ### BEGIN SOLUTION
    rows, images = np.arange(len(images)), jnp.asarray(images)
    slope = jax.jit(jax.grad(lambda x: model(x)[rows, targets].sum()))
    mean = jnp.zeros_like(images)
    for k in range(steps):
        mean += slope(baseline + (k + 0.5) / steps * (images - baseline)) / steps
    return (images - baseline) * mean
    ### END SOLUTION


# %%
integrated_gradients = check("1.4", integrated_gradients)

# %%
black = np.zeros_like(images[0])
integrated = integrated_gradients(model, images, targets, black, 50)
maps = {
    "gradient\n× input": times_input,
    "integrated\ngradients": attribution.heatmap(integrated),
}
plotting.plot_methods(images, maps, names, units=dict.fromkeys(maps, "logits"))
plt.suptitle("The slope at the image only, and averaged over the way from black")
plt.show()
print("Sum of the magnitudes in each map, in logits:")
magnitudes = {label.replace("\n", " "): np.abs(heat).sum((1, 2)) for label, heat in maps.items()}
pd.DataFrame(magnitudes, index=names, dtype=float).T.round(1)

# %% [markdown]
# **What you should see.** Both are grainy, but not alike. In `shapes`, the ring, nearly empty
# above, appears below, and the dark arrow fades; the table shows by how much. One thing can be
# checked without a metric: do the contributions add up?

# %% [markdown]
# **Question 1.B (2 points).** For $f(x) = \min(x, 1)$ at $x = 2$, what do occlusion with black
# (the value 0), saliency, gradient × input and integrated gradients from 0 give? Calculate each,
# and explain which of them you believe.

# %% [markdown]
# **Your answer to question 1.B** (double-click and write below this line): <!-- answer 1.B -->
#
# ### BEGIN SOLUTION
# Occlusion: f(2) - f(0) = 1. Saliency: |f'(2)| = 0. Gradient × input: 2 · 0 = 0. Integrated
# gradients: 2 times the integral of f'(2a) over a from 0 to 1, which is 1 for a < 1/2 and 0 after
# it: 2 · 1/2 = 1. All are right about their own question. For what the input contributed to the
# output, 1 is right: without it the output would be 0. The derivative says that a little more or
# less would change nothing, which is true as well.
# ### END SOLUTION

# %% [markdown]
# ### Exercise 1.5: do they add up?
#
# **2 points · ★☆☆ · 4 minutes**
#
# Write `completeness_gap`: for each image, the sum of its attributions minus the change of the
# target's logit from the baseline to the image. It is 0 where they are complete. `baseline` is as
# in 1.4: an image, or one for each of the images.
#
# 1. Get the targets' logits at the images, and at the baseline.
# 2. Add up each image's attributions.
# 3. Return that sum minus the change of the logit.
#
# <details><summary>Hint 1</summary>
#
# Sum over rows, columns and channels, `(1, 2, 3)`, and keep the batch.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.broadcast_to(baseline, images.shape)` is the baseline once for each image.
#
# </details>


# %%
def completeness_gap(model, images, targets, baseline, attributions):
    """Return the attribution sum minus the logit change for each image, in logits: (B,)."""
    ### BEGIN SOLUTION
    rows = np.arange(len(images))
    ends = predict(model, images)[rows, targets]
    starts = predict(model, np.broadcast_to(baseline, images.shape))[rows, targets]
    return np.sum(attributions, axis=(1, 2, 3)) - (ends - starts)
    ### END SOLUTION


# %%
completeness_gap = check("1.5", completeness_gap)

# %%
sixteen = dataset.select(slice(0, 16)).images
sixteen_targets = predict(model, sixteen).argmax(1)
sums = {
    "gradient × input": gradient_x_input(model, sixteen, sixteen_targets),
    "integrated gradients": integrated_gradients(model, sixteen, sixteen_targets, black, 50),
}
change = -completeness_gap(model, sixteen, sixteen_targets, black, np.zeros_like(sixteen))

_, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
ax.axline((0, 0), slope=1, color="gray", lw=1, label="complete")
for label, values in sums.items():
    ax.plot(change, np.sum(values, axis=(1, 2, 3)), "o", alpha=0.7, label=label)
ax.set(
    xlabel="change of the logit, black to image",
    ylabel="sum of the attributions",
    title="One dot per image: do the attributions\nadd up to what they explain?",
)
ax.legend(fontsize=8)
plt.show()
# %%
table = {}
for steps in (5, 20, 100):
    values = {
        "even steps": integrated_gradients(model, sixteen, sixteen_targets, black, steps),
        "Gauss-Legendre": attribution.integrated_gradients(
            model, sixteen, sixteen_targets, steps=steps
        ),
    }
    for rule, attributions in values.items():
        gap = np.abs(completeness_gap(model, sixteen, sixteen_targets, black, attributions))
        table[rule, steps] = {"median gap (logits)": np.median(gap), "largest": np.max(gap)}
pd.DataFrame(table).T.rename_axis(["points", "steps"]).round(4)

# %% [markdown]
# **What you should see.** The dots of integrated gradients lie on the line; those of gradient ×
# input do not. More steps make the gap small: completeness tells you whether you took enough steps.
# When it fails, the map is wrong, however good it looks. (The package uses Gauss-Legendre points
# instead of evenly spaced ones. On smooth functions they need far fewer steps. A network with ReLUs
# is not smooth: on `shapes`, Gauss-Legendre points have a larger gap with 5 steps, and about the
# same gap with 20 and 100.)
#
# Adding up is necessary, not sufficient: a map that gives every pixel the same share adds up, too.
# And the baseline is again a choice:

# %%
baselines = {
    color: attribution.heatmap(
        attribution.integrated_gradients(model, images, targets, baseline=color)
    )
    for color in ("black", "white", "mean", "blur")
}
plotting.plot_methods(images, baselines, names, units=dict.fromkeys(baselines, "logits"))
plt.suptitle("Integrated gradients from four baselines: four complete answers")
plt.show()
for color, heat in baselines.items():
    gap = attribution.completeness_error(
        model, images, targets, heat, baseline=color, relative=False
    )
    print(
        f"{color}: completeness gap {np.median(gap):.2f} logits (median), at most {gap.max():.2f}"
    )

# %% [markdown]
# **What you should see.** Four maps that disagree. For most images, each adds up to within a few
# tenths of a logit, as the printed gaps show. Each answers another question: "why is this logit
# higher *than for a black image*?", "... *than for a blurred one*?". And a pixel that has the
# baseline's color gets exactly 0, whatever it means to the network: with black as baseline, nothing
# black can ever be evidence. Look at the dark arrow of `shapes` in the row labeled *black*.

# %% [markdown]
# **Question 1.C (2 points).** Two people integrate gradients for the same image and network, one
# from black and one from blur. Both maps are complete, and they disagree. Is one of them wrong?
# Which sentence has to stand below each map?

# %% [markdown]
# **Your answer to question 1.C** (double-click and write below this line): <!-- answer 1.C -->
#
# ### BEGIN SOLUTION
# Neither is wrong: each answers its own question, by how much the logit is higher than at its
# baseline, and for which values. Completeness holds for both, since the sums differ just as the
# logits of the baselines do. Below the one: contributions to the logit compared with a black
# image; a black pixel gets 0 by definition. Below the other: compared with the blurred image; what
# is the same in both, the coarse colors, gets nothing.
# ### END SOLUTION

# %% [markdown]
# ## 6. Noise, and SmoothGrad
#
# *8 minutes.* The gradient maps are speckled. Is the speckle in the network, or is it noise? Ask
# the network about an image that no eye can tell from the first: the same pixels, with a little
# noise $\varepsilon$ on them. **SmoothGrad** (Smilkov et al., 2017) averages the gradient over many
# noisy copies, usually with noise that is clearly visible:
#
# $$ \text{SmoothGrad} = \frac{1}{n} \sum_{k=1}^n
#    \frac{\partial f_c(x + \varepsilon_k)}{\partial x}, \qquad
#    \varepsilon_k \sim \mathcal{N}(0, \sigma^2). $$
#
# It is the gradient not of the network but of the network blurred over a neighborhood, whose size
# $\sigma$ is one more choice of ours.

# %%
key = jax.random.key(0)
noisy = np.clip(images + 0.02 * jax.random.normal(key, images.shape), 0, 1)
maps = {
    "saliency": attribution.saliency(model, images, targets),
    "of a noisy\ncopy (2 %)": attribution.saliency(model, noisy, targets),
}
for sigma in (0.05, 0.2):
    smooth = attribution.smooth_grad(model, images, targets, noise=sigma, samples=32)
    maps[f"SmoothGrad,\nσ = {sigma:.0%}"] = np.abs(smooth).max(-1)
plotting.plot_methods(images, maps, names)
plt.suptitle("The gradient at the image, beside it, and averaged over its neighborhood")
plt.show()


# %%
def smoothed(model, images, targets):
    """Return the magnitude of SmoothGrad, as it is drawn above, with 15 % of noise."""
    return np.abs(attribution.smooth_grad(model, images, targets, noise=0.15)).max(-1)


for label, method in {"saliency": attribution.saliency, "SmoothGrad": smoothed}.items():
    moved = metrics.max_sensitivity(model, images, targets, method, samples=3)
    print(f"{label}: changing pixels by up to 2 % changes the map by up to {np.mean(moved):.0%}")

# %% [markdown]
# **What you should see.** The region stays, but single speckles grow, shrink or disappear, although
# no eye would notice the noise. The printed numbers show how much of the map changes. Do not read
# anything into a single speckle. The averages are steadier, as the second number shows, and with
# much noise they look different: regions fill in, or fade. Steady is not the same as right, and
# under 20 % of noise the network gets pictures that it was never trained on.

# %% [markdown]
# ## 7. Grad-CAM: what the last layer sees
#
# *8 minutes.* Pixels are the wrong unit for a question such as "the tower or the tree?". The last
# convolutional layer has few, large units, each with a position: feature maps $A^k$. Grad-CAM
# averages the slope of the logit with respect to each map over its positions, adds the maps up with
# these weights, and sets negative values to 0:
#
# $$ w_k = \frac{1}{hw} \sum_{ij} \frac{\partial f_c}{\partial A^k_{ij}}, \qquad
#    \text{CAM}_{ij} = \operatorname{ReLU}\Big(\sum_k w_k A^k_{ij}\Big) . $$
#
# (Selvaraju et al., 2017.) In our ResNets a global average pool and one dense layer follow, and so
# $w_k$ is just the dense layer's weight divided by $hw$: the logit *is* the sum of the map, before
# the ReLU, plus a bias. In other networks the slope differs from position to position.

# %% [markdown]
# ### Exercise 1.6: weight the last maps
#
# **4 points · ★★☆ · 10 minutes**
#
# Write `grad_cam` at the resolution of the feature maps (no upsampling). A model has two halves
# here: `model.features(images)`, which returns the maps $A$, (B, h, w, K), and
# `model.head(features)`, which returns the logits. (The check also uses a head whose slope differs
# from position to position.)
#
# 1. Get the features.
# 2. Differentiate the sum of the targets' logits with respect to the features.
# 3. Average the gradient over positions to get one weight per channel. Multiply each feature map by
#    its weight, sum over $k$, and apply the ReLU.
#
# <details><summary>Hint 1</summary>
#
# It is exercise 1.2 again, with `model.head` instead of the model and the features instead of the
# images.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `mean(axis=(1, 2), keepdims=True)` gives weights that fit the maps.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `jnp.maximum(x, 0)` is the ReLU.
#
# </details>


# %%
def grad_cam(model, images, targets):
    """Return Grad-CAM at the feature maps' resolution: (B, h, w)."""
    ### BEGIN SOLUTION
    rows, features = np.arange(len(images)), model.features(images)
    slopes = jax.grad(lambda a: model.head(a)[rows, targets].sum())(features)
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    return jnp.maximum((weights * features).sum(axis=-1), 0)
    ### END SOLUTION


# %%
grad_cam = check("1.6", grad_cam)

# %%
features = model.features(images)
coarse = grad_cam(model, images, targets)
cam = attribution.grad_cam(model, images, targets)
print("feature maps:", features.shape, " Grad-CAM as computed:", coarse.shape)

cells = np.arange(side) * coarse.shape[1] // side  # the cell that each pixel lies in
maps = {"as it is": np.asarray(coarse)[:, cells][:, :, cells], "upsampled": cam}
plotting.plot_methods(images, maps, names)
plt.suptitle("Grad-CAM as the network has it, and as it is usually shown")
plt.show()

# %% [markdown]
# **What you should see.** Smooth blobs, mostly on the objects. The smoothness comes from the
# interpolation, not from the network: the row *as it is* shows all values that there are, and all
# finer detail in the row below comes from our interpolation. The value of a cell depends on a far
# larger part of the image than the square that it fills.

# %% [markdown]
# ## 8. Side by side
#
# *4 minutes.* Here are all of them on the same images, with one more that is often shown: **guided
# backpropagation**, a gradient whose ReLUs let only positive values back (Springenberg et al.,
# 2015). Below them are three controls that do not use the network: an edge filter, the middle of
# the image, and noise. Before you go on, **write down which of the maps you believe**, and why.


# %%
def explain(images, targets):
    """Return every method's heatmaps (N, H, W) by name."""
    given = (model, images, targets)
    return {
        "occlusion": attribution.occlusion(*given, window=window, stride=stride, baseline="mean"),
        "saliency": attribution.saliency(*given),
        "gradient\n× input": attribution.heatmap(attribution.gradient_x_input(*given)),
        "integrated\ngradients": attribution.heatmap(attribution.integrated_gradients(*given)),
        "SmoothGrad": smoothed(*given),
        "guided\nbackprop": np.abs(attribution.guided_backprop(*given)).max(-1),
        "Grad-CAM": attribution.grad_cam(*given),
        "edges": attribution.edges(*given),
        "center": attribution.center(*given),
        "random": attribution.random(*given),
    }


plotting.plot_methods(images, explain(images, targets), names)
plt.suptitle("Seven explanations of the same decisions, and three maps that explain nothing")
plt.show()
# %% [markdown]
# **What you should see.** The methods disagree, and each of them looks plausible somewhere. Your
# eye prefers maps that fill the object, or that draw it, as guided backpropagation does. But the
# network does not have to agree with your eye. It may decide by an edge, a corner, or the
# background, and then the prettiest map is the wrong one. Look at the controls, too: on pictures
# with the object in the middle, *center* looks fine.

# %% [markdown]
# ## 9. A sanity check: destroy the network
#
# *10 minutes.* An explanation should be *about this network*. So remove what the network has
# learned, and see whether the map changes: shuffle the weights of the last layer, then of the one
# before, and so on down to the first (Adebayo et al., 2018). At the end only the architecture is
# left, and it cannot tell a church from a fish. The prediction at each stage stands above its
# column; all maps explain the *same* class, the one that the trained network predicted. Each map
# has its own scale, since only the pattern counts here.

# %%
layers = metrics.classifier_layers(model)  # from the last layer to the first
stages = {"trained": model}
broken = model
for number, shuffle in enumerate(layers.values()):
    broken = shuffle(broken, jax.random.fold_in(key, number))
    if number in (0, len(layers) // 2, len(layers) - 1):
        stages[f"{number + 1} of {len(layers)}\nshuffled"] = broken

_, grid = plt.subplots(4, len(stages), figsize=(6.4, 6.4), layout="constrained")
for column, (stage, network) in zip(grid.T, stages.items(), strict=True):
    given = (network, images[:1], targets[:1])
    confidence = jax.nn.softmax(predict(network, images[:1]))[0]
    title = f"{stage}:\n{model.class_names[confidence.argmax()]} {confidence.max():.0%}"
    plotting.plot_images(images[:1], [title], axes=column[:1])
    shown = {
        "saliency": attribution.saliency(*given)[0],
        "Grad-CAM": attribution.grad_cam(*given)[0],
        "guided\nbackprop": np.abs(attribution.guided_backprop(*given)).max(-1)[0],
    }
    for ax, (method, heat) in zip(column[1:], shown.items(), strict=True):
        plotting.plot_heatmap(heat, ax=ax)
        if stage == "trained":
            ax.set_ylabel(method, rotation=0, ha="right", va="center")
plt.suptitle(
    f"Predictions while the network is destroyed, and the maps for “{names[0]}”", parse_math=False
)
plt.show()

# %%
checked = slice(0, 8)
tested = {
    "saliency": attribution.saliency,
    "Grad-CAM": attribution.grad_cam,
    "guided backprop": attribution.guided_backprop,
    "edges": attribution.edges,
}
_, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
correlations = {}
for label, method in tested.items():
    result = metrics.parameter_randomization(model, images[checked], targets[checked], method)
    correlations[label] = np.concatenate([[1], np.mean(result.rank_correlation, 1)])
    ax.plot(correlations[label], "o-", ms=3, label=label)
ax.set_xticks(range(len(layers) + 1), ["none", *result.layers], rotation=90, fontsize=7)
ax.set(
    xlabel="layers shuffled, from the last one to this one",
    ylabel="rank correlation with\nthe trained network's map",
    title="An explanation must change when the network is destroyed: low is better",
)
ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
half = len(layers) // 2
pd.DataFrame(correlations).iloc[[1, half, len(layers)]].set_axis(
    ["only the last layer shuffled", f"{half} of {len(layers)}", "all layers"]
).round(2)

# %% [markdown]
# **What you should see.** The edge filter does not use the network, so its line stays at 1.
# Grad-CAM changes at once, saliency step by step. Guided backpropagation changes much more slowly:
# with the upper half of the network shuffled, the prediction is another one, but the map still
# correlates with the trained network's far more than the map of saliency does (second row of the
# table). It draws what the lower layers respond to, mostly independent of the layers above. Only
# when the lower layers are shuffled as well does it fall to where saliency ends. So it depends on
# the network, but much less on the part that decides. A map that does not change with the decision
# cannot explain it; a map that changes has only passed a necessary test: it depends on the network.

# %% [markdown]
# **Question 1.D (2 points).** A method passes this test: its map changes with every layer that is
# shuffled. Does that show that the map is right? Name a map that passes and explains nothing.

# %% [markdown]
# **Your answer to question 1.D** (double-click and write below this line): <!-- answer 1.D -->
#
# ### BEGIN SOLUTION
# No. The test is necessary, not sufficient: it shows that the map depends on the weights, not that
# it depends on them in the right way. Noise that is drawn with a checksum of the weights as its
# seed passes with the best marks, and explains nothing. So does a map of a class that nobody asked
# for.
# ### END SOLUTION

# %% [markdown]
# ## 10. Where the evidence is known
#
# *8 minutes.* In `shapes` the class enters the object's outline and nothing else, so the evidence
# lies on the object and along its edge, and every image has its mask. Photographs have no such
# mask, but you can build a mosaic: two images of the class and two of other classes. The evidence
# for the class must lie in its two quadrants (Arias-Duart et al., 2022). In both cases we can ask
# questions that need no judgement by eye:
#
# - **mass**: which share of the positive relevance lies on the mask?
# - **rank**: of the $K$ pixels that the map ranks highest, with $K$ the mask's area, which share
#   lies on the mask?
# - **pointing game**: does the highest pixel lie on it?
#
# A large object is easier to hit, so each is corrected for chance, (value - noise's) / (1 -
# noise's): 0 is what noise gets on average, 1 is the most there is. *Rank* reaches 1 only if the
# map fills the whole mask. But the evidence may be a part of the object, an outline or a face. A
# map that marks only that part is right, and gets a lower *rank* score than a blob; *mass* and the
# pointing game do not require that the mask is filled.

# %%
count = min(32, len(dataset))
known = dataset.select(slice(0, count))
if known.masks is None:
    mosaics = data.mosaics(dataset, count=count)
    known = mosaics.select(slice(0, count))
    asked = known.labels  # the class of two of the four
else:
    asked = predict(model, known.images).argmax(1)

known_maps = explain(known.images, asked)
plotting.plot_images(known.images[:6], [model.class_names[c] for c in asked[:6]])
plt.suptitle("Six of the images, and the class whose evidence is looked for")
plt.show()

# %% [markdown]
# ### Exercise 1.7: the mass on the mask
#
# **3 points · ★☆☆ · 6 minutes**
#
# Write `mass_on_mask`, before any correction for chance: for each image, the share of the positive
# relevance that lies on the mask. Every map has a positive value somewhere.
#
# 1. Take the positive part of each map, without changing `heatmaps`.
# 2. Add it up on the mask, and everywhere.
# 3. Divide the one by the other.
#
# <details><summary>Hint 1</summary>
#
# `np.maximum(heatmaps, 0)` is the positive part: a new array, with 0 instead of negative values.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two sums over rows and columns, one divided by the other.
#
# </details>


# %%
def mass_on_mask(heatmaps, masks):
    """Return the share of each map's positive relevance that lies on its mask: (B,)."""
    ### BEGIN SOLUTION
    positive = np.maximum(heatmaps, 0)
    return (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    ### END SOLUTION


# %%
mass_on_mask = check("1.7", mass_on_mask)

# %%
for method in ("integrated\ngradients", "random"):
    label, mass = method.replace("\n", " "), mass_on_mask(known_maps[method], known.masks)
    print(f"{label}: {mass.mean():.0%} on {known.masks.mean():.0%} of the pixels")

rows = {}
for method, heat in known_maps.items():
    rows[method.replace("\n", " ")] = {
        measure: np.mean(metric(heat, known.masks).adjusted)
        for measure, metric in (
            ("mass", metrics.relevance_mass),
            ("rank", metrics.relevance_rank),
            ("pointing game", metrics.pointing_game),
        )
    }
located = pd.DataFrame(rows).T.sort_values("rank", ascending=False)
located.astype(float).round(3)

# %% [markdown]
# **What you should see.** Every explanation should beat *random*, which is near 0 (the pointing
# game counts hits, so on few images it is not exactly 0), and also *center* and *edges*, which do
# not use the network. Not all of them do so by every measure: on `shapes`, gradient × input has a
# lower *rank* than both.
#
# Mind the assumption: that the network looks where the evidence is. It may have found something
# else, a shadow or a color that goes with the class; then a map that points there is right, and
# gets a low score. Localization measures the network and the explanation together.

# %% [markdown]
# ## 11. Deletion and insertion: which one is right?
#
# *12 minutes.* If a map is right about the network, then the pixels that it ranks highest are those
# that the network needs. So take them away, the highest first, and watch the probability of the
# class (not the logit: that is this measure's custom, and section 12 comes back to it). A right map
# makes it **fall fast**: a small area under the **deletion** curve. The other way round, put the
# pixels into an empty image, the highest first: a right map makes the probability **rise fast**, a
# large area under the **insertion** curve (Petsiuk et al., 2018).
#
# The result depends only on the order of the pixels, not on anyone's judgement. What replaces a
# deleted pixel is a choice, once more; here it is the image's mean color, and for insertion its
# blur.

# %%
ranked = {
    "integrated\ngradients": attribution.heatmap(integrated)[0],
    "random": jax.random.uniform(jax.random.key(0), images.shape[1:3]),
}
shares = (0, 0.05, 0.1, 0.2, 0.4, 0.8)
_, grid = plt.subplots(len(ranked), len(shares), figsize=(10, 4), layout="constrained")
for (label, heat), axes in zip(ranked.items(), grid, strict=True):
    place = np.argsort(np.argsort(-np.ravel(heat))).reshape(heat.shape)  # 0 is the most relevant
    gone = [(place < share * place.size)[..., None] for share in shares]
    frames = np.stack([np.where(mask, image.mean((0, 1)), image) for mask in gone])
    p = jax.nn.softmax(predict(model, frames))[:, target]
    captions = [
        f"{share:.0%} gone:\n{names[0]} {q:.1%}" for share, q in zip(shares, p, strict=True)
    ]
    plotting.plot_images(frames, captions, axes=axes)
    axes[0].set_ylabel(label)
plt.suptitle("The images with deleted pixels, and the network's confidence")
plt.show()

# %% [markdown]
# ### Exercise 1.8: a deletion curve
#
# **5 points · ★★★ · 14 minutes**
#
# Write `deletion_curve`. Its column `k`, from 0 to `steps`, is the target's probability when the
# highest `k / steps` of the image's pixels show its mean color (of the whole original image).
#
# 1. Rank the pixels of each image.
# 2. At each step, find out which pixels are gone, and replace these in all three channels.
# 3. Record the target's probability, and stack the records.
#
# The figure after the next exercise shows what you should see.
#
# <details><summary>Hint 1</summary>
#
# The cell above computes the place of each pixel in the order of its map: `argsort` of `argsort`.
# (A single `argsort` gives the pixel at each place, not the place of each pixel.) Here each image
# has its own order: `heatmaps.reshape(B, -1)`, and `axis=1` in both.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At step k the pixels with a place below `round(k * pixels / steps)` are gone.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.where(gone[..., None], color, images)`, with `color` of shape (B, 1, 1, 3).
#
# </details>


# %%
def deletion_curve(model, images, targets, heatmaps, steps):
    """Return the target's probability while pixels are deleted: (B, steps + 1)."""
    ### BEGIN SOLUTION
    rows, maps = np.arange(len(images)), np.asarray(heatmaps)
    flat = maps.reshape(len(images), -1)
    place = np.argsort(np.argsort(-flat, axis=1), axis=1).reshape(maps.shape)
    color = images.mean(axis=(1, 2), keepdims=True)
    scores = []
    for k in range(steps + 1):
        gone = place < round(k * flat.shape[1] / steps)
        deleted = np.where(gone[..., None], color, images)
        scores.append(jax.nn.softmax(predict(model, deleted))[rows, targets])
    return np.stack(scores, axis=1)
    ### END SOLUTION


# %%
deletion_curve = check("1.8", deletion_curve)

# %% [markdown]
# ### Exercise 1.9: one number for a curve
#
# **2 points · ★☆☆ · 4 minutes**
#
# Write `area`, by the trapezoidal rule: between two points the curve is a straight line.
# `fractions` (K,) need not be evenly spaced; `scores` (B, K) holds a curve in each row.
#
# 1. Get the widths of the pieces between the fractions.
# 2. Get the mean of the scores at both ends of each piece.
# 3. Add up width times mean, for each row.
#
# <details><summary>Hint 1</summary>
#
# The area of one piece is its width times the mean of the scores at its ends.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.diff(fractions)` has the widths.
#
# </details>


# %%
def area(fractions, scores):
    """Return the area under each curve: (B,)."""
    ### BEGIN SOLUTION
    ends = (scores[:, :-1] + scores[:, 1:]) / 2
    return ends @ np.diff(fractions)
    ### END SOLUTION


# %%
area = check("1.9", area)

# %%
steps = 20
fractions = np.linspace(0, 1, steps + 1)
for label in ("integrated\ngradients", "random"):
    scores = deletion_curve(model, known.images[:8], asked[:8], known_maps[label][:8], steps)
    legend = f"{label.replace(chr(10), ' ')}, area {area(fractions, scores).mean():.2f}"
    plt.plot(100 * fractions, scores.mean(0), label=legend)
plt.gcf().set_size_inches(5, 3)
plt.xlabel("pixels deleted, most relevant first (%)")
plt.ylabel("mean probability")
plt.title("Your deletion curves, of eight images")
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# Now every method, on more images, with curves averaged over them; six of them are drawn, and the
# table below has all. The bands are 95 % bootstrap intervals: how far the mean would move with
# other images of this kind.

# %%
measured = dataset.select(slice(0, count))
measured_targets = predict(model, measured.images).argmax(1)
explained = {
    method.replace("\n", " "): heat
    for method, heat in explain(measured.images, measured_targets).items()
}
curves = {
    kind.__name__: {
        method: kind(model, measured.images, measured_targets, heat)
        for method, heat in explained.items()
    }
    for kind in (metrics.deletion, metrics.insertion)
}

drawn = ("occlusion", "saliency", "integrated gradients", "Grad-CAM", "center", "random")
_, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
for (kind, by_method), ax in zip(curves.items(), axes, strict=True):
    plotting.plot_curves({method: by_method[method] for method in drawn}, ax=ax)
    ax.set_title(f"{kind.title()}: {'low' if kind == 'deletion' else 'high'} is better")
    if kind == "insertion":
        ax.set_xlabel("pixels shown, most relevant first (%)")
plt.show()

# %%
areas = {kind: {m: curve.auc for m, curve in by.items()} for kind, by in curves.items()}
areas["ROAD, least − most"] = {
    m: metrics.road(model, measured.images, measured_targets, h) for m, h in explained.items()
}
table = {}
controls = ("edges", "center", "random")
for kind, by_method in areas.items():
    others = [method for method in by_method if method != "random"]
    p = metrics.holm(
        [metrics.permutation_test(by_method[m], by_method["random"]).p_value for m in others]
    )
    noise = np.mean(by_method["random"])
    better = {
        m: q < 0.05 and (np.mean(by_method[m]) < noise) == (kind == "deletion")
        for m, q in zip(others, np.asarray(p), strict=True)
    }
    for method, values in by_method.items():
        mean, low, high = map(float, metrics.bootstrap_interval(values))
        text = f"{mean:.3f} ({low:.3f} to {high:.3f}){'*' if better.get(method) else ''}"
        table.setdefault(method, {})[kind] = text
    sign = -1 if kind == "deletion" else 1  # at deletion, a small area is good
    for control in ("edges", "center"):
        behind = [
            method
            for method, values in by_method.items()
            if method not in controls and sign * np.mean(values - by_method[control]) < 0
        ]
        print(
            f"{kind}: {control} has a better mean than {', '.join(behind) or 'none of the methods'}"
        )
table = pd.DataFrame(table).T.loc[located.index]
table["rank on the mask"] = located["rank"].astype(float).round(3)
table

# %% [markdown]
# **What you should see.** The mean area with its 95 % interval, and a star where the method is
# significantly better than *random* (p < 0.05). (If it did not matter which map is which, swapping
# the two on some of the images would often make as large a difference: a permutation test. Nine
# methods have nine chances of a lucky result, and Holm's correction allows for that.) **ROAD** also
# deletes, but a deleted pixel is interpolated from its neighbors, so that there is no visible hole
# (Rong et al., 2022). It deletes twice, the least relevant pixels first and the most relevant
# first; the number is half the difference of the two areas. High is better, and noise gets about 0.
#
# Compare with *random* before you compare two methods: without a star you cannot claim, from these
# images, that a map beats noise. A star is not enough, either. Look at the rows of *center* and
# *edges*, which do not use the network, and at the printed lines: a method with a worse mean than
# one of them gains nothing from the network by this measure. On `shapes`, *center* has stars at
# deletion and ROAD, and beats several methods there, although it is the same map for every image.
#
# Also find guided backpropagation, which in section 9 changed much less than saliency when the
# upper half of the network was destroyed. Compare it with *edges*: where it does much better, as on
# `shapes`, it does not just draw edges. It shows what the lower layers respond to, and in a picture
# with one object that is often the right place. Deletion measures whether the right pixels come
# first, not whether the map would change with the decision. No single test is enough.
#
# Look for a method that does well by one measure and badly by another; on `shapes` the blobs of
# occlusion and Grad-CAM have the best means at deletion, and the speckles of SmoothGrad at
# insertion. One reason can be the replacement itself: holes are a texture that the network has
# never seen, and the probability may fall because of the holes, not because of what they hide.
# *random* measures this: the earlier its deletion curve falls, the more fragile is the network, and
# the less a fast fall proves.
#
# Now take out what you wrote down in section 8. Where does your choice stand in this table, and by
# which column would you have been right?

# %% [markdown]
# ## 12. The protocol decides
#
# *6 minutes.* "Deletion" is not one measure. What does a deleted pixel show: the mean color,
# black, its neighbors? How many pixels go at a time? Is the probability recorded, or the logit?
# Each tool has chosen for you. Here are the same maps under four protocols: ours, that of RISE's
# authors, that of Xplique (a library for TensorFlow), and ROAD's way of filling in.

# %%
few = slice(0, 16)
protocols = {
    "ours\n(mean color)": "practical",
    "RISE\n(ImageNet's mean)": "rise",
    "Xplique\n(black, logit)": "xplique",
    "ROAD's pixels\n(interpolated)": "road",
}
deleted = {
    label: {
        method: np.mean(
            metrics.deletion(
                model, measured.images[few], measured_targets[few], heat[few], protocol=protocol
            ).auc
        )
        for method, heat in explained.items()
    }
    for label, protocol in protocols.items()
}
places = pd.DataFrame(deleted).rank()  # 1: the lowest area, the best
_, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for method, place in places.iterrows():
    (line,) = ax.plot(range(len(protocols)), place, "o-")
    ax.text(len(protocols) - 0.93, place.iloc[-1], method, color=line.get_color(), va="center")
ax.set_xticks(range(len(protocols)), list(protocols))
ax.set(xlim=(-0.2, len(protocols)), ylabel="place (1 is best)", title="Who wins at deletion?")
ax.invert_yaxis()
plt.show()
for control in ("edges", "center"):
    behind = [
        method
        for method in places.index.difference(controls)
        if (places.loc[method] > places.loc[control]).all()
    ]
    print(f"{control} is ahead of {' and '.join(behind) or 'no method'} under all four protocols.")

# %% [markdown]
# **What you should see.** Lines that cross. Where neighbors swap places it may be chance: these are
# 16 images, and section 11 showed how wide the intervals are. But a method that goes from the first
# places to the sixth or eighth would be praised in one paper and dismissed in another, on the same
# network, images and maps. If two lines do not cross, the order of these two methods does not
# depend on the protocol. That does not make it a success: look at the printed lines, and at which
# methods *center*, which does not use the network, is ahead of. Report the protocol and the
# controls with every result.

# %% [markdown]
# **Question 1.E (3 points).** You have to choose one method for a network of your own, and to
# defend the choice with two numbers. Which method, which numbers, with which protocol and which
# control, and what could still make them mislead?

# %% [markdown]
# **Your answer to question 1.E** (double-click and write below this line): <!-- answer 1.E -->
#
# ### BEGIN SOLUTION
# Any method that the tables support, for a stated reason. A good answer names a measure of each
# kind (localisation where the truth is known, or deletion and insertion, or ROAD), the protocol
# (what replaces a pixel, how many at a time, probability or logit), an interval, and a control
# (random, center, edges) that the method beats. What can mislead: replaced pixels make images that
# the network has never seen; localisation assumes that the network looks at the object; a few
# images; many methods compared without correction.
# ### END SOLUTION

# %% [markdown]
# ## 13. What do the filters look for?
#
# *20 minutes.* A heatmap shows *where* in one image. Another question is *what*: which patterns
# does the network look for, in any image? Its filters can be read directly (here, a *filter* means
# the 3×3 weights that connect one input channel to one output channel), but a picture of one filter
# tells little, and a network has tens of thousands or more. So describe each filter by its
# components. Nine **basis filters** $b_k$, those of the discrete cosine transform (DCT), make up
# every 3×3 filter $w$ as $w = \sum_k \langle w, b_k \rangle\, b_k$: a constant, waves from left to
# right, waves from top to bottom, and their products. How much of each is in a whole layer is the
# layer's **energy** at $b_k$; all nine of them are its **spectrum**:
#
# $$ e_k = \sum_{w} s_w\, |\langle w, b_k \rangle| . $$
#
# (Magnitudes, not squares.) The weight $s_w$ is how much the filter $w$ counts: all filters the
# same, or each by its **saliency**, how strongly the logit depends on the filter's values.
# (ExplainFix: Gaudio et al., 2022.)

# %% [markdown]
# ### Exercise 1.10: the basis
#
# **4 points · ★★★ · 12 minutes**
#
# Write `dct_basis`: the basis filters for any `size`, $n$ below, each with the length 1.
#
# 1. Wave $k$ is $\cos\big(\frac{\pi}{n} k (i + \frac12)\big)$ at $i = 0, \ldots, n - 1$, divided by
#    its length.
# 2. Basis filter number $k n + l$ has wave $k$ from top to bottom, and wave $l$ from left to right.
#
# <details><summary>Hint 1</summary>
#
# `np.cos(np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5))` holds the waves in its
# rows.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.linalg.norm(waves, axis=1, keepdims=True)` is their length.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.einsum('ki,lj->klij', waves, waves)` has all outer products; a `reshape` makes one axis of the
# first two.
#
# </details>


# %%
def dct_basis(size):
    """Return the orthonormal basis of the discrete cosine transform: (size * size, size, size)."""
    ### BEGIN SOLUTION
    waves = np.cos(np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return np.einsum("ki,lj->klij", waves, waves).reshape(size * size, size, size)
    ### END SOLUTION


# %%
dct_basis = check("1.10", dct_basis)

# %%
# From here on in another order, from the coarsest to the finest.
basis = dct_basis(3)[explainfix.diagonal_order((3, 3))]
plotting.plot_images((1 + basis[..., None].repeat(3, -1)) / 2, [f"b{k}" for k in "₀₁₂₃₄₅₆₇₈"])
plt.suptitle("What 3×3 filters are made of")
plt.show()

# %% [markdown]
# **What you should see.** Nine patterns. $b_0$ is constant, $b_1$ changes from left to right and
# $b_2$ from top to bottom; to the right they become finer, and $b_8$ changes from pixel to pixel.

# %% [markdown]
# ### Exercise 1.11: the spectrum of a layer
#
# **3 points · ★★☆ · 6 minutes**
#
# Write `filter_spectrum`, where all filters count the same: $s_w$ is one over their number.
# `kernels` (h, w, I, O) holds a filter for each pair of an input and an output channel, `basis`
# (K, h, w) the basis filters.
#
# 1. Get the product of each filter with each basis filter.
# 2. Take the magnitudes.
# 3. Average over all filters: (K,).
#
# <details><summary>Hint 1</summary>
#
# The product of a filter and a basis filter is a sum over rows and columns: an einsum that drops h
# and w, and keeps i, o and k.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Magnitude first, then the mean.
#
# </details>


# %%
def filter_spectrum(kernels, basis):
    """Return the mean magnitude of the filters' part of each basis filter: (K,)."""
    ### BEGIN SOLUTION
    return np.abs(np.einsum("hwio,khw->iok", kernels, basis)).mean(axis=(0, 1))
    ### END SOLUTION


# %%
filter_spectrum = check("1.11", filter_spectrum)

# %%
trained = explainfix.filter_spectra(model)  # of all layers at once
explainfix.plot_spectra(
    trained, share=True, bars=False, title="What each layer's filters are made of"
)
plt.show()

# %% [markdown]
# **What you should see.** A column is a layer, a row a basis filter, drawn at its left; the gray
# bars add up the rows. Each column is divided by its sum. The first layer has larger filters, and
# so more and finer basis filters, each with a small share.
#
# Is this what the network has learned? Random filters have a spectrum, too. And do the filters that
# the logit depends on have a different spectrum from the rest?

# %% [markdown]
# ### Exercise 1.12: weighted by saliency
#
# **3 points · ★★☆ · 6 minutes**
#
# Write `saliency_spectrum`. A filter's weight $s_w$ is the sum over its values of the magnitude of
# the logit's slope with respect to them; `slopes` has the shape of `kernels`. Do not normalize the
# weights.
#
# 1. Get the magnitudes of the products, as in 1.11.
# 2. Get each filter's weight.
# 3. Add up weight times magnitude over all filters: (K,).
#
# <details><summary>Hint 1</summary>
#
# Reduce the magnitudes of the slopes over rows and columns first: (I, O).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.einsum('io,iok->k', weights, parts)`, where `parts` are the magnitudes of the products of
# 1.11.
#
# </details>


# %%
def saliency_spectrum(kernels, slopes, basis):
    """Return the spectrum with each filter weighted by its saliency: (K,)."""
    ### BEGIN SOLUTION
    weights = np.abs(slopes).sum(axis=(0, 1))
    parts = np.abs(np.einsum("hwio,khw->iok", kernels, basis))
    return np.einsum("io,iok->k", weights, parts)
    ### END SOLUTION


# %%
saliency_spectrum = check("1.12", saliency_spectrum)

# %%
of_size_3 = [layer for layer in trained.layers if trained.shapes[layer] == (3, 3)]
shown_layers = [of_size_3[0], of_size_3[len(of_size_3) // 2], of_size_3[-1]]
kernels = {layer: model.kernels()[layer] for layer in shown_layers}
random_filters = explainfix.initialise_spatial(model, "kaiming", key=key).kernels()


def logit(kernels, image, target):
    """Return the target's logit as a function of some layers' filters."""
    return model.replace_kernels(kernels)(image[None])[0, target]


drawn_spectra = {
    "random filters": [filter_spectrum(random_filters[layer], basis) for layer in shown_layers],
    "trained": [filter_spectrum(kernels[layer], basis) for layer in shown_layers],
}
for i in range(2):
    kernel_slopes = jax.grad(logit)(kernels, images[i], targets[i])
    drawn_spectra[f"trained, by the saliency of image {i + 1}"] = [
        saliency_spectrum(kernels[layer], kernel_slopes[layer], basis) for layer in shown_layers
    ]
styles = ("C0o-", "C1o-", "C2x--", "C3x--")
_, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for (label, spectra), style in zip(drawn_spectra.items(), styles, strict=True):
    for ax, layer, energy in zip(axes, shown_layers, spectra, strict=True):
        ax.plot(energy / energy.sum(), style, ms=5, lw=1, label=label)
        ax.set(title=layer, xlabel="basis filter $b_k$")
axes[0].set(ylabel="share of the layer's energy", ylim=(0, None))
axes[-1].legend(fontsize=8)
plt.show()

# %% [markdown]
# **What you should see.** Random filters have nearly the same share of every pattern. Training
# moved energy from the fine patterns to the coarse ones; on `shapes` the last layer is the extreme
# case. Weighting filters by saliency changes little, and two images give nearly the same spectrum:
# a weighted mean over thousands of filters is close to the plain one, unless the salient filters
# look different, and here they hardly do. These spectra describe the network, not the image.
#
# ### Does the data decide the direction?
#
# Waves from left to right ($b_1$) and from top to bottom ($b_2$) are two patterns. Which does a
# network prefer, and why? Try it on a small one, which learns to tell 2, 5 and 9 **stripes** apart.
# Train it twice: on vertical stripes, then on horizontal ones.


# %%
def stripes(horizontal: bool, count: int = 512) -> data.Dataset:
    """Return noisy images of 2, 5 or 9 stripes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count).astype(np.int32)
    waves = np.array([2, 5, 9])[labels, None] * np.linspace(0, 1, 32)
    brightness = 0.5 + 0.25 * np.sin(2 * np.pi * (waves + rng.random((count, 1))))
    noisy = brightness[:, None] + rng.normal(0, 0.15, (count, 32, 32))
    images = (noisy.swapaxes(1, 2) if horizontal else noisy)[..., None].repeat(3, -1)
    return data.Dataset(images.clip(0, 1).astype(np.float32), labels, ("2", "5", "9"))


def directions(network) -> tuple[float, float]:
    """Return the first layer's energy in waves from left to right, and from top to bottom."""
    grid = explainfix.filter_spectra(network).grid("conv1")
    return grid[0, 1:].sum(), grid[1:, 0].sum()


examples = {"vertical": stripes(horizontal=False), "horizontal": stripes(horizontal=True)}
start = new_resnet(
    ("2", "5", "9"), key=key, stage_sizes=(1,), widths=(8,), stem_width=8, stem_stride=1
)
energies = {"random filters": directions(start)}
for direction, striped in examples.items():
    learned = training.fit(
        start, striped, epochs=6, batch_size=32, learning_rate=5e-3, augment="none", progress=False
    )
    energies[f"trained on\n{direction} stripes"] = directions(learned.model)

_, (first, second, ax) = plt.subplots(
    1, 3, figsize=(9, 3), layout="constrained", width_ratios=(1, 1, 3)
)
plotting.plot_images(
    [striped.images[0] for striped in examples.values()], list(examples), axes=[first, second]
)
pd.DataFrame(energies, index=["left to right", "top to bottom"]).T.plot.bar(ax=ax, rot=0)
ax.set(ylabel="energy", title="Waves in the first layer's filters", ylim=(0, 1.3))
ax.legend(fontsize=8, ncols=2)
plt.show()

print("Energy left to right divided by energy top to bottom, in the first layer")
for label, (across, down) in energies.items():
    print(f"  {label.replace(chr(10), ' ')}: {across / down:.2f}")
by_chance = []
for i in range(20):
    untrained = explainfix.initialise_spatial(model, "kaiming", key=jax.random.fold_in(key, i))
    across, down = directions(untrained)
    by_chance.append(across / down)
across, down = directions(model)
print(f"  your network: {across / down:.2f}")
print(f"  your network with random filters, 20 times: {min(by_chance):.2f} to {max(by_chance):.2f}")

# %% [markdown]
# **What you should see.** The same network, from the same random filters: vertical stripes, whose
# brightness changes from left to right, leave about twice as much energy in the waves from left to
# right, and horizontal ones about twice as much in the others. Random initialization alone makes
# the two directions differ, within the range of the last printed line. A ratio far outside of this
# range comes from training, and as with the stripes, from the direction of patterns in the
# **data**. Compare with the ratio of your network. In `shapes` the objects are turned at random, so
# nothing in them prefers a direction; the network's ratio is at the edge of the range or a little
# outside, and far from that of the stripes. One network cannot tell whether such a small difference
# is chance: train it again from other random filters to find out. Photographs have a horizon,
# trunks and walls, so a network that was trained on them may well prefer a direction.
#
# ### Which patterns does a class need?
#
# Energy is what is there, not what is needed. To measure need, take something away: remove one
# basis filter's part from all 3×3 filters, and see what the network no longer tells apart. Counting
# correct predictions for each class would mislead: a broken network may call everything *arrow*,
# and would be right on all arrows. So ask, for each class: how often is the class more probable in
# an image *of* it than in an image of another? 1 means always, 0.5 is chance. (The area under the
# ROC curve.)

# %%
recognized = dataset.select(slice(0, 160))


def separation(network) -> np.ndarray:
    """Return each class's area under the ROC curve, and the accuracy after them."""
    scores = np.asarray(jax.nn.log_softmax(predict(network, recognized.images)))
    roc_areas = []
    for c in range(len(model.class_names)):
        own = recognized.labels == c
        wins = scores[own, c][:, None] > scores[~own, c]
        roc_areas.append((wins + 0.5 * (scores[own, c][:, None] == scores[~own, c])).mean())
    return np.array([*roc_areas, (scores.argmax(1) == recognized.labels).mean()])


whole = separation(model)
reduced = np.stack([separation(explainfix.zero_frequencies(model, [k])) for k in range(9)], 1)
lost = whole[:, None] - reduced
_, ax = plt.subplots(figsize=(7, 4), layout="constrained")
shades = ax.imshow(lost[:-1], cmap="Reds", vmin=0, vmax=0.5, aspect="auto")
ax.set_xticks(range(9), [f"$b_{k}$\n{accuracy:.0%}" for k, accuracy in enumerate(reduced[-1])])
ax.set_yticks(range(len(model.class_names)), model.class_names, parse_math=False)
ax.set(
    xlabel="taken out of all 3×3 filters, and the accuracy without it",
    title=f"Separation lost (accuracy with all of them: {whole[-1]:.0%})",
)
plt.colorbar(shades, label="area under the ROC curve lost")
plt.show()
for k in np.argsort(-lost[-1])[:5]:
    most = np.argsort(-lost[:-1, k])[:3]
    classes_lost = ", ".join(f"{model.class_names[c]} {lost[c, k]:.2f}" for c in most)
    print(f"without b_{k}: {100 * lost[-1, k]:.0f} points of accuracy lost, most by {classes_lost}")

# %%
shape, coarse = trained.shapes["conv1"], 10
fine = range(coarse, shape[0] * shape[1])
energy = trained["conv1"].ed
for removed, gone in {
    f"the {len(fine)} finest of {len(energy)} patterns": fine,
    "only b_1": [1],
}.items():
    accuracy = separation(explainfix.zero_frequencies(model, gone, shape=shape))[-1]
    share = energy[np.array(gone)].sum() / energy.sum()
    print(f"First layer, {removed} removed ({share:.0%} of the energy): accuracy {accuracy:.1%}")

# %% [markdown]
# **What you should see.** Without the constant ($b_0$) the network is at chance. On `shapes` the
# coarsest waves, $b_1$ and $b_2$, come next, and not for all classes alike: the ring, which has no
# direction, loses nothing. The product of the two, $b_5$, costs about twenty points as well, and
# the class *square* loses most by it. Every other pattern costs a few points at most, the finest
# ones among them. The two lines below the figure show the same for the first layer: the patterns
# beyond the ten coarsest hold most of its energy, and removing them costs almost no accuracy, while
# removing one coarse wave with little energy costs much more. (The fine patterns may be left over
# from the random initialization; how would you test that?) **Much energy is not importance**, just
# as a bright pixel in a heatmap is not yet a reason.
#
# ### How many filters does it need at all?
#
# Deletion once more, with filters instead of pixels: set filters to 0, and watch the accuracy. A
# filter's saliency is here $\sum |w \cdot \partial f_c / \partial w|$ over its values. The control
# is the filter's size, the norm of its values, which needs no image and no gradient.

# %%
saliency_of_filters = explainfix.filter_saliency(model, measured.images, measured.labels)
sizes = explainfix.filter_norms(model)
orders = {
    "least salient first": (saliency_of_filters, "least_salient"),
    "smallest first": (sizes, "least_salient"),
    "in random order": (sizes, "random"),
    "most salient first": (saliency_of_filters, "most_salient"),
}
percents = (0, 10, 20, 30, 40, 50, 60, 80)
_, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
accuracies = {}
for label, (ranking, first) in orders.items():
    zeroed = [
        explainfix.zero_filters(model, ranking, percent, first=first, key=key)
        for percent in percents
    ]
    accuracies[label] = [separation(network)[-1] for network in zeroed]
    ax.plot(percents, accuracies[label], "o-", ms=4, label=label)
ax.axhline(1 / len(model.class_names), color="0.7", ls=":", label="chance")
ax.set(xlabel="filters set to 0 (%)", ylabel="accuracy", ylim=(0, 1.02))
ax.legend(fontsize=8)
plt.show()

pruned = explainfix.channel_prune(model, measured.images, measured.labels, 30)
for cost in ("parameters", "flops"):
    after, before = getattr(pruned.after, cost), getattr(pruned.before, cost)
    print(f"30 % of the filters gone; {cost} left: {after / before:.0%}")
pd.DataFrame(accuracies, index=[f"{percent} %" for percent in percents]).T.round(2)

# %% [markdown]
# **What you should see.** On `shapes` a fifth of the filters can be removed almost without loss,
# and a third with a small loss, if they are the least salient. Removed at random, the same numbers
# of filters cost much or nearly all of the accuracy, and removing the most salient tenth brings the
# network to chance. Saliency therefore gives a useful ranking of filters. But ranking them by their
# size is about as good up to 40 % and better at 50 and 60 % (see the table), and it needs neither
# images nor gradients: without this control you would have praised the wrong thing.
#
# The network hardly gets smaller by it, in parameters or in floating-point operations (flops): a
# channel can only be removed when *all* its filters are 0. `docs/explainfix.md` continues from
# here: how to prune more and fine-tune, and networks whose filters are never learned at all.

# %% [markdown]
# ## 14. Try it yourself
#
# *4 minutes.* Choose an image, the class to explain, a method and its options, and see the map with
# its two curves. Can you find an image on which the method that you believed in section 8 is worse
# than noise?

# %%
widgets.explore(model, images, model.class_names)

# %% [markdown]
# ## 15. What to conclude
#
# *2 minutes.*
#
# - **Every map answers a question of its own.** Occlusion: what if this were hidden? Saliency: what
#   if this changed a little? SmoothGrad: the same, in the neighborhood? Gradient × input and
#   integrated gradients: how much did this contribute, compared with a baseline? Grad-CAM: which
#   places of the last layer raised the logit of the class? A map without its question is a picture.
# - **A baseline is part of the answer.** State it, and try another.
# - **Check what can be checked.** Completeness is a test that costs two forward passes. Deletion
#   and insertion cost a few dozen. Destroying the network costs one map per layer, and reveals maps
#   that do not depend on it. Controls cost nothing.
# - **A measure has a protocol**, and a result without it is not a result. Where measures disagree,
#   report it; where the truth is known, use it.
# - **What is there is not what is needed.** A spectrum shows which patterns are in the filters.
#   Only removing them shows which the network needs, and only a control shows whether the ranking
#   was worth its price.
# - **Looking right and being right are different.** You compared your own choice from section 8
#   with the measurements. If they agreed, it was the measurements that proved it, not your eye.
#
# To explain a picture of your own, set its path here and run the cell.

# %%
OWN_PICTURE = None  # for example "holiday.jpg"

if OWN_PICTURE:
    own = load_image(OWN_PICTURE, image_size=side)[None]
    answer = jax.nn.softmax(predict(model, own))
    best = np.argmax(answer, axis=1)
    title = f"{model.class_names[best[0]]} {answer.max():.1%}"
    plotting.plot_methods(own, explain(own, best), [title])
plt.show()

# %% [markdown]
# ### References
#
# - Zeiler and Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014
#   (occlusion).
# - Simonyan, Vedaldi and Zisserman, *Deep Inside Convolutional Networks*, ICLR workshop 2014
#   (saliency).
# - Shrikumar, Greenside, Shcherbina and Kundaje, *Not Just a Black Box*, arXiv:1605.01713, 2016
#   (gradient × input).
# - Sundararajan, Taly and Yan, *Axiomatic Attribution for Deep Networks*, ICML 2017 (integrated
#   gradients, completeness).
# - Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based
#   Localization*, ICCV 2017.
# - Petsiuk, Das and Saenko, *RISE: Randomized Input Sampling for Explanation of Black-box Models*,
#   BMVC 2018 (deletion and insertion).
# - Smilkov et al., *SmoothGrad: Removing Noise by Adding Noise*, arXiv:1706.03825, 2017.
# - Springenberg et al., *Striving for Simplicity: The All Convolutional Net*, ICLR workshop 2015
#   (guided backpropagation).
# - Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018.
# - Arias-Duart et al., *Focus! Rating XAI Methods and Finding Biases*, FUZZ-IEEE 2022 (mosaics).
# - Gaudio et al., *ExplainFix: Explainable Spatially Fixed Deep Networks*, WIREs Data Mining and
#   Knowledge Discovery, 2022 (spectra).
# - Rong et al., *A Consistent and Efficient Evaluation Strategy for Attribution Methods*, ICML 2022
#   (ROAD).
