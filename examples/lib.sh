# Shared by the recipes: messages, and finding fairseq and the plugin. Source it; it runs nothing by itself.

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

# absolute DIR: DIR from the root, whether or not it exists yet.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$PWD/$1" ;;
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

# whole_number FLAG VALUE LEAST: VALUE must be a whole number, LEAST or more.
whole_number() {
    [[ "$2" =~ ^(0|[1-9][0-9]{0,8})$ ]] && [ "$2" -ge "$3" ] ||
        die "$1: got '$2'; expected a whole number, $3 or more"
}

# one_of FLAG VALUE CHOICE...: VALUE must be one of the choices.
one_of() {
    local flag=$1 value=$2 choice
    shift 2
    for choice in "$@"; do
        [ "$value" != "$choice" ] || return 0
    done
    die "$flag: got '$value'; expected one of: $*"
}

# recorded FILE KEY: what a file of KEY=VALUE lines says about KEY.
recorded() {
    sed -n "s/^$2=//p" "$1"
}
