"""How a match is made: by :func:`psalm.tl.match`, and again in the same way by other scores of the same cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from psalm import _access, _cells, _matches, _scores
from psalm.core.checkpoint import keeping
from psalm.core.cost import POSTERIOR
from psalm.core.matching import Cells, match_within
from psalm.core.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.matcher import Matcher
    from psalm.core.matching import TreatmentMatch


class Made(NamedTuple):
    """A match: the coupling, what was found of each block, and what distances were measured in."""

    coupling: Coupling
    found: list[TreatmentMatch]
    scores: list[FloatArray]


@dataclass(frozen=True)
class Recipe:
    """All of a match but the scores.

    Parameters
    ----------
    mdata, names
        The container, and the names of source and target.
    matcher
        The method with its settings.
    cells
        Source and target, without scores.
    propensity_key, refine, use_rep
        As :func:`psalm.tl.match` takes them.
    """

    mdata: MuData
    names: tuple[str, str]
    matcher: Matcher
    cells: tuple[Cells, Cells]
    propensity_key: str
    refine: int
    use_rep: str | Mapping[str, str] | None

    @classmethod
    def make(
        cls,
        mdata: MuData,
        names: tuple[str, str],
        matcher: Matcher,
        codes: tuple[IntArray, IntArray],
        *,
        mass: Any,
        propensity_key: str,
        refine: int,
        use_rep: Any,
    ) -> Recipe:
        """Read masses, noise and, where the method needs them, features; ``codes`` say which block a cell is of."""
        needed = getattr(matcher, "needs_features", False)
        features = _matches.features(mdata, names, use_rep) if needed else (None, None)
        source, target = (
            Cells(
                np.empty((len(code), 0)),
                code,
                _cells.masses(mdata, name, mass, code),
                own,
                _cells.noise(mdata, name, propensity_key),
            )
            for name, code, own in zip(names, codes, features, strict=True)
        )
        return cls(mdata, names, matcher, (source, target), propensity_key, refine, use_rep)

    @classmethod
    def of(cls, mdata: MuData, key: str) -> Recipe:
        """That of a stored match.

        Raises
        ------
        ValueError
            The match was made by a matcher object, which the container does not hold, or by other scores than it has.
        """
        params = _access.run(mdata, key, "tl.match", "match_key")["params"]
        if params["method"] not in METHODS:
            msg = (
                f"The match {key!r} was made by a {params['method']} object, which cannot be made again from the "
                f"container. Match by one of {', '.join(map(repr, METHODS))}."
            )
            raise ValueError(msg)
        if _scores.run(mdata, params["propensity_key"])["fingerprint"] != params["propensity_fingerprint"]:
            msg = f"The scores were computed anew after the match {key!r} was made. Run `tl.match` again."
            raise ValueError(msg)
        settings = {  # files hold lists, matchers tuples
            name: value if np.ndim(value) == 0 else tuple(np.asarray(value).tolist())
            for name, value in params["settings"].items()
        }
        names = str(params["source"]), str(params["target"])
        return cls.make(
            mdata,
            names,
            METHODS[params["method"]](**settings),
            (_matches.blocks_of(mdata, names[0], key), _matches.blocks_of(mdata, names[1], key)),
            mass=params["mass"] or None,
            propensity_key=str(params["propensity_key"]),
            refine=int(params["refined"]),
            use_rep=params.get("use_rep") or None,
        )

    def __call__(self, scores: list[FloatArray], *, checkpoint: str | Path | None = None, **options: Any) -> Made:
        """Match by scores (n_cells, n_columns) of source and target.

        Finished blocks are kept in the folder ``checkpoint``; options are those of ``match_within``.
        """
        matcher = self.matcher if checkpoint is None else keeping(self.matcher, Path(checkpoint))
        first = self.coordinates(scores)
        coupling, found = self._once(first, matcher, options)
        used = first
        for _ in range(self.refine):
            used = _matches.refined(self.mdata, self.names, self.use_rep, coupling, first)
            coupling, found = self._once(used, matcher, options)
        return Made(coupling, found, used)

    def _once(
        self, scores: list[FloatArray], matcher: Matcher, options: dict[str, Callable[..., object]]
    ) -> tuple[Coupling, list[TreatmentMatch]]:
        source, target = self.with_scores(scores)
        return match_within(source, target, matcher, **options)  # type: ignore[arg-type]

    def with_scores(self, scores: list[FloatArray]) -> tuple[Cells, Cells]:
        """Source and target cells with these scores."""
        source, target = (replace(cells, scores=values) for cells, values in zip(self.cells, scores, strict=True))
        return source, target

    def coordinates(self, scores: list[FloatArray]) -> list[FloatArray]:
        """What the cost is computed from: scores, or for "posterior" probabilities."""
        if getattr(self.matcher, "cost", None) != POSTERIOR:
            return scores
        stored = _scores.run(self.mdata, self.propensity_key)
        return [_matches.posterior_of(stored, values) for values in scores]
