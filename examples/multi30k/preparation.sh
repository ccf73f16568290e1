# What the scripts of this recipe know of prepared data. Source it after lib.sh.

# check_preparation DIR: --data must be what prepare.sh made.
check_preparation() {
    [ -n "$1" ] || die "--data: missing; give the directory that prepare.sh made"
    [ -f "$1/preparation.txt" ] || die "--data: $1 is no finished preparation; run prepare.sh --out $1 first"
}

# preparation_settings FILE: the lines of preparation.txt that make two preparations the same.
# (pairs stands there only if not all were taken.)
preparation_settings() {
    grep -E '^(protocol|source|target|subwords|pairs)=' "$1"
}
