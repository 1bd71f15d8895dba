"""Exploring explanations of one image at a time: a panel for notebooks, and its picture."""

from practical.widgets.panel import Panel, explore
from practical.widgets.picture import Explanation, explanation_figure

__all__ = ["Explanation", "Panel", "explanation_figure", "explore"]
