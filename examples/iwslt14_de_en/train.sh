#!/usr/bin/env bash
# Train a plain Transformer or a tree on prepared IWSLT'14 data with the settings of fairseq's recipe.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/resuming.sh"
source "$ROOT/examples/recipe/training.sh"
CORPORA=(iwslt14)

usage() {
    cat <<'END'
usage: train.sh --data DIR --save DIR [flags] [-- flags of fairseq-train]

The recipe: 4,096 tokens and 50,000 updates, Adam, rate 5e-4.

END
    training_usage
}

recipe_settings() {
    ARCH=transformer_iwslt_de_en BATCH=4096 MAX_TOKENS_MOST=4096
    : "${UPDATES:=50000}"
    RECIPE=(--optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0
        --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000
        --dropout 0.3 --weight-decay 0.0001 --label-smoothing 0.1 --keep-last-epochs 10 --keep-best-checkpoints 5)
}

main() {
    training_flags
    parse_flags "see train.sh --help (flags of fairseq-train go after --)" "$@"
    check_training_flags
    train_large "$ROOT"
}

main "$@"
