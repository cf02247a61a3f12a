"""The pages say what the code does: constants of docs/method.md, and files that pages point to."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import pytest

from argparser import RECIPES, REPLAY_RECIPES, get_argparser
from captions.filters import NEW_PER_CLASS, RULES
from captions.similarity import DEPTH_WEIGHT
from dataset.replay import PRESENT
from experiments.arms import KNOWN, PARTS
from methods import losses, plop, ssul, weak
from modules import affinity
from modules.adopted.parts import NEVER
from modules.localizer import HIDDEN
from modules.spectrum import Preprocessing
from segmentation_module import GRID
from tests.conftest import ROOT
from web.examples import HELD_OUT
from web.quality import CHANCE_AUC
from web.selection import SelectionRule

PAGE = ROOT / "docs/method.md"
# The only form in which code points to the page; on one line.
REFERENCE = re.compile(r'docs/method\.md, "([^"\n]+)"')
# Pages that the repository does not have, in the forms in which they were once cited.
ABSENT = re.compile(r"""(?<!["'])\bMETHOD\b(?!["'])|\b(?:WEB|DATA|HOUSE)(?:,? sections?\b|,? [A-C]?\d\b| says\b)""")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
NUMBERS = {2: "two", 5: "five", 8: "eight", 10: "Ten"}


def option(name: str) -> object:
    """Default of an option of run.py."""
    return get_argparser().get_default(name)


def sentences() -> list[str]:
    """What the page has to say, with the constants of the code."""
    *nearer, farthest = affinity.DILATIONS
    wup, depth = RULES["wup"], RULES["depth"]
    return [
        f"at each distance of {', '.join(map(str, nearer))} and {farthest} pixels",
        f"{NUMBERS[affinity.ITERATIONS]} times every mask is replaced",
        f"(1 - \\bar p_c)^{losses.FOCAL_POWER} \\log({losses.FOCAL_FLOOR} + \\bar p_c)",
        f"above max({weak.MASK_TOP} of its highest value in the image, {weak.MASK_LOW})",
        f"for background {weak.MASK_BACKGROUND} in place of {weak.MASK_TOP}",
        f"{{10^{{{math.log10(weak.NO_IMAGE_EPS):.0f}}} + \\sum_b w_b}}",
        f"two 3x3 convolutions of {HIDDEN} channels",
        f"by `--alpha` ({option('alpha')};",
        f"From epoch `--pseudo_ep` ({option('pseudo_ep')}, the first being 0)",
        f"localizer {option('lr_pseudo')} (`--lr_pseudo`)",
        f"times `--l_seg` ({option('l_seg'):g})",
        f"momentum {option('momentum')}, weight decay {option('weight_decay')}, learning rate {option('lr')}",
        f"^{option('lr_power')} over n iterations; batch {option('batch_size')}, crop 512, {option('epochs')} epochs",
        f"a noun counts above {wup.threshold}",
        f"similarity `wup` above {wup.threshold}",
        f"`v[d] += {DEPTH_WEIGHT} d`",
        f"the threshold is {depth.threshold}",
        f"the {NUMBERS[wup.most]} most similar images",
        f"`p_ds / p_web > {SelectionRule().ratio:g}` (`--ratio`), or the best {NEW_PER_CLASS} of 10,000",
        f"of images of {Preprocessing().size} pixels",
        f"one image in {NUMBERS[HELD_OUT]} is held out",
        f"below {CHANCE_AUC} refuses to filter",
        f"at least {100 * PRESENT:.0f} % of the image",
        f"zero weights and a bias of {NEVER:g}: it never wins and its share of the sum, e^{NEVER:g}, is none",
        f"brought to a grid of stride {GRID}",
        f"regions of the map, s = {', '.join(map(str, plop.SCALES))},",
        f"times {plop.LOGITS}; lambda is {plop.FEATURES}",
        f"in steps of {1 / plop.BINS};",
        f"that class's and at least {ssul.SURE}",
    ]


@pytest.mark.parametrize("sentence", sentences())
def test_method_page_has_the_constants_of_the_code(sentence: str) -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert sentence in text


def test_method_page_explains_every_part_of_the_best_recipe() -> None:
    _, _, improvements = PAGE.read_text(encoding="utf-8").partition("## Improvements")
    for name, value in {**RECIPES["best"], **REPLAY_RECIPES["best"]}.items():
        shown = f"--{name}" if value is True else f"--{name} {value:g}"
        assert re.search(rf"^\|[^|]*{re.escape(shown)}\b", improvements, re.MULTILINE), f"{shown} has no row"
    for arm in re.findall(r"`(best-[a-z-]+)`", improvements):
        assert arm in KNOWN
    for part in PARTS:
        assert f"`best-{part}`" in improvements


def links(page: str) -> list[tuple[str, str]]:
    """(file, heading) of every link of a page that stays in the repository; a file is empty where it is the page itself."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    return [(path, heading) for path, _, heading in (target.partition("#") for target in targets)]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_point_to_are_there(page: str) -> None:
    own = links(page)
    assert own or page == "CHANGELOG.md"
    assert not [path for path, _ in own if not ((ROOT / page).parent / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_headings_that_pages_point_to_are_there(page: str) -> None:
    for path, heading in links(page):
        if heading:
            target = (ROOT / page).parent / path if path else ROOT / page
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings}
            assert heading in anchors, f"{page}: {path}#{heading}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/method.md"])
def test_files_that_pages_name_are_there(page: str) -> None:
    """Names in backticks: paths from the root, folders, or the bare name of a file that a path before it has placed."""
    named = set(re.findall(r"`([\w./]+(?:\.py|\.sh|/))`", (ROOT / page).read_text(encoding="utf-8")))
    files = {path.relative_to(ROOT).as_posix() for path in code()}
    bare = {Path(file).name for file in files}
    known = files | {f"{parent.as_posix()}/" for file in files for parent in Path(file).parents}
    lost = [name for name in named if name not in known and ("/" in name or name not in bare)]
    assert named and not [name for name in lost if not (ROOT / name).exists()]


def too_long(text: str, width: int, code: bool) -> list[str]:
    """Lines of a page wider than ``width`` outside its tables and formulas; ``code`` says whether blocks of code count."""
    wide, block = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            block = "" if block else line.strip()
        elif len(line) > width and not line.startswith("|") and block != "```math" and (code or not block):
            wide.append(line)
    return wide


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert not too_long(text, 110, code=True)
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 1, "one picture"
    commands = re.findall(r"^bash run\.sh (\w+)", "\n".join(text.splitlines()[:25]), re.MULTILINE)
    assert commands == ["demo", "test"], "the two commands stand on the first screen"


@pytest.mark.parametrize("page", PAGES)
def test_prose_has_lines_of_100_characters(page: str) -> None:
    assert not too_long((ROOT / page).read_text(encoding="utf-8"), 100, code=False)


def test_long_lines_are_seen() -> None:
    wide = "x" * 101
    page = f"{wide}\n| {wide} |\n```math\n{wide}\n```\n```bash\n{wide}\n```\n{wide}\n"
    assert too_long(page, 100, code=False) == [wide] * 2 and too_long(page, 100, code=True) == [wide] * 3


def code() -> list[Path]:
    """Python files that mypy checks and shell files beside them, but not this one with its examples."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = [place if "*" in place else f"{place}/**/*.py" for place in project["tool"]["mypy"]["files"]]
    patterns += [pattern.removesuffix("py") + "sh" for pattern in patterns]
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)} - {Path(__file__).resolve()})


def test_code_points_to_headings_of_the_method_page() -> None:
    headings = set(re.findall(r"^#+ (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    pointers = {path: REFERENCE.findall(path.read_text(encoding="utf-8")) for path in code()}
    assert sum(map(len, pointers.values())) >= 20, "the form of the pointers has changed"
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, names in pointers.items()
        for name in names
        if name not in headings
    ]
    assert not wrong, f"docs/method.md has no such heading: {wrong}"


def test_pointers_to_the_method_page_stand_on_one_line() -> None:
    wrong = []
    for path in code():
        for line in path.read_text(encoding="utf-8").splitlines():
            if "docs/method.md," in REFERENCE.sub("", line):
                wrong.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert not wrong, 'write docs/method.md, "Heading" on one line'


def test_nobody_cites_pages_that_are_not_there() -> None:
    files = [*code(), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    cited = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        for match in ABSENT.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not cited


@pytest.mark.parametrize(
    "text",
    ["METHOD section 4", "(METHOD 4; Araslanov)", "METHOD, section 3", "WEB, section B6", "WEB section C", "WEB says"],
)
def test_citations_of_absent_pages_are_seen(text: str) -> None:
    assert ABSENT.search(text)
