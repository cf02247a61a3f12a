"""One place chooses device, dtype and ranks; what it cannot give it says in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from utils import distributed
from utils.errors import UserError


def test_single_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    runtime = distributed.start("cpu")
    assert (runtime.device.type, runtime.rank, runtime.world, runtime.main) == ("cpu", 0, 1, True)
    module = nn.Linear(2, 2)
    assert runtime.wrap(module) is module
    value = torch.ones(3, requires_grad=True)
    assert torch.equal(runtime.average(value), torch.ones(3)) and not runtime.average(value).requires_grad
    assert not torch.distributed.is_initialized()


def test_precision() -> None:
    runtime = distributed.start("cpu", "bf16")
    with runtime.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with distributed.start("cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert not runtime.scaler().is_enabled()
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        distributed.start("cpu", "fp16")


@pytest.mark.parametrize(
    ("flags", "expected", "named"),
    [
        ("fpu avx2 avx512f avx512_bf16 avx512_vnni", "bf16", "avx512_bf16"),
        ("fpu avx512f amx_bf16 amx_tile amx_int8", "bf16", "amx_bf16"),
        ("fpu avx512_bf16 amx_bf16", "bf16", "amx_bf16, avx512_bf16"),
        # Tiles of integers alone, and names that only begin alike.
        ("fpu avx512f avx512_fp16 amx_tile amx_int8 avx512_bf16x", "fp32", "no bf16"),
        ("fpu avx2", "fp32", "no bf16"),
        (None, "fp32", "no bf16"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it(flags: str | None, expected: str, named: str, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: avx512_bf16\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    precision, why = distributed.fastest(torch.device("cpu"), cpuinfo)
    assert precision == expected and named in why


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), "fp32"), ((8, 0), "bf16"), ((8, 6), "bf16"), ((9, 0), "bf16"), ((10, 0), "bf16")],
)
def test_auto_is_bf16_where_the_gpu_has_it(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    precision, why = distributed.fastest(torch.device("cuda", 0))
    assert precision == expected and f"{capability[0]}.{capability[1]}" in why
    assert distributed.fastest(torch.device("mps"))[0] == "fp32"


def test_auto_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "fastest", lambda device: ("bf16", "which the processor has (x)"))
    runtime = distributed.start("cpu", "auto")
    assert (runtime.precision, runtime.why) == ("bf16", "--precision auto: bf16, which the processor has (x)")
    # Left out, a CPU computes as every other one, and nothing has to be said.
    runtime = distributed.start("cpu", None)
    assert (runtime.precision, runtime.why) == ("fp32", "")


@pytest.fixture
def torchs_own() -> Iterator[None]:
    """Torch's defaults, before and behind."""
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False


@pytest.mark.usefixtures("torchs_own")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_fp32_is_float32_throughout_on_a_gpu(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own default rounds what convolutions read to TF32."""
    monkeypatch.setattr(distributed, "_choose", lambda device, local_rank: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    runtime = distributed.start("cuda", precision)
    assert chosen == [torch.device("cuda", 0)]
    rounded = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert rounded == ((True, True) if precision == "tf32" else (False, False))
    if precision == "tf32":
        with runtime.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        with pytest.raises(UserError, match="--precision tf32: this GPU has none"):
            distributed.start("cuda", precision)


def test_convolutions_are_tried_where_images_have_one_size() -> None:
    assert not torch.backends.cudnn.benchmark
    with distributed.Runtime(torch.device("cuda", 0)).one_size():
        assert torch.backends.cudnn.benchmark
    with distributed.Runtime(torch.device("cpu")).one_size():
        assert not torch.backends.cudnn.benchmark
    with pytest.raises(KeyError), distributed.Runtime(torch.device("cuda", 0)).one_size():
        raise KeyError
    assert not torch.backends.cudnn.benchmark, "whole images follow"


@pytest.mark.parametrize(
    ("chosen", "count", "expected"),
    [(None, 2, ["0", "1"]), ("3,GPU-7f,5", 2, ["3", "GPU-7f"]), ("", 0, []), (None, 0, []), ("-1", 0, [])],
)
def test_gpus_have_the_names_that_the_user_gave_them(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, count: int, expected: list[str]
) -> None:
    """torch numbers the visible ones from 0, whatever their names are."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert distributed.visible_gpus() == expected


def test_peak_memory_on_the_cpu() -> None:
    """Memory that is written to is in the peak, in MiB, and stays in it when it is given back."""
    program = (
        "import numpy\nfrom utils import distributed\nruntime = distributed.start('cpu')\nbefore = runtime.memory()\n"
        "block = numpy.ones((int(before), 2**20), dtype=numpy.uint8)\nduring = runtime.memory()\ndel block\n"
        "print(before, during, runtime.memory())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    before, during, after = map(float, done.stdout.split())
    assert 20 < before < 20_000
    assert before * 1.2 < during < before * 2.2 and after >= during


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_named() -> None:
    with pytest.raises(UserError, match="--device cuda:1: no CUDA device"):
        distributed.start("cuda:1")


@pytest.mark.parametrize("device", ["other", "", "cuda:x", "cpu:7", "xla", "meta"])
def test_an_unknown_device_is_one_line(device: str) -> None:
    with pytest.raises(UserError, match=rf"^--device {device}: unknown; choose auto, cpu, cuda") as caught:
        distributed.start(device)
    assert "\n" not in str(caught.value)


def test_one_process_asks_nobody() -> None:
    assert [distributed.start("cpu").most(number) for number in (0, 15)] == [0, 15]


def test_ranks_train_what_has_unused_weights() -> None:
    """An adopted encoder may have stages that its segmenter does not ask: their gradients are waited for in vain."""
    network = nn.ModuleDict({"asked": nn.Linear(2, 2), "left": nn.Linear(2, 2)})
    network.forward = lambda values: network["asked"](values)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = distributed.Runtime(torch.device("cpu"), world=2).wrap(network, unused=True)
        for _ in range(3):
            wrapped(torch.ones(1, 2)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert network["asked"].weight.grad is not None and network["left"].weight.grad is None


RANKS = """
import os, sys
from utils import distributed
from utils.errors import UserError
runtime = distributed.start("cpu")
def told(block):
    try:
        block()
    except (UserError, OSError) as error:
        print(runtime.rank, error)
def refuses():
    with runtime.agreed():
        if runtime.rank:
            raise UserError("no such file")
told(refuses)
told(lambda: runtime.on_main(lambda: open("/nowhere/at/all")))
told(lambda: runtime.same({"--lr": 0.1, "images": 3 + runtime.rank}, "copy them"))
told(lambda: runtime.same({"--lr": 0.1}, "copy them"))
if runtime.rank:
    os._exit(3)
try:
    for _ in range(3):
        runtime.barrier()
except RuntimeError as error:
    print(runtime.rank, runtime.lost(error))
print(runtime.lost(RuntimeError("of another kind")))
"""


def test_ranks_agree_and_notice_who_is_gone() -> None:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS],
            cwd=ROOT, env=os.environ | variables | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    first, second = (rank.communicate(timeout=300)[0].splitlines() for rank in ranks)
    assert first == [
        "0 rank 1 cannot go on; its own line says why",
        "0 [Errno 2] No such file or directory: '/nowhere/at/all'",
        "0 rank 1: images is 4, on rank 0 3: copy them",
        "0 True",
        "False",
    ]
    assert second == ["1 no such file", "1 rank 0 cannot go on; its own line says why", first[2].replace("0", "1", 1)]
