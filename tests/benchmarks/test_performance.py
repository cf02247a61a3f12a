"""docs/performance.md says what the files say; what is measured there can be missed, and then says by how much."""

from __future__ import annotations

import math
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import peers, performance
from benchmarks.norm import plain
from benchmarks.pages import RESULTS
from benchmarks.peers import Row, faster, share
from benchmarks.performance import BEGIN, END, PAGE, rewritten
from modules.affinity import PAMR
from modules.norm import make_norm
from tests.conftest import ROOT
from utils.distributed import Runtime
from utils.errors import UserError

SETTINGS = Namespace(machine="EPYC | 2", device="cpu", threads=2, rounds=3, compile=False)
TRIED = "area,what,where,number,verdict\n"


def test_the_page_is_what_the_files_say() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert rewritten(text, RESULTS) == text, "run python -m benchmarks.performance"


def test_a_target_is_met_or_missed_by_so_much() -> None:
    assert faster("j", "p", "fp32", 2.0, 3.0, ">= 1.25").ratio == 1.5
    assert [faster("j", "p", "fp32", 2.0, peers_, ">= 1.25").met for peers_ in (3.0, 2.5, 2.0)] == [
        "yes",
        "yes",
        "no, by 20%",
    ]
    assert [share("j", "p", "fp32", ours, 2.0, "<= 0.5").met for ours in (1.0, 1.1)] == ["yes", "no, by 10%"]
    # Of our time itself, whatever the peer's.
    assert [share("j", "p", "fp32", ours, 0.1, "<= 1.5 s").met for ours in (1.5, 3.0)] == ["yes", "no, by 100%"]
    assert faster("j", "p", "fp32", 2.0, 3.0).met == ""
    assert Row("j", "p", "fp32", math.nan, math.nan, "s", math.nan, ">= 1").met == "failed"


def test_tables_become_the_page(tmp_path: Path) -> None:
    rows = [
        faster("step, crop 512", "torchvision", "fp32", 2.0, 2.0, ">= 1.25"),
        share("memory", "kept", "bf16", 1.0, 2.0, "<= 0.7"),
    ]
    (tmp_path / "peers-epyc.csv").write_text(peers.table(rows, SETTINGS))
    (tmp_path / "tried.csv").write_text(f"{TRIED}b,two,here,2 s,kept\na,one,here,1 s,dropped\n")
    (tmp_path / "missed.csv").write_text("job,why\nstep,the convolutions take it all\n")
    (tmp_path / "gpu-card.md").write_text("# On a card\n")
    found = rewritten(f"head\n{BEGIN}\nold\n{END}\ntail\n", tmp_path)
    assert found.startswith("head\n") and found.endswith(f"{END}\ntail\n") and "old" not in found
    assert "1 of 2 targets met" in found
    assert "| step, crop 512 | torchvision | fp32 | 2 | 2 | s | 1 | >= 1.25 | no, by 20% | |" in found
    said = " ".join(found.split())
    assert "wanted >= 1.25, missed by 20%: the convolutions take it all" in said and "memory, bf16, beside" not in said
    assert found.index("| a | one | here | 1 s | dropped |") < found.index("| b | two | here | 2 s | kept |")
    assert "[gpu-card.md](../benchmarks/results/gpu-card.md)" in found and "Nothing has been measured" not in found
    assert "Nothing has been measured on a GPU yet" in rewritten(f"{BEGIN}{END}", tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tried.csv", f"{TRIED}a,b,c,d,perhaps\n", "verdict 'perhaps' is none of kept, dropped, open"),
        ("tried.csv", f"{TRIED}a,b\n", "row 2 has not 5 cells"),
        ("missed.csv", "a,b\n", "its first line has to be job,why"),
        ("peers-x.csv", f"{','.join(performance.PEERS)}\n{'a,' * 14}b\n", "'a' is no number"),
    ],
)
def test_bad_tables_are_told(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        rewritten(f"{BEGIN}{END}", tmp_path)
    with pytest.raises(UserError, match="needs the marks"):
        rewritten("none", tmp_path)


def test_columns_of_both_scripts_agree() -> None:
    assert sorted(peers.COLUMNS) == sorted(performance.PEERS)


def test_ways_take_turns() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = peers.in_turns(ways, Runtime(torch.device("cpu")), 2, calls=2)
    assert calls == ["a", "a", "b", "b"] * 3 and [len(values) for values in times.values()] == [2, 2]


def test_the_peer_of_the_affinity_computes_the_same() -> None:
    image, mask = torch.rand(1, 3, 17, 13, dtype=torch.float64), torch.rand(1, 2, 17, 13, dtype=torch.float64)
    torch.testing.assert_close(peers.unfolded_affinity(image, mask, 3, (1, 4)), PAMR(3, (1, 4))(image, mask))


def test_the_peers_of_the_norm_compute_the_same_and_keep_more() -> None:
    values, results, kept = torch.randn(4, 3, 8, 8), [], []
    ways: list[AbstractContextManager[None]] = [nullcontext(), *map(plain, peers.NORMS.values())]
    for way in ways:
        layer = make_norm("iabn")(3)
        held: dict[int, Any] = {}
        leaf = values.clone().requires_grad_()
        with (
            way,
            torch.autograd.graph.saved_tensors_hooks(
                lambda saved, held=held: held.setdefault(saved.untyped_storage().data_ptr(), saved), lambda saved: saved
            ),
        ):
            # The next layer keeps what it sees.
            y = layer(leaf * 1).sin()
        y.sum().backward()
        assert leaf.grad is not None
        results.append((y.detach(), leaf.grad))
        kept.append(sum(saved.numel() for saved in held.values()) // values.numel())
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            torch.testing.assert_close(one, other)
    # Ours the output; separate layers what goes from the one to the other besides; in place input and output.
    assert kept == [1, 3, 2]


def test_a_job_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def apart(work: object, name: str, precision: str, settings: Namespace) -> list[Row]:
        if name == "base":
            raise RuntimeError("out of memory\nand more")
        return [faster(name, "p", precision, 1.0, 2.0)]

    monkeypatch.setattr(peers, "_apart", apart)
    kept: list[int] = []
    settings = Namespace(jobs=["base", "weak"], precision=["fp32"], compile=False)
    rows = peers.run_all(settings, lambda found: kept.append(len(found)))
    assert kept == [1, 2]
    assert [(row.job, row.note) for row in rows] == [("base", "failed: out of memory"), ("weak", "")]
    assert "base, fp32: failed: RuntimeError: out of memory" in capsys.readouterr().err
    assert "| base |" in peers.page(rows, SETTINGS) and "nan" not in peers.page(rows, SETTINGS)
