"""Fused Gromov-Wasserstein matching: scores across modalities, and distances between cells within each."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import sparse

from psalm.core.cost import pairwise
from psalm.core.matcher import Match, Need
from psalm.core.neighbors import marginal_error
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray
    from psalm.core.matcher import Side

ROUNDING = 1e-12
"""Changes of the objective, which is of order one, that are no change."""
SINKHORN_ITERATIONS = 5000
_ONE_AT_A_TIME = Lock()  # Python's record of warnings belongs to the process, not to the thread


@dataclass(frozen=True)
class GromovMatcher:
    """Match by fused Gromov-Wasserstein transport, through POT.

    The plan has the two sides' masses as marginals and minimises
    ``(1 − alpha) Σ G_ij M_ij + alpha Σ (A_ii' − B_jj')² G_ij G_i'j'``: M is the Euclidean distance of scores between
    the modalities, A and B that of features within each, all three divided by their mean over the block. The problem
    is not convex: the plan is a local optimum, reached from the product of the marginals.
    Sources: Vayer et al., ICML 2019 (fused Gromov-Wasserstein, conditional gradient); Peyré, Cuturi and Solomon, ICML
    2016 (with entropy); Flamary et al., JMLR 2021 (POT).

    Parameters
    ----------
    alpha
        Weight of the geometry, 0 to 1: 0 matches by scores only (optimal transport), 1 by geometry only (scores are
        ignored). The same as POT's ``alpha``.
    epsilon
        Strength of the entropy relative to the mean distance of scores; the plan is soft. Small is sharp and slow.
        None: no entropy, by conditional gradient; the plan is sharp, about n + m pairs, and its averages are noisy.
    max_cells
        Largest block: cells of either side. Memory grows with the square, time with the cube.
    max_iterations
        Bound on the outer iterations. A block that stops here is reported as not converged.
    tolerance
        An outer iteration that changes the objective (with entropy: the plan, in Frobenius norm) by less than this,
        relative, is the last. With entropy also the largest L1 error of the target marginal in each of them.
    """

    needs_features: ClassVar[bool] = True

    alpha: float = 0.5
    epsilon: float | None = 0.05
    max_cells: int = 3000
    max_iterations: int = 200
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            msg = f"`alpha` is {self.alpha!r}. Pass a number from 0 (scores only) to 1 (geometry only)."
            raise ValueError(msg)
        for name in ("max_cells", "max_iterations", "tolerance"):
            _positive(name, getattr(self, name))
        if self.epsilon is not None:
            _positive("epsilon", self.epsilon)

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block; both sides need ``features``.

        ``iterations`` of the match are outer ones; ``marginal_error`` is that of the returned plan, both sides
        together; ``epsilon`` and ``mean_cost`` are in units of scores.
        """
        self._refuse_large(len(source), len(target))
        geometry = [_by_mean(pairwise(x, x, "euclidean"))[0] for x in (_features(source), _features(target))]
        cost, mean_cost = _by_mean(pairwise(source.scores, target.scores, "euclidean"))
        problem = (cost, *geometry, *(np.asarray(side.mass, dtype=np.float64) for side in (source, target)))
        plan, iterations, settled = self._sharp(problem) if self.epsilon is None else self._soft(problem)
        epsilon = float("nan") if self.epsilon is None else self.epsilon * (mean_cost or 1.0)
        return Match(
            SparsePlan(sparse.csr_matrix(plan)),
            epsilon,
            iterations,
            marginal_error(plan, source, target),
            settled,
            mean_cost,
        )

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes, in each thread that has one; time grows with the cube of the cells."""
        return Need(float(n_threads * memory_bytes(*shape)), (shape[0] * shape[1]) ** 1.5)

    def _sharp(self, problem: tuple[FloatArray, ...]) -> tuple[FloatArray, int, bool]:
        """Plan, iterations and whether they came to rest, without entropy."""
        from ot.gromov import fused_gromov_wasserstein  # type: ignore[import-untyped,unused-ignore]

        with _complaints() as complaints:
            plan, log = fused_gromov_wasserstein(
                *problem,
                symmetric=True,
                alpha=self.alpha,
                max_iter=self.max_iterations,
                tol_rel=self.tolerance,
                tol_abs=ROUNDING,
                log=True,
            )
        loss = log["loss"]
        change = abs(loss[-1] - loss[-2])
        settled = change < ROUNDING or change < self.tolerance * abs(loss[-1])
        return np.maximum(plan, 0), len(loss) - 1, bool(settled and not complaints)

    def _soft(self, problem: tuple[FloatArray, ...]) -> tuple[FloatArray, int, bool]:
        """Plan, iterations and whether they came to rest, with entropy."""
        from ot.gromov import entropic_fused_gromov_wasserstein  # type: ignore[import-untyped,unused-ignore]

        p, q = problem[3:]
        tolerance = self.tolerance * float(np.linalg.norm(p) * np.linalg.norm(q))
        with _complaints() as complaints:
            plan, log = entropic_fused_gromov_wasserstein(
                *problem,
                epsilon=self.epsilon,
                symmetric=True,
                alpha=self.alpha,
                max_iter=self.max_iterations,
                tol=tolerance,
                log=True,
                numItermax=SINKHORN_ITERATIONS,
                stopThr=self.tolerance / np.sqrt(len(q)),  # POT measures the L2 error
            )
        settled = float(log["err"][-1]) <= tolerance
        iterations = 10 * len(log["err"]) - 9 if settled else self.max_iterations  # POT looks every tenth time
        return plan, iterations, settled and not complaints

    def _refuse_large(self, n_source: int, n_target: int) -> None:
        if max(n_source, n_target) <= self.max_cells:
            return
        gigabytes = memory_bytes(n_source, n_target) / 1e9
        msg = (
            f"A block has {n_source} source and {n_target} target cells; `max_cells` is {self.max_cells} a side. Fused "
            f"Gromov-Wasserstein keeps dense matrices of {n_source} × {n_source}, {n_target} × {n_target} and "
            f"{n_source} × {n_target}: about {gigabytes:.2g} GB here, in time that grows with the cube. Match within "
            "smaller strata, take a sample of the cells, use another method, or set `max_cells` higher."
        )
        raise ValueError(msg)


def memory_bytes(n_source: int, n_target: int) -> int:
    """About the peak memory that a block needs: distances within each side, and a handful of matrices between them."""
    return 8 * (2 * n_source**2 + 2 * n_target**2 + 12 * n_source * n_target)


def _features(side: Side) -> FloatArray:
    if side.features is None:
        msg = (
            "A side has no `features`, and fused Gromov-Wasserstein compares distances between cells within each "
            "modality. Give both sides features (n_cells, n_features), or use a method that needs scores only."
        )
        raise ValueError(msg)
    return side.features


def _by_mean(distances: FloatArray) -> tuple[FloatArray, float]:
    """Distances divided by their mean, and the mean; all zero where it is."""
    mean = float(distances.mean())
    return distances / (mean or 1.0), mean


def _positive(name: str, value: Any) -> None:
    if not value > 0 or not np.isfinite(value):
        msg = f"`{name}` is {value!r}. Pass a number above 0."
        raise ValueError(msg)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what POT warns of, instead of passing it on; warnings of others go their way.

    Blocks take turns, because threads share one record of warnings. To match blocks in parallel, use processes
    (``joblib.parallel_config("loky")``).
    """
    import ot  # type: ignore[import-untyped,unused-ignore]

    folder = Path(ot.__file__).parent
    complaints: list[str] = []
    with _ONE_AT_A_TIME:
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", module=r"ot\.")
            yield complaints
            theirs = [w for w in caught if Path(w.filename).is_relative_to(folder)]
            complaints += [str(w.message) for w in theirs if issubclass(w.category, UserWarning | RuntimeWarning)]
        for warning in caught:
            if not any(warning is other for other in theirs):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
