#!/usr/bin/env bash
# WMT'14 or WMT'17 English to German, from their archives to binarised data that fairseq trains on.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"
source "$ROOT/examples/recipe/preparation.sh"
source "$ROOT/examples/recipe/preparing.sh"
SOURCE=en TARGET=de

usage() {
    cat <<'END'
usage: prepare.sh --out DIR [flags]

  --out DIR        where the prepared data goes; steps are done in DIR.partial, and a run that is
                   stopped goes on there when the same command is given again
  --corpus NAME    wmt14 (default): Europarl v7, Common Crawl, News Commentary v9; wmt17: the same
                   with News Commentary v12, which is what fairseq's script makes by default
  --valid NAME     newstest2013 (default); hundredth: every hundredth training pair, which is what
                   fairseq's script does
  --from DIR       take the archives from a directory instead of downloading them
  --sums FILE      checksums to use with --from instead of those of the recipe; a file that is not
                   among them is taken unchecked
  --archives DIR   where downloads are kept; default: archives, beside --out
  --protocol NAME  tokenised (default): punctuation normalised, Moses' tokeniser with -a, joint BPE;
                   raw: text as written, sentencepiece
  --subwords N     BPE merges (tokenised) or sentencepiece pieces (raw); default 40000 and 32000
  --workers N      processes; default: as many as there are cores
  --dry-run        say what would be done, with time and disk, and do nothing
  --force          replace a finished preparation, or an unfinished one with other settings

The test set is newstest2014, all 3,003 sentences.
END
}

read_flags() {
    large_flags
    CORPUS=wmt14 VALID=newstest2013
    VALUES+=(--corpus CORPUS --valid VALID)
    parse_flags "see prepare.sh --help" "$@"
}

check_flags() {
    one_of --corpus "$CORPUS" wmt14 wmt17
    one_of --valid "$VALID" newstest2013 hundredth
    if [ -z "$SUBWORDS" ]; then
        SUBWORDS=40000
        [ "$PROTOCOL" != raw ] || SUBWORDS=32000
    fi
    check_large_flags
}

# What makes two preparations the same; the beginning of preparation.txt.
settings() {
    printf '%s\n' "corpus=$CORPUS" "protocol=$PROTOCOL" "source=$SOURCE" "target=$TARGET" \
        "subwords=$SUBWORDS" "valid=$VALID" dictionaries=joined
}

main() {
    read_flags "$@"
    check_flags
    check_output
    prepare_large "$ROOT" "$HERE/corpus.py" --joined --corpus "$CORPUS" --valid "$VALID"
}

main "$@"
