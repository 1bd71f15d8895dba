"""What a network's filters look for: DCT bases and spectra of convolution kernels (ExplainFix)."""

from practical.explainfix.kernels import (
    PolynomialSine,
    dct_basis,
    ghaar,
    ghaar4,
    new_polynomial_sine,
    polynomial_sine,
    steered_dct,
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
    "Interval",
    "PolynomialSine",
    "Spectra",
    "Spectrum",
    "compare_spectra",
    "dct_basis",
    "diagonal_order",
    "energy_spectrum",
    "filter_spectra",
    "ghaar",
    "ghaar4",
    "new_polynomial_sine",
    "polynomial_sine",
    "saliency_spectra",
    "spectra_interval",
    "steered_dct",
]
