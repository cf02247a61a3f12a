"""Options of the scripts whose work can be spread."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from utils.errors import UserError

# Images that a worker of torchrun or Ray takes at once: seconds to minutes of work, lost where it dies.
BLOCK_SIZE = 512


@dataclass(frozen=True)
class RayOptions:
    """Where Ray is, and what it gives.

    Attributes:
        address: ``local`` for this machine alone, ``auto`` or host:port for a cluster.
        actors: processes that hold the network; None for as many as there are GPUs, or cores.
        gpus: GPUs of each, a fraction where several share one; 0 for none.
    """

    address: str
    actors: int | None = None
    gpus: float = 0.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--ray`` and what belongs to it."""
    group = parser.add_argument_group("many workers: under torchrun, or on Ray (docs/ray.md)")
    add = group.add_argument
    add("--ray", metavar="ADDRESS", help="do it on Ray: local for this machine, auto or host:port for a cluster")
    add("--ray_actors", type=int, help="processes that hold the network [as many as GPUs or cores allow]")
    add("--ray_gpus", type=float, help="GPUs of each of them; 0.5 where two share one [0]")
    add(
        "--block_size",
        type=int,
        default=BLOCK_SIZE,
        help="images that a worker takes at once, under torchrun or on Ray",
    )


def ray_options(given: argparse.Namespace) -> RayOptions | None:
    """What was asked of Ray; None where nothing was.

    Raises:
        UserError: values that make no sense, or options of Ray without it.
    """
    if given.block_size < 1:
        raise UserError(f"--block_size {given.block_size}: at least 1 is needed")
    if given.ray is None:
        for option in ("ray_actors", "ray_gpus"):
            if getattr(given, option) is not None:
                raise UserError(f"--{option} needs --ray: local, or the address of a cluster")
        return None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--ray: starts its own workers; run it without torchrun")
    if given.ray_actors is not None and given.ray_actors < 1:
        raise UserError(f"--ray_actors {given.ray_actors}: at least 1 is needed")
    gpus = given.ray_gpus or 0.0
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"--ray_gpus {gpus:g}: a share from 0 to 1 is needed, or a whole number")
    return RayOptions(given.ray, given.ray_actors, gpus)
