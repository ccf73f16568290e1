#!/usr/bin/env bash
# From nothing to two translation models: makes English-German data, trains a plain Transformer and a
# tree for the same number of updates, translates the test set with both, by all leaves together and by
# the tree's best leaf, exported for fairseq without the plugin and for CTranslate2, and shows a table.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$HERE/stages.sh"

usage() {
    cat <<'END'
usage: run.sh [--objective NAME] [--quick] [--out DIR] [--seed N] [--updates N]

  --objective NAME
               how the tree's leaves learn from each other: dealt, what did best in the study
               (R-Drop between leaves that see two views; default), tsa, dml, ensemble, okddip,
               one, cl-ilr, kdcl-naive, kdcl-minlogit, none, kd or sokd, which take the plain model
               for a teacher, or rdrop or simcut, which are the plain model in two views. With the
               same --out the plain model is trained once
  --quick      small models, few updates, a small test set: shows in two minutes that all works
  --out DIR    where everything goes (default: runs/demo in the clone, runs/demo-quick with --quick)
  --seed N     of the data and of the training (default: 1)
  --updates N  of each of the two models (default: 600; 250 with --quick)

Sets up .venv with scripts/setup.sh first, unless the tools are on PATH already. Needs no network
after that. An interrupted run goes on where it stopped when the same command is given again.
END
}

# ---- before anything is written -------------------------------------------------------------------

read_flags() {
    QUICK=no OUT='' SEED=1 UPDATES='' OBJECTIVE=dealt
    VALUES=(--out OUT --seed SEED --updates UPDATES --objective OBJECTIVE)
    SWITCHES=(--quick QUICK)
    parse_flags "expected --objective, --quick, --out, --seed or --updates (see run.sh --help)" "$@"
    one_of --objective "$OBJECTIVE" dealt "${OBJECTIVES[@]}"
    whole_number --seed "$SEED" 0
    [ -z "$UPDATES" ] || whole_number --updates "$UPDATES" 1
}

# Sizes: the whole run takes about 10 minutes on 2 cores, the quick one about 2.
choose_sizes() {
    if [ "$QUICK" = yes ]; then
        : "${OUT:=$ROOT/runs/demo-quick}" "${UPDATES:=250}"
        CORPUS=(--train 1000 --valid 200 --test 200) PIECES=1000
        MODEL=(--encoder-layers 2 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128
            --encoder-attention-heads 4 --decoder-layers 2 --decoder-embed-dim 64
            --decoder-ffn-embed-dim 128 --decoder-attention-heads 4)
        SHAPE=1,4 RATE=(--lr 0.01 --warmup-updates 60) SAVE_EVERY=50 MINUTES=2 PROMISED=250
    else
        : "${OUT:=$ROOT/runs/demo}" "${UPDATES:=600}"
        CORPUS=(--train 1000 --valid 500 --test 1000) PIECES=1000
        MODEL=(--encoder-layers 3 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256
            --encoder-attention-heads 4 --decoder-layers 3 --decoder-embed-dim 128
            --decoder-ffn-embed-dim 256 --decoder-attention-heads 4)
        SHAPE=1,2,4 RATE=(--lr 0.005 --warmup-updates 150) SAVE_EVERY=100 MINUTES=10 PROMISED=600
    fi
    # The same for both models.
    TRAINING=(--encoder-normalize-before --decoder-normalize-before --share-all-embeddings --dropout 0.3 --label-smoothing 0.1
        --max-source-positions 256 --max-target-positions 256
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0
        --lr-scheduler inverse_sqrt "${RATE[@]}" --max-tokens 1200 --required-batch-size-multiple 1)
    PLAIN=(--arch transformer --criterion label_smoothed_cross_entropy)
    TREE=(--arch tsa_transformer --criterion tsa_online_kd)
}

# The folder may be new, empty, or one of this script.
check_out() {
    OUT=$(absolute "$OUT")
    [ ! -e "$OUT" ] || [ -d "$OUT" ] || die "--out: '$OUT' is a file; expected a folder"
    [ -f "$OUT/run.txt" ] || [ -z "$(ls -A "$OUT" 2>/dev/null)" ] ||
        die "--out: '$OUT' holds something else than a run of the demo; choose a new folder"
}

# What tells the tree's training from other objectives', and how its files are called.
choose_method() {
    METHOD=(--kd-objective "$OBJECTIVE")
    # The leaves are left to themselves at first: with the full weight from the start they learn more
    # slowly, which so short a training does not make up for.
    [ "$OBJECTIVE" = dealt ] || METHOD+=(--kd-rampup-updates "$UPDATES")
    case "$OBJECTIVE" in
        dealt)
            METHOD=(--tree "$SHAPE" --tree-peers attention --kd-objective rdrop --kd-alpha 1
                --kd-views 2 --kd-views-leaves deal)
            ;;
        # Their peers are the plain model in two views, which is their default.
        rdrop | simcut) ;;
        kd | sokd) METHOD+=(--tree "$SHAPE" --tree-peers attention --kd-teacher "$OUT/plain/checkpoint_best.pt") ;;
        *) METHOD+=(--tree "$SHAPE" --tree-peers attention) ;;
    esac
    STAGE=0 STAGES=14
    # The plain model in two views has no leaves to translate together.
    among "$OBJECTIVE" rdrop simcut && STAGES=11
    SUFFIX=-$OBJECTIVE
    [ "$OBJECTIVE" != dealt ] || SUFFIX=''
}

has_tools() {
    local tool
    for tool in python3 tsa-fairseq fairseq-preprocess fairseq-train fairseq-generate; do
        command -v "$tool" >/dev/null || return 1
    done
    python3 -c 'import babel, ctranslate2, num2words, sacrebleu, sentencepiece' 2>/dev/null
}

environment() {
    if has_tools; then
        say "using the environment of $(command -v fairseq-train)"
        PLUGIN=$(tsa-fairseq path) || die "'tsa-fairseq path' failed: run it to see why"
    else
        bash "$ROOT/scripts/setup.sh"
        use_environment "$ROOT"
    fi
    cpu_settings
    # More threads than that do not pay for models this small.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
}

# ---- one folder, one run --------------------------------------------------------------------------

# What a run that goes on must have in common with the one that was interrupted.
settings() {
    printf '%s\n' "quick=$QUICK" "seed=$SEED" "updates=$UPDATES"
    printf 'recipe=%s\n' "$({
        cat "$HERE"/{words,phrases,sentences,make_data,segment}.py
        echo "${CORPUS[*]} $PIECES ${MODEL[*]} ${TRAINING[*]} ${PLAIN[*]} ${TREE[*]} $(declare -f choose_method) $SHAPE $SAVE_EVERY"
    } | cksum | tr ' ' '-')"
    python3 "$HERE/report.py" versions
}

open_out() {
    local wanted had
    wanted=$(settings) || die "the versions of the tools cannot be read (see above)"
    mkdir -p "$OUT" 2>/dev/null || die "--out: cannot create '$OUT'"
    if command -v flock >/dev/null; then
        exec 9<"$OUT"
        flock -n 9 || die "--out: another run is at work in '$OUT'"
    fi
    if [ -f "$OUT/run.txt" ]; then
        had=$(cat "$OUT/run.txt")
        [ "$wanted" = "$had" ] ||
            die "--out: '$OUT' was made with$(differences "$had" "$wanted"); remove it or choose another folder"
        say "going on with the run in $OUT"
    else
        printf '%s\n' "$wanted" >"$OUT/run.txt.partial"
        mv "$OUT/run.txt.partial" "$OUT/run.txt"
    fi
}

# differences HAD WANTED: the settings that differ, as " seed=1, not seed=2".
differences() {
    paste -d '|' <(printf '%s\n' "$1") <(printf '%s\n' "$2") |
        awk -F '|' '$1 != $2 { printf "%s %s, not %s", sep, $1, $2; sep = ";" }'
}

main() {
    read_flags "$@"
    choose_sizes
    check_out
    choose_method
    environment
    open_out
    # Through a copy of standard output, because the interrupted command's own may be a log.
    exec 3>&1
    trap 'echo >&3; say "interrupted; the same command goes on from here" >&3; exit 130' INT
    say "a plain Transformer and a tree of the same dimensions, on few pairs for many epochs; then the tree's leaf as an ordinary model"
    [ "$UPDATES" != "$PROMISED" ] || say "about $MINUTES minutes on two cores, most of them for the tree"
    folder data "making English-German pairs (CLDR, num2words)" make_data
    folder pieces "learning $PIECES pieces (sentencepiece)" segment
    folder bin "fairseq-preprocess" preprocess
    train plain "${PLAIN[@]}"
    train "tree$SUFFIX" "${TREE[@]}" "${METHOD[@]}"
    translate plain
    translate "tree$SUFFIX"
    among "$OBJECTIVE" rdrop simcut || together
    deploy
    report
    say "results, also in $OUT/report$SUFFIX.txt"
    python3 "$HERE/report.py" table --run "$OUT" --objective "$OBJECTIVE" --made-for "$PROMISED"
}

main "$@"
