#!/usr/bin/env bash
# Translate a part of prepared Multi30k data with a trained model and score it with BLEU.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/translating.sh"
COMMAND="evaluate.sh $*"

usage() {
    cat <<'END'
usage: evaluate.sh --data DIR --model DIR [flags]

  --data DIR         what prepare.sh made
  --model DIR        what train.sh made (its --save)
  --checkpoint NAME  a file of the model's directory; default checkpoint_best.pt
  --subset NAME      test (default: test_2016_flickr) or valid
  --beam N           default 5
  --lenpen X         length penalty, default 1
  --out DIR          default: evaluation/CHECKPOINT-SUBSET-beamN-lenpenX in the model's directory
  --cpu              do not use the GPU
  --force            replace a finished evaluation
END
}

read_flags() {
    DATA='' MODEL='' CHECKPOINT=checkpoint_best.pt SUBSET=test BEAM=5 LENPEN=1 OUT='' CPU=no FORCE=no
    VALUES=(--data DATA --model MODEL --checkpoint CHECKPOINT --subset SUBSET --beam BEAM --lenpen LENPEN --out OUT)
    SWITCHES=(--cpu CPU --force FORCE)
    parse_flags "see evaluate.sh --help" "$@"
}

check_flags() {
    check_preparation "$DATA"
    [ -n "$MODEL" ] || die "--model: missing; give the directory that train.sh made"
    [ -d "$MODEL" ] || die "--model: no such directory: $MODEL"
    one_of --subset "$SUBSET" test valid
    check_search
    [ -f "$MODEL/$CHECKPOINT" ] || die "--checkpoint: $MODEL has no $CHECKPOINT"
    MODEL=$(absolute "$MODEL")
    OUT=$(absolute "${OUT:-$MODEL/evaluation/${CHECKPOINT%.pt}-$SUBSET-beam$BEAM-lenpen$LENPEN}")
}

# How BLEU splits words, and what translations are compared with.
read_scoring() {
    TOKENIZE=none
    [ "$PROTOCOL" = tokenised ] || TOKENIZE=13a
    case "$SUBSET" in
        test) REFERENCE=$DATA/corpus/test_2016_flickr.$TARGET ;;
        valid) REFERENCE=$DATA/corpus/val.$TARGET ;;
    esac
    [ -f "$REFERENCE" ] ||
        die "--data: $DATA has no ${REFERENCE#"$DATA"/}; expected what prepare.sh of Multi30k made"
}

score() {
    python3 "$HERE/score.py" --generated "$NEW/generate.log" --reference "$REFERENCE" --tokenize "$TOKENIZE" \
        --hypotheses "$NEW/hypotheses.$TARGET" --report "$NEW/score.json" \
        --note checkpoint "$MODEL/$CHECKPOINT" --note command "$COMMAND" --note subset "$SUBSET"
}

# A page with the scores, and with the training's log if the evaluation lies in the model's directory.
write_report() {
    tsa-fairseq report "${MODEL##*/}=$OUT/generate.log" "$OUT/report.html" --force \
        --reference "$REFERENCE" --tokenize "$TOKENIZE" --training-text "$DATA/corpus/train.$TARGET" >"$OUT/report.log" 2>&1 ||
        { say "no report was written: $(tail -n 1 "$OUT/report.log")" && return; }
    rm "$OUT/report.log"
    say "report: $OUT/report.html"
}

main() {
    read_flags "$@"
    check_flags
    check_evaluation_output score.json
    read_preparation
    read_scoring
    use_environment "$ROOT"
    check_checkpoint
    make_work_directory "$OUT"
    say "translating the $SUBSET set with $MODEL/$CHECKPOINT, beam $BEAM, length penalty $LENPEN"
    generation "$SUBSET" "$MODEL/$CHECKPOINT"
    quietly "$NEW/generate.log" "${GENERATION[@]}"
    SCORE=$(score)
    finish "$OUT"
    say "hypotheses, score.json and generate.log in $OUT"
    write_report
    printf '%s\n' "$SCORE"
}

main "$@"
