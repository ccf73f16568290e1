# What the evaluate.sh of the larger recipes have in common. Source it after lib.sh, preparation.sh and
# translating.sh.
#
# A script sets CORPORA, BEAM and LENPEN (the recipe's), and SCORING: flags of recipe/score.py.

evaluation_usage() {
    cat <<'END'
  --data DIR         what prepare.sh made
  --model DIR        what train.sh made (its --save)
  --last N           translate with the average of the last N epochs; default 5
  --best N           or of the N with the best validation score, of those that training kept (the
                     best 5 and the last epochs)
  --checkpoint NAME  or with a file of the model's directory
END
    printf '  --beam N           default %s\n  --lenpen X         length penalty, default %s\n' "$BEAM" "$LENPEN"
    cat <<'END'
  --out DIR          default: evaluation/CHECKPOINTS-beamN-lenpenX in the model's directory
  --cpu              do not use the GPU
  --dry-run          print the commands, and do nothing
  --force            replace a finished evaluation

Scores are of the test set. Of a tree they are those of leaf 0, of the leaf with the best validation
nll (which is exported, too), and of all leaves together.
END
}

evaluation_flags() {
    DATA='' MODEL='' LAST='' BEST='' CHECKPOINT='' OUT='' CPU=no FORCE=no DRY_RUN=no
    VALUES=(--data DATA --model MODEL --last LAST --best BEST --checkpoint CHECKPOINT --beam BEAM --lenpen LENPEN --out OUT)
    SWITCHES=(--cpu CPU --force FORCE --dry-run DRY_RUN)
}

check_evaluation_flags() {
    local given
    check_preparation "$DATA" "${CORPORA[@]}"
    [ -n "$MODEL" ] || die "--model: missing; give the directory that train.sh made"
    [ -f "$MODEL/training.txt" ] || die "--model: $MODEL is no directory that train.sh made"
    [[ "$(cat "$MODEL/training.txt")" == *"$(preparation_settings "$DATA/preparation.txt")" ]] ||
        die "--data: $DATA is prepared as ($(preparation_settings "$DATA/preparation.txt" | paste -sd ' ' -)), which $MODEL was not trained on; expected the data of its training"
    given=("${LAST:+--last}" "${BEST:+--best}" "${CHECKPOINT:+--checkpoint}")
    read -ra given <<<"${given[*]}"
    [ "${#given[@]}" -lt 2 ] || die "${given[1]}: got ${given[0]}, too; expected one of them"
    [ "${#given[@]}" -eq 1 ] || LAST=5
    [ -z "$LAST" ] || whole_number --last "$LAST" 1
    [ -z "$BEST" ] || whole_number --best "$BEST" 1
    [ -z "$CHECKPOINT" ] || [ -f "$MODEL/$CHECKPOINT" ] || die "--checkpoint: $MODEL has no $CHECKPOINT"
    check_search
    # whole paths: the commands that --dry-run prints may be pasted anywhere
    DATA=$(absolute "$DATA")
    MODEL=$(absolute "$MODEL")
    CHOSEN=${CHECKPOINT%.pt}${LAST:+last$LAST}${BEST:+best$BEST}
    OUT=$(absolute "${OUT:-$MODEL/evaluation/$CHOSEN-beam$BEAM-lenpen$LENPEN}")
}

# Of the checkpoints that an average is of there must be as many; fairseq's copies count for nothing.
# Of the last ones those kept as the best do not count either: they may be of any epoch, and would
# silently take the place of epochs that training threw away.
check_number() {
    local flag=--last number=$LAST what='checkpoints of the last epochs' found
    local names=(-name 'checkpoint[0-9]*.pt' -o -name 'checkpoint_[0-9]*.pt')
    if [ -n "$BEST" ]; then
        flag=--best number=$BEST what=checkpoints
        names+=(-o -name 'checkpoint.best_*.pt')
    fi
    found=$(find "$MODEL" -maxdepth 1 \( "${names[@]}" \) | wc -l)
    [ "$number" -le "$found" ] ||
        die "$flag: got $number, but $MODEL holds $((found)) $what; expected as many or fewer, or --checkpoint (training keeps the best 5 and the last epochs)"
}

# do_or_print LOG COMMAND...: run it, its output in the log; or print it, for --dry-run.
do_or_print() {
    if [ "$DRY_RUN" = yes ]; then
        printf '%s >%s 2>&1\n' "$(print_command "${@:2}")" "$(quoted "$1")"
    else
        quietly "$@"
    fi
}

# translate NAME [FLAG...]: the test set, into NAME.log.
translate() {
    local name=$1
    shift
    [ "$DRY_RUN" = yes ] || say "translating the test set: $name"
    generation test "$FILE"
    do_or_print "$NEW/$name.log" "${GENERATION[@]}" "$@"
    ROWS+=(--row "$name" "$NEW/$name.log")
}

# FILE: the checkpoint that translates.
choose_checkpoint() {
    if [ -n "$CHECKPOINT" ]; then
        FILE=$MODEL/$CHECKPOINT
        return
    fi
    FILE=$NEW/average.pt
    [ "$DRY_RUN" = yes ] || say "averaging checkpoints"
    if [ -n "$BEST" ]; then
        do_or_print "$NEW/average.log" tsa-fairseq average "$FILE" "$MODEL" --best "$BEST"
    else
        do_or_print "$NEW/average.log" tsa-fairseq average "$FILE" "$MODEL" --last "$LAST"
    fi
}

# Prints the leaf of an export.
READ_LEAF='import json, sys; print(json.load(open(sys.argv[1]))["leaf"])'

# Of a tree with several leaves: the best one, which is exported, and all together.
translate_with_leaves() {
    local leaf device=()
    translate leaf0
    # a number, or none, is a single path
    [[ "$(recorded "$MODEL/training.txt" tree)" == *[!0-9]* ]] || return 0
    [ "$CPU" = no ] || device=(--device cpu)
    [ "$DRY_RUN" = yes ] || say "looking for the best leaf"
    do_or_print "$NEW/export.log" tsa-fairseq export "$FILE" "$NEW/exported" --leaf best \
        --data "$DATA/data-bin" ${device[@]+"${device[@]}"}
    if [ "$DRY_RUN" = yes ]; then
        print_best_leaf
    else
        leaf=$(python3 -c "$READ_LEAF" "$NEW/exported/export.json")
        [ "$leaf" = 0 ] || translate "leaf$leaf-best" --model-overrides "{'tree_inference': 'leaf:$leaf'}"
    fi
    translate ensemble --model-overrides "{'tree_inference': 'ensemble'}"
}

# The same for --dry-run, which cannot know the leaf: commands of the shell find it, and translate
# unless it is leaf 0. BEST is its row of the table.
print_best_leaf() {
    local log
    log=$(quoted "$NEW/leaf")'"$K"-best.log'
    printf 'K=$(python3 -c %s %s)\n' "$(quoted "$READ_LEAF")" "$(quoted "$NEW/exported/export.json")"
    printf 'BEST=()\nif [ "$K" != 0 ]; then\n'
    printf '%s \\\n    --model-overrides "{%s: %s}" >%s 2>&1\n' "$(print_command "${GENERATION[@]}")" \
        "'tree_inference'" "'leaf:\$K'" "$log"
    printf 'BEST=(--row "leaf$K-best" %s)\nfi\n' "$log"
    LATER_ROWS=' \
    "${BEST[@]}"'
}

# SCORE: the command that makes the table.
scoring_command() {
    local words=()
    [ "$PROTOCOL" = raw ] || words=(--words "$DATA/corpus/test.$TARGET")
    SCORE=(env "PYTHONPATH=$1/examples${PYTHONPATH:+:$PYTHONPATH}" python3 -m recipe.score --protocol "$PROTOCOL" --language "$TARGET"
        --reference "$DATA/reference/test.$TARGET" ${words[@]+"${words[@]}"}
        --report "$NEW/scores.json" ${SCORING[@]+"${SCORING[@]}"}
        --note checkpoints "$CHOSEN" --note beam "$BEAM" --note lenpen "$LENPEN" "${ROWS[@]}")
}

# evaluate_large ROOT: the whole of a larger recipe's evaluation, or what --dry-run says.
evaluate_large() {
    local table
    ROWS=() LATER_ROWS=''
    read_preparation
    use_environment "$1"
    check_evaluation_output scores.json
    if [ "$DRY_RUN" = yes ]; then
        NEW=$OUT
        printf 'mkdir -p %q\n' "$NEW"
    else
        if [ -n "$CHECKPOINT" ]; then
            check_checkpoint
        else
            check_number
        fi
        make_work_directory "$OUT"
    fi
    choose_checkpoint
    if [ "$(recorded "$MODEL/training.txt" model)" = tree ]; then
        translate_with_leaves
    else
        translate plain
    fi
    scoring_command "$1"
    if [ "$DRY_RUN" = yes ]; then
        printf '%s%s\n' "$(print_command "${SCORE[@]}")" "$LATER_ROWS"
        return
    fi
    table=$("${SCORE[@]}")
    printf '%s\n' "$table" >"$NEW/scores.txt"
    finish "$OUT"
    say "translations, scores.json and scores.txt in $OUT"
    printf '%s\n' "$table"
}
