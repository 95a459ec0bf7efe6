"""Data to try psalm on, all with a known truth: simulations, one set without a network, public ones."""

from psalm.datasets._bmmc import bmmc_citeseq
from psalm.datasets._gene_halves import gene_halves
from psalm.datasets._interventional import interventional_images
from psalm.datasets._public import scgem, snareseq
from psalm.datasets._simulated import simulated

__all__ = ["bmmc_citeseq", "gene_halves", "interventional_images", "scgem", "simulated", "snareseq"]
