"""Draw the pictures of docs/model-bias.md, and print its table: `python docs/model_bias.py`."""

from pathlib import Path

import matplotlib.pyplot as plt

from practical import attribution, bias, load_dataset, plotting

DOCS = Path(__file__).parent

shapes = load_dataset("shapes", count=40).per_class(1)
_, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
for label, (name, ax) in enumerate(zip(bias.ARTEFACTS, axes.flat, strict=True)):
    planted = bias.plant(shapes, bias.Fault(name, only=label)).dataset
    plotting.plot_images(planted.images[label : label + 1], [name], axes=[ax])
plt.savefig(DOCS / "model-bias-artefacts.png", dpi=80)

line_up = bias.suspects("shapes", "colored_patch", seed=1, count=40)
picked = line_up.shown.dataset.per_class(1)
titles = [picked.class_names[label] for label in picked.labels]
maps = {
    f"suspect {name}": attribution.grad_cam(network, picked.images, picked.labels)
    for name, network in zip("ABC", line_up.suspects, strict=True)
}
plotting.plot_methods(picked.images, maps, titles)
plt.savefig(DOCS / "model-bias-lineup.png", dpi=80)

table = bias.detection_table(bias.packaged_study())
_, ax = plt.subplots(figsize=(9, 11), layout="constrained")
bias.plot_detection(ax, table)
plt.savefig(DOCS / "model-bias-detection.png", dpi=80)
wide = table.pivot(index="measure", columns="fault", values="auroc")
wide = wide.loc[table["measure"].unique(), table["fault"].unique()]
print(wide.to_markdown(floatfmt=".2f"))
