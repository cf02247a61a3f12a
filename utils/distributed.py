"""Devices, dtypes and ranks: the one place that chooses them. Everybody else is handed a ``Runtime``."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils import cores
from utils.checks import check_precision
from utils.errors import UserError

LOG = logging.getLogger("webwilss")
# mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD.
_MALLOPT = {-4: 0, -1: 2**31 - 1, -2: 2**26}
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What a processor calls its bf16 arithmetic in /proc/cpuinfo.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# The first GPUs with bf16 and TF32 in hardware (Ampere).
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Runtime:
    """Where a process computes and who computes beside it."""

    device: torch.device
    precision: str = "fp32"
    rank: int = 0
    world: int = 1
    why: str = ""
    """Why ``--precision auto`` chose the precision, for the log; "" where the user chose it."""

    @property
    def main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights of a network that is only asked, never trained."""
        return _AUTOCAST.get(self.precision, torch.float32)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Mixed precision for the forward pass of a network; nothing under fp32."""
        if self.precision not in _AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision])

    @contextlib.contextmanager
    def one_size(self) -> Iterator[None]:
        """For work on images of one size: cuDNN tries its ways to convolve once for each layer, and keeps the fastest.

        Whole images, of as many sizes as there are images, would be tried again and again.
        """
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.device.type == "cuda"
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def wrap(self, module: nn.Module, *, unused: bool = False) -> nn.Module:
        """``module``, with its gradients averaged over the ranks where there are several.

        Args:
            module: what is trained.
            unused: whether it may have weights that no output depends on; they are looked for in each iteration.
        """
        if self.world == 1:
            return module
        # Synchronised norms keep the buffers of all ranks equal, so nothing has to be broadcast.
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            module,
            device_ids=ids,
            broadcast_buffers=False,
            find_unused_parameters=unused,
            # The gradients are kept once, not once more in what is sent.
            gradient_as_bucket_view=True,
        )

    def sum(self, value: Tensor) -> Tensor:
        """Sum of ``value`` over the ranks (no gradient)."""
        value = value.detach().clone()
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def average(self, value: Tensor) -> Tensor:
        """Mean of ``value`` over the ranks (no gradient)."""
        return self.sum(value) / self.world

    def most(self, number: int) -> int:
        """The greatest of the ranks' numbers; asked through the CPU, so that no rank waits for its GPU."""
        if self.world == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """What one rank refuses in the block ends all of them, each with a line; no rank may wait for another in the block.

        Raises:
            UserError: the block raised it, or a file's OSError passes, here or on another rank.
        """
        if self.world == 1:
            yield
            return
        refused: UserError | OSError | None = None
        try:
            yield
        except (UserError, OSError) as error:
            refused = error
        first = self.world - self.most(0 if refused is None else self.world - self.rank)
        if refused is not None:
            raise refused
        if first < self.world:
            raise UserError(f"rank {first} cannot go on; its own line says why")

    def on_main(self, work: Callable[[], None]) -> None:
        """Have the main rank do ``work`` while the others wait; what it refuses ends all ranks.

        Raises:
            UserError: ``work`` raised it.
        """
        with self.agreed():
            if self.main:
                work()

    def same(self, values: Mapping[str, object], cure: str) -> None:
        """See that all ranks have the same values; each on its machine has its own files and command line.

        Args:
            values: by what they are, plain values.
            cure: what to do where they differ.

        Raises:
            UserError: on all ranks, where one has another value than rank 0.
        """
        if self.world == 1:
            return
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, dict(values))
        for rank, other in enumerate(found):
            for key, value in found[0].items():
                if other[key] != value:
                    raise UserError(f"rank {rank}: {key} is {other[key]}, on rank 0 {value}: {cure}")

    def lost(self, error: RuntimeError) -> bool:
        """Whether an error says that another rank is gone: its process ended, or its machine."""
        return self.world > 1 and (isinstance(error, dist.DistError) or "gloo/transport" in str(error))

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def memory(self) -> float:
        """Peak memory in MiB: what this process allocated on its GPU, elsewhere what was resident; NaN where the system keeps no count."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return _peak_resident()

    def capacity(self) -> float:
        """Memory of the GPU in MiB, elsewhere of the machine; NaN where the system does not say."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory / 2**20
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
        except (AttributeError, OSError, ValueError):
            return math.nan

    def synchronise(self) -> None:
        """Wait until the accelerator has done all that was asked of it (for timing)."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _peak_resident() -> float:
    """Peak resident memory of this process in MiB; NaN where the system keeps no count."""
    # Linux's getrusage begins with the peak of the process that started this one; this count does not.
    status = Path("/proc/self/status")
    if status.is_file():
        peak_line = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"), re.MULTILINE)
        if peak_line:
            return int(peak_line[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, all others in KiB.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none on a machine without."""
    count = torch.cuda.device_count()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return chosen.split(",")[:count] if chosen else [str(i) for i in range(count)]


def _choose(device: str, local_rank: int) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,4})?", device):
        raise UserError(f"--device {device}: unknown; choose auto, cpu, cuda, cuda:N for the GPU of number N, or mps")
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"--device {device}: no CUDA device is available; use --device cpu")
        index = int(device.partition(":")[2] or local_rank)
        if index >= torch.cuda.device_count():
            raise UserError(
                f"--device: GPU {index} does not exist, this machine has {torch.cuda.device_count()}; start fewer processes"
            )
        return torch.device("cuda", index)
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: not available here; use --device cpu")
    return torch.device(device)


def _keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor, where it is glibc.

    By default every large tensor is mapped anew, page by page, and unmapped when it is freed: a training iteration on the CPU takes up to
    a quarter longer (benchmarks/results/step.md).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOPT.items():
            mallopt(parameter, value)


def fastest(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, str]:
    """The precision of ``--precision auto``: bf16 where the device computes in it, not where it would only imitate it.

    Args:
        device: what computes.
        cpuinfo: where Linux says what the processor can do.

    Returns:
        bf16 or fp32, and why in a few words.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        said = f"compute capability {capability[0]}.{capability[1]}"
        if capability >= _AMPERE:
            return "bf16", f"which the GPU has ({said})"
        return "fp32", f"the GPU has no bf16 ({said})"
    if device.type != "cpu":
        return "fp32", f"nobody has measured bf16 on {device.type}"
    flags: set[str] = set()
    if cpuinfo.is_file():
        found = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        flags = set(found[1].split()) if found else flags
    has = sorted(_BF16_FLAGS & flags)
    if has:
        return "bf16", f"which the processor has ({', '.join(has)})"
    return "fp32", f"the processor names no bf16 ({' or '.join(sorted(_BF16_FLAGS))})"


def start(device: str = "auto", precision: str | None = "fp32", local_rank: int = 0) -> Runtime:
    """Choose the device and, where a launcher started several processes, join their group.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: fp32, tf32 (GPU only), bf16, fp16 (GPU only), or auto (``fastest``). fp32 is float32 throughout: torch
            by itself would round what a convolution reads to TF32 on a GPU. None is auto on a GPU, else fp32: every processor
            then gives the same.
        local_rank: number of this process on its machine, as the launcher gave it.

    Raises:
        UserError: a device or precision that this machine cannot give, or another rank's.
    """
    try:
        chosen = _choose(device, local_rank)
        precision, why = _settled(precision, chosen)
    except UserError as error:
        refuse(error)
        raise
    if chosen.type == "cpu":
        _keep_freed_memory()
    cores.settle()
    if chosen.type == "cuda":
        # Else a loader that pins memory would take some of GPU 0, whichever was chosen.
        torch.cuda.set_device(chosen)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if launched() == 1:
        return Runtime(chosen, precision, why=why)
    runtime = Runtime(chosen, precision, *_join(chosen.type), why)
    with runtime.agreed():
        return runtime


def _settled(precision: str | None, device: torch.device) -> tuple[str, str]:
    """The precision that ``start`` was asked for, and why ``auto`` chose it.

    Raises:
        UserError: the device has it not.
    """
    why = ""
    if precision is None:
        precision = "auto" if device.type == "cuda" else "fp32"
    if precision == "auto":
        precision, why = fastest(device)
        why = f"--precision auto: {precision}, {why}"
        LOG.info("%s", why)
    check_precision(precision, device.type)
    if precision == "tf32" and torch.cuda.get_device_capability(device) < _AMPERE:
        raise UserError("--precision tf32: this GPU has none in hardware (it came with Ampere); use fp32")
    return precision, why


def launched() -> int:
    """How many processes a launcher started, on all machines; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _join(device: str) -> tuple[int, int]:
    """Join the group of all processes; this one's rank, and how many they are."""
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()


def refuse(error: UserError) -> None:
    """Tell the other ranks, which wait in ``start``, that this one cannot go on; the caller raises ``error``.

    Without it a machine whose file is missing would leave the others waiting until their patience ends.
    """
    # Without an address nobody waits: WORLD_SIZE was set by hand.
    if launched() == 1 or "MASTER_ADDR" not in os.environ:
        return
    runtime = Runtime(torch.device("cpu"), "fp32", *_join("cuda" if torch.cuda.is_available() else "cpu"))
    with contextlib.suppress(UserError), runtime.agreed():
        raise error
    stop()


def stop() -> None:
    """Leave the process group, where one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()
