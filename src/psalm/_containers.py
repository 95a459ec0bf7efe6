"""Building containers the same way whichever mudata is installed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def no_pull() -> AbstractContextManager[Any]:
    """Within it, a container's ``obs`` and ``var`` do not repeat the columns of the modalities.

    That is mudata's own behaviour from 0.4 on, where the switch of 0.3 no longer exists.
    """
    import mudata

    switch = getattr(mudata, "set_options", None)
    return nullcontext() if switch is None else switch(pull_on_update=False)


def stack(modalities: dict[str, AnnData]) -> MuData:
    """A MuData of modalities whose cells are told apart, or known to be the same, by name."""
    import mudata

    with no_pull():
        return mudata.MuData(modalities)
