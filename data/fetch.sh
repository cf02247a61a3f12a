# Functions that the download scripts share; not run by itself. Works with bash 3.2 and later, curl or wget.
# shellcheck shell=bash

# One line for the user: fail for what went wrong, refuse for arguments that make no sense.
fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

refuse() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}

# options: what --help says of the options that read_options reads, all but the end of --clean.
options() {
    echo "  --out DIR   where to put the data [$OUT]"
    echo "  --dry-run   print what would be fetched, touch nothing"
    echo "  --clean     remove the archives at the end"
}

# read_options ARGUMENT...: sets OUT, where it is given, DRY and CLEAN; --help prints what the script's function usage prints.
read_options() {
    DRY=0
    CLEAN=0
    while [ $# -gt 0 ]; do
        case $1 in
        --out)
            [ $# -ge 2 ] || refuse "--out needs a folder"
            OUT=$2
            shift
            ;;
        --dry-run) DRY=1 ;;
        --clean) CLEAN=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) refuse "$1: unknown option (--help lists all)" ;;
        esac
        shift
    done
}

# choose_tools: sets TOOL to curl or wget and PYTHON to an interpreter, or stops with one line.
choose_tools() {
    if command -v curl >/dev/null 2>&1; then
        TOOL=curl
    elif command -v wget >/dev/null 2>&1; then
        TOOL=wget
    else
        fail "needs curl or wget to download; install one of them"
    fi
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=python3
        if [ -x "$HERE/../.venv/bin/python" ]; then PYTHON=$HERE/../.venv/bin/python; fi
    fi
    command -v "$PYTHON" >/dev/null 2>&1 || fail "needs Python 3 ($PYTHON not found); install it or set PYTHON"
}

# digest ALGORITHM FILE: prints the hexadecimal md5 or sha256.
digest() {
    if command -v "$1sum" >/dev/null 2>&1; then
        "$1sum" "$2" | cut -d ' ' -f 1
    elif command -v openssl >/dev/null 2>&1; then
        openssl dgst "-$1" "$2" | sed 's/.* //'
    else
        fail "needs $1sum or openssl to check $2"
    fi
}

# transfer URL FILE: downloads into FILE, going on where an earlier attempt stopped. Progress is shown on terminals only.
transfer() {
    local status=0 code progress
    if [ "$TOOL" = wget ]; then
        progress=--quiet
        if [ -t 2 ]; then progress=--no-verbose; fi
        wget --continue --tries=5 "$progress" --output-document="$2" "$1" || status=$?
        [ "$status" -eq 0 ] || fail "$1 could not be fetched (wget ended with $status); run again to go on where it stopped"
        return
    fi
    progress=--silent
    if [ -t 2 ]; then progress=--progress-bar; fi
    code=$(curl "$progress" --fail --location --retry 5 --connect-timeout 30 --continue-at - \
        --write-out '%{http_code}' --output "$2" "$1") || status=$?
    # 33: the server cannot send a part of a file, so the whole is asked for.
    if [ "$status" -eq 33 ]; then
        status=0
        code=$(curl "$progress" --fail --location --retry 5 --connect-timeout 30 \
            --write-out '%{http_code}' --output "$2" "$1") || status=$?
    fi
    # 416: nothing is left to send, the file was whole already.
    [ "$status" -eq 0 ] || [ "$code" = 416 ] ||
        fail "$1 could not be fetched (curl ended with $status); run again to go on where it stopped"
}

# fetch URL FILE MD5: downloads to FILE.part, checks, renames. Without MD5 ("-") a zip archive is tested and its sha256 noted
# in FILE.sha256, which later downloads must match.
fetch() {
    local url=$1 file=$2 md5=$3 actual
    if [ -f "$file" ]; then
        echo "$file is there already"
        return
    fi
    echo "fetching $url"
    mkdir -p "$(dirname "$file")"
    transfer "$url" "$file.part"
    if [ "$md5" != - ]; then
        actual=$(digest md5 "$file.part")
        if [ "$actual" != "$md5" ]; then
            rm -f "$file.part"
            fail "$url: md5 is $actual instead of $md5; the file was removed, run again or look at the server"
        fi
    else
        actual=$(digest sha256 "$file.part")
        if [ ! -f "$file.sha256" ]; then
            if ! "$PYTHON" -c 'import sys, zipfile; sys.exit(bool(zipfile.ZipFile(sys.argv[1]).testzip()))' "$file.part" 2>/dev/null; then
                rm -f "$file.part"
                fail "$url: not a whole zip archive; the file was removed, run again or look at the server"
            fi
            echo "$actual" >"$file.sha256"
        elif [ "$actual" != "$(cat "$file.sha256")" ]; then
            rm -f "$file.part"
            fail "$url: sha256 is $actual instead of $(cat "$file.sha256") as noted in $file.sha256; the file was removed"
        fi
    fi
    mv "$file.part" "$file"
}

# plan URL FILE MD5 SIZE: prints what fetch would do.
plan() {
    local what="would fetch"
    if [ -f "$2" ]; then what="already there"; fi
    if [ "$3" = - ]; then set -- "$1" "$2" "none published; its sha256 is noted on the first download" "$4"; else set -- "$1" "$2" "md5 $3" "$4"; fi
    printf '%s\n  url    %s\n  size   %s\n  hash   %s\n  target %s\n' "$what" "$1" "$4" "$3" "$2"
}

# begin_unpacking ARCHIVE: says so, and empties $OUT/.unpack for what the archive holds.
begin_unpacking() {
    rm -rf "$OUT/.unpack"
    mkdir -p "$OUT/.unpack"
    echo "unpacking $1"
}

# put FOLDER TARGET NAME...: moves NAME of $OUT/.unpack/FOLDER to TARGET/NAME, each at once, in their order.
put() {
    local folder=$1 target=$2 name
    shift 2
    mkdir -p "$target"
    for name in "$@"; do
        rm -rf "${target:?}/$name"
        mv "$OUT/.unpack/$folder/$name" "$target/$name"
    done
}
