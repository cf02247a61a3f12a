"""Blocks on Ray: Ray Data hands them to actors that hold the network. The only file that knows Ray.

Whatever a worker refuses or fails at travels as a value, and ends the job. What an actor or a node takes with it when it dies is
done again by those that are left.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import socket
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

from spread.blocks import Block, Item, Row, Store, Worker, in_turn
from spread.options import RayOptions
from utils.distributed import Runtime
from utils.errors import UserError, one_line, reason

LOG = logging.getLogger("webwilss")
# Rounds in which every worker died before it had done a single block.
FRUITLESS = 3
# Seconds until a cluster's address has to answer.
PATIENCE = 10
# No statistics to the makers of Ray, no words of its C++ part, nor of a setting that ``hidden`` makes needless.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class BlockActor:
    """Lives on Ray, holds the network, does blocks.

    Args:
        make: makes the worker.
        folder: the driver's working folder, which relative paths start from.
        threads: that prepare batches.
        hidden: whether it sees no GPU, because it asked for none; what else runs there may need them.
    """

    def __init__(self, make: Callable[[], Worker[Any]], folder: str, threads: int, hidden: bool = False) -> None:
        if hidden:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.threads = threads
        self.worker: Worker[Any] | None = None
        self.fault = ""
        try:
            os.chdir(folder)
            self.worker = make()
        except OSError as error:
            self.fault = _as_text(
                UserError(f"{socket.gethostname()}: {reason(error)}; every node needs the same files")
            )
        except Exception as error:
            self.fault = _as_text(error)

    def __call__(self, given: dict[str, Any]) -> dict[str, list[Any]]:
        """One block a call: its number, the rows of each batch as JSON, and what went wrong."""
        rows, fault = "", self.fault
        if self.worker is not None:
            try:
                block: Block[Any] = pickle.loads(base64.b64decode(str(given["block"][0])))
                rows = json.dumps(self._rows(block, self.worker))
            except Exception as error:
                fault = _as_text(error)
        return {"number": [int(given["number"][0])], "rows": [rows], "fault": [fault]}

    def _rows(self, block: Block[Any], worker: Worker[Any]) -> list[list[Row]]:
        prepared = _ahead(worker.prepare, [batch for batch in block.batches if batch], self.threads)
        return [worker.finish(next(prepared)) if batch else [] for batch in block.batches]


def _ahead(prepare: Callable[[Any], Any], batches: Iterable[Any], threads: int) -> Iterator[Any]:
    """Prepared batches in order; threads prepare the next ones."""
    batches = iter(batches)
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Any]] = deque(pool.submit(prepare, batch) for batch in islice(batches, 2 * threads))
        while pending:
            done = pending.popleft().result()
            pending.extend(pool.submit(prepare, batch) for batch in islice(batches, 1))
            yield done


def _as_text(error: Exception) -> str:
    """What a driver needs to raise an error again: a user's one line, or the traceback of a fault of ours."""
    own = isinstance(error, UserError)
    return json.dumps([own, one_line(error) if isinstance(error, UserError) else traceback.format_exc()])


def raise_again(text: str) -> None:
    """Raise what ``_as_text`` wrote: UserError, or RuntimeError with the worker's traceback."""
    own, message = json.loads(text)
    raise UserError(message) if own else RuntimeError(f"on a worker of Ray:\n{message}")


class OnRay:
    """Actors on Ray do the blocks, this process keeps what they say and hands it on.

    Args:
        runtime: of this process, which computes nothing.
        workers: threads of an actor that prepare batches; at least one.
        options: where Ray is, and what it gives.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, runtime: Runtime, workers: int, options: RayOptions) -> None:
        self.runtime, self.threads, self.options = runtime, max(1, workers), options
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        try:
            import ray
            import ray.data  # noqa: F401
        except ImportError as error:
            raise UserError(f"--ray: is not installed ({error}); pip install -e .[ray]") from error

    def results(
        self, blocks: Iterable[Block[Item]], make: Callable[[], Worker[Item]], store: Store
    ) -> Iterator[list[Row]]:
        """See ``spread.ways.Way``."""
        plan = list(blocks)
        waiting = deque(plan)
        todo = {block.number: block for block in plan if store.read(block) is None}
        yield from in_turn(waiting, store)
        if todo:
            with _connected(self.options):
                for _ in self._finished(todo, make, store):
                    yield from in_turn(waiting, store)
        if waiting:
            raise UserError(
                f"{store.folder}: blocks that were finished are gone or damaged; run the same command again"
            )
        store.clear()

    def _finished(self, todo: dict[int, Block[Item]], make: Callable[[], Worker[Item]], store: Store) -> Iterator[int]:
        """The number of each block as soon as its rows are in the store."""
        from ray.exceptions import RayError

        left, fruitless = dict(todo), 0
        while left:
            before = len(left)
            try:
                for number, rows, fault in self._round(list(left.values()), make):
                    if fault:
                        raise_again(fault)
                    if number in left:
                        store.write(left.pop(number), json.loads(rows))
                        yield number
            except RayError as error:
                LOG.warning("Ray lost something: %s", reason(error))
            fruitless = fruitless + 1 if len(left) == before else 0
            if fruitless == FRUITLESS:
                first = next(iter(left.values()))
                raise UserError(
                    f"--ray: the workers died {FRUITLESS} times without finishing one of {len(left)} blocks; too little memory, "
                    f"or an image that kills them, the first of the first block: {next(filter(None, first.batches))[0]}"
                )
            if left:
                LOG.warning("Workers were lost: %d blocks are done again by those that are left", len(left))

    def _round(self, blocks: Sequence[Block[Item]], make: Callable[[], Worker[Item]]) -> Iterator[tuple[int, str, str]]:
        """Number, rows and fault of every block whose worker lived."""
        import ray
        from ray.data import ActorPoolStrategy

        rows = [{"number": block.number, "block": base64.b64encode(pickle.dumps(block)).decode()} for block in blocks]
        # Blocks of an actor that dies are left out, not waited for: its node may never come back.
        with warnings.catch_warnings():
            # Said of the last two; what follows them in 2.64 is not there yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                BlockActor,
                fn_constructor_args=(make, os.getcwd(), self.threads, not self.options.gpus),
                batch_size=1,
                compute=ActorPoolStrategy(size=min(self._actors(), len(rows)), max_tasks_in_flight_per_actor=2),
                num_cpus=self.threads if self.options.gpus else 1,
                num_gpus=self.options.gpus or None,
                max_restarts=-1,
                max_task_retries=0,
            )
        for row in results.iter_rows():
            yield int(row["number"]), row["rows"], row["fault"]

    def _actors(self) -> int:
        """How many actors are started.

        Raises:
            UserError: the cluster has nothing to run one on.
        """
        import ray

        has = ray.cluster_resources()
        gpus = self.options.gpus
        cores = int(has.get("CPU", 0)) // (self.threads if gpus else 1)
        most = min(cores, int(has.get("GPU", 0) / gpus)) if gpus else cores
        if most < 1:
            raise UserError(
                f"--ray {self.options.address}: has {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs, too few for one "
                "worker; lower --ray_gpus or --num_workers"
            )
        return most if self.options.actors is None else min(self.options.actors, most)


@contextmanager
def _connected(options: RayOptions) -> Iterator[None]:
    """A connection to Ray, quiet; one that is there already is used and left.

    Raises:
        UserError: nothing answers at the address, or it is of another version.
    """
    import ray

    own = not ray.is_initialized()
    if own:
        place: dict[str, Any] = {} if options.address == "local" else {"address": _answering(options.address)}
        try:
            with _silent():
                ray.init(
                    include_dashboard=None if place else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **place,
                )
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            raise UserError(f"--ray {options.address}: {reason(error)}") from error
    _hush()
    try:
        yield
    finally:
        if own:
            ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the terminal: the C++ part of Ray writes there by itself, at its start even where it is told to be quiet."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _answering(address: str) -> str:
    """The address, where something answers; Ray itself would ask for minutes."""
    if address == "auto":
        return address
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise UserError(f"--ray {address}: is no address; give local, auto, or host:port as `ray start --head` says it")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray {address}: no cluster answers ({reason(error)}); start one with `ray start --head`, or correct it"
        ) from error
    return address


def _hush() -> None:
    """No progress bars, plans and tracebacks of Ray Data; what a user should know is told here."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
