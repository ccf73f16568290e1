#!/usr/bin/env bash
# Train a plain Transformer or a tree on prepared Multi30k data with the recipe of Wu et al. (ACL 2021).
# An interrupted run goes on where it was when the same command is given again.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/resuming.sh"

usage() {
    cat <<'END'
usage: train.sh --data DIR --save DIR [flags] [-- flags of fairseq-train]

  --data DIR    what prepare.sh made
  --save DIR    where checkpoints and train.log go
  --model NAME  tree (default): 4 leaves taught by the objective tsa; plain: the stock Transformer
  --updates N   default 8000
  --warmup N    updates until the learning rate is at its peak of 0.005; default: 2000, or all of
                --updates if they are fewer (reached sooner, the peak stops the model from learning)
  --seed N      default 1
  --cpu         do not use the GPU

What stands after -- is handed to fairseq-train and overrides the recipe.
END
}

read_flags() {
    DATA='' SAVE='' MODEL=tree UPDATES=8000 WARMUP='' SEED=1 CPU=no EXTRA=()
    VALUES=(--data DATA --save SAVE --model MODEL --updates UPDATES --warmup WARMUP --seed SEED)
    SWITCHES=(--cpu CPU) PASSES_ON=yes
    parse_flags "see train.sh --help (flags of fairseq-train go after --)" "$@"
    DEVICE=()
    [ "$CPU" = no ] || DEVICE=(--cpu)
}

check_flags() {
    check_preparation "$DATA"
    [ -n "$SAVE" ] || die "--save: missing; say where checkpoints go"
    one_of --model "$MODEL" tree plain
    whole_number --updates "$UPDATES" 1
    [ -n "$WARMUP" ] || WARMUP=$((UPDATES < 2000 ? UPDATES : 2000))
    whole_number --warmup "$WARMUP" 1
    whole_number --seed "$SEED" 0
    SAVE=$(absolute "$SAVE")
}

# For resuming.sh.
training_settings() {
    local extra="${EXTRA[*]-}" # the device may change
    printf '%s\n' "model=$MODEL" "warmup=$WARMUP" "seed=$SEED" "extra=${extra//--cpu/}"
    preparation_settings "$DATA/preparation.txt"
}

# Both models have the same size; dimensions are written out for the plain one because fairseq's own
# `transformer_tiny` is another model than the literature's.
model_flags() {
    FLAGS=(--encoder-layers 4 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
        --decoder-layers 4 --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4
        --share-all-embeddings --dropout 0.3 --label-smoothing 0.1)
    case "$MODEL" in
        plain) FLAGS+=(--arch transformer --criterion label_smoothed_cross_entropy) ;;
        tree)
            FLAGS+=(--arch tsa_transformer_multi30k --tree 1,1,2,4
                --criterion tsa_online_kd --kd-objective tsa --kd-alpha 0.5)
            ;;
    esac
}

# One device and two batches of 4,096 tokens a step, where the recipe's authors had two devices.
train() {
    train_into "$SAVE/train.log" fairseq-train "$DATA/data-bin" --task translation \
        --source-lang "$(recorded "$DATA/preparation.txt" source)" \
        --target-lang "$(recorded "$DATA/preparation.txt" target)" \
        --user-dir "$PLUGIN" "${FLAGS[@]}" \
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 25 \
        --lr 0.005 --lr-scheduler inverse_sqrt --warmup-updates "$WARMUP" --warmup-init-lr 1e-7 \
        --max-tokens 4096 --update-freq 2 --required-batch-size-multiple 1 --distributed-world-size 1 \
        --max-update "$UPDATES" --patience 10 --keep-last-epochs 10 \
        --seed "$SEED" --save-dir "$SAVE" --log-format simple --log-interval 20 \
        ${DEVICE[@]+"${DEVICE[@]}"} ${EXTRA[@]+"${EXTRA[@]}"}
}

main() {
    read_flags "$@"
    check_flags
    check_save_directory
    use_environment "$ROOT"
    open_save_directory
    model_flags
    say "training: $MODEL, $UPDATES updates, warm-up $WARMUP, seed $SEED; log in $SAVE/train.log"
    train
}

main "$@"
