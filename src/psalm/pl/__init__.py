"""Plots of what the tools stored."""

from psalm.pl._agreement import agreement
from psalm.pl._embedding import embedding
from psalm.pl._match import match
from psalm.pl._overlap import overlap
from psalm.pl._propensity import propensity

__all__ = ["agreement", "embedding", "match", "overlap", "propensity"]
