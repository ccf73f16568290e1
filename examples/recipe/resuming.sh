# Where a training's checkpoints go, and whether it may go on there: what all train.sh have in common.
# Source it after lib.sh. A script defines training_settings, which prints what a stopped run must have
# in common with the one that goes on from it: not its length, and not the machines.

# recorded_settings: of the run in SAVE. (Earlier releases left blanks where --cpu had stood; its length
# stood there, too.)
recorded_settings() {
    sed -e 's/^extra=  */extra=/' -e '/^updates=/d' "$SAVE/training.txt"
}

same_settings() {
    [ "$(recorded_settings)" = "$(training_settings)" ]
}

has_checkpoint() {
    [ -n "$(find "$SAVE" -maxdepth 1 -name 'checkpoint*.pt')" ]
}

# A new directory or an empty one, one of a run with the same settings, or one of a run that ended before
# its first checkpoint: nothing of that can be gone on from, whatever its settings were.
check_save_directory() {
    if [ -f "$SAVE/training.txt" ]; then
        same_settings || ! has_checkpoint ||
            die "--save: $SAVE holds a run with other settings ($(paste -sd ' ' - <"$SAVE/training.txt")); give the same ones or choose another directory"
    elif [ -e "$SAVE" ]; then
        # (training.txt.*: of another machine that begins just now, or of a start that was stopped)
        [ -d "$SAVE" ] && [ -z "$(find "$SAVE" -mindepth 1 ! -name 'training.txt.*')" ] ||
            die "--save: $SAVE exists and holds no run of this script; choose another directory"
    fi
}

# Of two trainings in one directory each would overwrite the other's checkpoints. On one machine it is
# locked for one alone; the machines of a run share it, but for the moment in which one of them writes
# settings there: a run with other ones may be at work that has no checkpoint yet.
lock_save_directory() {
    local others=''
    command -v flock >/dev/null || return 0
    exec 9<"$SAVE"
    if [ -f "$SAVE/training.txt" ] && ! same_settings; then
        others=' with other settings'
    elif [ "${NODES:-1}" -gt 1 ]; then
        return 0
    fi
    # (1: it is held; anything else: this file system has no such locks)
    flock -n 9 2>/dev/null || [ $? -ne 1 ] || { [ "${NODES:-1}" -gt 1 ] && same_settings; } ||
        die "--save: a training$others is at work in $SAVE; choose another directory, or end that one"
}

# After that, of several machines. Their own moments are short; one machine's training is not.
share_save_directory() {
    [ "${NODES:-1}" -gt 1 ] && command -v flock >/dev/null || return 0
    flock -s -w 10 9 2>/dev/null || [ $? -ne 1 ] ||
        die "--save: a training on one machine is at work in $SAVE; choose another directory, or end that one"
}

open_save_directory() {
    local mine
    mkdir -p "$SAVE" 2>/dev/null || die "--save: cannot create $SAVE"
    lock_save_directory
    if [ -f "$SAVE/training.txt" ] && has_checkpoint; then
        say "going on with the run in $SAVE"
    elif [ -f "$SAVE/training.txt" ]; then
        say "starting again in $SAVE, where no checkpoint was written"
    fi
    if ! [ -f "$SAVE/training.txt" ] || ! same_settings; then
        mine=$(mktemp "$SAVE/training.txt.XXXXXX")
        training_settings >"$mine"
        mv "$mine" "$SAVE/training.txt"
    fi
    share_save_directory
}

# train_into LOG COMMAND...: what it says is shown and added to the log.
train_into() {
    local log=$1
    shift
    "$@" 2>&1 | tee -a "$log" || die "fairseq-train failed; its output stands above and in $log"
    say "trained: best checkpoint $SAVE/checkpoint_best.pt"
}
