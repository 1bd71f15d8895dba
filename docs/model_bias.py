"""Draw the pictures of docs/model-bias.md, and print its tables: `python docs/model_bias.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

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

line_up = bias.suspects("shapes", "watermark", seed=1, count=800)
members = np.flatnonzero(line_up.clean.labels == line_up.fault.only)[:80]
some = line_up.shown.dataset.select(members)
carries = line_up.shown.masks[members].any((1, 2))
print("| method | faulty: purity | clean: purity | by chance | eigenvalue: faulty | clean |")
print("| --- | --- | --- | --- | --- | --- |")
for name in ("gradient_x_input", "saliency", "integrated_gradients", "grad_cam"):
    purity, eigenvalue = {}, {}
    for place, network in enumerate(line_up.suspects):
        heatmaps = attribution.METHODS[name].heatmap(network, some.images, some.labels)
        groups = bias.cluster_heatmaps(heatmaps, clusters=2)
        purity[place], chance = bias.separation(groups.labels, carries)
        eigenvalue[place] = groups.eigenvalues[1]
    cells = []
    for values in (purity, eigenvalue):
        guilty = values.pop(line_up.faulty)
        cells += [f"{guilty:.2f}", " and ".join(f"{value:.2f}" for value in values.values())]
    print(f"| `{name}` | {cells[0]} | {cells[1]} | {chance:.2f} | {cells[2]} | {cells[3]} |")

table = bias.detection_table(bias.packaged_study())
_, ax = plt.subplots(figsize=(9, 11), layout="constrained")
bias.plot_detection(ax, table)
plt.savefig(DOCS / "model-bias-detection.png", dpi=80)
faults = table["fault"].unique()
print(f"\n| measure | {' | '.join(faults)} |\n| --- |{' --- |' * len(faults)}")
for measure in table["measure"].unique():
    found = table[table["measure"] == measure].set_index("fault")["auroc"]
    cells = [f"{found[fault]:.2f}" if fault in found else "" for fault in faults]
    print(f"| {measure} | {' | '.join(cells)} |")
