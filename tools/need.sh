#!/bin/sh
# Finds out whether this machine has what a make target needs.
#
#   need.sh python PYTHON...   an interpreter of Python 3.10 or newer
#   need.sh venv   PYTHON...   one that can make a virtual environment
#   need.sh cffi   PYTHON...   one that can write the cffi module (cffi and pycparser)
#   need.sh run    PYTHON...   one that can run the installed daemon (the cffi back end)
#
# Prints the first PYTHON that will do and exits 0; else one line on standard error that says what
# to install or change, and exits 1.
set -u

what=$1
shift

# Isolated (-I), as the installed daemon runs: what only one user has installed does not count.
can() {
    case $what in
        python) code='' ;;
        venv) code='import venv, ensurepip' ;;
        cffi) code='import cffi, pycparser' ;;
        run) code='import _cffi_backend' ;;
        *) echo "need.sh: no check is named $what" >&2; exit 2 ;;
    esac
    "$1" -I -c "import sys; sys.version_info < (3, 10) and sys.exit(1)
$code" >/dev/null 2>&1
}

for python; do
    can "$python" && { printf '%s\n' "$python"; exit 0; }
done

# None will do. Say why of the last one, which is the one that the user chose.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=
case $version in
    '')
        echo "mptcpd needs Python 3.10 or newer, and '$python' does not run here:" \
            "install it (Debian, Ubuntu: apt-get install python3 python3-venv;" \
            "Fedora: dnf install python3) or name another with PYTHON=..." ;;
    2.* | 3.[0-9])
        echo "mptcpd needs Python 3.10 or newer, and '$python' is $version:" \
            "name a newer one with PYTHON=..." ;;
    *)
        case $what in
            venv)
                echo "'$python' cannot make virtual environments (no venv or ensurepip module):" \
                    "install them (Debian, Ubuntu: apt-get install python3-venv)" \
                    "or name another interpreter with PYTHON=..." ;;
            cffi)
                echo "'$python' has no cffi to build with: install it for all users (Debian, Ubuntu:" \
                    "apt-get install python3-cffi; Fedora: dnf install python3-cffi)," \
                    "or run 'make venv' first, or name another interpreter with PYTHON=..." ;;
            run)
                echo "'$python' has no cffi to run mptcpd with: install it for all users (Debian, Ubuntu:" \
                    "apt-get install python3-cffi-backend; Fedora: dnf install python3-cffi)" \
                    "or name another interpreter with PYTHON=..." ;;
        esac ;;
esac >&2
exit 1
