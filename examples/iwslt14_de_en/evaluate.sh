#!/usr/bin/env bash
# Translate IWSLT'14's test set with a trained model, and print every score of it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/translating.sh"
source "$ROOT/examples/recipe/evaluating.sh"
CORPORA=(iwslt14) BEAM=5 LENPEN=1

usage() {
    printf 'usage: evaluate.sh --data DIR --model DIR [flags]\n\n'
    evaluation_usage
}

main() {
    evaluation_flags
    parse_flags "see evaluate.sh --help" "$@"
    check_evaluation_flags
    SCORING=()
    # the tokenised protocol's translations are lower-cased
    [ "$(recorded "$DATA/preparation.txt" protocol)" = raw ] || SCORING=(--lower)
    evaluate_large "$ROOT"
}

main "$@"
