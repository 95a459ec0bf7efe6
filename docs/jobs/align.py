"""Score and match on a cluster; goes on where it was when it is started again.

python align.py CELLS.h5mu MATCHED.h5mu SOURCE TARGET SCHEDULER.json
"""

import sys

import joblib
import mudata
from distributed import Client

import psalm


def main(cells: str, matched: str, source: str, target: str, scheduler: str) -> None:
    mdata = mudata.read_h5mu(cells)
    with Client(scheduler_file=scheduler) as client, joblib.parallel_config(backend="dask"):
        client.wait_for_workers(1)
        psalm.tl.propensity(mdata, checkpoint=f"{matched}.scores")
        psalm.tl.match(mdata, source=source, target=target, checkpoint=f"{matched}.match")
    mdata.write_h5mu(matched)


if __name__ == "__main__":
    main(*sys.argv[1:])
