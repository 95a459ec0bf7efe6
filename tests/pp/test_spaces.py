import mudata
import numpy as np
import pytest
from anndata import AnnData

import psalm
from psalm._containers import no_pull, stack
from psalm.pp._represent import KINDS


@pytest.fixture
def counts(rng):
    """Counts of 60 cells that hold two components."""
    rates = np.exp(rng.normal(size=(60, 2)) @ rng.normal(size=(2, 30)) / 2 + 1)
    modalities = {"m": AnnData(rng.poisson(rates).astype(np.float32)), "n": AnnData(np.ones((5, 2), np.float32))}
    for name, adata in modalities.items():
        adata.obs_names = [f"{name}{i}" for i in range(adata.n_obs)]
        adata.var_names = [f"{name}_{i}" for i in range(adata.n_vars)]
    return stack(modalities)


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_read_from_a_file_places_cells_where_it_did(counts, tmp_path, kind):
    options = {"max_epochs": 2, "progress": False} if kind == "scvi" else {}
    psalm.pp.represent(counts, "m", kind=kind, n_comps=4, **options)
    with no_pull():
        counts.write_h5mu(tmp_path / "m.h5mu")
        reference = mudata.read_h5mu(tmp_path / "m.h5mu")
        again = counts.copy()
    del again["m"].obsm["X_psalm"]
    psalm.pp.represent(again, "m", kind=kind, n_comps=4, reference=reference)
    np.testing.assert_allclose(again["m"].obsm["X_psalm"], counts["m"].obsm["X_psalm"], atol=1e-5)
    assert again["m"].uns["X_psalm"]["fingerprint"] == counts["m"].uns["X_psalm"]["fingerprint"]
