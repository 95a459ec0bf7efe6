"""The coupling as a matrix in each modality's own cell order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from psalm import _access, _checks, _keys, _matches
from psalm._arguments import checked

if TYPE_CHECKING:
    from mudata import MuData


@checked
def coupling(
    mdata: MuData,
    key: str = _keys.MATCH,
    *,
    via: str | None = None,
    normalize: str | None = None,
    exact: bool = False,
) -> sparse.csr_matrix:
    """Transported mass between source and target cells.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`; possibly read from disk, subset or reordered since.
    key
        ``key_added`` of :func:`psalm.tl.match`.
    via
        ``key_added`` of a second match, between one of the modalities of the first and a third one, each match made in
        either direction. Rows are then the cells that only the first match has, a, and columns those that only the
        second has, c; the modality b that they share is in the middle, ``G_ac = Σ_b G_ab G_bc / Σ_c G_bc``.
        That takes a and c to be independent given the cell in the middle; a direct match asks for no such thing.
        Each cell of a keeps its mass in the first match, what it sends to cells of b that have no partner in c being
        spread over its others; the masses of c are those of the second match only as far as both matches give the cells
        of b the same mass.
    normalize
        None: mass, as stored. "source": each source cell's row sums to 1. "target": each target cell's column does.
    exact
        Recompute every entry from the potentials, where the stored coupling is a compact view.
        Takes memory in the number of pairs within treatments.

    Returns
    -------
    CSR (n_source, n_target) in the order of ``mdata[source].obs_names`` and ``mdata[target].obs_names``;
    with ``via`` (n_a, n_c), which can have as many entries as there are pairs within treatments.

    Raises
    ------
    KeyError
        There is no such coupling.
    ValueError
        The coupling does not fit the cells any more, with what to run again; or the two matches do not share exactly
        one modality, or were made within different treatments or strata.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> mass = psalm.get.coupling(mdata)
    >>> mass.shape, round(float(mass.sum()), 6)
    ((300, 300), 1.0)
    """
    if normalize is not None:
        _checks.one_of("normalize", normalize, ("source", "target"))
    _access.container(mdata)
    if via is not None:
        mass = _composed(mdata, key, via, exact=exact)
    else:
        mass = _matches.coupling(mdata, key).to_csr() if exact else _matches.stored_coupling(mdata, key)
    if normalize is None:
        return mass
    axis = 1 if normalize == "source" else 0
    sums = np.asarray(mass.sum(axis=axis)).ravel()
    scale = sparse.diags(np.divide(1.0, sums, where=sums > 0, out=np.zeros_like(sums)))
    return sparse.csr_matrix(scale @ mass if normalize == "source" else mass @ scale)


def _composed(mdata: MuData, key: str, via: str, *, exact: bool) -> sparse.csr_matrix:
    """Mass between the two modalities that the matches do not share."""
    from psalm.core.compose import compose, compose_entries

    first, second = (_access.run(mdata, name, "tl.match", said) for name, said in ((key, "key"), (via, "via")))
    middle = _shared(first["params"], second["params"], key, via)
    _same_blocks(first, second, key, via)
    flipped = first["params"]["source"] == middle, second["params"]["target"] == middle
    if exact:
        plans = [_matches.coupling(mdata, name) for name in (key, via)]
        return compose(*(plan.transpose if flip else plan for plan, flip in zip(plans, flipped, strict=True))).to_csr()
    entries = [_matches.stored_coupling(mdata, name) for name in (key, via)]
    return compose_entries(*(mass.T.tocsr() if flip else mass for mass, flip in zip(entries, flipped, strict=True)))


def _shared(first: dict[str, Any], second: dict[str, Any], key: str, via: str) -> str:
    """The one modality that two matches share."""
    ends = [(str(params["source"]), str(params["target"])) for params in (first, second)]
    shared = set(ends[0]) & set(ends[1])
    if len(shared) != 1:
        msg = (
            f"The match {key!r} is between {_checks.listed(ends[0])} and `via={via!r}` between "
            f"{_checks.listed(ends[1])}: they share {'both' if shared else 'no'} modalities. Pass two matches that "
            "have exactly one modality in common, a to b and b to c."
        )
        raise ValueError(msg)
    return shared.pop()


def _same_blocks(first: dict[str, Any], second: dict[str, Any], key: str, via: str) -> None:
    """Require that both matches were made within the same treatments and strata."""
    treatments = [str(run["params"]["treatment"]) for run in (first, second)]
    if treatments[0] != treatments[1]:
        msg = (
            f"The match {key!r} was made within obs[{treatments[0]!r}] and `via={via!r}` within "
            f"obs[{treatments[1]!r}]. Run `tl.match` again with scores of the same treatments."
        )
        raise ValueError(msg)
    strata = ["within" in run["table"] for run in (first, second)]
    if strata[0] != strata[1]:
        msg = (
            f"Only the match {(key, via)[strata[1]]!r} was made within strata. "
            "Run `tl.match` again, so that both are made within the same ones."
        )
        raise ValueError(msg)
