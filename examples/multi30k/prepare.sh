#!/usr/bin/env bash
# Multi30k, task 1, from the public repository (or a copy at hand) to binarised data that fairseq trains on.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"

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
    VALUES=(--out --from --source --target --protocol --subwords --pairs --sums) SWITCHES=(--force)
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
    [ -z "$FROM" ] || [ -d "$FROM" ] || die "--from: no such directory: $FROM"
    [ -z "$SUMS" ] || [ -f "$SUMS" ] || die "--sums: no such file: $SUMS"
    [ -z "$SUMS" ] || [ -n "$FROM" ] || die "--sums: needs --from; downloads are held to the checksums of the recipe"
    OUT=$(absolute "$OUT")
}

# What makes two preparations the same; the beginning of preparation.txt.
settings() {
    printf '%s\n' "protocol=$PROTOCOL" "source=$SOURCE" "target=$TARGET" "subwords=$SUBWORDS"
    [ -z "$PAIRS" ] || printf '%s\n' "pairs=$PAIRS"
}

# Decide about an output that is there already: nothing to do, refuse, or go on and replace it at the end.
check_output() {
    [ -e "$OUT" ] || return 0
    [ -f "$OUT/preparation.txt" ] ||
        die "--out: $OUT exists and is no preparation of this script; choose another directory"
    [ "$FORCE" = no ] || return 0
    [ "$(preparation_settings "$OUT/preparation.txt")" = "$(settings)" ] ||
        die "--out: $OUT holds another preparation ($(preparation_settings "$OUT/preparation.txt" | paste -sd ' ' -)); choose another directory, or give --force to replace it"
    say "$OUT is prepared with these settings: nothing to do (--force makes it anew)"
    exit
}

# The protocol's subword tool, and its version for the record.
check_tool() {
    case "$PROTOCOL" in
        tokenised) TOOL=subword-nmt ;;
        raw) TOOL=sentencepiece ;;
    esac
    TOOL_VERSION=$(python3 -c 'import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))' "$TOOL" 2>/dev/null) ||
        die "--protocol $PROTOCOL: needs $TOOL, which is not installed: python3 -m pip install $TOOL"
}

# quietly WHAT COMMAND...: the command's output is shown only if it fails.
quietly() {
    local what=$1
    shift
    "$@" >"$WORK/log" 2>&1 || { cat "$WORK/log" >&2 && die "$what failed; its output stands above"; }
}

get_corpus() {
    local options=(--protocol "$PROTOCOL" --languages "$SOURCE" "$TARGET" --into "$NEW/corpus")
    [ -z "$FROM" ] || options+=(--from "$FROM")
    [ -z "$SUMS" ] || options+=(--sums "$SUMS")
    [ -z "$PAIRS" ] || options+=(--pairs "$PAIRS")
    python3 "$HERE/corpus.py" "${options[@]}"
}

learn_bpe() {
    quietly "subword-nmt learn-bpe" subword-nmt learn-bpe --symbols "$SUBWORDS" \
        --input <(cat "$NEW/corpus/train.$SOURCE" "$NEW/corpus/train.$TARGET") --output "$NEW/subword.codes"
}

apply_bpe() {
    quietly "subword-nmt apply-bpe" subword-nmt apply-bpe \
        --codes "$NEW/subword.codes" --input "$NEW/corpus/$1" --output "$NEW/subword/$1"
}

learn_pieces() {
    python3 "$HERE/pieces.py" learn "$SUBWORDS" "$NEW/subword.model" "$NEW/corpus/train.$SOURCE" "$NEW/corpus/train.$TARGET"
}

apply_pieces() {
    python3 "$HERE/pieces.py" apply "$NEW/subword.model" "$NEW/corpus/$1" "$NEW/subword/$1"
}

# cut_into_subwords METHOD: bpe or pieces; the model is learned on the training text of both sides together.
cut_into_subwords() {
    local part language
    "learn_$1"
    for part in train val test_2016_flickr; do
        for language in "$SOURCE" "$TARGET"; do
            "apply_$1" "$part.$language"
        done
    done
}

binarise() {
    quietly fairseq-preprocess fairseq-preprocess --source-lang "$SOURCE" --target-lang "$TARGET" \
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
    case "$PROTOCOL" in
        tokenised) cut_into_subwords bpe ;;
        raw) cut_into_subwords pieces ;;
    esac
    say "binarising"
    binarise
    record
    finish "$OUT"
    say "prepared $OUT: $PROTOCOL, $SOURCE to $TARGET, joined dictionary of $TYPES types"
}

main "$@"
