#!/usr/bin/env bash
# Fetches PASCAL VOC 2012 and SBD and lays them out as `--dataset voc` reads them. See --help.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=data/fetch.sh
. "$HERE/fetch.sh"

VOC_URL=${VOC_URL:-http://host.robots.ox.ac.uk/pascal/VOC/voc2012}
SBD_URL=${SBD_URL:-https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours}
VOC_MD5=${VOC_MD5:-6cd6e144f989b92b3379bac3b3de84fd}
SBD_MD5=${SBD_MD5:-82b4d87ceb2ed10f6038a1cba92111cb}
OUT=$HERE/voc

usage() {
    cat <<HELP
usage: download_voc.sh [--out DIR] [--dry-run] [--clean] [--help]

Fetches PASCAL VOC 2012 (2.0 GB) and the Semantic Boundaries Dataset (1.4 GB), checks their md5, and makes
  DIR/JPEGImages  DIR/SegmentationClassAug  DIR/splits/train_aug.txt (10,582 images)  DIR/splits/val.txt (1,449 images)
About 8 GB of disk are needed. Run it again after an interruption: it goes on where it stopped and skips what is done.

$(options)

Environment: VOC_URL and SBD_URL name other servers (the folders that hold VOCtrainval_11-May-2012.tar and benchmark.tgz),
VOC_MD5 and SBD_MD5 what their archives must hash to, PYTHON the interpreter (it needs numpy, pillow, scipy and tqdm).
HELP
}

read_options "$@"

VOC_FILE=$OUT/downloads/VOCtrainval_11-May-2012.tar
SBD_FILE=$OUT/downloads/benchmark.tgz

if [ "$DRY" = 1 ]; then
    plan "$VOC_URL/VOCtrainval_11-May-2012.tar" "$VOC_FILE" "$VOC_MD5" "1,999,639,040 bytes"
    plan "$SBD_URL/benchmark.tgz" "$SBD_FILE" "$SBD_MD5" "1,419,539,633 bytes"
    echo "would make $OUT/JPEGImages, $OUT/SegmentationClassAug and $OUT/splits"
    exit 0
fi
if [ -d "$OUT/JPEGImages" ] && [ -d "$OUT/SegmentationClassAug" ] && [ -f "$OUT/splits/train_aug.txt" ]; then
    echo "$OUT is complete"
    exit 0
fi
choose_tools
mkdir -p "$OUT/downloads"

# unpack_tar ARCHIVE MEMBER...: extracts members of a tar archive into $OUT/.unpack.
unpack_tar() {
    local archive=$1
    shift
    begin_unpacking "$archive"
    tar -xf "$archive" -C "$OUT/.unpack" "$@" || fail "$archive cannot be unpacked; remove it and run again"
}

# JPEGImages is moved last: where it stands, all of VOC stands.
if [ ! -d "$OUT/JPEGImages" ]; then
    fetch "$VOC_URL/VOCtrainval_11-May-2012.tar" "$VOC_FILE" "$VOC_MD5"
    unpack_tar "$VOC_FILE" VOCdevkit/VOC2012/JPEGImages VOCdevkit/VOC2012/SegmentationClass \
        VOCdevkit/VOC2012/ImageSets/Segmentation
    put VOCdevkit/VOC2012 "$OUT" ImageSets SegmentationClass JPEGImages
fi
if [ ! -d "$OUT/SBD" ]; then
    fetch "$SBD_URL/benchmark.tgz" "$SBD_FILE" "$SBD_MD5"
    unpack_tar "$SBD_FILE" benchmark_RELEASE/dataset/cls benchmark_RELEASE/dataset/train.txt benchmark_RELEASE/dataset/val.txt
    mv "$OUT/.unpack/benchmark_RELEASE/dataset" "$OUT/SBD"
fi
rm -rf "$OUT/.unpack"
"$PYTHON" "$HERE/make_voc_aug.py" --voc "$OUT" --sbd "$OUT/SBD" --out "$OUT"
if [ "$CLEAN" = 1 ]; then rm -rf "$OUT/downloads"; fi
echo "$OUT is complete; check it with: python -m dataset.check --dataset voc --dataset_dir $OUT"
