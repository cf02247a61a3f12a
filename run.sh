#!/usr/bin/env bash
# One line for each thing to do; every run.py line is printed before it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'TEXT'
usage: bash run.sh COMMAND

  demo                          make .venv, install, train a base and an incremental step on drawn shapes, write demo/report.html
  test [PYTEST OPTIONS]         make .venv, install, check style and types, run the whole test suite
  voc TASK [RUN.PY OPTIONS]     base step, then every incremental step from image labels on PASCAL VOC (15-5, 10-10, 15-5s ...)
  coco [RUN.PY OPTIONS]         the same from COCO to VOC
  animals --data DIR [OPTIONS]  every method and part on real photographs, with seeds and a table: python -m experiments animals --help

voc and coco use every GPU of the machine; GPUS=2 bash run.sh voc 15-5 --overlap uses two, GPUS=0 the CPU. Options after the task
go to every run.py line. DRY_RUN=1 prints the lines and runs none (animals: --dry_run). A line that was stopped goes on where it was.
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

# show COMMAND ...: print a command line, then run it unless DRY_RUN is set.
show() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    [[ -n ${DRY_RUN:-} ]] || "$@"
}

# launch OPTIONS ...: run.py on GPUS processes (one where there is no GPU).
launch() {
    if [[ ${GPUS:-0} -gt 1 ]]; then
        show "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$GPUS" run.py "$@"
    else
        show "$PYTHON" run.py "$@"
    fi
}

# steps DATASET TASK: number of steps of a task.
steps() {
    "$PYTHON" -c 'import sys, tasks; print(len(tasks.load_task(*sys.argv[1:3])))' "$1" "$2"
}

# experiment DATASET TASK BASE_EPOCHS EPOCHS ALPHA OPTIONS ...: the published schedule of a task, base step and all later ones.
experiment() {
    local dataset=$1 task=$2 base_epochs=$3 epochs=$4 alpha=$5 count step
    shift 5
    install "$EXTRA"
    if [[ -z ${GPUS:-} ]]; then
        GPUS=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
    fi
    count=$(steps "$dataset" "$task") || exit 2
    local common=(--dataset "$dataset" --task "$task" --batch_size 24 --num_workers 4 --resume auto)
    launch --name ours --step 0 --lr 0.01 --bce --epochs "$base_epochs" --val_interval 2 "${common[@]}" "$@"
    for ((step = 1; step < count; step++)); do
        launch --name ours --step "$step" --weakly --lr 0.001 --alpha "$alpha" --loss_de 1 --lr_policy warmup --affinity \
            --epochs "$epochs" "${common[@]}" "$@"
    done
}

demo() {
    install "$EXTRA"
    local page=demo/logs/shapes-5-3-ov/ours/report_1.html
    if [[ -f demo/result.txt && -f $page ]]; then
        cat demo/result.txt
        echo "run.sh: the demo is done already; delete the folder demo to run it again"
        return
    fi
    local common=(--dataset shapes --task 5-3 --overlap --data_root demo/data --logdir demo/logs --checkpoints demo/checkpoints
        --batch_size 16 --num_workers 1 --resume auto)
    show "$PYTHON" run.py --name ours --step 0 --bce --lr 0.02 --epochs 12 --val_interval 6 "${common[@]}"
    show "$PYTHON" run.py --name ours --step 1 --weakly --lr 0.002 --alpha 0.5 --loss_de 1 --lr_policy warmup --affinity \
        --epochs 12 --pseudo_ep 3 --val_interval 6 --report "${common[@]}" | tee demo/result.part
    if [[ -z ${DRY_RUN:-} ]]; then
        cp "$page" demo/report.html
        grep -v '^+' demo/result.part >demo/result.txt
        echo "run.sh: open demo/report.html to see the predictions beside the images"
    fi
}

run_tests() {
    EXTRA=dev
    install "$EXTRA"
    "$PYTHON" -m ruff check .
    "$PYTHON" -m mypy
    "$PYTHON" -m pytest "$@"
}

EXTRA=${EXTRA:-demo}
command=${1:-}
[[ $# -eq 0 ]] || shift
case $command in
    demo) demo ;;
    test) run_tests "$@" ;;
    voc)
        if [[ $# -eq 0 || $1 == -* ]]; then
            echo "run.sh: voc needs a task, for example: bash run.sh voc 15-5 --overlap" >&2
            exit 2
        fi
        task=$1
        shift
        experiment voc "$task" 30 40 0.5 "$@"
        ;;
    coco) experiment coco-voc voc 30 30 0.9 "$@" ;;
    animals)
        install "$EXTRA"
        "$PYTHON" -m experiments animals "$@"
        ;;
    "" | -h | --help | help) usage ;;
    *)
        echo "run.sh: unknown command $command" >&2
        usage >&2
        exit 2
        ;;
esac
