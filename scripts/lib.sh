# Shared by the scripts in this folder: `. "$(dirname "$0")/lib.sh"`. Not a command.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is fetched or run lives here; git ignores it, and removing it is always safe.
DEPS=$ROOT/.deps
# shellcheck disable=SC2034  # read by the scripts that source this file
ME=${0##*/}

say() { printf '%s\n' "$*"; }

# One sentence on stderr, then the exit code (1 where none is given).
die() {
    printf '%s: %s\n' "$ME" "$1" >&2
    exit "${2:-1}"
}

have() { command -v "$1" >/dev/null 2>&1; }

# A script's own header comment is its manual.
usage() { sed -n '2,/^[^#]/{/^#/!q; s/^# \{0,1\}//p;}' "$0"; }

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Holds .deps/NAME.lock until the script ends, so that two runs at once do not write the same folder.
lock() {
    mkdir -p "$DEPS"
    exec 9>"$DEPS/$1.lock"
    flock -n 9 || { say "waiting for another $ME"; flock 9; }
}
