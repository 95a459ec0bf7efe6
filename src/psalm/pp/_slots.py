"""Writing treatments and strata without losing what is the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from psalm import _obs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mudata import MuData


@dataclass(frozen=True)
class Slot:
    """Columns and a table of one name.

    Parameters
    ----------
    key
        Name of the columns in ``obs`` and of the table in ``uns``.
    mark
        Columns by which a table is known as written by an earlier call.
    table
        What goes to ``uns``; None removes what an earlier call wrote.
    columns
        What goes to ``obs`` of each modality; without a table, the modalities whose columns are removed.
    joint
        What goes to ``obs`` of the container.
    """

    key: str
    mark: Collection[str]
    table: pd.DataFrame | None
    columns: Mapping[str, pd.Series | None]
    joint: pd.Series | None = None

    def check(self, mdata: MuData, read: Collection[str]) -> None:
        """Refuse to overwrite an entry or a column of the user's; ``read`` are the columns that this call reads."""
        if self.table is None:
            return
        if self.key in mdata.uns and not self._is_ours(mdata):
            msg = f"`mdata.uns[{self.key!r}]` is an entry of yours and would be lost. Pass another `key_added=`."
            raise ValueError(msg)
        if self._is_ours(mdata) and self.key not in read:
            return
        for name, column in self.columns.items():
            _refuse_loss(mdata.mod[name].obs, column, self.key, f"mdata[{name!r}]")
        _refuse_loss(mdata.obs, self.joint, self.key, "mdata")

    def write(self, mdata: MuData, read: Collection[str]) -> None:
        """Write, or remove what an earlier call wrote."""
        if self.table is None:
            if self._is_ours(mdata) and self.key not in read:
                self._remove(mdata)
            return
        for name, column in self.columns.items():
            mdata.mod[name].obs[self.key] = column
        if self.joint is not None:
            mdata.obs[self.key] = self.joint
        mdata.uns[self.key] = self.table

    def _is_ours(self, mdata: MuData) -> bool:
        table = mdata.uns.get(self.key)
        return isinstance(table, pd.DataFrame) and set(self.mark) <= set(table.columns)

    def _remove(self, mdata: MuData) -> None:
        for name in self.columns:
            if self.key in mdata.mod[name].obs:
                del mdata.mod[name].obs[self.key]
        del mdata.uns[self.key]


def _refuse_loss(obs: pd.DataFrame, column: pd.Series | None, key_added: str, where: str) -> None:
    """Refuse to overwrite a column of the user's that holds something else."""
    if column is None or key_added not in obs:
        return
    old = _obs.single(obs, key_added, f"{where}.obs").astype(object)
    same = (old.astype(str) == column.astype(object).astype(str)) | (old.isna() & column.isna())
    if not same.all():
        msg = (
            f"`{where}.obs[{key_added!r}]` is a column of yours, and {int((~same).sum())} of its values would be lost. "
            "Pass another `key_added=`, and the same name as `treatment=` to `tl.propensity`."
        )
        raise ValueError(msg)
