#!/usr/bin/env bash
# Which Pythons and which fairseq work: installs into fresh environments, runs a selection of the
# tests in each, and prints the table of docs/tested.md.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/examples/lib.sh"

# A training through fairseq's commands, resuming, export, checkpoints of earlier releases, translation.
SELECTION=(tests/test_system.py::test_it_learns
    tests/test_system.py::test_stopped_and_resumed_equals_never_stopped
    tests/test_system.py::test_generate_translates_by_every_leaf
    tests/test_system.py::test_an_exported_leaf_needs_no_plugin
    tests/test_stored.py tests/test_export.py tests/test_translate.py)
ROWS=(setup fairseq-fixed fairseq-0.12.2 serve)

usage() {
    cat <<'EOF'
usage: bash scripts/matrix.sh [--out DIR] [--rows NAME[,NAME...]] [--pythons COMMAND[,COMMAND...]]

For every Python, a clone of what is committed here and a fresh environment in it; then a
selection of the tests (ten minutes). Prints a table in Markdown, also in DIR/table.md.

  --out DIR    where the clones lie (default: runs/matrix in the clone); a row that is there is
               not made again
  --rows       which ways to install: setup (scripts/setup.sh), fairseq-fixed (pip install
               '.[fairseq]'), fairseq-0.12.2 (of PyPI, then pip install .), serve (pip install
               '.[serve]', without fairseq and torch); default: all
  --pythons    default: python3.10 to python3.13 as far as they are on PATH or of pyenv

BUILD and TORCH go to scripts/setup.sh. Needs the network.
EOF
}

# ---- before anything is written -------------------------------------------------------------------

find_pythons() {
    local minor found
    for minor in 10 11 12 13; do
        found=$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor.*/bin/python3" | sort -V | tail -n 1) || true
        [ -n "$found" ] || found=$(command -v "python3.$minor") || continue
        printf '%s\n' "$found"
    done
}

read_flags() {
    local row python
    OUT=$ROOT/runs/matrix CHOSEN='' NAMED=''
    VALUES=(--out OUT --rows CHOSEN --pythons NAMED)
    SWITCHES=()
    parse_flags "expected --out, --rows or --pythons (see matrix.sh --help)" "$@"
    OUT=$(absolute "$OUT")
    IFS=, read -ra CHOSEN <<<"${CHOSEN:-$(IFS=, && echo "${ROWS[*]}")}"
    for row in "${CHOSEN[@]}"; do one_of --rows "$row" "${ROWS[@]}"; done
    PYTHONS=()
    if [ -n "$NAMED" ]; then
        IFS=, read -ra PYTHONS <<<"$NAMED"
    else
        while IFS= read -r python; do PYTHONS+=("$python"); done < <(find_pythons)
    fi
    [ "${#PYTHONS[@]}" -gt 0 ] || die "--pythons: no Python 3.10 to 3.13 was found; name one"
    for python in "${PYTHONS[@]}"; do
        "$python" -c '' 2>/dev/null || die "--pythons: '$python' does not run as a Python"
    done
    [ -z "$(git -C "$ROOT" status --porcelain)" ] ||
        say "note: what is not committed in $ROOT is not tried"
}

# ---- ways to install, each in a clone of its own that is the working directory ---------------------

# pip of the environment in the clone, with nothing to say when all is well.
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# environment PYTHON PACKAGE...: and whatever comes later leaves its torch alone.
environment() {
    "$1" -m venv .venv && install "${@:2}" && .venv/bin/python -m pip freeze | grep '^torch==' >.venv/torch.txt
}

with_setup() {
    PYTHON=$1 bash scripts/setup.sh
}

with_fairseq-fixed() {
    environment "$1" "torch${TORCH:+==$TORCH}" numpy cython 'setuptools<82' wheel &&
        PIP_CONSTRAINT=.venv/torch.txt install --no-build-isolation '.[fairseq,serve]' &&
        install pytest tensorboardX && .venv/bin/python -c 'import tsa_fairseq'
}

# Its metadata needs an old pip.
with_fairseq-0.12.2() {
    environment "$1" 'pip<24.1' 'setuptools<81' wheel numpy cython "torch${TORCH:+==$TORCH}" &&
        PIP_CONSTRAINT=$PWD/.venv/torch.txt install fairseq==0.12.2 '.[train,serve]' &&
        install pytest tensorboardX && .venv/bin/python -c 'import tsa_fairseq'
}

with_serve() {
    "$1" -m venv .venv && install '.[serve]'
}

# ---- tries ----------------------------------------------------------------------------------------

try_tests() {
    PATH=$PWD/.venv/bin:$PATH OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -m 'not slow' -p no:cacheprovider "${SELECTION[@]}"
}

# A stored export answers as it did when it was made; neither torch nor fairseq is there.
try_serving() {
    local stored
    stored=$(compgen -G 'tests/stored/*/exported.ctranslate2' | sort -V | tail -n 1)
    .venv/bin/python - "$stored" <<'EOF'
import importlib.util, json, pathlib, subprocess, sys

folder = pathlib.Path(sys.argv[1])
for absent in ("torch", "fairseq"):
    if importlib.util.find_spec(absent) is not None:
        sys.exit(f"error: {absent} is there")
expected = json.loads((folder.parent / "expected.json").read_text())
given = expected["sentences"]
wanted = [words for words, _ in expected["hypotheses"]["leaf:2"]]
run = subprocess.run(
    [pathlib.Path(sys.executable).with_name("tsa-fairseq"), "translate", folder],
    input="".join(f"{line}\n" for line in given), capture_output=True, text=True,
)
if run.returncode or run.stdout.splitlines() != wanted:
    sys.exit(f"error: {run.stderr.strip() or 'other translations than stored'}")
print(f"{len(given)} passed")
EOF
}

version_of() {
    .venv/bin/python -c 'import importlib.metadata as m, sys
for name in sys.argv[1:]:
    try:
        print(name if name != "torch" else "", m.version(name)); break
    except m.PackageNotFoundError: pass
else:
    print("–")' "$@" 2>/dev/null | sed 's/^ //' || echo –
}

# The one line that says why, of a log.
reason() {
    local line
    line=$(grep -E '^(error|ERROR|E  |ImportError)' "$1" | grep -v 'ResolutionImpossible' | tail -n 1)
    [ -n "$line" ] || line=$(grep . "$1" | tail -n 1)
    sed -E 's/^(error|ERROR|ImportError): *//; s/\|/\\|/g; s|[^ '"'"']*/bin/(python[0-9.]*)|\1|g' <<<"$line" | sed "s|$OUT|…|g" | cut -c 1-300
}

# row HOW PYTHON: one line of the table, in $OUT/HOW-VERSION/row.
row() {
    local how=$1 python=$2 version dir log seconds result count
    version=$("$python" -c 'import platform; print(platform.python_version())')
    dir=$OUT/$how-$version log=$OUT/$how-$version.log
    [ ! -f "$dir/row" ] || { say "$how, Python $version: is there" && return; }
    say "$how, Python $version: installing; the log is $log"
    rm -rf "$dir"
    git clone --quiet "$ROOT" "$dir"
    : >"$log"
    SECONDS=0
    if (cd "$dir" && "with_$how" "$python") >>"$log" 2>&1 </dev/null; then
        seconds="$((SECONDS / 60)) min $((SECONDS % 60)) s, $(du -sm "$dir/.venv" | cut -f 1) MB"
        say "$how, Python $version: installed ($seconds), testing"
        local try=try_tests
        [ "$how" != serve ] || try=try_serving
        if (cd "$dir" && "$try") >>"$log" 2>&1 </dev/null; then
            count=$(grep -oE '[0-9]+ passed' "$log" | tail -n 1)
            result="works: $count"
        else
            result="fails: $(reason "$log")"
        fi
    else
        seconds=–
        result="refused: $(reason "$log")"
    fi
    (cd "$dir" && printf '| %s | %s | %s | `%s` | %s | %s |\n' "$version" "$(version_of torch)" \
        "$(version_of fairseq-fixed fairseq)" "$how" "$seconds" "$result") >"$dir/row.partial"
    mv "$dir/row.partial" "$dir/row"
    say "$how, Python $version: $result"
}

# Which Pythons a way is tried with: fairseq 0.12.2 is for 3.10 and older.
tried_with() {
    [ "$1" != fairseq-0.12.2 ] || [ "$("$2" -c 'import sys; print(sys.version_info[1])')" = 10 ]
}

table() {
    local how
    printf '| Python | torch | fairseq | installed by | time, size | result |\n|---|---|---|---|---|---|\n'
    for how in "${CHOSEN[@]}"; do
        { cat "$OUT/$how"-*/row 2>/dev/null || true; } | sort -V
    done
}

main() {
    local how python
    read_flags "$@"
    trap 'die "interrupted; the same command goes on from here"' INT TERM
    mkdir -p "$OUT" 2>/dev/null || die "--out: cannot create '$OUT'"
    for how in "${CHOSEN[@]}"; do
        for python in "${PYTHONS[@]}"; do
            ! tried_with "$how" "$python" || row "$how" "$python"
        done
    done
    table >"$OUT/table.md"
    cat "$OUT/table.md"
}

main "$@"
