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
# A network says *church* and is 99 % sure. **Where in the picture did it look, and how do we know
# that the answer to that question is true?** A heatmap that looks right to us can be wrong about
# the network: it may show what *we* would have looked at. So this practical has two halves. First
# you make heatmaps with five methods and learn what each of them really computes. Then you stop
# judging by eye, and measure.
#
# Afterwards you can
#
# - say in one sentence and one formula what occlusion, saliency, gradient × input, integrated
#   gradients and Grad-CAM compute, and what each is blind to;
# - explain saturation, and why completeness repairs it;
# - measure an explanation with deletion and insertion, and say what that number does not tell.
#
# | | section | minutes |
# | --- | --- | --- |
# | 1 | The question and the model | 10 |
# | 2 | Occlusion: hide it and see | 15 |
# | 3 | Saliency: which pixels matter at all? | 15 |
# | 4 | Gradient × input, and saturation | 20 |
# | 5 | Integrated gradients, and completeness | 20 |
# | 6 | Grad-CAM: what the last layer sees | 10 |
# | 7 | Side by side | 5 |
# | 8 | Deletion and insertion: which one is right? | 20 |
# | 9 | What to conclude | 5 |
#
# You need to know what a convolutional network and a gradient are. Everything that is called here
# is in the package `practical`; `help(attribution.occlusion)`, for example, says what it does, and
# its source is short.

# %% [markdown]
# ## 1. The question and the model
#
# *10 minutes.* The cell below chooses the data. `imagenette` is ten easy classes of ImageNet
# photographs, with a ResNet that was trained on all of ImageNet. `shapes` needs no download: ten
# drawn shapes on cloudy backgrounds, with a small ResNet that comes with the package. In `shapes`
# the background knows nothing of the class, so the right answer to "where is the evidence?" is
# known: on the object. Your own images work as well: `folder:PATH`, with one folder a class, and a
# network of yours.

# %%
import os

DATASET = os.environ.get("PRACTICAL_DATASET", "imagenette")  # or "shapes", or "folder:PATH"
MODEL = os.environ.get("PRACTICAL_MODEL", "shapes" if DATASET == "shapes" else "resnet18")
# Take GPU memory as it is needed, and leave the rest to whoever shares the GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from practical import attribution, load_dataset, load_image, load_model, metrics, plotting, predict

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
plt.suptitle("What the network says about one image of each class, and how sure it is")
plt.show()
# %% [markdown]
# **What you should see.** Ten images, most of them named rightly, many with a confidence near
# 100 %. Where does that confidence come from?
#
# Three conventions hold everywhere below:
#
# - an image is an array of shape (height, width, 3) with values in [0, 1]; the network normalises
#   by itself, so "black" is 0 and means black;
# - we explain the **logit** $f_c(x)$ of the class $c$ that the network predicts, the number before
#   the softmax. A probability can rise because *other* classes fell; a logit speaks of its own
#   class;
# - a heatmap has one number a pixel. Red speaks for the class, blue against it, and the scale next
#   to a row holds for every image in that row.

# %%
targets = predicted
images = picked.images
logits = predict(model, images)
print(f"images {images.shape}, from {images.min():.2f} to {images.max():.2f}")
print(f"logits {logits.shape}; the predicted classes' logits are", logits.max(1).round(1))

# %% [markdown]
# ## 2. Occlusion: hide it and see
#
# *15 minutes.* The most direct question: if I hide this part, how far does the logit fall? Slide a
# square $S$ over the image, paint it in one colour $b$, and record
#
# $$ \text{occlusion}(S) = f_c(x) - f_c(x \text{ with } x_S = b). $$
#
# A pixel's value is the mean over all squares that cover it. There is no gradient and no look
# inside: any black box can be explained this way, and the answer is a measured effect. The price
# is one forward pass for every square (Zeiler and Fergus, 2014).

# %%
side = images.shape[1]
window, stride = side // 4, side // 16
occluded = attribution.occlusion(
    model, images, targets, window=window, stride=stride, baseline="mean"
)

squares = (1 + -(-(side - window) // stride)) ** 2
plotting.plot_methods(
    images, {"occlusion": occluded}, names, units={"occlusion": "fall of the logit"}
)
plt.suptitle(f"Hiding a {window}-pixel square, at {squares} places: where does the logit fall?")
plt.show()
# %% [markdown]
# **What you should see.** Red squares heaped on the objects. Some blue: there, hiding something
# made the network *more* sure.
#
# Two choices went into this picture, and neither came from the network: how large the square is,
# and what it shows. Look at what they do.

# %%
choices = {}
for size in (side // 8, side // 3):
    for colour in ("black", "mean"):
        choices[f"{size} pixels,\n{colour}"] = attribution.occlusion(
            model, images, targets, window=size, stride=size // 2, baseline=colour
        )

plotting.plot_methods(images, choices, names)
plt.suptitle("The same network and images, other squares: occlusion answers the question you ask")
plt.show()
# %% [markdown]
# **What you should see.** A small square hides so little that the network hardly notices, and what
# it does notice are details and edges. A large one says "somewhere here". A black square on a dark
# object hides nothing; on a bright background it is a new dark object with four sharp corners.
# Hiding is never neutral: *every* method that compares "with" and "without" has to say what
# "without" looks like. That colour is called the **baseline**, and it will come back.

# %% [markdown]
# ## 3. Saliency: which pixels matter at all?
#
# *15 minutes.* Occlusion needs hundreds of passes. Calculus does all pixels in one: the derivative
# of the logit with respect to each pixel, by backpropagation to the input,
#
# $$ g = \frac{\partial f_c(x)}{\partial x}, \qquad
#    \text{saliency}_{ij} = \max_k |g_{ijk}| . $$
#
# (Simonyan et al., 2014.) There are three colour channels $k$ a pixel; the paper takes the largest
# magnitude. Another common choice is the length $\|g_{ij}\|_2$, the **gradient norm**.

# %%
gradients = attribution.gradient(model, images, targets)
maps = {
    "gradient,\nsum": attribution.heatmap(gradients, reduce="sum"),
    "saliency,\nmax |g|": attribution.saliency(model, images, targets),
    "gradient\nnorm": attribution.saliency(model, images, targets, reduce="l2"),
}
print("gradient:", gradients.shape, " saliency:", maps["saliency,\nmax |g|"].shape)

unit = "logits per unit"
plotting.plot_methods(images, maps, names, units=dict.fromkeys(maps, unit))
plt.suptitle("One backward pass: how sensitive is the logit to each pixel?")
plt.show()
# %% [markdown]
# **What you should see.** Speckle, denser on and around the object. With the sign kept, red and
# blue alternate from pixel to pixel; without it, maximum and norm look nearly the same.
#
# Read the definition again before you read the picture. The derivative answers "if this pixel
# changed **a little**, how fast would the logit change?". It does not say how much of the logit the
# pixel *contributes*. A pixel that the decision rests on can have a derivative of zero.

# %% [markdown]
# ## 4. Gradient × input, and saturation
#
# *20 minutes.* For a linear model $f(x) = \sum_i w_i x_i$ the contribution of a value is no matter
# of taste: it is $w_i x_i$, and all of them add up to the output. The derivative gives $w_i$;
# multiply by the input:
#
# $$ \text{gradient} \times \text{input} = x_i \, \frac{\partial f_c(x)}{\partial x_i} . $$
#
# (Shrikumar et al., 2016.) A network is not linear, but perhaps nearly so around the image?

# %%
times_input = attribution.heatmap(attribution.gradient_x_input(model, images, targets))
name = "gradient\n× input"
plotting.plot_methods(images, {name: times_input}, names, units={name: "logits"})
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
slopes = (attribution.gradient(model, path, [target] * len(path)) * image).sum((1, 2, 3))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(alphas, along)
left.set(xlabel="α: 0 is black, 1 is the image", ylabel="logit", title=f"Logit of {names[0]}")
right.plot(alphas, slopes)
right.fill_between(alphas, slopes, alpha=0.2, label="area: the whole change of the logit")
right.plot(1, slopes[-1], "o", label="all that gradient × input looks at")
right.axhline(0, color="grey", lw=0.5)
right.set(xlabel="α", ylabel="slope of the logit", title="Its slope along the way")
right.legend(fontsize=8)
plt.show()
# %%
sum_at_image, change = float(slopes[-1]), float(along[-1] - along[0])
print(f"the logit changes by          {change:8.2f}")
print(f"gradient × input adds up to   {sum_at_image:8.2f}")

# %% [markdown]
# **What you should see.** The curve on the left is not straight. Much of its change happens early,
# while the picture is still faint; further on the network has made up its mind and the slope means
# something else, or little: the logit is **saturated**. Gradient × input looks at the slope at
# $\alpha = 1$ alone, the dot on the right, and so its sum is not the change of the logit.
#
# The smallest case in which this goes wrong is worth knowing by heart. Let
# $f(x) = \min(x, 1)$ and let the input be $x = 2$. The output is 1, and all of it is due to $x$.
# But the derivative at 2 is 0, and so is gradient × input: it says that the only input that there
# is does not matter.

# %% [markdown]
# ## 5. Integrated gradients, and completeness
#
# *20 minutes.* The figure above shows the repair: not the slope at the end, but the **area** under
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
# That is **completeness** (Sundararajan et al., 2017). The integral is a weighted sum over `steps`
# points of the path; here they are Gauss and Legendre's, which need far fewer points than equal
# steps.

# %%
integrated = attribution.integrated_gradients(model, images, targets, steps=50)
maps = {name: times_input, "integrated\ngradients": attribution.heatmap(integrated)}
plotting.plot_methods(images, maps, names, units=dict.fromkeys(maps, "logits"))
plt.suptitle("The slope at the image alone, and averaged over the way from black")
plt.show()
# %% [markdown]
# **What you should see.** Both are grainy, but not alike: integrated gradients are larger where
# the object is, and some pixels change sign. Which is right? For once this can be checked without
# a metric: do the contributions add up?

# %%
many = dataset.select(slice(0, 16))
classes = predict(model, many.images).argmax(1)
black = predict(model, np.zeros_like(many.images))
rows = np.arange(len(classes))
change = predict(model, many.images)[rows, classes] - black[rows, classes]
sums = {
    "gradient × input": attribution.gradient_x_input(model, many.images, classes),
    "integrated gradients": attribution.integrated_gradients(model, many.images, classes),
}

_, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
ax.axline((0, 0), slope=1, color="grey", lw=1, label="complete")
for label, values in sums.items():
    ax.plot(change, np.sum(values, axis=(1, 2, 3)), "o", alpha=0.7, label=label)
ax.set(
    xlabel="change of the logit, black to image",
    ylabel="sum of the attributions",
    title="One dot an image: do the attributions\nadd up to what they explain?",
)
ax.legend(fontsize=8)
plt.show()
# %%
table = {}
for steps in (5, 20, 100):
    values = attribution.integrated_gradients(model, many.images, classes, steps=steps)
    error = attribution.completeness_error(model, many.images, classes, values, relative=False)
    table[steps] = {"median error (logits)": np.median(error), "largest": np.max(error)}
pd.DataFrame(table).T.rename_axis("steps").round(4)

# %% [markdown]
# **What you should see.** The dots of integrated gradients lie on the line, those of gradient ×
# input anywhere. More steps make the error small: completeness is the test that tells you whether
# you took enough. When it fails, the map is a wrong number, however fine it looks.
#
# Completeness does *not* make the map unique. The baseline is a choice again:

# %%
baselines = {
    colour: attribution.heatmap(
        attribution.integrated_gradients(model, images, targets, baseline=colour)
    )
    for colour in ("black", "white", "mean", "blur")
}
plotting.plot_methods(images, baselines, names, units=dict.fromkeys(baselines, "logits"))
plt.suptitle("Integrated gradients from four baselines: four complete answers")
plt.show()
# %% [markdown]
# **What you should see.** Four maps, each with a completeness error near zero, that disagree. Each
# answers another question: "why this class *rather than for a black image*", "... *for a blurred
# one*". And a pixel that has the baseline's colour gets exactly 0, whatever it means to the
# network: with black as baseline, nothing black can ever be evidence.

# %% [markdown]
# ## 6. Grad-CAM: what the last layer sees
#
# *10 minutes.* Pixels are the wrong unit for a question such as "the tower or the tree?". The last
# convolutional layer has few, large units, each with a position: feature maps $A^k$. Grad-CAM takes
# how much the logit depends on each map, averaged over its positions, adds the maps up with these
# weights, and keeps what is positive:
#
# $$ w_k = \frac{1}{hw} \sum_{ij} \frac{\partial f_c}{\partial A^k_{ij}}, \qquad
#    \text{CAM}_{ij} = \operatorname{ReLU}\Big(\sum_k w_k A^k_{ij}\Big) . $$
#
# (Selvaraju et al., 2017.) In our ResNets a global average pool and one dense layer follow, and so
# $w_k$ is just the dense layer's weight divided by $hw$: the logit *is* the sum of the map, before
# the ReLU, plus a bias.

# %%
features = model.features(images)
coarse = attribution.grad_cam(model, images, targets, upsample=False)
cam = attribution.grad_cam(model, images, targets)
print("feature maps:", features.shape, " Grad-CAM as computed:", coarse.shape)

tall = np.asarray(coarse).repeat(side // coarse.shape[1] + 1, 1)
tall = tall.repeat(side // coarse.shape[2] + 1, 2)[:, :side, :side]
maps = {"as it is": tall, "upsampled": cam}
plotting.plot_methods(images, maps, names)
plt.suptitle("Grad-CAM as the network has it, and as it is usually shown")
plt.show()

# %% [markdown]
# **What you should see.** Smooth blobs, mostly on the objects. The smoothness comes from the
# interpolation, not from the network: the first row is all that there is, and everything finer in
# the second is drawn by us. A pixel of the first row has seen a far larger part of the image than
# the square that it fills.

# %% [markdown]
# ## 7. Side by side
#
# *5 minutes.* Here are all of them on the same images, and a control that knows nothing of the
# network: noise. Before you go on, **write down which of the maps you believe**, and why.


# %%
def explain(images, targets):
    """Return every method's heatmaps (N, H, W) by name."""
    given = (model, images, targets)
    return {
        "occlusion": attribution.occlusion(*given, window=window, stride=stride, baseline="mean"),
        "saliency": attribution.saliency(*given),
        "gradient\n× input": attribution.heatmap(attribution.gradient_x_input(*given)),
        "integrated\ngradients": attribution.heatmap(attribution.integrated_gradients(*given)),
        "Grad-CAM": attribution.grad_cam(*given),
        "random": jax.random.uniform(jax.random.key(0), images.shape[:3]),
    }


plotting.plot_methods(images, explain(images, targets), names)
plt.suptitle("Five explanations of the same decisions, and noise")
plt.show()
# %% [markdown]
# **What you should see.** The methods disagree, and each of them looks plausible somewhere. Your
# eye prefers maps that fill the object. But the network owes nothing to your eye: it may decide by
# an edge, a corner, or the background, and then the prettiest map is the wrong one.

# %% [markdown]
# ## 8. Deletion and insertion: which one is right?
#
# *20 minutes.* If a map is right about the network, then the pixels that it ranks highest are those
# that the network needs. So take them away, the highest first, and watch the probability of the
# class. A right map makes it **fall fast**: a small area under the **deletion** curve. The other
# way round, put the pixels into an empty image, the highest first: a right map makes the
# probability **rise fast**, a large area under the **insertion** curve (Petsiuk et al., 2018).
#
# Nobody's taste is involved, only the order of the pixels. What stands in for a deleted pixel is a
# choice, once more; here it is the image's mean colour, and for insertion its blur.

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
plt.suptitle("What the network gets to see, and how sure it still is")
plt.show()

# %% [markdown]
# Now every method, on more images, with curves averaged over them. The bands are 95 % bootstrap
# intervals: how far the mean would move with other images of this kind.

# %%
count = min(32, len(dataset))
many = dataset.select(slice(0, count))
classes = predict(model, many.images).argmax(1)
explained = {
    method.replace("\n", " "): heat for method, heat in explain(many.images, classes).items()
}
curves = {
    kind.__name__: {
        method: kind(model, many.images, classes, heat) for method, heat in explained.items()
    }
    for kind in (metrics.deletion, metrics.insertion)
}

_, axes = plt.subplots(1, 2, figsize=(12, 4.2), sharey=True, layout="constrained")
for (kind, by_method), ax in zip(curves.items(), axes, strict=True):
    plotting.plot_curves(by_method, ax=ax)
    ax.set_title(f"{kind.title()}: {'low' if kind == 'deletion' else 'high'} is right")
plt.show()

# %%
summary = {}
for kind, by_method in curves.items():
    for method, curve in by_method.items():
        mean, low, high = map(float, metrics.bootstrap_interval(curve.auc))
        summary.setdefault(method, {})[f"{kind} AUC"] = f"{mean:.3f} ({low:.3f} to {high:.3f})"
        summary[method][kind] = mean
table = pd.DataFrame(summary).T
table["insertion − deletion"] = (table.pop("insertion") - table.pop("deletion")).astype(float)
table.sort_values("insertion − deletion", ascending=False).round({"insertion − deletion": 3})

# %% [markdown]
# **What you should see.** Compare each curve with *random* before you compare it with another
# method: a method whose band touches noise has told you nothing about this network. Then check the
# two rankings against each other, and against what you wrote down in section 7.
#
# Look for a method that does well by one measure and badly by the other. Deletion rewards maps that
# find *some* fragile pixels: scattered deletions are a texture that the network has never seen, and
# it may fall for that reason alone. How early *random* falls tells how fragile this network is.
# Insertion rewards maps that keep a region whole, as Grad-CAM's blobs do. Neither number is the
# truth; a method that wins both, on many images and with more than one baseline, has earned some
# trust.

# %%
few = dataset.select(slice(0, 16))
other = {}
for colour in ("black", "mean", "blur"):
    for kind in (metrics.deletion, metrics.insertion):
        other[f"{kind.__name__}, {colour}"] = {
            method: kind(
                model, few.images, classes[:16], heat[:16], baseline=colour, steps=14
            ).auc.mean()
            for method, heat in explained.items()
        }
pd.DataFrame(other).astype(float).round(3)

# %% [markdown]
# **What you should see.** The same methods under three baselines. If the best method of a column
# changes from baseline to baseline, then "which explanation is right" had no answer without saying
# what "deleted" means. If the order holds, you may report it, with the protocol beside it.

# %% [markdown]
# ## 9. What to conclude
#
# *5 minutes.*
#
# - **Every map answers a question of its own.** Occlusion: what if this were hidden? Saliency: what
#   if this changed a little? Gradient × input and integrated gradients: how much did this
#   contribute, compared with a baseline? Grad-CAM: which places of the last layer spoke for the
#   class? A map without its question is a picture.
# - **A baseline is part of the answer.** Say it, and try another.
# - **Check what can be checked.** Completeness is a test that costs two forward passes. Deletion
#   and insertion cost a few dozen. Noise is a control that costs nothing.
# - **Looking right and being right are two things.** You compared your own choice from section 7
#   with the measurement. If they agreed, it was not your eye that proved it.
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
