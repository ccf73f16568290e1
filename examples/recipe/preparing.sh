# What the prepare.sh of the recipes have in common. Source it after lib.sh and preparation.sh. A script
# defines settings, which prints the lines that make two preparations the same.

# check_output: decide about an output that is there already: nothing to do, refuse, or go on and
# replace it at the end.
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

# check_sums: --from and --sums.
check_sums() {
    [ -z "$FROM" ] || [ -d "$FROM" ] || die "--from: no such directory: $FROM"
    [ -z "$SUMS" ] || [ -f "$SUMS" ] || die "--sums: no such file: $SUMS"
    [ -z "$SUMS" ] || [ -n "$FROM" ] || die "--sums: needs --from; downloads are held to the checksums of the recipe"
}

# version_of PACKAGE: for the record.
version_of() {
    python3 -c 'import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))' "$1" 2>/dev/null
}

# check_tool: the protocol's subword tool, and its version for the record.
check_tool() {
    case "$PROTOCOL" in
        tokenised) TOOL=subword-nmt ;;
        raw) TOOL=sentencepiece ;;
    esac
    TOOL_VERSION=$(version_of "$TOOL") ||
        die "--protocol $PROTOCOL: needs $TOOL, which is not installed: python3 -m pip install $TOOL"
}

# check_work: WORK, OUT.partial, is where the steps of this preparation are done. It outlives a run that
# is stopped; the same command goes on there. ANEW becomes yes if --force throws away what is in it, and
# empty if no step was finished, as after a start that was refused: that needs no --force.
check_work() {
    WORK=$OUT.partial ANEW=no
    [ -e "$WORK" ] || return 0
    [ -f "$WORK/settings.txt" ] ||
        die "--out: $WORK exists and is no unfinished preparation; move it away"
    [ "$(cat "$WORK/settings.txt")" != "$(settings)" ] || return 0
    if [ -z "$(find "$WORK" -mindepth 1 -maxdepth 1 -type d ! -name '*.unfinished')" ]; then
        ANEW=empty
        return
    fi
    [ "$FORCE" = yes ] ||
        die "--out: $WORK is an unfinished preparation with other settings ($(paste -sd ' ' - <"$WORK/settings.txt")); give the same ones, or --force to throw it away"
    ANEW=yes
}

open_work() {
    WORK=$OUT.partial
    if ! [ -e "$WORK" ]; then
        mkdir -p "$WORK" 2>/dev/null || die "--out: cannot write to $(dirname "$OUT")"
        settings >"$WORK/settings.txt" || die "--out: cannot write to $WORK"
    fi
    # Two runs in one folder would take each other's steps for finished ones.
    if [ -f "$WORK/settings.txt" ] && command -v flock >/dev/null; then
        exec 9<>"$WORK/settings.txt" # to write, too: over NFS it cannot be locked otherwise
        flock -n 9 || die "--out: another prepare.sh is at work in $WORK"
    fi
    check_work
    if [ "$ANEW" != no ]; then
        find "$WORK" -mindepth 1 -maxdepth 1 ! -name settings.txt -exec rm -rf {} +
        settings >"$WORK/settings.txt"
    fi
}

# record_work KEY=VALUE...: that all steps in WORK are done: settings, what the program found (facts.txt),
# and these.
record_work() {
    { settings && cat "$WORK/facts.txt" && printf '%s\n' "$@"; } >"$WORK/facts.txt.whole"
    mv "$WORK/facts.txt.whole" "$WORK/preparation.txt"
}

# close_work: what is of use of WORK becomes OUT. Stopped anywhere in this, it is all that is left to do.
close_work() {
    find "$WORK" -mindepth 1 -maxdepth 1 -type d ! -name corpus ! -name reference ! -name subword ! -name data-bin -exec rm -rf {} +
    if [ -e "$OUT" ]; then
        rm -rf "$WORK.old"
        mv "$OUT" "$WORK.old"
    fi
    mv "$WORK" "$OUT"
    rm -rf "$OUT/settings.txt" "$OUT/facts.txt" "$WORK.old"
}

# The flags that the larger recipes' prepare.sh share, for VALUES and SWITCHES, and their defaults.
large_flags() {
    OUT='' FROM='' SUMS='' ARCHIVES='' PROTOCOL=tokenised SUBWORDS='' WORKERS='' FORCE=no DRY_RUN=no
    VALUES=(--out OUT --from FROM --sums SUMS --archives ARCHIVES --protocol PROTOCOL
        --subwords SUBWORDS --workers WORKERS)
    SWITCHES=(--force FORCE --dry-run DRY_RUN)
}

check_large_flags() {
    [ -n "$OUT" ] || die "--out: missing; say where the prepared data goes"
    one_of --protocol "$PROTOCOL" tokenised raw
    whole_number --subwords "$SUBWORDS" 1
    [ -z "$WORKERS" ] || whole_number --workers "$WORKERS" 1
    check_sums
    OUT=$(absolute "$OUT")
    ARCHIVES=$(absolute "${ARCHIVES:-$(dirname "$OUT")/archives}")
    [ ! -e "$ARCHIVES" ] || [ -d "$ARCHIVES" ] || die "--archives: got '$ARCHIVES', which is a file; expected a directory"
}

# plan ROOT PROGRAM [ARGUMENT...]: what --dry-run says.
plan() {
    local root=$1
    shift
    [ ! -e "$OUT" ] || say "$OUT would be replaced (--force)"
    if [ "$ANEW" = yes ]; then
        say "$WORK, an unfinished preparation with other settings, would be thrown away (--force)"
        set -- "$@" --anew
    elif [ -f "$WORK/preparation.txt" ]; then
        say "all steps are done in $WORK: it would become $OUT"
        return
    fi
    recipe_python "$root" "$@" --dry-run
}

# prepare_large ROOT PROGRAM [ARGUMENT...]: the whole of a larger recipe's preparation, or what --dry-run
# says. The program takes the flags of recipe/job.py and these arguments.
prepare_large() {
    local root=$1 options
    shift
    options=(--protocol "$PROTOCOL" --subwords "$SUBWORDS" --work "$OUT.partial" --archives "$ARCHIVES")
    [ -z "$FROM" ] || options+=(--from "$FROM")
    [ -z "$SUMS" ] || options+=(--sums "$SUMS")
    [ -z "$WORKERS" ] || options+=(--workers "$WORKERS")
    find_commands "$root"
    check_tool
    version_of sacremoses >/dev/null ||
        die "sacremoses is not installed, and Moses' tokeniser is needed: python3 -m pip install sacremoses"
    if [ "$DRY_RUN" = yes ]; then
        check_work
        plan "$root" "$@" "${options[@]}"
        return
    fi
    open_work
    if ! [ -f "$WORK/preparation.txt" ]; then
        recipe_python "$root" "$@" "${options[@]}" || exit 1
        record_work "$TOOL=$TOOL_VERSION" "sacremoses=$(version_of sacremoses)"
    fi
    close_work
    say "prepared $OUT: $PROTOCOL, $SOURCE to $TARGET"
}
