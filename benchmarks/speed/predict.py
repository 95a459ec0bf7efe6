"""Training of `tl.predict`'s network: cells a second beside a plain PyTorch loop, and memory with very many cells.

    python benchmarks/speed/predict.py [--rounds 5] [--cells 20000] [--memory 1000000] [--out predict.csv]

Throughput: the same network, the same batches and loss ("mse", a partner looked up for every cell), AdamW, two threads,
alternated in one process; the plain loop has its features as tensors and does nothing else: no validation, no best
epoch, no history. It runs over psalm's network with both heads, and with the one that predicts. All are timed as the
difference between many and few epochs, so that what is done once (draws for 16 epochs, Lightning's start) does not
count; medians.

Memory: synthetic CSR cells × 2,000 features with 5 % entries in both modalities, matched in blocks of 200 × 200;
one epoch of "mse", in a fresh process: highest resident size (``resource.getrusage``) over that with the data in place,
for a tenth of the cells and for all.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
from scipy import sparse
from timing import Line, add_out, write

from psalm._lightning import quiet

N_CELLS, N_INPUTS, N_OUTPUTS, N_HIDDEN, BATCH = 20_000, 50, 50, 128, 256
FEW, MANY = 2, 14
WIDE, DENSITY, BLOCK, PORTION = 2000, 0.05, 200, 50_000


def plan_of(n_cells: int) -> object:
    """Blocks of 200 × 200 cells with uniform mass: what is matched does not matter to the speed."""
    from psalm.core.coupling import Block, Coupling
    from psalm.core.plan import EntropicPlan

    rng, blocks = np.random.default_rng(0), []
    for k, start in enumerate(range(0, n_cells, BLOCK)):
        cells = np.arange(start, min(start + BLOCK, n_cells))
        scores = rng.normal(size=(len(cells), 4))
        zeros = np.zeros(len(cells))
        blocks.append(Block(k, cells, cells, EntropicPlan(scores, scores, zeros, zeros, 10.0, "sqeuclidean")))
    return Coupling(n_cells, n_cells, tuple(blocks))


def pairs_of(inputs: object, targets: object, seed: int = 0) -> object:
    from psalm.core.rows import Rows
    from psalm.model._pairs import pairs_of

    coupling = plan_of(inputs.shape[0])
    codes = np.zeros(len(coupling.blocks), int)
    return pairs_of("mse", (Rows(inputs), Rows(targets)), coupling, (np.ones(inputs.shape[0]), None), codes, seed)


def network(n_inputs: int, n_outputs: int) -> object:
    from psalm.model._network import Network

    options = {"n_hidden": N_HIDDEN, "n_layers": 2, "dropout": 0.1, "likelihood": "gaussian", "log_counts": False}
    return Network((n_inputs,), n_outputs, **options)


def psalm_seconds(pairs: object, epochs: int) -> float:
    from psalm.model import _fit

    schedule = _fit.Schedule(max_epochs=epochs, batch_size=BATCH, early_stopping=False, validation_size=1e-4)
    model = network(N_INPUTS, N_OUTPUTS)
    cells = np.arange(len(pairs.items))
    start = time.perf_counter()
    _fit.prepare(model, pairs, cells, cells)
    _fit.fit(model, pairs, schedule, 0, ["all"], progress=False)
    return time.perf_counter() - start


def plain_seconds(pairs: object, epochs: int, *, heads: int) -> float:
    """Two heads: psalm's network and loss, with the second head, for the spread. One head: what regression needs."""
    from psalm.core.losses import Batch
    from psalm.model._training import losses

    model = network(N_INPUTS, N_OUTPUTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    x, y = torch.as_tensor(pairs.inputs.values), torch.as_tensor(pairs.targets.values)
    one = torch.ones(1, 1)
    start = time.perf_counter()
    for epoch in range(epochs):
        partner = torch.as_tensor(pairs.partners(epoch)[:, 0].astype(np.int64))
        order = torch.randperm(len(x))
        for cells in order.split(BATCH):
            optimizer.zero_grad()
            target = y[partner[cells]]
            if heads == 1:
                loss = ((target - model.location(model.hidden(x[cells]))) ** 2).mean()
            else:
                loss = sum(losses(model, Batch((x[cells],), target, one, target[:, :0], cells)))
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start


def throughput(rounds: int, n_cells: int) -> tuple[str, list[Line]]:
    """A sentence, and rows of the table: seconds of the epochs between few and many."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n_cells, k)).astype(np.float32) for k in (N_INPUTS, N_OUTPUTS))
    pairs, found = pairs_of(x, y), []
    methods = [psalm_seconds, partial(plain_seconds, heads=2), partial(plain_seconds, heads=1)]
    for k in range(rounds + 1):
        seconds = [method(pairs, MANY) - method(pairs, FEW) for method in methods]
        if k > 0:  # the first round warms up
            found.append([(MANY - FEW) * n_cells / value for value in seconds])
    own, both, one = (median(values) for values in zip(*found, strict=True))
    ratios = [median(row[0] / row[k] for row in found) for k in (1, 2)]
    said = (
        f"{own:,.0f} cells a second; a plain loop over the same network {both:,.0f} (ratio {ratios[0]:.2f}), without "
        f"its head for the spread {one:,.0f} (ratio {ratios[1]:.2f}); medians of {rounds} rounds"
    )
    case = f"{MANY - FEW} epochs of {n_cells} cells"
    seconds = ([(MANY - FEW) * n_cells / rate for rate in rates] for rates in zip(*found, strict=True))
    names = ("psalm", "plain PyTorch loop", "plain PyTorch loop, one head")
    quotients, rates = (1.0, *ratios), (own, both, one)
    return said, [
        Line("predict", case, name, tuple(times), ratio, note=f"{rate:,.0f} cells a second")
        for name, times, ratio, rate in zip(names, seconds, quotients, rates, strict=True)
    ]


def cells(n_cells: int, seed: int) -> sparse.csr_matrix:
    """(n_cells, 2000) CSR, made in portions."""
    rng, n_entries = np.random.default_rng(seed), int(DENSITY * WIDE)
    indices = np.empty((n_cells, n_entries), np.int32)
    for start in range(0, n_cells, PORTION):
        part = indices[start : start + PORTION]
        part[:] = np.arange(n_entries) * (WIDE // n_entries) + rng.integers(WIDE // n_entries, size=part.shape)
    data = rng.poisson(1.0, size=indices.size).astype(np.float32)
    data = np.log1p(data, out=data)
    pointers = np.arange(n_cells + 1, dtype=np.int64) * n_entries
    return sparse.csr_matrix((data, indices.ravel(), pointers), shape=(n_cells, WIDE))


def memory(n_cells: int) -> tuple[float, float, float]:
    """Gigabytes of the data, gigabytes that training takes beside them, and seconds; meant for a fresh process."""
    from psalm.model import _fit

    torch.set_num_threads(2)
    x, y = cells(n_cells, 0), cells(n_cells, 1)
    with quiet():
        import scvi.train  # noqa: F401, what libraries take is not the data's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    pairs, model, every = pairs_of(x, y), network(WIDE, WIDE), np.arange(n_cells)
    _fit.prepare(model, pairs, every, every)
    schedule = _fit.Schedule(max_epochs=1, batch_size=1024, validation_size=0.01)
    _fit.fit(model, pairs, schedule, 0, ["all"], progress=True)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    stored = sum(part.nbytes for m in (x, y) for part in (m.data, m.indices, m.indptr))
    return stored / 2**30, more / 2**20, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=N_CELLS, help="of each modality, where speed is compared")
    parser.add_argument("--memory", type=int, default=1_000_000, help="cells of each modality; 0: leave it out")
    add_out(parser)
    given = parser.parse_args()
    torch.set_num_threads(2)
    said, lines = throughput(given.rounds, given.cells)
    print(said, flush=True)
    for n_cells in (given.memory // 10, given.memory) if given.memory else ():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            stored, more, seconds = process.submit(memory, n_cells).result()
        dense = 2 * 4 * n_cells * WIDE / 2**30
        print(
            f"{n_cells:,} cells × {WIDE} in each modality: {stored:.2f} GB stored, {dense:.1f} GB if dense; one epoch "
            f"takes {more:.2f} GB more and {seconds:.0f} s",
            flush=True,
        )
        case, note = f"one epoch of {n_cells} cells x {WIDE} sparse features", f"{stored:.2f} GB of data beside it"
        lines.append(Line("predict", case, "psalm", (seconds,), 1.0, more, note))
    write(lines, given.out)


if __name__ == "__main__":
    main()
