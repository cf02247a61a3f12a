"""The runner with trivial commands: what is done is skipped, failures stop it, signals reach the commands, nothing runs twice."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.runner import Runner, Slot, make_slots
from experiments.stage import Stage, check, keys, missing, wanted
from tests.conftest import ROOT
from utils.errors import UserError

ONE = (Slot((), 1),)
TWO = (Slot((), 1), Slot((), 1))
# Waits for a file for so long, in seconds, before it gives up.
PATIENCE = 60


def program(text: str) -> tuple[str, ...]:
    return ("-c", text)


def append(path: Path, text: str = "x") -> str:
    return f"open({str(path)!r}, 'a').write({text!r});"


def wait_for(path: Path) -> str:
    return (
        f"import pathlib, time; end = time.time() + {PATIENCE}\n"
        f"while not pathlib.Path({str(path)!r}).exists():\n"
        "    if time.time() > end: raise SystemExit(9)\n"
        "    time.sleep(0.02)\n"
    )


def patiently(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def chain(folder: Path) -> list[Stage]:
    """b needs what a makes, c what b makes; each appends a letter to its file."""
    stages: list[Stage] = []
    for name in "abc":
        command = program(append(folder / name, name))
        stages.append(Stage(name, command, tuple(s.name for s in stages[-1:]), makes=(folder / name,)))
    return stages


def test_runs_in_order_prints_every_command_and_skips_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = chain(tmp_path)
    assert Runner(stages, tmp_path / "work", ONE).run() == 0
    first = capsys.readouterr().out
    lines = [line for line in first.splitlines() if line.startswith("+ python -c ")]
    assert len(lines) == 3 and all(str(tmp_path / name) in line for name, line in zip("abc", lines, strict=True))
    assert Runner(stages, tmp_path / "work", ONE).run() == 0
    assert capsys.readouterr().out == "3 of 3 stages are done\n"
    assert [text(tmp_path / name) for name in "abc"] == ["a", "b", "c"]


def test_what_is_gone_is_made_again_and_the_rest_is_not(tmp_path: Path) -> None:
    stages = chain(tmp_path)
    Runner(stages, tmp_path / "work", ONE).run()
    (tmp_path / "b").unlink()
    assert Runner(stages, tmp_path / "work", ONE).run() == 0
    assert [text(tmp_path / name) for name in "abc"] == ["a", "b", "c"]


def test_other_commands_run_anew_with_all_that_follows_and_keep_what_was_there(tmp_path: Path) -> None:
    stages = chain(tmp_path)
    Runner(stages, tmp_path / "work", ONE).run()
    for letter in ("B", "D"):
        stages[1] = Stage("b", program(append(tmp_path / "b", letter)), ("a",), makes=(tmp_path / "b",))
        assert Runner(stages, tmp_path / "work", ONE).run() == 0
    found = {path.name: text(path) for path in tmp_path.iterdir() if path.is_file()}
    assert found == {"a": "a", "b": "D", "b.bak": "b", "b.bak1": "B", "c": "c", "c.bak": "c", "c.bak1": "c"}


def test_speed_changes_nothing(tmp_path: Path) -> None:
    for value in ("1", "2"):
        stage = Stage(
            "a", program(f"import sys; {append(tmp_path / 'a')}"), makes=(tmp_path / "a",), speed=("--fast", value)
        )
        assert Runner([stage], tmp_path / "work", ONE).run() == 0
    assert text(tmp_path / "a") == "x"


def test_a_failure_stops_cleanly_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bad fails while slow runs: slow ends, what could start next does not; the log's last lines are shown."""
    failed, repaired = tmp_path / "failed", tmp_path / "repaired"
    bad = program(
        f"import sys, pathlib; {append(failed)} print('why it fails', file=sys.stderr); "
        f"sys.exit(0 if pathlib.Path({str(repaired)!r}).exists() else 3)"
    )
    stages = [
        Stage("bad", bad),
        Stage(
            "slow",
            program(wait_for(failed) + "time.sleep(0.5);" + append(tmp_path / "slow")),
            makes=(tmp_path / "slow",),
        ),
        Stage("free", program(append(tmp_path / "free"))),
        Stage("last", program(append(tmp_path / "last")), ("bad", "slow")),
    ]
    assert Runner(stages, tmp_path / "work", TWO).run() == 3
    error = capsys.readouterr().err
    assert "why it fails" in error and "experiments: bad ended with exit code 3, see " in error
    assert "1 others end first" in error and "1 of 4 stages are done" in error
    assert text(tmp_path / "slow") == "x" and not (tmp_path / "free").exists() and not (tmp_path / "last").exists()
    repaired.touch()
    assert Runner(stages, tmp_path / "work", TWO).run() == 0
    assert [text(tmp_path / name) for name in ("failed", "slow", "free", "last")] == ["xx", "x", "x", "x"]


@pytest.mark.parametrize(
    ("command", "allowed", "code"),
    [
        ("raise SystemExit(1)", (0,), 1),
        ("raise SystemExit(1)", (0, 1), 1),  # It left nothing behind.
        ("open('FILE', 'w'); raise SystemExit(1)", (0, 1), 0),
        ("pass", (0,), 1),
        ("import os; os.kill(os.getpid(), 9)", (0,), 137),
        ("import os; open('FILE', 'w'); os.kill(os.getpid(), 9)", (0, 1), 137),
    ],
)
def test_exit_codes_and_what_must_be_left_behind(
    tmp_path: Path, command: str, allowed: tuple[int, ...], code: int
) -> None:
    path = tmp_path / "made"
    stage = Stage("a", program(command.replace("FILE", str(path))), makes=(path,), allowed=allowed)
    assert Runner([stage], tmp_path / "work", ONE).run() == code
    assert Runner([stage], tmp_path / "work", ONE).done(stage) == (code == 0)


def test_independent_stages_run_side_by_side(tmp_path: Path) -> None:
    """Each of the two waits for the other: one after the other they would give up."""
    files = tmp_path / "one", tmp_path / "two"
    stages = [
        Stage(own.name, program(append(own) + wait_for(other)), makes=(own,)) for own, other in (files, files[::-1])
    ]
    assert Runner(stages, tmp_path / "work", TWO).run() == 0


def test_every_command_gets_its_gpu_and_its_share_of_the_cores(tmp_path: Path) -> None:
    show = (
        "import os; open({!r}, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ['OMP_NUM_THREADS'])\n"
    )
    files = tmp_path / "one", tmp_path / "two"
    stages = [Stage(own.name, program(show.format(str(own)) + wait_for(other))) for own, other in (files, files[::-1])]
    assert Runner(stages, tmp_path / "work", make_slots(["4", "7"], 1, None, 8)).run() == 0
    assert {text(file) for file in files} == {"4 4", "7 4"}


@pytest.mark.parametrize(
    ("gpus", "per_stage", "jobs", "expected"),
    [
        ([], 1, None, [((), 8)]),
        ([], 1, 3, [((), 2)] * 3),
        ([], 1, 20, [((), 1)] * 20),
        (["0", "1"], 1, None, [(("0",), 4), (("1",), 4)]),
        (["0", "1", "2", "3", "4"], 2, None, [(("0", "1"), 2), (("2", "3"), 2)]),
        (["0", "1"], 1, 3, [(("0",), 2), (("1",), 2), (("0",), 2)]),
        (["0", "1"], 1, 1, [(("0",), 8)]),
    ],
)
def test_slots(gpus: list[str], per_stage: int, jobs: int | None, expected: list[tuple[tuple[str, ...], int]]) -> None:
    assert [(slot.devices, slot.threads) for slot in make_slots(gpus, per_stage, jobs, 8)] == expected


@pytest.mark.parametrize(("gpus", "asked"), [(["0", "1"], 3), ([], 2)])
def test_more_gpus_than_there_are(gpus: list[str], asked: int) -> None:
    with pytest.raises(UserError, match=f"--gpus {asked}: this machine has {len(gpus)}"):
        make_slots(gpus, asked, None, 8)


def test_several_gpus_of_one_command_are_several_processes() -> None:
    stage = Stage("a", ("run.py", "--step", "0"), speed=("--num_workers", "4"), ranks=True)
    launched = Slot(("0", "1"), 1).line(stage)
    assert launched[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert launched[5:] == ["run.py", "--step", "0", "--num_workers", "4"] == Slot(("0",), 1).line(stage)
    assert Slot(("0", "1"), 1).line(Stage("b", ("select_web.py",))) == ["select_web.py"]


def test_dry_run_prints_every_command_and_says_what_is_done_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = chain(tmp_path)
    Runner(stages[:1], tmp_path / "work", ONE).run()
    stages[2] = Stage("c", ("run.py", "--name", "a b"), ("b",), needs=(tmp_path / "data",))
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert Runner(stages, tmp_path / "work", (Slot(("3",), 1),)).dry_run() == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    command = "+ CUDA_VISIBLE_DEVICES=3 python "
    assert lines[0] == "# a: done" and lines[1] == command + shlex.join(stages[0].command)
    assert lines[2] == command + shlex.join(stages[1].command), "no mark: it is not done"
    assert lines[3] == command + "run.py --name 'a b'" and len(lines) == 4
    assert shown.err == f"experiments: {tmp_path / 'data'}: is missing, the stage c needs it\n"
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="data: is missing, the stage c needs it"):
        Runner(stages, tmp_path / "work", ONE).run()
    assert not (tmp_path / "b").exists(), "what is missing is told before anything runs"


def test_dry_run_of_all_that_is_done_and_of_what_others_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands are those of a dry run where nothing is done; what is not a command begins with a hash."""
    stages = chain(tmp_path)
    Runner(stages, tmp_path / "elsewhere", ONE).dry_run()
    fresh = capsys.readouterr().out.splitlines()
    Runner(stages, tmp_path / "work", ONE).run()
    capsys.readouterr()
    Runner(stages, tmp_path / "work", ONE).dry_run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# a: done", "# b: done", "# c: done"] and lines[1::2] == fresh
    stages[1] = Stage("b", program("pass"), ("a",), makes=(tmp_path / "b",))
    Runner(stages, tmp_path / "work", ONE).dry_run()
    lines = capsys.readouterr().out.splitlines()
    marks = [line for line in lines if line.startswith("# ")]
    other = "was made by other commands, which is kept as .bak"
    assert marks == ["# a: done", f"# b: {other}", f"# c: {other}"] and len(lines) == 6


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    stages = chain(tmp_path)
    Runner(stages, tmp_path / "work", ONE).run()
    for content in ("{", "[]", "{}"):
        (tmp_path / "work/stages/b.json").write_text(content)
        assert not Runner(stages, tmp_path / "work", ONE).done(stages[1])
    assert Runner(stages, tmp_path / "work", ONE).run() == 0
    assert text(tmp_path / "b") == "bb"


def test_a_work_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(UserError, match="work/stages: cannot be used"):
        Runner(chain(tmp_path), tmp_path / "work", ONE).run()


# ---- signals: the runner in a process of its own --------------------------------------------------------------------------

# Says that it runs; on Ctrl-C it saves, as the project's scripts do; ends by itself where ``saved`` is there already.
SAVING = """
import pathlib, time
folder = pathlib.Path(FOLDER)
if (folder / "saved").exists():
    (folder / "made").touch()
    raise SystemExit(0)
try:
    (folder / "runs").touch()
    end = time.time() + 60
    while time.time() < end and not (folder / "end").exists():
        time.sleep(0.02)
except KeyboardInterrupt:
    with (folder / "saved").open("a") as file:
        file.write("x")
    raise SystemExit(130)
"""


def outer(folder: Path) -> subprocess.Popen[str]:
    """A process that runs the saving stage, and one after it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom experiments.runner import Runner, Slot\nfrom experiments.stage import Stage\n"
        f"folder = Path({str(folder)!r})\n"
        f"stages = [Stage('a', ('-c', {SAVING.replace('FOLDER', repr(str(folder)))!r}), makes=(folder / 'made',)),\n"
        "    Stage('b', ('-c', f\"open({str(folder / 'b')!r}, 'a').write('x')\"), ('a',))]\n"
        "sys.exit(Runner(stages, folder / 'work', [Slot((), 1)]).run())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_commands_save(tmp_path: Path, number: signal.Signals) -> None:
    process = outer(tmp_path)
    patiently((tmp_path / "runs").exists)
    # As Ctrl-C on a terminal: the whole group of the runner gets it.
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert error == "experiments: stopped; the same command goes on where it was\n"
    assert text(tmp_path / "saved") == "x" and not (tmp_path / "b").exists()
    again = outer(tmp_path)
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 0 and (tmp_path / "made").exists() and text(tmp_path / "b") == "x"


def test_two_runs_of_one_experiment_are_one_too_many(tmp_path: Path) -> None:
    """Also where the first was killed and left a command behind."""
    process = outer(tmp_path)
    patiently((tmp_path / "runs").exists)
    with pytest.raises(UserError, match="another run of this experiment is at work"):
        Runner(chain(tmp_path), tmp_path / "work", ONE).run()
    process.kill()
    process.wait(timeout=PATIENCE)
    try:
        with pytest.raises(UserError, match="another run of this experiment is at work"):
            Runner(chain(tmp_path), tmp_path / "work", ONE).run()
    finally:
        (tmp_path / "end").touch()

    def free() -> bool:
        try:
            return Runner([], tmp_path / "work", ONE).run() == 0
        except UserError:
            return False

    patiently(free)


# ---- descriptions ---------------------------------------------------------------------------------------------------------


def test_mistakes_in_a_description() -> None:
    good = Stage("a", program("pass"))
    for stages, message in (
        ([good, good], "twice"),
        ([Stage("a/b", program("pass"))], "file"),
        ([Stage("b", program("pass"), ("a",)), good], "waits for a, which does not stand before it"),
    ):
        with pytest.raises(ValueError, match=message):
            check(stages)


def test_keys_follow_commands_and_all_that_stands_before() -> None:
    def key(first: str, middle: str) -> list[str]:
        stages = [
            Stage("a", program(first)),
            Stage("b", program(middle), ("a",)),
            Stage("c", program("3"), ("b",)),
            Stage("d", program("4")),
        ]
        return list(keys(stages).values())

    one, two, three = key("1", "2"), key("1", "x"), key("x", "2")
    assert one == key("1", "2")
    assert [a == b for a, b in zip(one, two, strict=True)] == [True, False, False, True]
    assert [a == b for a, b in zip(one, three, strict=True)] == [False, False, False, True]


def test_only_what_the_last_stage_waits_for(tmp_path: Path) -> None:
    stages = [
        Stage("a", program("1")),
        Stage("alone", program("1"), needs=(tmp_path / "nothing",)),
        Stage("b", program("1"), ("a",)),
        Stage("c", program("1"), ("b",)),
    ]
    assert [stage.name for stage in wanted(stages, "c")] == ["a", "b", "c"]
    assert missing(wanted(stages, "c")) == [] and len(missing(stages)) == 1
