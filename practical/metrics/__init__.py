"""Measures of explanations: `metric(..., heatmaps)` -> one value or curve an image."""

from practical.metrics.faithfulness import Curve, deletion, insertion
from practical.metrics.statistics import Interval, bootstrap_interval

__all__ = ["Curve", "Interval", "bootstrap_interval", "deletion", "insertion"]
