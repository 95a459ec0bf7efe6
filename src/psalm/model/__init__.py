"""Models of one modality given another."""

from psalm.model._cross_modal import CrossModal

__all__ = ["CrossModal"]
