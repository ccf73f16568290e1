# The demo's stages, from a corpus to a table. run.sh sources this and sets OUT, PLUGIN, the sizes and
# the flags; every stage leaves alone what an earlier call has finished.

# stage WHAT RESULT: says it with its number; status 1 if the result is there, and nothing to say.
stage() {
    STAGE=$((STAGE + 1))
    [ ! -e "$2" ] || return 1
    say "[$STAGE/$STAGES] $1"
}

# folder NAME WHAT COMMAND...: COMMAND makes $OUT/NAME, which appears under that name when it is whole.
# COMMAND gets the folder to fill as its last argument.
folder() {
    local name=$1 what=$2
    shift 2
    stage "$what" "$OUT/$name" || return 0
    rm -rf "$OUT/$name.partial"
    mkdir "$OUT/$name.partial"
    "$@" "$OUT/$name.partial" >"$OUT/$name.log" 2>&1 ||
        die "failed: $(tail -n 1 "$OUT/$name.log"); the log is $OUT/$name.log"
    mv "$OUT/$name.partial" "$OUT/$name"
}

make_data() {
    python3 "$HERE/make_data.py" "${CORPUS[@]}" --seed "$SEED" --out "$1"
}

segment() {
    python3 "$HERE/segment.py" --data "$OUT/data" --vocabulary "$PIECES" --out "$1"
}

preprocess() {
    fairseq-preprocess --source-lang en --target-lang de --joined-dictionary --workers 1 \
        --trainpref "$OUT/pieces/train" --validpref "$OUT/pieces/valid" --testpref "$OUT/pieces/test" \
        --destdir "$1"
}

# fairseq writes a checkpoint under a temporary name first, but copies it to checkpoint_last.pt in
# place. Interrupted in between, the copy is broken (a zip file without its end), its original not.
mend_last_checkpoint() {
    local last=$1/checkpoint_last.pt newest
    if [ ! -f "$last" ] || python3 -m zipfile -l "$last" >/dev/null 2>&1; then return; fi
    rm "$last"
    newest=$(cd "$1" && find . -name 'checkpoint_*_*.pt' | sort -t _ -k 3 -n | tail -n 1)
    [ -z "$newest" ] || mv "$1/$newest" "$last"
}

# The lines of fairseq's log that tell how far training is, shortened.
show_progress() {
    local line done first='' since=$SECONDS rest
    while IFS= read -r line; do
        if [[ $line =~ train_inner.*nll_loss=([0-9.]+),.*\ ppl=([0-9.]+),\ wps=([0-9]+).*num_updates=([0-9]+) ]]; then
            done=${BASH_REMATCH[4]} rest=
            # A training that goes on begins in the middle.
            if [ -z "$first" ]; then
                first=$done since=$SECONDS
            elif [ "$done" != "$UPDATES" ]; then
                rest=$(((SECONDS - since) * (UPDATES - done) / (done - first)))
            fi
            printf '    update %4d of %d  nll %6.3f  ppl %7.2f  %5d words/s%s\n' "$done" "$UPDATES" \
                "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}" "${rest:+  about $rest s left}"
        elif [[ $line =~ valid\ on.*\ \|\ nll_loss\ ([0-9.]+)\ .*\ ppl\ ([0-9.]+)\ .*num_updates\ ([0-9]+) ]]; then
            printf '    update %4d of %d  nll %6.3f  ppl %7.2f  on validation data\n' \
                "${BASH_REMATCH[3]}" "$UPDATES" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
        fi
    done
}

# train NAME FLAG...: into $OUT/NAME.
train() {
    local name=$1 dir=$OUT/$1
    shift
    stage "training the $name model for $UPDATES updates; full log in $dir/train.log" "$dir/trained" || return 0
    mkdir -p "$dir"
    mend_last_checkpoint "$dir"
    python3 "$HERE/measured.py" "$dir/memory" fairseq-train "$OUT/bin" --user-dir "$PLUGIN" --cpu "${MODEL[@]}" "${TRAINING[@]}" "$@" \
        --max-update "$UPDATES" --seed "$SEED" --num-workers 0 --save-dir "$dir" \
        --save-interval-updates "$SAVE_EVERY" --keep-interval-updates 1 --no-epoch-checkpoints \
        --validate-interval 1000000 --save-interval 1000000 --best-checkpoint-metric nll_loss \
        --log-format simple --log-interval 50 2>&1 | tee -a "$dir/train.log" | show_progress ||
        die "training stopped: $(tail -n 1 "$dir/train.log"); the log is $dir/train.log"
    touch "$dir/trained"
}

# complete FILE COMMAND...: the output of COMMAND becomes $OUT/FILE.txt when it is whole; what it says
# beside it goes to FILE.log.
complete() {
    local file=$OUT/$1
    shift
    "$@" >"$file.partial" 2>"$file.log" ||
        die "translation failed: $(tail -n 1 "$file.log"); the log is $file.log"
    mv "$file.partial" "$file.txt"
}

# generate FILE CHECKPOINT FLAG...: the test set by fairseq, whose whole output is kept. The limit of
# length cuts off the few translations in which so young a model repeats itself for ever.
generate() {
    local file=$1 checkpoint=$2
    shift 2
    complete "$file" fairseq-generate "$OUT/bin" --cpu --path "$checkpoint" \
        --gen-subset test --beam 5 --max-len-a 1.5 --max-len-b 10 --max-tokens 4000 \
        --required-batch-size-multiple 1 \
        --remove-bpe sentencepiece --scoring sacrebleu "$@"
}

# translate NAME: by $OUT/NAME's best checkpoint.
translate() {
    stage "translating with the $1 model" "$OUT/$1/generate.txt" || return 0
    generate "$1/generate" "$OUT/$1/checkpoint_best.pt" --user-dir "$PLUGIN"
}

# The tree's leaf that does best on the validation data, for everyone.
export_leaf() {
    local to=$1 folder=$2
    shift 2
    tsa-fairseq export "$OUT/tree$SUFFIX/checkpoint_best.pt" "$folder/$to" --leaf best --to "$to" "$@" \
        --data "$OUT/bin" --subwords "$OUT/pieces/spm.model"
}

export_both() {
    export_leaf fairseq "$1" && export_leaf ctranslate2 "$1" --quantization int8
}

export_leaves() {
    tsa-fairseq export "$OUT/tree$SUFFIX/checkpoint_best.pt" "$1/models" --leaf all
}

# together: all leaves at once, by the tree and by fairseq's own ensemble, into $OUT/leaves.
together() {
    local dir=leaves$SUFFIX models
    folder "$dir" "exporting all leaves" export_leaves
    if stage "translating with all leaves of the tree together" "$OUT/$dir/tree.txt"; then
        generate "$dir/tree" "$OUT/tree$SUFFIX/checkpoint_best.pt" --user-dir "$PLUGIN" \
            --model-overrides "{'tree_inference': 'ensemble'}"
    fi
    if stage "translating with all exported leaves: fairseq's ensemble, without the plugin" "$OUT/$dir/fairseq.txt"; then
        models=$(printf '%s:' "$OUT/$dir"/models/leaf*/model.pt)
        generate "$dir/fairseq" "${models%:}"
    fi
}

# deploy: exports and translates, into $OUT/deployed.
deploy() {
    local dir=deployed$SUFFIX
    folder "$dir" "exporting the best leaf, for fairseq without the plugin and for CTranslate2" export_both
    if stage "translating with the exported leaf: fairseq, without the plugin" "$OUT/$dir/fairseq.txt"; then
        generate "$dir/fairseq" "$OUT/$dir/fairseq/model.pt"
    fi
    if stage "translating with the exported leaf: CTranslate2, int8" "$OUT/$dir/ctranslate2.txt"; then
        complete "$dir/ctranslate2" python3 "$HERE/translate_ct2.py" --model "$OUT/$dir/ctranslate2" \
            --threads "$OMP_NUM_THREADS" <"$OUT/data/test.en"
    fi
}

# report: a page about both models, with all that they say of their training and their translations.
report() {
    local page=$OUT/report$SUFFIX.html data=$OUT/data
    stage "writing a page about both models" ""
    tsa-fairseq report "plain=$OUT/plain" "tree=$OUT/tree$SUFFIX" "$page" --force --source "$data/test.en" \
        --reference "$data/test.de" --training-text "$data/train.de" >"$page.log" 2>&1 ||
        { say "no page was written: $(tail -n 1 "$page.log")" && return; }
    rm "$page.log"
    say "a page about both models: $page"
}
