# Shared by the recipes: messages, flags, outputs that appear whole, and finding fairseq and the plugin.
# Source it; it runs nothing by itself.

# What --kd-objective takes.
OBJECTIVES=(tsa dml ensemble okddip one cl-ilr kdcl-naive kdcl-minlogit kd sokd rdrop simcut none)

# die MESSAGE: one line on standard error, and the script ends with status 1.
die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

# say MESSAGE: what the script does now.
say() {
    printf '==> %s\n' "$1"
}

# absolute DIR: DIR from the root, whether or not it exists yet, and without the slash that a shell's
# completion puts at its end: what is made beside DIR would be made inside of it.
absolute() {
    local path=$1
    while [ "${path%/}" != "$path" ] && [ "$path" != / ]; do
        path=${path%/}
    done
    case $path in
        /*) printf '%s\n' "$path" ;;
        *) printf '%s\n' "$PWD/$path" ;;
    esac
}

# find_commands ROOT: the clone's .venv if it is there, else whatever Python is active.
find_commands() {
    if [ -x "$1/.venv/bin/tsa-fairseq" ]; then
        PATH="$1/.venv/bin:$PATH"
    fi
    command -v tsa-fairseq >/dev/null && command -v fairseq-train >/dev/null ||
        die "fairseq-train and tsa-fairseq are not on PATH: run 'bash scripts/setup.sh' in $1, or activate the environment that has them"
}

# quietly LOG COMMAND...: the command's output goes into the log, and is shown only if it fails.
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { cat "$log" >&2 && die "$1 failed; its output stands above"; }
}

# cpu_settings: what makes training on a CPU faster, unless the user chose otherwise.
cpu_settings() {
    # glibc gives every large tensor back to the system and takes new, zeroed pages for the next one:
    # that costs more than the arithmetic. Other C libraries do not read this variable.
    : "${GLIBC_TUNABLES:=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=16000000000}"
    # Threads that wait by spinning take the cores from those that work, if anything else runs.
    : "${OMP_WAIT_POLICY:=passive}"
    export GLIBC_TUNABLES OMP_WAIT_POLICY
}

# use_environment ROOT: find_commands, and PLUGIN becomes the directory for --user-dir.
use_environment() {
    find_commands "$1"
    PLUGIN=$(tsa-fairseq path) || die "'tsa-fairseq path' failed: run it to see why"
    cpu_settings
}

# flag_value FLAG "$@": for a flag that needs a value; "$@" begins with the flag itself.
flag_value() {
    [ $# -ge 3 ] && [ -n "$3" ] && [ "${3#--}" = "$3" ] || die "$1: needs a value"
}

# among WORD CHOICE...: whether the word is one of the choices.
among() {
    local word=$1 choice
    shift
    for choice in "$@"; do
        [ "$word" != "$choice" ] || return 0
    done
    return 1
}

# variable_of FLAG [FLAG VARIABLE]...: prints the variable of the first pair with this flag; status 1 if none has.
variable_of() {
    local flag=$1
    shift
    while [ $# -gt 0 ]; do
        if [ "$1" = "$flag" ]; then
            printf '%s\n' "$2"
            return
        fi
        shift 2
    done
    return 1
}

# parse_flags HINT "$@": read a script's flags, which it declares beforehand:
#   VALUES    pairs FLAG VARIABLE of those that take a value (the script has set the default)
#   SWITCHES  pairs FLAG VARIABLE of those that take none: the variable becomes yes
#   EXTRA     if PASSES_ON=yes, what stands after -- is added to it
# --help prints usage and ends the script. HINT ends the message about an argument that is none of these.
parse_flags() {
    local hint=$1 variable
    shift
    while [ $# -gt 0 ]; do
        if variable=$(variable_of "$1" "${VALUES[@]}"); then
            flag_value "$1" "$@"
            printf -v "$variable" '%s' "$2"
            shift 2
        elif variable=$(variable_of "$1" "${SWITCHES[@]}"); then
            printf -v "$variable" '%s' yes
            shift
        elif [ "$1" = -h ] || [ "$1" = --help ]; then
            usage
            exit
        elif [ "$1" = -- ] && [ "${PASSES_ON-no}" = yes ]; then
            shift
            EXTRA+=("$@")
            return
        else
            die "unknown argument '$1'; $hint"
        fi
    done
}

# make_work_directory OUT: a directory beside OUT that is gone when the script ends; what will be OUT is
# made in NEW, inside of it, so that OUT appears when it is whole.
make_work_directory() {
    mkdir -p "$(dirname "$1")" 2>/dev/null && WORK=$(mktemp -d "$1.partial.XXXXXX" 2>/dev/null) ||
        die "--out: cannot write to $(dirname "$1")"
    trap 'rm -rf "$WORK"' EXIT
    NEW=$WORK/new
    mkdir "$NEW"
}

# finish OUT: what was made in NEW takes the place of OUT.
finish() {
    [ ! -e "$1" ] || mv "$1" "$WORK/old"
    mv "$NEW" "$1"
}

# whole_number FLAG VALUE LEAST: VALUE must be a whole number, LEAST or more.
whole_number() {
    [[ "$2" =~ ^(0|[1-9][0-9]{0,8})$ ]] && [ "$2" -ge "$3" ] ||
        die "$1: got '$2'; expected a whole number, $3 or more"
}

# one_of FLAG VALUE CHOICE...: VALUE must be one of the choices.
one_of() {
    local flag=$1
    shift
    among "$@" || die "$flag: got '$1'; expected one of: ${*:2}"
}

# recorded FILE KEY: what a file of KEY=VALUE lines says about KEY.
recorded() {
    sed -n "s/^$2=//p" "$1"
}

# quoted WORD: as a shell takes it, without quotes where it needs none.
quoted() {
    if [[ "$1" =~ ^[A-Za-z0-9_./:,=@%+-]+$ ]]; then
        printf '%s' "$1"
    else
        printf '%s' "${1@Q}"
    fi
}

# print_command WORD...: a flag and its values on each line.
print_command() {
    local word
    quoted "$1"
    for word in "${@:2}"; do
        case $word in
            --*) printf ' \\\n    ' ;;
            *) printf ' ' ;;
        esac
        quoted "$word"
    done
    printf '\n'
}
