#!/usr/bin/env bash
# What a card says of the project, within eight minutes: tests on the device, the table of peers, a short experiment.
#
#     bash benchmarks/gpu.sh                    # a CUDA card; writes benchmarks/results/gpu-CARD.md, whatever fails
#     DEVICE=cpu bash benchmarks/gpu.sh --small # every line of it at the smallest size: is the script alive? Its parts may take longer
#
# Needs Python with torch; what else is missing comes from benchmarks/parcel, which benchmarks/pack.sh makes. Nothing is fetched.
# PYTHON=/path names another Python, OUT_DIR another folder for pages, PARTS="tests peers experiment" what is done.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export DEVICE=${DEVICE:-cuda}
SMALL=
[[ ${1:-} == --small ]] && SMALL=1
PARTS=${PARTS:-tests peers experiment}
PYTHON=${PYTHON:-}
if [[ -z $PYTHON ]]; then
    PYTHON=python3
    [[ -x .venv/bin/python ]] && PYTHON=.venv/bin/python
fi
WORK=$(mktemp -d)
OUT_DIR=${OUT_DIR:-$([[ -n $SMALL ]] && echo "$WORK" || echo benchmarks/results)}
mkdir -p "$OUT_DIR"
export PYTHONUNBUFFERED=1

# Packages of the parcel that are not here; wheels are zip files.
unpack() {
    local wheel name
    for wheel in benchmarks/parcel/wheels/*.whl; do
        [[ -f $wheel ]] || continue
        name=$(basename "$wheel" | cut -d- -f1)
        "$PYTHON" -c 'import importlib.metadata, sys; importlib.metadata.version(sys.argv[1])' "$name" 2>/dev/null && continue
        "$PYTHON" -m zipfile -e "$wheel" "$WORK/site" && echo "$name from the parcel"
    done
    export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
}

versions() {
    "$PYTHON" - <<'PROGRAM'
import platform, torch, torchvision, timm
gpu = torch.cuda.is_available()
card = torch.cuda.get_device_properties(0) if gpu else None
print(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")
print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, GPU: {card.name if card else 'none'}", end="")
print(f", {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors, capability {card.major}.{card.minor}" if card else "")
PROGRAM
    [[ $DEVICE == cpu ]] || nvidia-smi --query-gpu=driver_version,clocks.sm,power.limit --format=csv 2>/dev/null
    echo "$(getconf _NPROCESSORS_ONLN) cores; commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
}

ROWS=()
# part NAME SECONDS COMMAND...: what came of it, into the table; its output into a log.
part() {
    local name=$1 limit=$2 begin=$SECONDS code=0 outcome=passed
    shift 2
    # A processor that others work on, too, is no card whose minutes are counted.
    [[ -z $SMALL ]] || limit=$((30 * limit))
    echo "== $name (at most $limit s)"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$WORK/$name.log" || code=${PIPESTATUS[0]}
    [[ $code -eq 0 ]] || outcome="exit code $code"
    [[ $code -ne 124 && $code -ne 137 ]] || outcome="out of time"
    ROWS+=("| $name | $outcome | $((SECONDS - begin)) | $limit |")
}

# The end of a part's log as a block; without the lines that a progress bar overwrote.
log() {
    [[ -s $WORK/$1.log ]] || return 0
    printf '\n## %s\n\n```text\n' "$1"
    tr '\r' '\n' <"$WORK/$1.log" | grep -v -e '^$' -e 'it/s\]' -e 's/it\]' -e '%|' | tail -"$2"
    printf '```\n'
}

write_page() {
    local card page
    card=$(sed -n 's/.*GPU: \(.*\), [0-9]* GiB.*/\1/p' "$WORK/versions" | tr '[:upper:] ' '[:lower:]-')
    page="$OUT_DIR/gpu-${card:-cpu}.md"
    {
        printf '# On a card\n\nWritten by `bash benchmarks/gpu.sh`, device %s%s, %s.\n' "$DEVICE" "${SMALL:+, smallest sizes}" "$(date -u +%F)"
        printf '\n```text\n%s\n```\n' "$(cat "$WORK/versions")"
        printf '\n| part | outcome | seconds | of |\n|---|---|---|---|\n'
        [[ ${#ROWS[@]} -eq 0 ]] || printf '%s\n' "${ROWS[@]}"
        log tests 30
        if [[ -f $WORK/peers.md ]]; then
            printf '\n## peers\n'
            sed -n '2,$p' "$WORK/peers.md"
        else
            log peers 15
        fi
        log experiment 30
    } >"$page"
    echo "Page: $page"
}
run_tests() { OMP_NUM_THREADS=1 "$PYTHON" -m pytest tests/devices -q -p no:cacheprovider -p no:randomly --maxfail=20; }

run_peers() {
    local options=()
    if [[ -n $SMALL ]]; then
        options=(--small --precision fp32)
    else
        # The first crop is that of the targets; what is measured first is what a lack of time leaves.
        options=(--crops 512 --rounds 2 --calls 3 --jobs peak base weak memory affinity test scripts augment filter)
    fi
    "$PYTHON" -m benchmarks.peers --device "$DEVICE" "${options[@]}" --out "$WORK/peers.md"
}

# A base step from pixels and a weak step from image labels, on photographs where the parcel has them.
run_experiment() {
    local data=benchmarks/parcel/data/voc-animals which=(--dataset voc --task 4-2) epochs=3 every=20 workers=8
    local backbone=timm:tf_efficientnet_lite0 weights=() step
    if [[ ! -d $data || -n $SMALL ]]; then
        data=$WORK/shapes which=(--dataset shapes --task 5-3)
        "$PYTHON" -m dataset.shapes --out "$data" || return
    fi
    [[ -z $SMALL ]] || { epochs=1 every=2 workers=1 backbone=timm:resnet10t weights=(--no_pretrained); }
    for step in 0 1; do
        local how=(--bce --lr 0.02 --epochs "$epochs" "${weights[@]}")
        [[ $step == 0 ]] || how=(--recipe best --weakly --affinity --lr_policy warmup --pseudo_ep 1 --lr 0.001 --epochs $((epochs + 1)))
        "$PYTHON" run.py --name gpu "${which[@]}" --overlap --dataset_dir "$data" --step "$step" --device "$DEVICE" \
            --backbone "$backbone" --crop_size 160 --crop_size_val 160 --batch_size 16 --iters_per_epoch "$every" \
            --val_interval 1000 --num_workers "$workers" --sample_num 4 --checkpoints "$WORK/checkpoints" --logdir "$WORK/logs" \
            "${how[@]}" || return
    done
    "$PYTHON" run.py --name gpu "${which[@]}" --overlap --dataset_dir "$data" --step 1 --device "$DEVICE" --backbone "$backbone" \
        --crop_size 160 --batch_size 8 --test --crop_val --weakly --checkpoints "$WORK/checkpoints" --logdir "$WORK/logs" || return
    "$PYTHON" predict.py --model "$WORK/checkpoints/step"/*/gpu_1.pth --device "$DEVICE" --out "$WORK/masks" \
        $(find "$data" -name '*.jpg' -o -name '*.png' | grep -v -i segm | head -8)
}

unpack
versions 2>&1 | tee "$WORK/versions"
if [[ $DEVICE != cpu ]] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu.sh: torch sees no GPU here; DEVICE=cpu bash benchmarks/gpu.sh --small runs on the CPU" >&2
    exit 2
fi
# Whatever fails from here on.
trap write_page EXIT
trap 'exit 130' INT TERM
export -f run_tests run_peers run_experiment
export PYTHON WORK SMALL
[[ $PARTS != *tests* ]] || part tests 120 bash -c run_tests
[[ $PARTS != *peers* ]] || part peers 270 bash -c run_peers
[[ $PARTS != *experiment* ]] || part experiment 80 bash -c run_experiment
