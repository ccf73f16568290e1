#!/usr/bin/env bash
# Translate newstest2014 with a trained model, and print every score of it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/translating.sh"
source "$ROOT/examples/recipe/evaluating.sh"
CORPORA=(wmt14 wmt17) BEAM=4 LENPEN=0.6 SCORING=(--compound)

usage() {
    printf 'usage: evaluate.sh --data DIR --model DIR [flags]\n\n'
    evaluation_usage
}

main() {
    evaluation_flags
    parse_flags "see evaluate.sh --help" "$@"
    check_evaluation_flags
    evaluate_large "$ROOT"
}

main "$@"
