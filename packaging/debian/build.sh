#!/bin/sh
# build.sh [FOLDER]: builds the Debian package from this source tree, into FOLDER (default: dist).
# Needs debhelper, dh-python and python3-cffi. Nothing is written into the source tree but FOLDER.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-"$top/dist"}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/mptcpd"
tar -C "$top" -c --exclude=./.git --exclude=./.venv --exclude=./dist --exclude=./build \
    --exclude=__pycache__ --exclude='./.*_cache' --exclude=./.hypothesis \
    --exclude=./mptcpd/nl/_attrs_abi.py . | tar -C "$work/mptcpd" -x
mv "$work/mptcpd/packaging/debian" "$work/mptcpd/debian"
cd "$work/mptcpd"
dpkg-buildpackage --build=binary --no-sign
mv "$work"/mptcpd_* "$out"
