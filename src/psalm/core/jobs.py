"""Jobs of the joblib backend in force, whatever it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def results(jobs: Iterable[Any], n_jobs: int | None, *, threads: bool = False, ordered: bool = True) -> Iterator[Any]:
    """Results of delayed calls, each as soon as it is there, or all at the end where the backend knows no better.

    Parameters
    ----------
    jobs
        What ``joblib.delayed`` gives.
    n_jobs
        As joblib takes it.
    threads
        Prefer threads where no backend was chosen.
    ordered
        In the order of the jobs, or in that in which they are finished.
    """
    from joblib import Parallel
    from joblib.parallel import get_active_backend

    prefer = "threads" if threads else None
    backend, _ = get_active_backend(prefer=prefer)
    at_once = "generator" if ordered else "generator_unordered"
    # "multiprocessing" hands over nothing before all jobs are done
    return_as = at_once if backend.supports_return_generator else "list"
    yield from Parallel(n_jobs=n_jobs, prefer=prefer, return_as=return_as)(jobs)
