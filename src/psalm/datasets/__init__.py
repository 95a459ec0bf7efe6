"""Data to try psalm on, all with a known truth: one simulation, one set without a network, two public ones."""

from psalm.datasets._gene_halves import gene_halves
from psalm.datasets._public import scgem, snareseq
from psalm.datasets._simulated import simulated

__all__ = ["gene_halves", "scgem", "simulated", "snareseq"]
