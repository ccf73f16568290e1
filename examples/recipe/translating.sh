# Translating with fairseq-generate: what all evaluate.sh have in common. Source it after lib.sh and
# preparation.sh. A script has read DATA, MODEL, CHECKPOINT, BEAM, LENPEN, OUT, CPU and FORCE.

check_search() {
    whole_number --beam "$BEAM" 1
    [[ "$LENPEN" =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--lenpen: got '$LENPEN'; expected a number, 0 or more"
}

# check_checkpoint: --checkpoint is one that the plugin reads; of any other file fairseq has a traceback.
check_checkpoint() {
    local said
    said=$(python3 -c "$READ_CHECKPOINT" "$MODEL/$CHECKPOINT" 2>&1) || die "${said##*$'\n'}"
}
READ_CHECKPOINT='
import sys
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import read_checkpoint
try:
    read_checkpoint(sys.argv[1], "--checkpoint", lazy=True)
except UsageError as error:
    sys.exit(str(error))
'

# check_evaluation_output SCORES: a finished evaluation has that file; nothing else is ever replaced.
check_evaluation_output() {
    [ -e "$OUT" ] || return 0
    [ -f "$OUT/$1" ] || die "--out: $OUT exists and is no evaluation of this script; choose another directory"
    [ "$FORCE" = yes ] || die "--out: $OUT holds an evaluation; choose another directory, or give --force to replace it"
}

# SOURCE, TARGET, PROTOCOL, and how its subwords are joined.
read_preparation() {
    SOURCE=$(recorded "$DATA/preparation.txt" source)
    TARGET=$(recorded "$DATA/preparation.txt" target)
    PROTOCOL=$(recorded "$DATA/preparation.txt" protocol)
    case "$PROTOCOL" in
        tokenised) JOIN='@@ ' ;;
        raw) JOIN=sentencepiece ;;
    esac
}

# generation SUBSET FILE: GENERATION becomes the command that translates a part of the data with a
# checkpoint. Without --required-batch-size-multiple 1, fairseq silently leaves out the longest sentences
# when their number is no multiple of 8.
generation() {
    GENERATION=(fairseq-generate "$DATA/data-bin" --task translation --source-lang "$SOURCE" --target-lang "$TARGET"
        --user-dir "$PLUGIN" --path "$2" --gen-subset "$1" --beam "$BEAM" --lenpen "$LENPEN"
        --batch-size 128 --required-batch-size-multiple 1 --remove-bpe="$JOIN")
    [ "$CPU" = no ] || GENERATION+=(--cpu)
}
