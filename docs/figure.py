"""Draw the README's picture: `python docs/figure.py` writes docs/methods.png."""

from pathlib import Path

import matplotlib.pyplot as plt

from practical import attribution, load_dataset, load_model, plotting, predict

dataset = load_dataset("shapes")
model = load_model("shapes")
picked = dataset.per_class(1)
images, targets = picked.images, predict(model, picked.images).argmax(1)
given = (model, images, targets)
integrated = attribution.integrated_gradients(*given, baseline="mean")
maps = {
    "occlusion": attribution.occlusion(*given, window=16, stride=4, baseline="mean"),
    "saliency": attribution.saliency(*given),
    "gradient × input": attribution.heatmap(attribution.gradient_x_input(*given)),
    "integrated gradients": attribution.heatmap(integrated),
    "Grad-CAM": attribution.grad_cam(*given),
}
plotting.plot_methods(images, maps, [model.class_names[i] for i in targets])
plt.savefig(Path(__file__).with_name("methods.png"), dpi=80)
