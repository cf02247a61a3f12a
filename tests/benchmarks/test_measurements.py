"""The pages of what is measured here and now: data in, tables out."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks import data, export, loop, nouns, scoring, step
from benchmarks.pages import RESULTS, spread
from benchmarks.studies import PAGES
from captions.nouns import DEFAULT_TAGGER


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_spread() -> None:
    assert spread([0.5, 0.7]) == "60.0 ± 14.1" and spread([0.5, 0.7], 1, 3) == "0.600 ± 0.141"
    assert spread([0.5]) == "50.0" and spread([]) == "-"


def test_data() -> None:
    rates = {data.WHOLE: 100.0, "image decoding": 400.0, "mask decoding": 1000.0}
    measurement = data.Measurement(600, 9, rates, {data.CHAIN: 40.0})
    assert lines(data.page(measurement, "shapes", 128)) == [
        "shapes, 600 images of 9 classes, crop 128, one core",
        "",
        "| part | images / s | share of the whole path's time |",
        "|---|---|---|",
        "| whole path | 100 | 1.00 |",
        "| image decoding | 400 | 0.25 |",
        "| mask decoding | 1000 | 0.10 |",
        "| augmentation, labels | - | 0.65 |",
        "| torchvision's transforms | 40 | 2.50 |",
    ]


def test_rate_counts_calls() -> None:
    calls: list[int] = []
    assert data.rate(calls.append, 3, 0.02) > 0
    assert calls[:5] == [0, 0, 1, 2, 0]


def test_step() -> None:
    parts = {"student": 0.2, "losses": 0.1, "backward": 0.6, "update": 0.1}
    base = step.Measurement(0.5, parts, 1000.0)
    weak = step.Measurement(0.75, {**parts, "teacher": 0.25}, 1100.0)
    settings = Namespace(
        backbone="resnet101", crop_size=256, batch_size=4, precision="fp32", device="cpu", freeze=False
    )
    assert lines(step.page(base, weak, settings)) == [
        "resnet101, crop 256, batch 4, fp32, device cpu",
        "",
        "| step | s / iteration | images / s | teacher % | student % | losses % | backward % | update % | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
        "| base | 0.500 | 8.0 | - | 20.0 | 10.0 | 60.0 | 10.0 | 1000 |",
        "| weak | 0.750 | 5.3 | 20.0 | 16.0 | 8.0 | 48.0 | 8.0 | 1100 |",
        "| weak / base | 1.50 | 0.67 | | | | | | 1.10 |",
    ]


def test_loop() -> None:
    found = loop.page(
        {"Update": {"plain": 0.02, "fused": 0.01}}, {"Body": {"fp32": (2.0, 7.1), "bf16": (1.0, 7.2)}}, "about"
    )
    assert lines(found)[2:] == [
        "about",
        "",
        "## Update",
        "",
        "| way | ms | times as fast as the first |",
        "|---|---|---|",
        "| plain | 20.00 | 1.00 |",
        "| fused | 10.00 | 2.00 |",
        "",
        "## Body",
        "",
        "| arithmetic | ms | times as fast as the first | loss, third iteration |",
        "|---|---|---|---|",
        "| fp32 | 2000.00 | 1.00 | 7.1000 |",
        "| bf16 | 1000.00 | 2.00 | 7.2000 |",
    ]
    order: list[str] = []
    assert list(loop.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, lambda: None)) == [
        "a",
        "b",
    ]
    assert order == ["a", "b"] * 3


def test_export() -> None:
    times = {
        (export.TORCH, 1): [0.3, 0.2, 0.4],
        (export.ONNX, 1): [0.15],
        (export.TORCH, 2): [0.2],
        (export.ONNX, 2): [0.16],
    }
    measurement = export.Measurement("resnet101", "56 norms folded into convolutions, 0 left", times)
    assert lines(export.page(measurement, Namespace(size=512, rounds=3, repeats=2)))[2:] == [
        "resnet101, one image of 512 x 512 pixels to class ids, CPU; 56 norms folded into convolutions, 0 left.",
        "",
        "Median of 3 rounds of 2 images, in turns (`python -m benchmarks.export`).",
        "",
        "| what | ms / image | times as fast as torch |",
        "|---|---|---|",
        "| torch, 1 thread | 300.0 | 1.00 |",
        "| ONNX, 1 thread | 150.0 | 2.00 |",
        "| torch, 2 threads | 200.0 | 1.00 |",
        "| ONNX, 2 threads | 160.0 | 1.25 |",
    ]


def test_a_weak_step_is_measured() -> None:
    """Of the real training, as small as it gets: the parts are those that it marks in a profile."""
    settings = Namespace(
        backbone="timm:resnet10t", crop_size=32, batch_size=2, precision="fp32", device="cpu", compile=False, freeze=True, warmup=0,
        repeats=1,
    )  # fmt: skip
    measured = step.measure(1, settings)
    assert measured.seconds > 0 and measured.memory > 0 and set(measured.parts) == set(step.PARTS)


def test_scoring() -> None:
    rates = {scoring.BARE_SHARED: [50.0, 40.0, 60.0], scoring.BARE_ALL: [90.0] * 3, scoring.SCORING: [45.0] * 3}
    threads = {scoring.BARE_SHARED: 1, scoring.BARE_ALL: 2, scoring.SCORING: 1}
    settings = Namespace(network="efficientnet_b0", size=224, workers=1)
    shown = lines(scoring.page(scoring.Measurement("cpu", 2, threads, rates, {10: 99.6, 100: 100.4}), settings))
    assert shown[0] == "efficientnet_b0, 224 pixels, cpu, 1 worker(s), 2 cores"
    assert shown[4:9] == [
        "| what | threads | images / s | scoring relative to it |",
        "|---|---|---|---|",
        "| bare, same threads | 1 | 50.0 | 0.90 |",
        "| bare, all cores | 2 | 90.0 | 0.50 |",
        "| scoring | 1 | 45.0 | 1.00 |",
    ]
    assert shown[10:] == ["| rows | peak memory, MiB |", "|---|---|", "| 10 | 100 |", "| 100 | 100 |"]
    without = lines(scoring.page(scoring.Measurement("cpu", 2, threads, rates), settings))
    assert without == shown[:9]


def test_nouns() -> None:
    captions = [{"caption": "a dog runs", "nouns": "dog"}, {"caption": "two cats on a mat", "nouns": "cat mat"}]
    answers = {"a dog runs": ["dog", "run"], "two cats on a mat": ["cat", "mat"]}
    taggers = [
        nouns.Tagging(DEFAULT_TAGGER, "package 1.0", nouns.judge(answers.__getitem__, captions), 0.5),
        nouns.Tagging("spacy", left_out="not installed"),
    ]
    lemmas = [nouns.Lemmas("one", 0.5, ["mice (mices)"]), nouns.Lemmas("other")]
    shown = lines(nouns.page(captions, taggers, 2, lemmas))
    for line in (
        "Taggers on 2 captions with 3 nouns:",
        f"| **{DEFAULT_TAGGER}** (default) | package 1.0 | 0.750 | 1.000 | 0.857 | 1.00 | 0.50 |",
        "| spacy | left out: not installed | | | | | |",
        "- a dog runs (+run)",
        "| one | 0.500 | mice (mices) |",
        "| other | not installed | |",
    ):
        assert line in shown, line


@pytest.mark.parametrize(
    ("name", "headings"),
    [
        ("data", "| part | images / s | share of the whole path's time |"),
        ("scoring", "| what | threads | images / s | scoring relative to it |"),
        ("step", "| step | s / iteration | images / s | teacher % | student % | losses % | backward % | update % |"),
        ("nouns", "| `--tagger` | version | precision | recall | F1 | first noun right | ms a caption |"),
        ("animals", "| run | old mIoU | new mIoU | all mIoU | harmonic |"),
        ("web", "| selection | precision | recall | kept |"),
        ("replay", "| task and step | recipe | rehearsal | old | new | cow | sheep | all | harmonic | iterations |"),
    ],
)
def test_committed_pages_have_the_same_columns(name: str, headings: str) -> None:
    assert f"{name}.md" in PAGES
    assert headings in (RESULTS / f"{name}.md").read_text(encoding="utf-8")
