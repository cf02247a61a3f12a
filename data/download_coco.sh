#!/usr/bin/env bash
# Fetches COCO 2017 images and the stuff-thing maps and lays them out as `--dataset coco` reads them. See --help.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=data/fetch.sh
. "$HERE/fetch.sh"

COCO_URL=${COCO_URL:-http://images.cocodataset.org/zips}
STUFF_URL=${STUFF_URL:-http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset}
COCO_TRAIN_MD5=${COCO_TRAIN_MD5:-cced6f7f71b7629ddf16f17bbcfab6b2}
COCO_VAL_MD5=${COCO_VAL_MD5:-442b8da7639aecaf257c1dceb8ba8c80}
STUFF_MD5=${STUFF_MD5:--}
OUT=$HERE/coco

usage() {
    cat <<HELP
usage: download_coco.sh [--out DIR] [--dry-run] [--clean] [--help]

Fetches the COCO 2017 images (18.0 + 0.8 GB) and the stuff-thing maps of COCO-Stuff (about 0.7 GB), checks them, and makes
  DIR/images/{train2017,val2017}  DIR/annotations/{train2017,val2017}
About 42 GB of disk are needed. Run it again after an interruption: it goes on where it stopped and skips what is done.
Nobody publishes a hash of the stuff-thing maps: theirs is noted in DIR/downloads/*.sha256 the first time and checked later.

$(options), keep the noted hash

Environment: COCO_URL and STUFF_URL name other servers (the folders that hold train2017.zip, val2017.zip, and
stuffthingmaps_trainval2017.zip), COCO_TRAIN_MD5, COCO_VAL_MD5 and STUFF_MD5 what their archives must hash to, PYTHON the
interpreter that unpacks them.
HELP
}

read_options "$@"

STUFF=stuffthingmaps_trainval2017.zip
if [ "$DRY" = 1 ]; then
    plan "$COCO_URL/val2017.zip" "$OUT/downloads/val2017.zip" "$COCO_VAL_MD5" "815,585,330 bytes"
    plan "$COCO_URL/train2017.zip" "$OUT/downloads/train2017.zip" "$COCO_TRAIN_MD5" "about 18 GB"
    plan "$STUFF_URL/$STUFF" "$OUT/downloads/$STUFF" "$STUFF_MD5" "about 0.7 GB"
    echo "would make $OUT/images/{train2017,val2017} and $OUT/annotations/{train2017,val2017}"
    exit 0
fi

# unpack_zip ARCHIVE TARGET NAME...: puts the folders NAME of a zip archive into TARGET.
unpack_zip() {
    local archive=$1 target=$2 name
    shift 2
    begin_unpacking "$archive"
    "$PYTHON" -m zipfile -e "$archive" "$OUT/.unpack" 2>/dev/null ||
        fail "$archive cannot be unpacked (disk full, or the file is damaged: then remove it); run again"
    for name in "$@"; do
        [ -d "$OUT/.unpack/$name" ] || fail "$archive holds no folder $name; it is not the archive expected"
    done
    put . "$target" "$@"
    rm -rf "$OUT/.unpack"
}

choose_tools
mkdir -p "$OUT/downloads"
if [ ! -d "$OUT/images/val2017" ]; then
    fetch "$COCO_URL/val2017.zip" "$OUT/downloads/val2017.zip" "$COCO_VAL_MD5"
    unpack_zip "$OUT/downloads/val2017.zip" "$OUT/images" val2017
fi
if [ ! -d "$OUT/images/train2017" ]; then
    fetch "$COCO_URL/train2017.zip" "$OUT/downloads/train2017.zip" "$COCO_TRAIN_MD5"
    unpack_zip "$OUT/downloads/train2017.zip" "$OUT/images" train2017
fi
if [ ! -d "$OUT/annotations/train2017" ] || [ ! -d "$OUT/annotations/val2017" ]; then
    fetch "$STUFF_URL/$STUFF" "$OUT/downloads/$STUFF" "$STUFF_MD5"
    unpack_zip "$OUT/downloads/$STUFF" "$OUT/annotations" train2017 val2017
fi
if [ "$CLEAN" = 1 ]; then rm -f "$OUT"/downloads/*.zip; fi
echo "$OUT is complete; check it with: python -m dataset.check --dataset coco --dataset_dir $OUT"
