#!/bin/sh
# big_endian.sh FOLDER PYTEST-ARGUMENTS...: runs tests on a big-endian Python. From the top.
#
# Debian's python3 and cffi for s390x under qemu's user-mode emulation. The packages are downloaded
# by apt, with lists and a state of their own in FOLDER, and unpacked there: nothing is installed, no
# architecture is added to this system, and no root is needed. Delete FOLDER to begin again.
#
# DEBIAN   "URI SUITE" where the packages are; by default where this system has its own from
set -eu

folder=$1
shift
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
root=$folder/root
qemu=$folder/usr/bin/qemu-s390x-static

missing() {
    echo "big_endian.sh: $*" >&2
    exit 1
}

# fetch ARCHITECTURE apt-get's ARGUMENTS: by lists, a state and a cache that are not the system's
fetch() {
    state=$folder/apt/$1
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    echo "deb [signed-by=$keyring] $debian main" >"$state/sources.list"
    own() {
        (cd "$state" && apt-get -qq -o Dir::State="$state" -o Dir::State::status="$state/status" \
            -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list" \
            -o Dir::Etc::sourceparts=- -o APT::Architecture="$architecture" \
            -o APT::Architectures::="$architecture" -o APT::Sandbox::User="$(id -un)" "$@")
    }
    architecture=$1
    shift
    own update
    own "$@"
}

if [ ! -e "$folder/complete" ]; then
    for tool in apt-get dpkg; do
        command -v $tool >/dev/null || missing "needs $tool, of Debian, for its packages"
    done
    [ -e $keyring ] ||
        missing "needs the package debian-archive-keyring, to know that the packages are Debian's"
    targets=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
        'Origin: Debian')
    debian=${DEBIAN:-$(echo "$targets" | head -n 1)}
    [ -n "$debian" ] || missing 'this is no Debian: name a mirror and a suite, DEBIAN="URI SUITE"'
    echo "fetching Debian's Python for s390x, and qemu to run it (about 150 MB, into $folder)"
    rm -rf "$folder"
    fetch s390x -y --download-only --no-install-recommends install \
        python3-cffi python3-pytest python3-hypothesis >/dev/null
    mkdir "$root"
    for package in "$state/cache/archives"/*.deb; do
        dpkg -x "$package" "$root"
    done
    fetch "$(dpkg --print-architecture)" download qemu-user-static
    # The package has all architectures, a few hundred megabytes.
    dpkg --fsys-tarfile "$state"/*.deb | tar -x -C "$folder" ./usr/bin/qemu-s390x-static
    rm -rf "$folder/apt"
    : >"$folder/complete"
fi

# The distribution's Python looks into dist-packages only with its own prefix, /usr.
export PYTHONPATH="$root/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
exec "$qemu" -L "$root" "$root/usr/bin/python3" -c '
import runpy, sys
if sys.byteorder != "big":
    sys.exit("big_endian.sh: this Python is little-endian")
sys.argv[0] = "pytest"
runpy.run_module("pytest", run_name="__main__")
' -p no:cacheprovider "$@"
