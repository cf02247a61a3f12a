"""Two nodes of Ray on one machine, one of which is lost in the middle.

python -m tests.spread.two_nodes FOLDER
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from spread.blocks import Store, in_batches, in_blocks
from spread.on_ray import QUIET
from spread.options import RayOptions
from spread.ways import make_way
from tests.spread.counting import Count, expected
from utils import distributed

NAMES = [f"i{number}" for number in range(40)]


def main(folder: Path) -> None:
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    logging.basicConfig(level=logging.WARNING)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    count = Count(folder / "notes", pause=1.0)
    way = make_way(distributed.start("cpu"), 1, RayOptions(cluster.address))
    store = Store(folder / "out.blocks", "key")
    rows: list[object] = []
    for batch in way.results(in_blocks(in_batches(NAMES, 2), 2), count, store):
        rows += batch
        if second is not None and count.processes() == 2:
            cluster.remove_node(second, allow_graceful=False)
            second = None
    assert second is None, "two nodes were at work"
    assert rows == expected(NAMES), "none twice, none missing, in order"
    noted = count.noted()
    twice = {name for name in noted if noted.count(name) > 1}
    sys.stdout.write(f"{len(rows)} rows; {len(twice)} images done twice: {sorted(twice)}\n")
    assert set(noted) == set(NAMES) and len(twice) <= 12, "only blocks that were under way are done again"
    assert not store.folder.exists()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
