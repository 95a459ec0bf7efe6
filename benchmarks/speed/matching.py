"""Seconds and memory of psalm's optimal transport beside POT and ott-jax, all at the same error of the marginals.

    python benchmarks/speed/matching.py [--cases 2000-loose blocks ... --rounds 5 --out matching.csv]
    python benchmarks/speed/matching.py --small

Every case runs in a process of its own, on two threads per method. Methods alternate, and psalm runs before every run
of a peer: the ratio is the median of these pairs' quotients, seconds are the median and the least of the rounds. What
takes longer than 20 s is run once; a solver that makes the same iterates as another is timed for 40 iterations, and
the rest added, where it would take longer than a minute. All match the same cells at the same ε, which is given to the
peers and found by psalm. Times run from scores to plan, with the cost matrix; ott-jax's without compilation.

"Error" is the L1 distance of the plan's row and column sums from the marginals, both added, in float64: of the dense
plan that POT returns, of the potentials of psalm and ott-jax. A method gets the loosest threshold, out of the target
times 10^(−k/4), at which its error is at most the target. Looking for it is not timed; POT goes on from its last
potentials meanwhile, and is timed from the start. POT's solvers make the same iterates and share the threshold.

``--small`` takes the cases 2000-loose and exact-2000 in two rounds. Methods of a library that is not installed (ott-jax
and jax are not among psalm's requirements) are in the table, without numbers.

Memory is the highest resident size (``resource.getrusage``) of a fresh process that runs the method, less what it was
once the data were there, torch was loaded (which takes .17 GB by itself) and the method had matched a few cells.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from timing import NOT_INSTALLED, Line, add_out, write

from psalm.core.matcher import Side
from psalm.core.matching import Cells, match_within
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.threads import single_threaded_blas
from psalm.core.tiles import ROWS, WIDEST, _exponentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psalm.core._types import FloatArray

    Solver = Callable[..., "Found"]

DIMENSION, CENTRES, NOISE, PORTION = 50, 10, 0.7, 10_000
THREADS = 2
GRID, STEPS = 10**-0.25, 16
LONG, LONGEST, PAUSE = 20.0, 60.0, 0.1
"""Seconds: what takes longer than the first is run once, than the second extrapolated; for threads to fall asleep."""
MOST_ITERATIONS, FEW_ITERATIONS = 3000, 20
MISSED, BOUND = "not reached", "stopped at its bound of iterations"
FEW_CELLS, MANY_CELLS, SAMPLE = 1_100, 5_000, 20_000
BLOCKS, BLOCK_SIZE, TRIED_BLOCKS = 5_000, 200, 300
TARGET = 1e-3
SMALL, SMALL_ROUNDS = ("2000-loose", "exact-2000"), 2


@dataclass(frozen=True)
class Problem:
    """Cells of both sides, (n, 50) float32, and ε relative to the mean cost and in units of cost."""

    x: FloatArray
    y: FloatArray
    relative: float

    @property
    def epsilon(self) -> float:
        x, y = (side.astype(np.float64) for side in (self.x, self.y))
        mean = (x**2).sum(axis=1).mean() + (y**2).sum(axis=1).mean() - 2 * x.mean(axis=0) @ y.mean(axis=0)
        return float(self.relative * mean)


@dataclass(frozen=True)
class Found:
    """A plan, or potentials in units of cost; where to go on; whether the method found its own criterion met."""

    plan: Any = None
    potentials: tuple[FloatArray, FloatArray] | None = None
    resume: Any = None
    reached: bool = True
    iterations: int = 0
    cost_seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    method: str
    seconds: tuple[float, ...] = ()
    cost_seconds: float = 0.0
    error: float = float("nan")
    threshold: float = float("nan")
    iterations: int = 0
    ratio: float = 1.0
    gigabytes: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A block of n × n cells, and who matches it."""

    n: int
    relative: float
    target: float
    methods: tuple[str, ...]


def cells(n_cells: int, seed: int) -> FloatArray:
    """(n_cells, 50) float32 around 10 centres; in portions, so that making them takes no memory."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION)).astype(np.float32)
    rng, found = np.random.default_rng([1, seed]), np.empty((n_cells, DIMENSION), np.float32)
    for start in range(0, n_cells, PORTION):
        part = found[start : start + PORTION]
        part[:] = centres[rng.integers(CENTRES, size=len(part))]
        part += np.float32(NOISE) * rng.standard_normal(part.shape, dtype=np.float32)
    return found


def problem_of(n_cells: int, relative: float) -> Problem:
    return Problem(cells(n_cells, 0), cells(n_cells, 1), relative)


def psalm(problem: Problem) -> Solver:
    def solve(threshold: float, resume: Any = None, most: int = MOST_ITERATIONS) -> Found:
        matcher = SinkhornMatcher(
            problem.relative, "sqeuclidean", tolerance=threshold, max_iterations=most, memory_mb=512
        )
        match = matcher.match_many([(Side(problem.x), Side(problem.y))], n_threads=THREADS)[0]
        potentials = match.plan.source_potential, match.plan.target_potential
        return Found(potentials=potentials, reached=match.converged, iterations=match.iterations)

    return solve


def pot(library: str, dtype: str, method: str = "sinkhorn", bound: int = MOST_ITERATIONS) -> Callable[..., Solver]:
    """POT on numpy or torch."""

    def prepare(problem: Problem) -> Solver:
        import ot
        import torch

        torch.set_num_threads(THREADS)
        make = np.asarray if library == "numpy" else torch.as_tensor
        x, y = (make(side.astype(dtype)) for side in (problem.x, problem.y))
        a, b = (make(np.full(len(side), 1 / len(side), dtype)) for side in (x, y))
        epsilon = problem.epsilon

        def solve(threshold: float, resume: Any = None, most: int = bound) -> Found:
            start = time.perf_counter()
            cost = ot.dist(x, y)
            spent = time.perf_counter() - start
            plan, log = ot.sinkhorn(
                a, b, cost, epsilon, method=method, numItermax=most, stopThr=threshold, log=True, warn=False,
                warmstart=resume,
            )  # fmt: skip
            last = [make(np.log(np.asarray(log[side]))) for side in ("u", "v")] if "u" in log else None
            iterations = log.get("niter", log.get("n_iter", 0))  # the name differs between POT's solvers
            return Found(plan, None, last, bool(log["err"][-1] <= threshold), iterations, spent)

        return solve

    return prepare


def ott(dtype: str, *, kept: bool = False, scaling: bool = False, **options: float) -> Callable[..., Solver]:
    """ott-jax on a point cloud, or on its cost matrix, made in the same compiled function (``kept``)."""

    def prepare(problem: Problem) -> Solver:
        import jax
        from ott.geometry.geometry import Geometry
        from ott.geometry.pointcloud import PointCloud
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear import acceleration
        from ott.solvers.linear.sinkhorn import Sinkhorn

        epsilon, given = problem.epsilon, dict(options)
        anderson = acceleration.AndersonAcceleration(int(given.pop("memory"))) if "memory" in given else None
        momentum = acceleration.Momentum(**given) if given else None

        def potentials(x: Any, y: Any, solver: Any) -> tuple[Any, ...]:
            geometry = PointCloud(x, y, epsilon=epsilon)
            if kept:
                geometry = Geometry(cost_matrix=geometry.cost_matrix, epsilon=epsilon)
            out = solver(LinearProblem(geometry))
            return out.f, out.g, out.converged, out.n_iters

        run = jax.jit(potentials)
        with jax.enable_x64(dtype == "float64"):
            x, y = (jax.numpy.asarray(side, dtype) for side in (problem.x, problem.y))

        def solve(threshold: float, resume: Any = None, most: int = MOST_ITERATIONS) -> Found:
            solver = Sinkhorn(not scaling, threshold, max_iterations=most, momentum=momentum, anderson=anderson)
            with jax.enable_x64(dtype == "float64"):
                f, g, reached, iterations = jax.block_until_ready(run(x, y, solver))
            return Found(None, (np.asarray(f, float), np.asarray(g, float)), None, bool(reached), int(iterations))

        return solve

    return prepare


METHODS: dict[str, Callable[[Problem], Solver]] = {
    "psalm": psalm,
    "POT, numpy float64": pot("numpy", "float64"),
    "POT, numpy float32": pot("numpy", "float32"),
    "POT, torch float64": pot("torch", "float64"),
    "POT, torch float32": pot("torch", "float32"),
    "POT sinkhorn_log, torch float64": pot("torch", "float64", "sinkhorn_log"),
    "POT sinkhorn_log, torch float32": pot("torch", "float32", "sinkhorn_log"),
    "POT sinkhorn_stabilized, numpy float64": pot("numpy", "float64", "sinkhorn_stabilized", 200),
    "ott default, float32": ott("float32"),
    "ott default, float64": ott("float64"),
    "ott scaling, float32": ott("float32", scaling=True),
    "ott Anderson 5, float32": ott("float32", memory=5),
    "ott momentum, float32": ott("float32", start=30),
    "ott momentum, float64": ott("float64", start=30),
    "ott momentum, cost kept, float32": ott("float32", kept=True, start=30),
    "ott momentum, cost kept, float64": ott("float64", kept=True, start=30),
    "ott scaling 1.5, cost kept, float32": ott("float32", kept=True, scaling=True, value=1.5),
    "ott scaling 1.5, cost kept, float64": ott("float64", kept=True, scaling=True, value=1.5),
}
LOOSE = tuple(name for name in METHODS if "float64" not in name or name == "POT, numpy float64")
TIGHT = tuple(n for n in METHODS if n.endswith("float64") and ("cost kept" in n or n.startswith("POT, ")))
CASES = {
    "2000-loose": Case(2_000, 0.05, TARGET, (*LOOSE, "POT sinkhorn_stabilized, numpy float64")),
    "2000-tight": Case(2_000, 0.05, 1e-6, tuple(name for name in METHODS if "stabilized" not in name)),
    "5000-loose": Case(5_000, 0.05, TARGET, tuple(name for name in LOOSE if "numpy float32" not in name)),
    "5000-soft": Case(5_000, 0.2, TARGET, ("psalm", "POT, torch float32", "ott momentum, cost kept, float32")),
    "5000-tight": Case(5_000, 0.05, 1e-6, ("psalm", *TIGHT, "POT sinkhorn_log, torch float64")),
    "20000": Case(
        20_000, 0.05, TARGET, ("POT, torch float32", "ott momentum, cost kept, float32", "ott momentum, float32")
    ),
    "100000": Case(100_000, 0.05, TARGET, ()),
}


def absent(name: str) -> Row | None:
    """A row that says that a method's library is not installed."""
    needed = ("ott", "jax") if name.startswith("ott") else ("ot", "torch") if name.startswith("POT") else ()
    return None if all(find_spec(library) for library in needed) else Row(name, note=NOT_INSTALLED)


def marginal_error(problem: Problem, found: Found) -> float:
    """L1 of rows and columns; of potentials of very many cells on evenly spaced rows and columns."""
    if found.plan is not None:
        plan = np.asarray(found.plan)
        sums = [plan.sum(axis=axis, dtype=np.float64) for axis in (0, 1)]
        return sum(float(np.abs(s - 1 / len(s)).sum()) for s in sums)
    x, y = (side.astype(np.float64) for side in (problem.x, problem.y))
    f, g = ((p - (s**2).sum(axis=1)) / problem.epsilon for p, s in zip(found.potentials, (x, y), strict=True))
    scale = 2 / problem.epsilon
    return _row_error(scale * x, f, y, g) + _row_error(scale * y, g, x, f)


def _row_error(x: FloatArray, f: FloatArray, y: FloatArray, g: FloatArray) -> float:
    n, most = len(x), SAMPLE if len(y) <= SAMPLE else SAMPLE // 10
    chosen = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    sums = [np.exp(x[rows] @ y.T + f[rows, None] + g).sum(axis=1) for rows in np.array_split(chosen, -(-most // 100))]
    return float(np.abs(np.concatenate(sums) - 1 / n).mean() * n)


def timed(solve: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    time.sleep(PAUSE)
    start = time.perf_counter()
    found = solve(*args)
    return time.perf_counter() - start, found


def attempt(problem: Problem, solve: Solver, row: Row, resume: Any = None) -> tuple[Row, Found]:
    """A run at the row's threshold."""
    seconds, found = timed(solve, row.threshold, resume)
    error, note = marginal_error(problem, found), "" if found.reached else BOUND
    row = replace(row, seconds=(seconds,), cost_seconds=found.cost_seconds, error=error, note=note)
    return replace(row, iterations=found.iterations), found


def search(problem: Problem, solve: Solver, row: Row, target: float) -> Row:
    """A run from the start at the loosest threshold, from the row's on, that does."""
    resume = None
    for _ in range(STEPS):
        row, found = attempt(problem, solve, row, resume)
        if row.error <= target:
            break
        if not found.reached:
            return replace(row, seconds=(), note=MISSED)
        resume, row = found.resume, replace(row, threshold=row.threshold * GRID)
    while row.error > target or resume is not None:
        row, resume = attempt(problem, solve, row)[0], None
        if row.error > target:
            row = replace(row, threshold=row.threshold * GRID)
    return row


def extrapolate(solve: Solver, row: Row) -> Row | None:
    """What a solver takes for the iterations of another that makes the same iterates, if that is long."""
    few, _ = timed(solve, row.threshold, None, FEW_ITERATIONS + 1)
    more, found = timed(solve, row.threshold, None, 2 * FEW_ITERATIONS + 1)
    seconds = few + (more - few) * (row.iterations - FEW_ITERATIONS) / FEW_ITERATIONS
    note = f"extrapolated from {2 * FEW_ITERATIONS} iterations"
    return replace(row, seconds=(seconds,), cost_seconds=found.cost_seconds, note=note) if seconds > LONGEST else None


def start(name: str, problem: Problem, solve: Solver, target: float, like: Row | None) -> Row:
    """A first run of a method, at the threshold that is its own; ``like`` is another that makes the same iterates."""
    row = Row(name, threshold=like.threshold if like else target)
    longer = extrapolate(solve, replace(like, method=name)) if like and "sinkhorn_log" in name else None
    row = longer or search(problem, solve, row, target)
    print(f"    {name}: threshold {row.threshold:.1e}, {row.seconds} s, error {row.error:.2e} {row.note}", flush=True)
    return row


def compare(key: str, rounds: int) -> list[Row]:
    """Times of all methods of a case; one after the other, so many rounds."""
    case = CASES[key]
    problem = problem_of(case.n, case.relative)
    solvers = {name: METHODS[name](problem) for name in case.methods if not absent(name)}
    rows: dict[str, Row] = {}
    for name, solve in solvers.items():
        like = next((row for row in rows.values() if row.method.startswith("POT") and not row.note), None)
        rows[name] = start(name, problem, solve, case.target, like if name.startswith("POT") else None)
    times, spent = {name: [] for name in rows}, {name: [] for name in rows}
    for k in range(rounds):
        for name, row in rows.items():
            if name == "psalm" or not row.seconds or (k > 0 and row.seconds[0] > LONG):
                continue
            own, _ = timed(solvers["psalm"], rows["psalm"].threshold)
            if row.seconds[0] <= LONG:
                seconds, found = timed(solvers[name], row.threshold)
                spent[name].append(found.cost_seconds)
                times[name].append((own, seconds))
            else:
                times[name].append((own, row.seconds[0]))
    every = tuple(own for pairs in times.values() for own, _ in pairs)
    found = [replace(rows["psalm"], seconds=every)]
    for name, pairs in times.items():
        if pairs:
            ratio, cost = median(b / a for a, b in pairs), median(spent[name] or [rows[name].cost_seconds])
            rows[name] = replace(rows[name], seconds=tuple(b for _, b in pairs), ratio=ratio, cost_seconds=cost)
        found += [rows[name]] * (name != "psalm")
    return [*found, *filter(None, map(absent, case.methods))]


def alone(name: str, case: Case, threshold: float) -> Row:
    """Time and memory of one run; meant for a fresh process."""
    import torch

    torch.set_num_threads(THREADS)
    METHODS[name](problem_of(FEW_CELLS, case.relative))(TARGET)
    problem = problem_of(case.n, case.relative)
    solve = METHODS[name](problem)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name.startswith("ott"):
        solve(1e3)  # compiles for this size
    seconds, found = timed(solve, threshold)
    gigabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    error = marginal_error(problem, found)
    note = "" if error <= case.target else "error above the target"
    return Row(name, (seconds,), found.cost_seconds, error, threshold, found.iterations, 1.0, gigabytes, note)


def threshold_of(name: str, case: Case) -> float:
    """Threshold for many cells, from one found with fewer: POT's is an L2 norm, which falls with the cells."""
    problem = problem_of(MANY_CELLS, case.relative)
    row = search(problem, METHODS[name](problem), Row(name, threshold=case.target), case.target)
    return row.threshold * (np.sqrt(MANY_CELLS / case.n) if name.startswith("POT") else 1)


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Result of a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


def compare_large(key: str, rounds: int) -> list[Row]:
    """Every method once, psalm between them; one process each."""
    case, rows, own = CASES[key], [], []
    for name in case.methods:
        missing = absent(name)
        if missing:
            rows.append(missing)
            continue
        own.append(fresh(alone, "psalm", case, case.target))
        row = fresh(alone, name, case, fresh(threshold_of, name, case))
        rows.append(replace(row, ratio=row.seconds[0] / own[-1].seconds[0]))
    while not own or (len(own) < rounds and not any(row.seconds[0] > LONG for row in own)):
        own.append(fresh(alone, "psalm", case, case.target))
    seconds, most = tuple(row.seconds[0] for row in own), max(row.gigabytes for row in own)
    return [replace(own[0], seconds=seconds, gigabytes=most), *rows]


def blocks_of(n_blocks: int) -> tuple[Cells, Cells]:
    codes = np.repeat(np.arange(n_blocks), BLOCK_SIZE)
    return Cells(cells(len(codes), 0), codes), Cells(cells(len(codes), 1), codes)


def psalm_blocks(source: Cells, target: Cells) -> list[Any]:
    matcher = SinkhornMatcher(0.05, "sqeuclidean", tolerance=TARGET, memory_mb=512)
    return match_within(source, target, matcher, n_jobs=THREADS)[1]


def blocks_gigabytes() -> float:
    """Meant for a fresh process."""
    psalm_blocks(*blocks_of(4))
    data = blocks_of(BLOCKS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    psalm_blocks(*data)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20


def pot_blocks(pairs: Sequence[tuple[Any, Any]], threshold: float, n_jobs: int) -> list[Any]:
    """POT in a loop; with two jobs, loops in two threads with one BLAS thread each."""
    import ot
    from joblib import Parallel, delayed

    def one(x: Any, y: Any) -> Any:
        cost = ot.dist(x, y)
        return ot.sinkhorn([], [], cost, 0.05 * float(cost.mean()), stopThr=threshold, numItermax=MOST_ITERATIONS)

    if n_jobs == 1:
        return [one(*pair) for pair in pairs]
    with single_threaded_blas():
        return Parallel(n_jobs=n_jobs, prefer="threads")(delayed(one)(*pair) for pair in pairs)


def compare_blocks(rounds: int) -> list[Row]:
    """5,000 blocks by psalm, 300 of them by POT, whose time is extrapolated."""
    import torch

    torch.set_num_threads(THREADS)
    data = blocks_of(BLOCKS)
    tried = [slice(k * BLOCK_SIZE, (k + 1) * BLOCK_SIZE) for k in range(TRIED_BLOCKS)]
    makers = {
        "POT, numpy float64": (lambda v: v.astype(np.float64), 1),
        "POT, numpy float64, two jobs": (lambda v: v.astype(np.float64), 2),
        "POT, numpy float32": (np.asarray, 1),
        "POT, numpy float32, two jobs": (np.asarray, 2),
        "POT, torch float32": (torch.as_tensor, 1),
    }
    given = {n: ([tuple(make(s.scores[t]) for s in data) for t in tried], jobs) for n, (make, jobs) in makers.items()}

    def worst(plans: Sequence[Any]) -> float:
        pairs = [Problem(*(side.scores[block] for side in data), 0.05) for block in tried]
        return max(marginal_error(p, q) for p, q in zip(pairs, plans, strict=True))

    threshold = TARGET
    while worst([Found(p) for p in pot_blocks(given["POT, numpy float64"][0], threshold, 1)]) > TARGET:
        threshold *= GRID
    psalm_blocks(*blocks_of(4))
    errors, times = {}, {name: [] for name in given}
    for _ in range(rounds):
        for name, (pairs, jobs) in given.items():
            own, matches = timed(psalm_blocks, *data)
            plans = [m.match.plan for m in matches[:TRIED_BLOCKS]]
            errors["psalm"] = worst([Found(potentials=(p.source_potential, p.target_potential)) for p in plans])
            del matches, plans
            seconds, found = timed(pot_blocks, pairs, threshold, jobs)
            times[name].append((own, seconds * BLOCKS / TRIED_BLOCKS))
            errors[name] = worst([Found(p) for p in found])
    own = tuple(own for pairs in times.values() for own, _ in pairs)
    found = [Row("psalm", own, 0.0, errors["psalm"], TARGET)]
    for name, pairs in times.items():
        row = Row(name, tuple(b for _, b in pairs), 0.0, errors[name], threshold)
        ratio, note = median(b / a for a, b in pairs), f"extrapolated from {TRIED_BLOCKS} blocks"
        found.append(replace(row, ratio=ratio, note=note))
    return found


@numba.njit(nogil=True)
def _products(x: FloatArray, chunk: FloatArray, out: FloatArray, times: int) -> None:
    for _ in range(times):
        np.dot(x, chunk, out)


@numba.njit(nogil=True)
def _exponents(rows: FloatArray, g: FloatArray, factor: FloatArray, times: int) -> None:
    for _ in range(times):
        for r in range(len(rows)):
            _exponentials(rows[r], np.float32(-1.0), g, factor)


def rate(function: Callable[..., None], arrays: Callable[[], tuple[FloatArray, ...]], pairs: int, times: int) -> float:
    """Pairs per second of compiled arithmetic on arrays that stay in the cache, two threads."""
    given = [arrays() for _ in range(THREADS)]
    with single_threaded_blas(), ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda a: function(*a, times), given))
        return THREADS * pairs * times / (time.perf_counter() - start)


def one_pass(rounds: int) -> str:
    """Pairs per second of one sweep, and of the products and exponentials that it cannot do without."""
    n, few, more = 20_000, 2, 10
    problem = problem_of(n, 0.05)
    solve = psalm(problem)
    ones = np.ones(WIDEST, np.float32)

    def tile() -> tuple[FloatArray, ...]:
        return problem.x[:ROWS], np.ascontiguousarray(problem.y[:WIDEST].T), np.empty((ROWS, WIDEST), np.float32)

    def rows() -> tuple[FloatArray, ...]:
        return np.ones((4, WIDEST), np.float32), 0 * ones, ones

    rate(_products, tile, 1, 1), rate(_exponents, rows, 1, 1), solve(0.0, None, 1)
    found = []
    for _ in range(2 * rounds):
        products, exponentials = (
            rate(_products, tile, ROWS * WIDEST, 20_000),
            rate(_exponents, rows, 4 * WIDEST, 500_000),
        )
        seconds = timed(solve, 0.0, None, more)[0] - timed(solve, 0.0, None, few)[0]
        found.append(((more - few) * n * n / seconds, products, exponentials))
        print(f"    sweep, products, exponentials: {', '.join(f'{v / 1e9:.2f}' for v in found[-1])} e9/s", flush=True)
    sweep, products, exponentials = (median(values) / 1e9 for values in zip(*found, strict=True))
    share = median(s * (1 / p + 1 / e) for s, p, e in found)
    bound = 1 / (1 / products + 1 / exponentials)
    return (
        f"sweep {sweep:.2f}, products alone {products:.2f}, exponentials alone {exponentials:.2f}, one after the other "
        f"{bound:.2f} billion pairs a second; the sweep reaches {share:.0%} of the latter, {sweep / products:.0%} of "
        f"products, {sweep / exponentials:.0%} of exponentials"
    )


def compare_exact(n: int, rounds: int) -> list[Row]:
    """Exact optimal transport."""
    import ot

    from psalm.core.exact import ExactMatcher

    x, y = cells(n, 0), cells(n, 1)
    wide = x.astype(np.float64), y.astype(np.float64)
    cost = ot.dist(*wide)
    ExactMatcher("sqeuclidean").match_many([(Side(x[:FEW_CELLS]), Side(y[:FEW_CELLS]))], THREADS)
    costs, times = {}, []
    for _ in range(rounds if n <= MANY_CELLS else 1):
        own, found = timed(ExactMatcher("sqeuclidean").match_many, [(Side(x), Side(y))], THREADS)
        costs["psalm"] = float(found[0].plan.mass.multiply(cost).sum())
        seconds, plan = timed(lambda: ot.emd([], [], ot.dist(*wide), numItermax=10**9))
        costs["POT"] = float((plan * cost).sum())
        times.append((own, seconds))
    note = f"cost over POT's, less one: {costs['psalm'] / costs['POT'] - 1:.1e}" + "; not proven" * (
        not found[0].converged
    )
    ratio = median(b / a for a, b in times)
    own, peer = (tuple(seconds) for seconds in zip(*times, strict=True))
    return [Row("psalm", own, note=note), Row("POT emd", peer, ratio=ratio)]


def show(title: str, rows: list[Row]) -> None:
    """Print a table of methods."""
    columns = "method, times psalm's, seconds, least, of these cost matrix, iterations, threshold, error, GB, note"
    print(f"\n{title}\n\n| {columns.replace(', ', ' | ')} |\n{'| --- ' * 10}|")
    for row in rows:
        seconds = (
            [f"{row.ratio:.1f}", f"{median(row.seconds):.3f}", f"{min(row.seconds):.3f}"] if row.seconds else [""] * 3
        )
        known = [
            f"{row.cost_seconds:.3f}" if row.cost_seconds else "",
            f"{row.iterations or ''}",
            *(f"{value:.1e}" if np.isfinite(value) else "" for value in (row.threshold, row.error)),
            f"{row.gigabytes:.3f}" if np.isfinite(row.gigabytes) else "",
        ]
        print(f"| {' | '.join([row.method, *seconds, *known, row.note])} |")
    print(flush=True)


def lines(key: str, rows: list[Row]) -> list[Line]:
    """Rows of the table that all scripts write; a ratio only where there are seconds."""
    found = []
    for row in rows:
        ratio = row.ratio if row.seconds else float("nan")
        note = "; ".join(filter(None, [f"error {row.error:.1e}" if np.isfinite(row.error) else "", row.note]))
        found.append(Line("match", key, row.method, row.seconds, ratio, row.gigabytes, note))
    return found


def run(key: str, rounds: int) -> list[Line]:
    """One case."""
    print(f"{key} ...", flush=True)
    if key == "pass":
        said = fresh(one_pass, rounds)
        print(f"\n{said}\n", flush=True)
        return [Line("match", key, "psalm", note=said)]
    if key == "blocks":
        rows = fresh(compare_blocks, rounds)
        rows[0] = replace(rows[0], gigabytes=fresh(blocks_gigabytes))
        title = f"{BLOCKS} blocks of {BLOCK_SIZE} x {BLOCK_SIZE}, error {TARGET:g}"
    elif key.startswith("exact"):
        n = int(key.removeprefix("exact-"))
        rows, title = fresh(compare_exact, n, rounds), f"exact optimal transport, {n} x {n} cells"
    else:
        case = CASES[key]
        rows = compare_large(key, rounds) if case.n >= SAMPLE else fresh(compare, key, rounds)
        title = f"{case.n} x {case.n} cells, epsilon {case.relative:g} of the mean cost, error {case.target:g}"
    show(title, rows)
    return lines(key, rows)


def main() -> None:
    """Print a table for every case."""
    every = ["2000-loose", "2000-tight", "pass", "blocks", "5000-loose", "5000-soft", "exact-5000", "20000"]
    every += ["100000", "5000-tight", "exact-10000"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*every, "exact-2000"], default=every)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help=f"{' and '.join(SMALL)}, {SMALL_ROUNDS} rounds")
    add_out(parser)
    given = parser.parse_args()
    if given.small:
        given.cases, given.rounds = SMALL, SMALL_ROUNDS
    found = [line for key in given.cases for line in run(key, given.rounds)]
    write(found, given.out)


if __name__ == "__main__":
    main()
