#!/usr/bin/env bash
# All checks: the environment, lint, types, shell syntax, tests. Continuous integration runs the same.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/examples/lib.sh"

usage() {
    cat <<'EOF'
usage: bash scripts/check.sh [--slow] [--kernel] [-- PYTEST-ARGUMENT...]

Sets up .venv (scripts/setup.sh), then: ruff, mypy, the syntax of every shell script, pytest.

  --slow   also the tests marked slow
  --kernel also the GPU's kernel, without a GPU by Triton's interpreter: installs triton in .venv if
           it is not there (640 MB)
  --       what follows goes to pytest, e.g. -- tests/test_topology.py -k bad_tree
EOF
}

# check WHAT HINT COMMAND...
check() {
    local what=$1 hint=$2
    shift 2
    say "$what"
    "$@" || die "$what failed (see above); $hint"
}

shell_syntax() {
    local script failed=0
    while IFS= read -r script; do
        bash -n "$script" || failed=1
    done < <(find .ci/run examples scripts -name '*.sh' -o -path .ci/run)
    return "$failed"
}

main() {
    local selection=(-m "not slow") kernel=no bin=$ROOT/.venv/bin
    while [ $# -gt 0 ]; do
        case $1 in
        --slow) selection=() ;;
        --kernel) kernel=yes ;;
        -h | --help) usage && exit ;;
        --) shift && break ;;
        *) die "unknown argument '$1'; expected --slow, --kernel, --help, or -- and arguments for pytest" ;;
        esac
        shift
    done
    cd "$ROOT"
    bash scripts/setup.sh
    if [ "$kernel" = yes ] && ! "$bin/python" -c 'import triton' 2>/dev/null; then
        check "triton" "is the package index reachable?" "$bin/python" -m pip install --quiet --no-deps -r scripts/requirements/triton.txt
    fi
    check "ruff check" "'.venv/bin/ruff check --fix' repairs some of it" "$bin/ruff" check --output-format concise .
    check "ruff format" "'.venv/bin/ruff format' repairs it" "$bin/ruff" format --check .
    check "mypy" "repair the types" "$bin/mypy" tsa_fairseq
    check "shell syntax" "repair the script" shell_syntax
    # Tests start fairseq's commands by name.
    PATH=$bin:$PATH
    check "pytest" "'-- --last-failed' runs only these again" "$bin/python" -m pytest ${selection[@]+"${selection[@]}"} "$@"
    say "all checks passed"
}

main "$@"
