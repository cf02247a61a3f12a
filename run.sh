#!/usr/bin/env bash
# One line for each thing to do; every run.py line is printed before it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'TEXT'
usage: bash run.sh COMMAND

  demo                          make .venv, install, run the whole method on drawn shapes, write demo/report.html
  test [PYTEST OPTIONS]         make .venv, install, check style and types, run the whole test suite,
                                two files at a time (WORKERS=4: four)
  fuzz [PYTEST OPTIONS]         the same .venv; every reader of files against hostile input, a minute each (FUZZ_SECONDS);
                                then every command killed, stopped, doubled, out of disk: two hours in all
  animals --data DIR [OPTIONS]  every method and part on real photographs, with seeds
  voc256 TASK --data DIR        twenty classes of real photographs at 256 pixels (15-5, 10-10, 15-5s ...), with --overlap
                                or without
  adopt --data DIR [OPTIONS]    segmenters of other libraries learn new classes, beside this project's own
  voc TASK [OPTIONS]            PASCAL VOC at the paper's scale (15-5, 10-10, 15-5s ...), with --overlap or without
  coco [OPTIONS]                COCO to VOC at the paper's scale

demo, animals, voc256, adopt, voc and coco are descriptions of experiments/: each prints every command that it
runs, goes on where it was stopped, runs what does not depend on each other side by side, and ends
with table.md, .csv, .tex and report.html in its work folder.

OPTIONS are those of python -m experiments animals|voc256|adopt|voc|coco --help: --arms chooses methods, --seeds,
--jobs, --gpus, --cpu, --options='...' adds to every run.py line. --dry_run runs nothing and prints
every command as `+ python ...`, for as many GPUs as --gpus says, with `# NAME: done` above what is
done. GPUS=2 is --gpus 2, GPUS=0 is --cpu, DRY_RUN=1 is --dry_run.
TEXT
}

VENV=${VENV:-.venv}
PYTHON=$VENV/bin/python

# install EXTRA: a virtual environment with the project's packages, made once for each version of pyproject.toml.
install() {
    local stamp="$VENV/.installed-$1" python
    if [[ -f $stamp && ! pyproject.toml -nt $stamp ]]; then
        return
    fi
    python=${BASE_PYTHON:-$(command -v python3.11 || command -v python3 || true)}
    if [[ -z $python ]] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "run.sh: Python 3.11 or later is needed (BASE_PYTHON=/path/to/python names one)" >&2
        exit 2
    fi
    echo "run.sh: installing the packages into $VENV, which takes a few minutes and several GB the first time"
    [[ -x $PYTHON ]] || "$python" -m venv "$VENV"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
    touch "$stamp"
}

# experiment NAME OPTIONS ...: a description of experiments/, with the variables of the environment as options.
experiment() {
    install "$EXTRA"
    [[ -z ${DRY_RUN:-} ]] || set -- "$@" --dry_run
    case ${GPUS:-} in
        "") ;;
        0) set -- "$@" --cpu ;;
        *) set -- "$@" --gpus "$GPUS" ;;
    esac
    "$PYTHON" -m experiments "$@"
}

run_tests() {
    EXTRA=dev
    install "$EXTRA"
    "$PYTHON" -m ruff check .
    "$PYTHON" -m mypy
    # A file's tests run in one process; two processes that each use all cores would slow each other tenfold.
    OMP_NUM_THREADS=1 "$PYTHON" -m pytest --numprocesses "${WORKERS:-2}" --dist loadfile "$@"
}

run_fuzz() {
    EXTRA=dev
    install "$EXTRA"
    FUZZ=long FAULTS=long "$PYTHON" -m pytest tests/fuzz tests/faults "$@"
}

EXTRA=${EXTRA:-demo}
command=${1:-}
[[ $# -eq 0 ]] || shift
case $command in
    test) run_tests "$@" ;;
    fuzz) run_fuzz "$@" ;;
    demo | animals | voc256 | voc | coco) experiment "$command" "$@" ;;
    adopt)
        # Its training scripts need segmentation_models.pytorch.
        [[ $EXTRA != demo ]] || EXTRA=smp
        experiment adopt "$@"
        ;;
    "" | -h | --help | help) usage ;;
    *)
        echo "run.sh: unknown command $command" >&2
        usage >&2
        exit 2
        ;;
esac
