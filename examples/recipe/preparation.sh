# What all scripts of the recipes know of prepared data. Source it after lib.sh.

# check_preparation DIR [CORPUS...]: --data must be what prepare.sh made, of one of these corpora if any
# is named.
check_preparation() {
    local directory=$1 corpus
    [ -n "$directory" ] || die "--data: missing; give the directory that prepare.sh made"
    [ -f "$directory/preparation.txt" ] ||
        die "--data: $directory is no finished preparation; run prepare.sh --out $directory first"
    shift
    [ $# -gt 0 ] || return 0
    corpus=$(recorded "$directory/preparation.txt" corpus)
    among "$corpus" "$@" ||
        die "--data: $directory is a preparation of ${corpus:-another recipe}; expected one of: $*"
}

# preparation_settings FILE: the lines of preparation.txt that make two preparations the same.
# (pairs stands there only if not all were taken.)
preparation_settings() {
    grep -E '^(corpus|protocol|source|target|subwords|pairs|valid|dictionaries)=' "$1"
}

# recipe_python ROOT ARGUMENT...: Python with the recipes' shared modules.
recipe_python() {
    local root=$1
    shift
    PYTHONPATH="$root/examples${PYTHONPATH:+:$PYTHONPATH}" python3 "$@"
}
