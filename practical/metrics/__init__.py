"""Measures of explanations: `metric(..., heatmaps)` -> one value or curve an image."""

from practical.metrics.complexity import entropy, sparseness
from practical.metrics.faithfulness import Curve, deletion, insertion, road
from practical.metrics.localization import (
    Localization,
    focus,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from practical.metrics.protocols import PROTOCOLS, Protocol
from practical.metrics.removal import infidelity, sensitivity_n
from practical.metrics.robustness import max_sensitivity
from practical.metrics.sanity import (
    Randomization,
    Similarity,
    classifier_layers,
    label_randomization,
    parameter_randomization,
    permute_entries,
)
from practical.metrics.statistics import (
    Agreement,
    Comparison,
    Interval,
    bootstrap_interval,
    holm,
    permutation_test,
    rank_agreement,
)

__all__ = [
    "PROTOCOLS",
    "Agreement",
    "Comparison",
    "Curve",
    "Interval",
    "Localization",
    "Protocol",
    "Randomization",
    "Similarity",
    "bootstrap_interval",
    "classifier_layers",
    "deletion",
    "entropy",
    "focus",
    "holm",
    "infidelity",
    "insertion",
    "label_randomization",
    "max_sensitivity",
    "parameter_randomization",
    "permutation_test",
    "permute_entries",
    "pointing_game",
    "rank_agreement",
    "relevance_mass",
    "relevance_rank",
    "road",
    "sensitivity_n",
    "sparseness",
]
