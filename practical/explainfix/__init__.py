"""What a network's filters look for: spectra, filters that are fixed, pruning (ExplainFix)."""

from practical.explainfix.channels import Pruned, remove_channels
from practical.explainfix.fixed import INITIALISATIONS, freeze_spatial, initialise_spatial
from practical.explainfix.kernels import (
    PolynomialSine,
    dct_basis,
    ghaar,
    ghaar4,
    new_polynomial_sine,
    polynomial_sine,
    steered_dct,
)
from practical.explainfix.plotting import plot_basis, plot_comparison, plot_spectra
from practical.explainfix.pruning import (
    channel_prune,
    filter_norms,
    filter_saliency,
    largest_percent,
    zero_filters,
    zero_frequencies,
)
from practical.explainfix.spectra import (
    Interval,
    Spectra,
    Spectrum,
    compare_spectra,
    diagonal_order,
    energy_spectrum,
    filter_spectra,
    saliency_spectra,
    spectra_interval,
)

__all__ = [
    "INITIALISATIONS",
    "Interval",
    "PolynomialSine",
    "Pruned",
    "Spectra",
    "Spectrum",
    "channel_prune",
    "compare_spectra",
    "dct_basis",
    "diagonal_order",
    "energy_spectrum",
    "filter_norms",
    "filter_saliency",
    "filter_spectra",
    "freeze_spatial",
    "ghaar",
    "ghaar4",
    "initialise_spatial",
    "largest_percent",
    "new_polynomial_sine",
    "plot_basis",
    "plot_comparison",
    "plot_spectra",
    "polynomial_sine",
    "remove_channels",
    "saliency_spectra",
    "spectra_interval",
    "steered_dct",
    "zero_filters",
    "zero_frequencies",
]
