#!/usr/bin/env bash
# From nothing to two translation models: makes English-German data, trains a plain Transformer and a
# tree for the same number of updates, translates the test set with both, exports the tree's best leaf
# for fairseq without the plugin and for CTranslate2, translates with these, and shows a table.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"

usage() {
    cat <<'END'
usage: run.sh [--objective NAME] [--quick] [--out DIR] [--seed N] [--updates N]

  --objective NAME
               how the tree's leaves learn from each other (default: tsa): dml, ensemble, okddip,
               one, cl-ilr, kdcl-naive, kdcl-minlogit, none, kd or sokd, which take the plain model
               for a teacher, or rdrop or simcut, which are the plain model in two views. With the
               same --out the plain model is trained once
  --quick      a small corpus, small models and few updates: shows in two minutes that all works
  --out DIR    where everything goes (default: runs/demo in the clone, runs/demo-quick with --quick)
  --seed N     of the data and of the training (default: 1)
  --updates N  of each of the two models (default: 600; 250 with --quick)

Sets up .venv with scripts/setup.sh first, unless the tools are on PATH already. Needs no network
after that. An interrupted run goes on where it stopped when the same command is given again.
END
}

# ---- before anything is written -------------------------------------------------------------------

read_flags() {
    QUICK=no OUT='' SEED=1 UPDATES='' OBJECTIVE=tsa
    VALUES=(--out OUT --seed SEED --updates UPDATES --objective OBJECTIVE)
    SWITCHES=(--quick QUICK)
    parse_flags "expected --objective, --quick, --out, --seed or --updates (see run.sh --help)" "$@"
    one_of --objective "$OBJECTIVE" "${OBJECTIVES[@]}"
    whole_number --seed "$SEED" 0
    [ -z "$UPDATES" ] || whole_number --updates "$UPDATES" 1
}

# Sizes: the whole run takes less than 10 minutes on 2 cores, the quick one less than 2.
choose_sizes() {
    if [ "$QUICK" = yes ]; then
        : "${OUT:=$ROOT/runs/demo-quick}" "${UPDATES:=250}"
        CORPUS=(--train 6000 --valid 200 --test 200) PIECES=1000
        MODEL=(--encoder-layers 2 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128
            --encoder-attention-heads 4 --decoder-layers 2 --decoder-embed-dim 64
            --decoder-ffn-embed-dim 128 --decoder-attention-heads 4)
        SHAPE=1,4 RATE=(--lr 0.01 --warmup-updates 60) SAVE_EVERY=50
    else
        : "${OUT:=$ROOT/runs/demo}" "${UPDATES:=600}"
        CORPUS=(--train 20000 --valid 500 --test 1000) PIECES=2000
        MODEL=(--encoder-layers 3 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256
            --encoder-attention-heads 4 --decoder-layers 3 --decoder-embed-dim 128
            --decoder-ffn-embed-dim 256 --decoder-attention-heads 4)
        SHAPE=1,2,4 RATE=(--lr 0.005 --warmup-updates 150) SAVE_EVERY=100
    fi
    # The same for both models.
    TRAINING=(--encoder-normalize-before --decoder-normalize-before --share-all-embeddings --dropout 0.1 --label-smoothing 0.1
        --max-source-positions 256 --max-target-positions 256
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0
        --lr-scheduler inverse_sqrt "${RATE[@]}" --max-tokens 1200 --required-batch-size-multiple 1)
    # The leaves are left to themselves at first: with the full weight from the start they learn more
    # slowly, which so short a training does not make up for.
    PLAIN=(--arch transformer --criterion label_smoothed_cross_entropy)
    TREE=(--arch tsa_transformer --criterion tsa_online_kd --kd-rampup-updates "$UPDATES")
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
    case "$OBJECTIVE" in
        # Their peers are the plain model in two views, which is their default.
        rdrop | simcut) ;;
        kd | sokd) METHOD+=(--tree "$SHAPE" --kd-teacher "$OUT/plain/checkpoint_best.pt") ;;
        *) METHOD+=(--tree "$SHAPE") ;;
    esac
    SUFFIX=-$OBJECTIVE
    [ "$OBJECTIVE" != tsa ] || SUFFIX=''
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
        echo "${CORPUS[*]} $PIECES ${MODEL[*]} ${TRAINING[*]} ${PLAIN[*]} ${TREE[*]} $SHAPE $SAVE_EVERY"
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

# ---- the stages -----------------------------------------------------------------------------------

# folder NAME WHAT COMMAND...: COMMAND makes $OUT/NAME, which appears under that name when it is whole.
# COMMAND gets the folder to fill as its last argument.
folder() {
    local name=$1 what=$2
    shift 2
    [ ! -d "$OUT/$name" ] || return 0
    say "$what"
    rm -rf "$OUT/$name.partial"
    mkdir "$OUT/$name.partial"
    "$@" "$OUT/$name.partial" >"$OUT/$name.log" 2>&1 ||
        die "failed: $(tail -n 1 "$OUT/$name.log"); the log is $OUT/$name.log"
    mv "$OUT/$name.partial" "$OUT/$name"
}

make_data() {
    python3 "$HERE/make_data.py" "${CORPUS[@]}" --seed "$SEED" --out "$1"
}

segment() {
    python3 "$HERE/segment.py" --data "$OUT/data" --vocabulary "$PIECES" --out "$1"
}

preprocess() {
    fairseq-preprocess --source-lang en --target-lang de --joined-dictionary --workers 1 \
        --trainpref "$OUT/pieces/train" --validpref "$OUT/pieces/valid" --testpref "$OUT/pieces/test" \
        --destdir "$1"
}

# fairseq writes a checkpoint under a temporary name first, but copies it to checkpoint_last.pt in
# place. Interrupted in between, the copy is broken (a zip file without its end), its original not.
mend_last_checkpoint() {
    local last=$1/checkpoint_last.pt newest
    if [ ! -f "$last" ] || python3 -m zipfile -l "$last" >/dev/null 2>&1; then return; fi
    rm "$last"
    newest=$(cd "$1" && find . -name 'checkpoint_*_*.pt' | sort -t _ -k 3 -n | tail -n 1)
    [ -z "$newest" ] || mv "$1/$newest" "$last"
}

# The lines of fairseq's log that tell how far training is, shortened.
show_progress() {
    local line
    while IFS= read -r line; do
        if [[ $line =~ train_inner.*nll_loss=([0-9.]+),.*\ ppl=([0-9.]+),\ wps=([0-9]+).*num_updates=([0-9]+) ]]; then
            printf '    update %4d of %d  nll %6.3f  ppl %7.2f  %5d words/s\n' \
                "${BASH_REMATCH[4]}" "$UPDATES" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
        elif [[ $line =~ valid\ on.*\ \|\ nll_loss\ ([0-9.]+)\ .*\ ppl\ ([0-9.]+)\ .*num_updates\ ([0-9]+) ]]; then
            printf '    update %4d of %d  nll %6.3f  ppl %7.2f  on validation data\n' \
                "${BASH_REMATCH[3]}" "$UPDATES" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
        fi
    done
}

# train NAME FLAG...: into $OUT/NAME.
train() {
    local name=$1 dir=$OUT/$1
    shift
    if [ -f "$dir/trained" ]; then return; fi
    say "training the $name model for $UPDATES updates; full log in $dir/train.log"
    mkdir -p "$dir"
    mend_last_checkpoint "$dir"
    fairseq-train "$OUT/bin" --user-dir "$PLUGIN" --cpu "${MODEL[@]}" "${TRAINING[@]}" "$@" \
        --max-update "$UPDATES" --seed "$SEED" --num-workers 0 --save-dir "$dir" \
        --save-interval-updates "$SAVE_EVERY" --keep-interval-updates 1 --no-epoch-checkpoints \
        --validate-interval 1000000 --save-interval 1000000 --best-checkpoint-metric nll_loss \
        --log-format simple --log-interval 50 2>&1 | tee -a "$dir/train.log" | show_progress ||
        die "training stopped: $(tail -n 1 "$dir/train.log"); the log is $dir/train.log"
    touch "$dir/trained"
}

# complete FILE COMMAND...: the output of COMMAND becomes $OUT/FILE.txt when it is whole; what it says
# beside it goes to FILE.log.
complete() {
    local file=$OUT/$1
    shift
    "$@" >"$file.partial" 2>"$file.log" ||
        die "translation failed: $(tail -n 1 "$file.log"); the log is $file.log"
    mv "$file.partial" "$file.txt"
}

# generate FILE CHECKPOINT FLAG...: the test set by fairseq, whose whole output is kept. The limit of
# length cuts off the few translations in which so young a model repeats itself for ever.
generate() {
    local file=$1 checkpoint=$2
    shift 2
    complete "$file" fairseq-generate "$OUT/bin" --cpu --path "$checkpoint" \
        --gen-subset test --beam 5 --max-len-a 1.5 --max-len-b 10 --max-tokens 4000 \
        --required-batch-size-multiple 1 \
        --remove-bpe sentencepiece --scoring sacrebleu "$@"
}

# translate NAME: by $OUT/NAME's best checkpoint.
translate() {
    if [ -f "$OUT/$1/generate.txt" ]; then return; fi
    say "translating with the $1 model"
    generate "$1/generate" "$OUT/$1/checkpoint_best.pt" --user-dir "$PLUGIN"
}

# The tree's leaf that does best on the validation data, for everyone.
export_leaf() {
    local to=$1 folder=$2
    shift 2
    tsa-fairseq export "$OUT/tree$SUFFIX/checkpoint_best.pt" "$folder/$to" --leaf best --to "$to" "$@" \
        --data "$OUT/bin" --subwords "$OUT/pieces/spm.model"
}

export_both() {
    export_leaf fairseq "$1"
    export_leaf ctranslate2 "$1" --quantization int8
}

# deploy: exports and translates, into $OUT/deployed.
deploy() {
    local dir=deployed$SUFFIX
    folder "$dir" "exporting the best leaf, for fairseq without the plugin and for CTranslate2" export_both
    if [ ! -f "$OUT/$dir/fairseq.txt" ]; then
        say "translating with the exported leaf: fairseq, without the plugin"
        generate "$dir/fairseq" "$OUT/$dir/fairseq/model.pt"
    fi
    if [ ! -f "$OUT/$dir/ctranslate2.txt" ]; then
        say "translating with the exported leaf: CTranslate2, int8"
        complete "$dir/ctranslate2" python3 "$HERE/translate_ct2.py" --model "$OUT/$dir/ctranslate2" \
            --threads "$OMP_NUM_THREADS" <"$OUT/data/test.en"
    fi
}

# report: a page about both models, with all that they say of their training and their translations.
report() {
    local page=$OUT/report$SUFFIX.html data=$OUT/data
    tsa-fairseq report "plain=$OUT/plain" "tree=$OUT/tree$SUFFIX" "$page" --force --source "$data/test.en" \
        --reference "$data/test.de" --training-text "$data/train.de" >"$page.log" 2>&1 ||
        { say "no page was written: $(tail -n 1 "$page.log")" && return; }
    rm "$page.log"
    say "a page about both models: $page"
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
    folder data "making English-German pairs (CLDR, num2words)" make_data
    folder pieces "learning $PIECES pieces (sentencepiece)" segment
    folder bin "fairseq-preprocess" preprocess
    train plain "${PLAIN[@]}"
    train "tree$SUFFIX" "${TREE[@]}" "${METHOD[@]}"
    translate plain
    translate "tree$SUFFIX"
    deploy
    report
    say "results, also in $OUT/report$SUFFIX.txt"
    python3 "$HERE/report.py" table --run "$OUT" --objective "$OBJECTIVE"
}

main "$@"
