# Sourced by the other scripts: a virtual environment in .venv, at the pinned versions, made when it is missing
# or when the pins changed. Usage: set_up EXTRA, where EXTRA is empty or such as [test,lint].
set_up() {
    local stamp
    stamp=".venv/set-up$(printf '%s' "$1" | tr -c 'a-z' '-')"
    # -nt: a changed pin or dependency makes the environment again
    if [ ! -e "$stamp" ] || [ constraints.txt -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
        echo "setting up .venv ..." >&2
        "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            { echo "rnn-export needs Python 3.11 or newer: set PYTHON to one" >&2; exit 2; }
        "${PYTHON:-python3}" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".$1"
        touch "$stamp"
    fi
    . .venv/bin/activate
}
