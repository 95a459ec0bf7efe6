"""Propensity scores in the container: written and read here, compressed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _runs
from psalm.core.compression import Basis
from psalm.core.layout import Factor, Layout, one_factor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.core.scoring import Scores

MATRIX_AXES = 2
STEP = "tl.propensity"


@dataclass(frozen=True)
class Kept:
    """What it takes to read scores.

    Parameters
    ----------
    treatments
        Names, in code order.
    layout
        What the columns of log-odds are.
    basis
        Where scores are kept as coordinates.
    """

    treatments: tuple[str, ...]
    layout: Layout
    basis: Basis | None = None

    @property
    def width(self) -> int:
        """Columns of the scores as they are kept."""
        return self.layout.n_columns if self.basis is None else len(self.basis.loadings)

    def log_odds(self, values: FloatArray) -> FloatArray:
        """Log-odds (n_cells, n_columns) of scores as they are kept."""
        values = np.asarray(values, dtype=np.float64)
        return values if self.basis is None else self.basis.expand(values)

    def to_uns(self) -> dict[str, Any]:
        """As entries of ``uns``."""
        found: dict[str, Any] = {"treatments": np.array(self.treatments, dtype=object)}
        if self.layout.factors[0].name:
            found["columns"] = pd.DataFrame(
                [(factor.name, level) for factor in self.layout.factors for level in factor.levels],
                columns=["factor", "level"],
            )
            found["levels"] = np.column_stack([factor.of_treatment for factor in self.layout.factors])
        if self.basis is not None:
            found["basis"] = {
                "loadings": self.basis.loadings.astype(np.float32),
                "offset": self.basis.offset.astype(np.float32),
                "distance_error": self.basis.distance_error,
                "log_odds_error": self.basis.log_odds_error,
            }
        return found


def run(mdata: MuData, key: str, argument: str = "propensity_key") -> dict[str, Any]:
    """What :func:`psalm.tl.propensity` wrote to ``uns``."""
    return _access.run(mdata, key, STEP, argument)


def kept(stored: Mapping[str, Any]) -> Kept:
    """How to read the scores of a run."""
    treatments = tuple(str(name) for name in stored["treatments"])
    layout, basis = one_factor(treatments), None
    if "columns" in stored:
        columns, levels = stored["columns"], np.asarray(stored["levels"])
        names = columns["factor"].astype(str)
        layout = Layout(
            tuple(
                Factor(name, tuple(columns["level"][(names == name).to_numpy()].astype(str)), levels[:, position])
                for position, name in enumerate(names.unique())
            )
        )
    if "basis" in stored:
        parts = stored["basis"]
        errors = float(parts["distance_error"]), float(parts["log_odds_error"])
        basis = Basis(np.asarray(parts["loadings"]), np.asarray(parts["offset"]), *errors)
    return Kept(treatments, layout, basis)


def scores(mdata: MuData, name: str, key: str) -> FloatArray:
    """Scores of one modality as they are stored: log-odds, or coordinates with the same distances."""
    adata = _access.modality(mdata, name)
    if key not in adata.obsm:
        msg = f"`mdata[{name!r}].obsm[{key!r}]` does not exist. Run `tl.propensity` first."
        raise KeyError(msg)
    values = np.asarray(adata.obsm[key])
    known = mdata.uns.get(key, {})
    most = len(known["columns"] if "columns" in known else known.get("treatments", [])) or np.inf
    if values.dtype.kind != "f" or values.ndim != MATRIX_AXES or values.shape[1] > most:
        msg = (
            f"`mdata[{name!r}].obsm[{key!r}]` has shape {values.shape} and type {values.dtype}: these are not the "
            "scores that `tl.propensity` wrote. Run it again."
        )
        raise ValueError(msg)
    _checks.finite(values, f"`mdata[{name!r}].obsm[{key!r}]`", cells=adata.obs_names)
    return values


def claim(adata: AnnData, name: str, key: str, *, written: bool) -> None:
    """Require that scores may be written: slots are free, or (``written``) hold scores already.

    Scores of cells that were scored in another container stand beside their columns; what stands alone is the user's.
    """
    keys = _keys.PropensityKeys(key)
    if written or (keys.scores in adata.obsm and keys.own in adata.obs and keys.response in adata.obs):
        return
    written_columns = (keys.own, keys.response, _keys.run(key))
    columns = [(f"mdata[{name!r}].obs", adata.obs, column) for column in written_columns]
    _access.claim_slots(STEP, [(f"mdata[{name!r}].obsm", adata.obsm, keys.scores), *columns])


def write(adata: AnnData, key: str, found: Scores, treatment: pd.Series | None, run: str) -> None:
    """Write the scores of one modality, own probability and response, and the treatment and run they belong to."""
    keys = _keys.PropensityKeys(key)
    adata.obsm[keys.scores] = found.values
    adata.obs[keys.own] = found.own
    adata.obs[keys.response] = found.response
    adata.obs[keys.noise] = found.noise
    adata.obsm.pop(keys.error, None)
    if found.error is not None:
        adata.obsm[keys.error] = found.error
    _runs.note(adata, key, run)
    if treatment is not None:
        adata.obs[keys.treatment] = treatment
