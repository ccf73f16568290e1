#!/usr/bin/env bash
# Multi30k, task 1, from the public repository (or a copy at hand) to binarised data that fairseq trains on.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/preparing.sh"

usage() {
    cat <<'END'
usage: prepare.sh --out DIR [flags]

  --out DIR          where the prepared data goes
  --from DIR         take the files from a copy at hand (a directory of them, or a clone of the
                     dataset's repository) instead of downloading them
  --source LANGUAGE  en, de, fr or cs; default en
  --target LANGUAGE  en, de, fr or cs, not the source; default de
  --protocol NAME    tokenised (default): lower-cased tokenised text, joint BPE, tokenised BLEU;
                     raw: cased raw text, sentencepiece, detokenised BLEU
  --subwords N       BPE merges (tokenised) or sentencepiece pieces (raw); default 10000
  --pairs N          train on the first N pairs alone, subwords learned on them too; default: all
  --sums FILE        checksums to use with --from instead of those beside this script; a file that
                     is not among them is taken unchecked
  --force            replace a finished preparation
END
}

read_flags() {
    OUT='' FROM='' SOURCE=en TARGET=de PROTOCOL=tokenised SUBWORDS=10000 PAIRS='' SUMS='' FORCE=no
    VALUES=(--out OUT --from FROM --source SOURCE --target TARGET
        --protocol PROTOCOL --subwords SUBWORDS --pairs PAIRS --sums SUMS)
    SWITCHES=(--force FORCE)
    parse_flags "see prepare.sh --help" "$@"
}

check_flags() {
    [ -n "$OUT" ] || die "--out: missing; say where the prepared data goes"
    one_of --protocol "$PROTOCOL" tokenised raw
    one_of --source "$SOURCE" en de fr cs
    one_of --target "$TARGET" en de fr cs
    [ "$SOURCE" != "$TARGET" ] || die "--target: got '$TARGET', which is the source too; expected another language"
    whole_number --subwords "$SUBWORDS" 1
    [ -z "$PAIRS" ] || whole_number --pairs "$PAIRS" 1
    check_sums
    OUT=$(absolute "$OUT")
}

# What makes two preparations the same; the beginning of preparation.txt.
settings() {
    printf '%s\n' "protocol=$PROTOCOL" "source=$SOURCE" "target=$TARGET" "subwords=$SUBWORDS"
    [ -z "$PAIRS" ] || printf '%s\n' "pairs=$PAIRS"
}

get_corpus() {
    local options=(--protocol "$PROTOCOL" --languages "$SOURCE" "$TARGET" --into "$NEW/corpus")
    [ -z "$FROM" ] || options+=(--from "$FROM")
    [ -z "$SUMS" ] || options+=(--sums "$SUMS")
    [ -z "$PAIRS" ] || options+=(--pairs "$PAIRS")
    recipe_python "$ROOT" "$HERE/corpus.py" "${options[@]}"
}

# The model is learned on the training text of both sides together.
cut_into_subwords() {
    recipe_python "$ROOT" -m recipe.subwords --protocol "$PROTOCOL" --subwords "$SUBWORDS" \
        --languages "$SOURCE" "$TARGET" --text "$NEW/corpus" --into "$NEW" train val test_2016_flickr
}

binarise() {
    quietly "$WORK/log" fairseq-preprocess --source-lang "$SOURCE" --target-lang "$TARGET" \
        --trainpref "$NEW/subword/train" --validpref "$NEW/subword/val" \
        --testpref "$NEW/subword/test_2016_flickr" --destdir "$NEW/data-bin" --joined-dictionary
    # The dictionary file leaves out fairseq's four special symbols.
    TYPES=$(($(wc -l <"$NEW/data-bin/dict.$TARGET.txt") + 4))
}

record() {
    {
        settings
        printf '%s\n' "types=$TYPES" "$TOOL=$TOOL_VERSION"
    } >"$NEW/preparation.txt"
}

main() {
    read_flags "$@"
    check_flags
    check_output
    find_commands "$ROOT"
    check_tool
    make_work_directory "$OUT"
    mkdir "$NEW/corpus" "$NEW/subword"
    get_corpus
    say "learning $SUBWORDS joint subwords and applying them"
    cut_into_subwords
    say "binarising"
    binarise
    record
    finish "$OUT"
    say "prepared $OUT: $PROTOCOL, $SOURCE to $TARGET, joined dictionary of $TYPES types"
}

main "$@"
