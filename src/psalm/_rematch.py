"""A match made again, in the same way, by other scores of the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _cells, _matches, _scores
from psalm.core.cost import POSTERIOR
from psalm.core.matching import Cells, match_within
from psalm.core.methods import METHODS

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.matcher import Matcher


@dataclass(frozen=True)
class Rematch:
    """How a stored match was made.

    Parameters
    ----------
    mdata
        The container.
    params
        Of the match.
    codes
        Of source and target: block of each cell, −1 where it takes no part.
    matcher
        The method with its settings.
    """

    mdata: MuData
    params: dict[str, Any]
    codes: tuple[IntArray, IntArray]
    matcher: Matcher

    @classmethod
    def of(cls, mdata: MuData, key: str) -> Rematch:
        """Read from the container.

        Raises
        ------
        ValueError
            The match was made by a matcher object, which the container does not hold.
        """
        params = _access.run(mdata, key, "tl.match", "match_key")["params"]
        if params["method"] not in METHODS:
            msg = (
                f"The match {key!r} was made by a {params['method']} object, which cannot be made again from the "
                f"container. Match by one of {', '.join(map(repr, METHODS))}."
            )
            raise ValueError(msg)
        settings = {  # files hold lists, matchers tuples
            name: value if np.ndim(value) == 0 else tuple(np.asarray(value).tolist())
            for name, value in params["settings"].items()
        }
        now = _scores.run(mdata, params["propensity_key"])["fingerprint"]
        if now != params["propensity_fingerprint"]:
            msg = f"The scores were computed anew after the match {key!r} was made. Run `tl.match` again."
            raise ValueError(msg)
        codes = _matches.blocks_of(mdata, params["source"], key), _matches.blocks_of(mdata, params["target"], key)
        return cls(mdata, params, codes, METHODS[params["method"]](**settings))

    @property
    def names(self) -> tuple[str, str]:
        """Source and target."""
        return str(self.params["source"]), str(self.params["target"])

    def __call__(self, scores: list[FloatArray]) -> Coupling:
        """The coupling by other scores (n_cells, n_columns) of source and target."""
        use_rep = self.params.get("use_rep") or None
        coupling = self._once(self._coordinates(scores))
        for _ in range(int(self.params["refined"])):
            coupling = self._once(_matches.refined(self.mdata, self.names, use_rep, coupling, scores))
        return coupling

    def _coordinates(self, scores: list[FloatArray]) -> list[FloatArray]:
        if getattr(self.matcher, "cost", None) != POSTERIOR:
            return scores
        stored = _scores.run(self.mdata, self.params["propensity_key"])
        return [_matches.posterior_of(stored, values) for values in scores]

    def _once(self, scores: list[FloatArray]) -> Coupling:
        mass, key = self.params["mass"] or None, self.params["propensity_key"]
        features: tuple[Any, Any] = (None, None)
        if getattr(self.matcher, "needs_features", False):
            features = _matches.features(self.mdata, self.names, self.params.get("use_rep") or None)
        sides = [
            Cells(values, code, _cells.masses(self.mdata, name, mass, code), own, _cells.noise(self.mdata, name, key))
            for name, values, code, own in zip(self.names, scores, self.codes, features, strict=True)
        ]
        return match_within(sides[0], sides[1], self.matcher)[0]
