"""Preprocessing: shared treatments, and a representation of each modality."""

from psalm.pp._represent import represent
from psalm.pp._treatment import treatment

__all__ = ["represent", "treatment"]
