#!/usr/bin/env bash
# Train a plain Transformer or a tree on prepared WMT'14 or WMT'17 data with published settings.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/resuming.sh"
source "$ROOT/examples/recipe/training.sh"
CORPORA=(wmt14 wmt17)

usage() {
    cat <<'END'
usage: train.sh --data DIR --save DIR [flags] [-- flags of fairseq-train]

  --size NAME        base (default): 32,768 tokens (8 x 4,096), rate 7e-4, 100,000 updates;
                     big: 458,752 tokens (8 x 3,584 x 16), rate 1e-3, 30,000 updates
END
    training_usage
}

recipe_settings() {
    RECIPE=(--optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0
        --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-7
        --weight-decay 0 --label-smoothing 0.1 --keep-last-epochs 5 --keep-best-checkpoints 5)
    case "$SIZE" in
        base)
            ARCH=transformer_wmt_en_de BATCH=32768 MAX_TOKENS_MOST=4096
            : "${UPDATES:=100000}"
            RECIPE+=(--lr 7e-4 --dropout 0.1)
            ;;
        big)
            ARCH=transformer_vaswani_wmt_en_de_big BATCH=458752 MAX_TOKENS_MOST=3584
            : "${UPDATES:=30000}"
            # none of attention weights, as in Vaswani's big model; the tree's architecture has 0.1
            RECIPE+=(--lr 1e-3 --dropout 0.3 --attention-dropout 0)
            ;;
    esac
}

main() {
    training_flags
    SIZE=base
    VALUES+=(--size SIZE)
    parse_flags "see train.sh --help (flags of fairseq-train go after --)" "$@"
    check_training_flags
    one_of --size "$SIZE" base big
    train_large "$ROOT"
}

main "$@"
