"""Plots of what the tools stored."""

from psalm.pl._embedding import embedding
from psalm.pl._match import match
from psalm.pl._propensity import propensity

__all__ = ["embedding", "match", "propensity"]
