#!/usr/bin/env bash
# IWSLT'14 German to English, from its archive to binarised data that fairseq trains on.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/preparing.sh"
SOURCE=de TARGET=en

usage() {
    cat <<'END'
usage: prepare.sh --out DIR [flags]

  --out DIR        where the prepared data goes; steps are done in DIR.partial, and a run that is
                   stopped goes on there when the same command is given again
  --from DIR       take de-en.tgz from a directory instead of downloading it
  --sums FILE      checksums to use with --from instead of those of the recipe; a file that is not
                   among them is taken unchecked
  --archives DIR   where downloads are kept; default: archives, beside --out
  --protocol NAME  tokenised (default): lower-cased text, Moses' tokeniser, joint BPE, tokenised BLEU;
                   raw: text as written, sentencepiece, detokenised BLEU
  --subwords N     BPE merges (tokenised) or sentencepiece pieces (raw); default 10000
  --joined         one dictionary for both sides, and so one embedding matrix in training
  --workers N      processes; default: as many as there are cores
  --dry-run        say what would be done, with time and disk, and do nothing
  --force          replace a finished preparation, or an unfinished one with other settings
END
}

read_flags() {
    large_flags
    SUBWORDS=10000 JOINED=no
    SWITCHES+=(--joined JOINED)
    parse_flags "see prepare.sh --help" "$@"
}

# What makes two preparations the same; the beginning of preparation.txt.
settings() {
    local dictionaries=separate
    [ "$JOINED" = no ] || dictionaries=joined
    printf '%s\n' corpus=iwslt14 "protocol=$PROTOCOL" "source=$SOURCE" "target=$TARGET" \
        "subwords=$SUBWORDS" "dictionaries=$dictionaries"
}

main() {
    local joined=()
    read_flags "$@"
    check_large_flags
    check_output
    [ "$JOINED" = no ] || joined=(--joined)
    prepare_large "$ROOT" "$HERE/corpus.py" ${joined[@]+"${joined[@]}"}
}

main "$@"
