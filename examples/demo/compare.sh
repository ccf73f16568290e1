#!/usr/bin/env bash
# The demo with every objective and several seeds, and a table of them all.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
source "$ROOT/examples/lib.sh"

usage() {
    cat <<'END'
usage: compare.sh [--seeds 'N ...'] [--objectives 'NAME ...'] [--updates N] [--out DIR] [--quick]

  --seeds       of data and training (default: '1 2')
  --objectives  of examples/demo/run.sh (default: all of them)
  --updates N   of every model (default: as run.sh)
  --out DIR     one folder a seed (default: runs/compare in the clone)
  --quick       as run.sh --quick

Trains a plain model and every tree from each seed, one after the other: about an hour a seed on two
cores. The same command goes on where it was interrupted. Ends with a table in Markdown.
END
}

SEEDS='1 2' CHOSEN="dealt ${OBJECTIVES[*]}" OUT=$ROOT/runs/compare UPDATES='' QUICK=no
VALUES=(--seeds SEEDS --objectives CHOSEN --updates UPDATES --out OUT)
SWITCHES=(--quick QUICK)
parse_flags "expected --seeds, --objectives, --updates, --out or --quick (see compare.sh --help)" "$@"
FLAGS=()
[ -z "$UPDATES" ] || { whole_number --updates "$UPDATES" 1 && FLAGS+=(--updates "$UPDATES"); }
[ "$QUICK" = no ] || FLAGS+=(--quick)

for seed in $SEEDS; do
    whole_number --seeds "$seed" 0
done
for objective in $CHOSEN; do
    one_of --objectives "$objective" dealt "${OBJECTIVES[@]}"
done

# report_of OBJECTIVE: what run.sh writes at its end.
report_of() {
    local name=report-$1.txt
    [ "$1" != dealt ] || name=report.txt
    printf '%s\n' "$OUT/seed$seed/$name"
}

folders=()
for seed in $SEEDS; do
    folders+=("$OUT/seed$seed")
    for objective in $CHOSEN; do
        rm -f "$(report_of "$objective")"
        # run.sh ends with an error if a leaf has learned little, which is a result here.
        bash "$HERE/run.sh" --objective "$objective" --seed "$seed" --out "$OUT/seed$seed" ${FLAGS[@]+"${FLAGS[@]}"} || [ -f "$(report_of "$objective")" ] || exit 1
    done
done
find_commands "$ROOT"
python3 "$HERE/compare.py" --run "${folders[@]}"
