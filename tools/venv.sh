#!/bin/sh
# venv.sh PYTHON: makes .venv with the project (editable) and the test tools, or leaves it as it is
# where nothing that it was made from has changed. Run from the top of the repository.
#
# .venv/made-from remembers the interpreter and the folder (a change means a new environment) and
# the packages asked for (a change means another pip install).
set -eu

python=$1
log=.venv/pip.log
identity=$("$python" -c 'import os, sys; print(os.getcwd(), sys.base_prefix, sys.version.split()[0])')
wanted=$(cat setup.cfg pyproject.toml setup.py | cksum)

if [ -f .venv/made-from ] && .venv/bin/python -c '' 2>/dev/null; then
    { read -r had_identity; read -r had_wanted; } <.venv/made-from || :
else
    had_identity='' had_wanted=''
fi
[ "$had_identity" != "$identity" ] || [ "$had_wanted" != "$wanted" ] || exit 0

if [ "$had_identity" != "$identity" ]; then
    rm -rf .venv
    "$python" -m venv .venv
fi
rm -f .venv/made-from
echo "installing the project and its test tools into .venv (half a minute or so)"
if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install --editable '.[test]' >$log 2>&1
then
    # The innermost complaint comes first: what pip says of the build that it ran inside.
    why=$(sed -n 's/^ *ERROR: //p' $log | grep -v '^Could not find' | head -n 1)
    echo "pip could not install what mptcpd is built and tested with (${why:-no reason given}):" \
        "make a package index reachable, or name one in PIP_INDEX_URL or PIP_FIND_LINKS;" \
        "all that pip said is in $log" >&2
    exit 1
fi
printf '%s\n%s\n' "$identity" "$wanted" >.venv/made-from
