#!/usr/bin/env bash
# Makes .venv in the clone: fairseq, this plugin and the tools, in the versions of scripts/requirements.
# See usage() below for what can be chosen.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/examples/lib.sh"

VENV=$ROOT/.venv
STATE=$VENV/setup # what this script remembers: base, torch, build, done, constraints.txt, log
LOG=$STATE/log
PINS=$ROOT/scripts/requirements
CPU_INDEX=https://download.pytorch.org/whl/cpu
STEPS=5
TELLER=
PATIENCE=20 # seconds without a word

usage() {
    cat <<'EOF'
usage: bash scripts/setup.sh

Makes .venv in the clone. Run again, it takes a second when nothing changed, brings .venv up to date
when the requirements did, and makes it anew when an earlier run did not finish.

  PYTHON=COMMAND  the Python to use: 3.11, 3.12 or 3.13 (default: that of a finished .venv, else python3)
  TORCH=VERSION   the torch to install, 2.4.0 or newer (default: that of a finished .venv, else
                  the version in scripts/requirements/torch.txt)
  BUILD=cuda|cpu  which build of it, whatever this machine has, as on a cluster's login node
                  (default: that of a finished .venv, else as below)

Which build of torch: with a GPU and a torch in that Python which can use it, that torch is kept and
none is installed; with an NVIDIA GPU otherwise, the ordinary one with CUDA; without, the CPU's.
EOF
}

# ---- before anything is written -------------------------------------------------------------------

# One run at a time. What a killed run left behind (a pip at work) still holds the lock, so that the
# next run does not remove the environment under it. Without flock (macOS) nothing waits.
wait_for_others() {
    command -v flock >/dev/null || return 0
    exec 9<"$ROOT/scripts"
    if ! flock -n 9; then
        say "waiting: another setup.sh is at work in this clone"
        flock 9
    fi
}

# remembered NAME: what a finished run chose; nothing if no run finished.
remembered() {
    # An environment of an earlier release has not noted all of it.
    if [ -f "$STATE/done" ] && [ -f "$STATE/$1" ]; then cat "$STATE/$1"; fi
}

choose_python() {
    local asked=${PYTHON:-$(remembered python)} found
    [ -n "${PYTHON:-}" ] || [ -x "$asked" ] || asked=python3
    command -v "$asked" >/dev/null ||
        die "PYTHON: no command '$asked'; name a Python 3.11, 3.12 or 3.13, as in PYTHON=python3.11 bash scripts/setup.sh"
    # With .venv activated, python3 is .venv's own, which could not outlive making .venv anew.
    found=$("$asked" -c 'import os, sys
own = os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1])
print(sys._base_executable if own else sys.executable)
print("%d.%d" % sys.version_info[:2])' "$VENV" 2>/dev/null) || die "PYTHON: '$asked' does not run as a Python"
    PYTHON=$(sed -n 1p <<<"$found")
    PYTHON_VERSION=$(sed -n 2p <<<"$found")
    case $PYTHON_VERSION in
    3.11 | 3.12 | 3.13) ;;
    *) die "PYTHON: '$asked' is Python $PYTHON_VERSION; the pinned versions need 3.11, 3.12 or 3.13, as in PYTHON=python3.11 bash scripts/setup.sh" ;;
    esac
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$PYTHON has no venv module: install it (Debian and Ubuntu: apt install python$PYTHON_VERSION-venv)"
}

choose_torch() {
    ASKED_TORCH=${TORCH:-$(remembered torch)}
    TORCH=${ASKED_TORCH:-$(sed -n 's/^torch==//p' "$PINS/torch.txt")}
    [[ $TORCH =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
        die "TORCH: got '$TORCH'; expected a version such as 2.11.0"
    # Older ones do not work with numpy 2, which is pinned, or have no safe loader with an allow-list.
    [[ ! $TORCH =~ ^([01]\.|2\.[0-3]\.) ]] || die "TORCH: got '$TORCH'; expected 2.4.0 or newer"
    BUILD=${BUILD:-$(remembered build)}
    case $BUILD in
    "" | cuda | cpu) ;;
    *) die "BUILD: got '$BUILD'; expected cuda or cpu" ;;
    esac
    [ "$BUILD $(uname -s)" != "cuda Darwin" ] || die "BUILD: got 'cuda'; there is none for macOS; expected cpu, or no BUILD"
}

# There is a ready-made fairseq for Python 3.12 on 64-bit Linux only; elsewhere pip compiles it.
is_ready_made() {
    [ "$1 $(uname -sm)" = "3.12 Linux x86_64" ]
}

note_ready_made() {
    if is_ready_made "$PYTHON_VERSION" || ! is_ready_made 3.12; then return; fi
    if python3.12 -c 'import venv, ensurepip' >/dev/null 2>&1; then
        say "note: fairseq is compiled for Python $PYTHON_VERSION, and ready-made for 3.12, which is here: PYTHON=python3.12 bash scripts/setup.sh"
    fi
}

check_compiler() {
    if is_ready_made "$PYTHON_VERSION"; then return; fi
    local tools include cc cxx tool
    tools=$("$PYTHON" -c 'import sysconfig as s
print(s.get_config_var("CC") or "cc", s.get_config_var("CXX") or "c++", s.get_paths()["include"], sep="\n")')
    cc=${CC:-$(sed -n 1p <<<"$tools")} cxx=${CXX:-$(sed -n 2p <<<"$tools")}
    include=$(sed -n 3p <<<"$tools")
    for tool in "${cc%% *}" "${cxx%% *}" "${CXX:-c++}"; do
        command -v "$tool" >/dev/null ||
            die "no C++ compiler ('$tool' not found), and fairseq has to be compiled: install one (Debian and Ubuntu: apt install build-essential)"
    done
    [ -f "$include/Python.h" ] ||
        die "no headers of Python ($include/Python.h), and fairseq has to be compiled: install them (Debian and Ubuntu: apt install python$PYTHON_VERSION-dev)"
}

# ---- is it done already? --------------------------------------------------------------------------

# What .venv cannot survive a change of: its Python, its place (its commands name it), and the build of
# torch that was asked for, which to pip is the same version.
base() {
    printf '%s\n' "$PYTHON" "$("$PYTHON" -VV)" "$ROOT" ${BUILD:+"$BUILD"}
}

# What it is brought up to date for.
fingerprint() {
    "$PYTHON" -c 'import hashlib, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        print(hashlib.sha256(file.read()).hexdigest())' \
        "$PINS"/*.txt "$ROOT/setup.py" "$ROOT/tsa_fairseq/version.py" "$ROOT/scripts/setup.sh"
    printf 'torch %s %s\n' "$TORCH" "$BUILD"
}

# Every pinned package is there in its version, and the plugin is the clone's: reads metadata only,
# so that it costs no import of torch.
is_complete() {
    "$VENV/bin/python" - "$ROOT" "$PINS"/{build,packages,fairseq}.txt "$STATE/constraints.txt" <<'EOF'
import importlib.metadata, importlib.util, pathlib, re, sys

for path in sys.argv[2:]:
    for name, pinned in re.findall(r"^([\w-]+)==([^\s\\]+)", pathlib.Path(path).read_text(), re.M):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "nothing"
        if found != pinned:
            sys.exit(f"{name}: {pinned} expected, {found} found")
plugin = importlib.util.find_spec("tsa_fairseq")
if plugin is None or pathlib.Path(sys.argv[1]) not in pathlib.Path(plugin.origin).parents:
    sys.exit("tsa_fairseq: not the clone's")
EOF
}

# A finished environment of this Python in this place: what is there can be kept.
is_usable() {
    [ -f "$STATE/done" ] && [ "$(cat "$STATE/base")" = "$(base)" ]
}

is_current() {
    is_usable && [ "$(cat "$STATE/done")" = "$(fingerprint)" ] && is_complete 2>/dev/null
}

# ---- the steps ------------------------------------------------------------------------------------

# step NUMBER WHAT
step() {
    STEP="step $1 of $STEPS"
    say "[$1/$STEPS] $2"
}

# still_at_work: says every 20 seconds that a step goes on, and what its log says last.
still_at_work() {
    local seconds=0 doing
    # Nothing is ever written to this pipe: a read of it waits as sleep does, without a process that
    # could outlive this one.
    until read -r -t "$PATIENCE" -u 8; do
        kill -0 "$$" 2>/dev/null || return
        seconds=$((seconds + PATIENCE))
        doing=$(tail -n 1 "$LOG" | tr -cd '[:print:]' | sed 's/^ *//' | cut -c 1-70)
        printf '    %d s  %s\n' "$seconds" "$doing"
    done
}

silence() {
    [ -z "$TELLER" ] || kill "$TELLER" 2>/dev/null || true
    TELLER=
}

# attempt HINT COMMAND...: its output goes to the log; a failure ends the script in one line.
attempt() {
    local hint=$1 reason status=0
    shift
    still_at_work 9>&- &
    TELLER=$!
    "$@" >>"$LOG" 2>&1 </dev/null 8>&- || status=$?
    silence
    [ "$status" != 0 ] || return 0
    # pip's last error, but not the one that only points to its manual.
    reason=$(sed -n '/ResolutionImpossible/d; s/^ERROR: //p' "$LOG" | tail -n 1)
    die "$STEP failed${reason:+ ($reason)}: $hint; the log is $LOG"
}

# pip in the clone's environment. Without build isolation nothing is fetched into environments for
# building, where fairseq's build would ask for a torch of its own.
install() {
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --no-build-isolation "$@"
}

make_venv() {
    step 1 "the environment, $VENV"
    if is_usable; then
        # From here on it is unfinished: if this run is cut off, the next one makes it anew.
        rm "$STATE/done"
        : >"$LOG"
    else
        if [ -e "$VENV" ]; then
            [ -d "$STATE" ] || die "$VENV was not made by scripts/setup.sh: move it away, or remove it"
            rm -rf "$VENV"
        fi
        mkdir -p "$STATE"
        base >"$STATE/base"
        : >"$LOG"
    fi
    rm -f "$STATE/silence"
    mkfifo "$STATE/silence"
    exec 8<>"$STATE/silence"
    [ -x "$VENV/bin/python" ] || attempt "'$PYTHON -m venv' must work" "$PYTHON" -m venv "$VENV"
    attempt "is the package index reachable?" install -r "$PINS/build.txt"
}

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1
}

# The version of the chosen Python's torch if that torch can use a GPU of this machine, else nothing.
torch_with_gpu() {
    "$PYTHON" -c 'import torch
if torch.cuda.is_available():
    print(torch.__version__)' 2>/dev/null || true
}

# Lets .venv see the packages of the chosen Python, behind its own. Unlike --system-site-packages
# this also works if the chosen Python is a virtual environment itself.
show_packages_of_python() {
    "$PYTHON" -c 'import os, sys
for path in sys.path:
    if os.path.basename(path) in ("site-packages", "dist-packages"):
        print(f"import site; site.addsitedir({path!r})")' >"$1/packages_of_python.pth"
}

# CPU builds carry the version +cpu, which no CUDA build can satisfy. PyTorch's own index is asked
# second, so that a mirror or a folder of wheels that pip is configured with is enough.
install_cpu_torch() {
    local wanted=torch==$1+cpu
    echo "Looking for $wanted where pip is configured to look" >>"$LOG"
    install --no-deps "$wanted" >>"$LOG" 2>&1 </dev/null && return
    attempt "torch for the CPU comes from $CPU_INDEX: is it reachable, and does it have torch $1 for Python $PYTHON_VERSION?" \
        install --no-deps --index-url "$CPU_INDEX" "$wanted"
}

install_torch() {
    local site kept='' why=''
    site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    [ -n "$ASKED_TORCH$BUILD" ] || kept=$(torch_with_gpu)
    if [ -n "$kept" ]; then
        [[ ! $kept =~ ^([01]\.|2\.[0-3]\.) ]] ||
            die "torch $kept of $PYTHON is too old for the pinned versions, which need 2.4 or newer: update it, or let setup.sh install one (TORCH=$TORCH bash scripts/setup.sh)"
        step 2 "torch $kept of $PYTHON, which can use this machine's GPU, is kept"
        show_packages_of_python "$site"
    elif [ "$BUILD" = cuda ] || { [ -z "$BUILD" ] && has_gpu; }; then
        step 2 "torch $TORCH with CUDA (several GB)"
        attempt "is the package index reachable, and does it have torch $TORCH for Python $PYTHON_VERSION?" \
            install "torch==$TORCH"
    elif [ "$(uname -s)" = Linux ]; then
        [ -n "$BUILD" ] || why=", as no GPU was found"
        step 2 "torch $TORCH for the CPU$why (200 MB)"
        install_cpu_torch "$TORCH"
    else
        step 2 "torch $TORCH"
        attempt "is the package index reachable, and does it have torch $TORCH for Python $PYTHON_VERSION?" \
            install "torch==$TORCH"
    fi
    "$VENV/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' >"$STATE/constraints.txt"
    # From here on no requirement of any package can bring another torch.
    export PIP_CONSTRAINT=$STATE/constraints.txt
}

install_packages() {
    step 3 "the pinned packages"
    attempt "is the package index reachable?" install -r "$PINS/packages.txt"
}

install_fairseq() {
    if is_ready_made "$PYTHON_VERSION"; then
        step 4 "fairseq, ready-made"
    else
        step 4 "fairseq, to be compiled (1 to 5 minutes)"
    fi
    # With CUDA_HOME set, its build compiles CUDA extensions, which translation does not use.
    unset CUDA_HOME
    # By all cores: setuptools reads this beside a package's own configuration.
    printf '[build_ext]\nparallel = %s\n' "$(getconf _NPROCESSORS_ONLN)" >"$STATE/build.cfg"
    export DIST_EXTRA_CONFIG=$STATE/build.cfg
    attempt "the compiler's message, if there is one, is in the log" install --no-deps -r "$PINS/fairseq.txt"
}

install_plugin() {
    step 5 "tsa_fairseq, from the clone"
    attempt "the log says why" install --no-deps -e "$ROOT"
    attempt "fairseq was installed but cannot be imported" \
        "$VENV/bin/python" -c 'import torch, fairseq, fairseq.data.data_utils_fast, fairseq_cli.train'
    attempt "a package is missing or has another version than the pinned one" is_complete
}

note_gpu() {
    [ "$BUILD" != cpu ] || return 0
    if grep -q '+cpu$' "$STATE/constraints.txt" && has_gpu; then
        say "note: this machine has a GPU, but .venv has torch for the CPU; to change that, remove $VENV and run setup.sh again"
    fi
}

main() {
    case ${1:-} in
    "") ;;
    -h | --help) usage && exit ;;
    *) die "unknown argument '$1'; setup.sh takes none but --help" ;;
    esac
    wait_for_others
    choose_python
    choose_torch
    if is_current; then
        say "$VENV is up to date"
        note_gpu
        return
    fi
    note_ready_made
    check_compiler
    # On a copy of standard error: the signal may come while output goes to the log.
    exec 3>&2
    trap 'silence; die "interrupted; run it again" 2>&3' INT TERM
    make_venv
    install_torch
    install_packages
    install_fairseq
    install_plugin
    printf '%s\n' "$PYTHON" >"$STATE/python"
    printf '%s\n' "$ASKED_TORCH" >"$STATE/torch"
    printf '%s\n' "$BUILD" >"$STATE/build"
    fingerprint >"$STATE/done"
    say "$VENV is ready; to use it in this shell: . $VENV/bin/activate"
    note_gpu
}

main "$@"
