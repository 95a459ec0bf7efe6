"""Building containers the same way whichever mudata is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from anndata import AnnData
    from mudata import MuData


def no_pull() -> AbstractContextManager[Any]:
    """Within it, a container's ``obs`` and ``var`` do not repeat the columns of the modalities.

    That is the default of mudata 0.4, which the user's own setting may have changed; 0.3 has another switch for it.
    """
    import mudata

    switch = mudata.set_options if hasattr(mudata, "set_options") else mudata.settings.override
    return switch(pull_on_update=False)  # type: ignore[no-any-return]


def stack(modalities: dict[str, AnnData]) -> MuData:
    """A MuData of modalities whose cells are told apart, or known to be the same, by name."""
    import mudata

    with no_pull():
        return mudata.MuData(modalities)
