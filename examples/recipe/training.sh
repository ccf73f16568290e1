# What the train.sh of the larger recipes have in common: flags, the batch on any number of GPUs, the
# command. Source it after lib.sh, preparation.sh and resuming.sh.
#
# A script defines
#   CORPORA          the corpora of preparations that it takes
#   recipe_settings  sets, for the flags given: ARCH (of the plain model), BATCH (target tokens of an
#                    update), MAX_TOKENS_MOST (of them on one GPU at a time), RECIPE (flags of
#                    fairseq-train: optimizer, rate, regularisation), UPDATES if it was not given
# and may add to VALUES and SWITCHES.

# The tree of four leaves that everything here is measured with.
DEFAULT_TREE=1,1,1,1,2,4

training_usage() {
    cat <<'END'
  --data DIR         what prepare.sh made
  --save DIR         where checkpoints and the log go; on several machines, shared by them
  --model NAME       tree (default): leaves that teach each other; plain: the stock Transformer
  --objective NAME   of a tree: what --kd-objective takes; default tsa. For kd and sokd give the
                     teacher, a plain model's checkpoint, at the end: -- --kd-teacher FILE
  --tree SPEC        of a tree: what --tree takes; default 1,1,1,1,2,4, four leaves (with rdrop and
                     simcut a single path)
  --gpus N           on each machine; default 1
  --nodes N          machines; default 1. With more, give the same command on each of them
  --rendezvous H:P   of several machines: a name or address of one of them, and a free port there
  --max-tokens N     on each GPU at a time; the batch of an update stays what the recipe says
  --updates N        of the whole training, which a later start may make longer
  --seed N           default 1
  --bf16, --fp32     instead of fp16
  --cpu              no GPU, fp32; --gpus is the number of processes then
  --dry-run          print the whole command, and do nothing

What stands after -- is handed to fairseq-train and overrides the recipe. A run that was stopped goes
on from its last checkpoint when the same command is given again, on any number of GPUs.
END
}

training_flags() {
    DATA='' SAVE='' MODEL=tree OBJECTIVE='' TREE='' GPUS=1 NODES=1 RENDEZVOUS='' MAX_TOKENS='' UPDATES='' SEED=1
    BF16=no FP32=no CPU=no DRY_RUN=no EXTRA=() PASSES_ON=yes
    VALUES=(--data DATA --save SAVE --model MODEL --objective OBJECTIVE --tree TREE --gpus GPUS
        --nodes NODES --rendezvous RENDEZVOUS --max-tokens MAX_TOKENS --updates UPDATES --seed SEED)
    SWITCHES=(--bf16 BF16 --fp32 FP32 --cpu CPU --dry-run DRY_RUN)
}

# only_with_tree FLAG VALUE
only_with_tree() {
    [ "$MODEL" = tree ] || [ -z "$2" ] || die "$1: got '$2' with --model plain, which has none; expected --model tree"
}

check_training_flags() {
    check_preparation "$DATA" "${CORPORA[@]}"
    [ -n "$SAVE" ] || die "--save: missing; say where checkpoints go"
    one_of --model "$MODEL" tree plain
    only_with_tree --objective "$OBJECTIVE"
    only_with_tree --tree "$TREE"
    : "${OBJECTIVE:=tsa}"
    one_of --objective "$OBJECTIVE" "${OBJECTIVES[@]}"
    check_teacher
    whole_number --gpus "$GPUS" 1
    whole_number --nodes "$NODES" 1
    [ -z "$MAX_TOKENS" ] || whole_number --max-tokens "$MAX_TOKENS" 1
    [ -z "$UPDATES" ] || whole_number --updates "$UPDATES" 1
    whole_number --seed "$SEED" 0
    [ "$BF16$FP32" != yesyes ] || die "--bf16: got --fp32, too; expected one of them"
    [ "$CPU$BF16" != yesyes ] || die "--bf16: got --cpu, too, where training is in fp32; expected one of them"
    # Of stock fairseq's models torchrun's processes count GPUs; those of the plugin do not.
    [ "$CPU$MODEL" != yesplain ] || [ $((GPUS * NODES)) -eq 1 ] ||
        die "--gpus: got $((GPUS * NODES)) processes with --cpu and --model plain, which fairseq alone cannot start; expected 1, or --model tree --objective none --tree 6, which is the same model"
    check_rendezvous
    # whole paths: the command that --dry-run prints may be pasted anywhere
    SAVE=$(absolute "$SAVE")
    DATA=$(absolute "$DATA")
}

# The plugin would refuse it, too, but after a start of all processes.
check_teacher() {
    local word
    among "$OBJECTIVE" kd sokd || return 0
    for word in ${EXTRA[@]+"${EXTRA[@]}"}; do
        case $word in
            --kd-teacher | --kd-teacher=*) return ;;
        esac
    done
    die "--objective: got '$OBJECTIVE', which needs a teacher; expected -- --kd-teacher CHECKPOINT at the end of the command"
}

check_rendezvous() {
    if [ "$NODES" -eq 1 ]; then
        [ -z "$RENDEZVOUS" ] || die "--rendezvous: got '$RENDEZVOUS' with one machine; expected --nodes 2 or more"
    else
        [ -n "$RENDEZVOUS" ] || die "--rendezvous: missing; with --nodes $NODES the machines meet at HOST:PORT of one of them"
        [[ "$RENDEZVOUS" =~ ^[^:]+:[0-9]+$ ]] || die "--rendezvous: got '$RENDEZVOUS'; expected HOST:PORT"
    fi
}

# share_of PROCESSES: SHARE becomes the tokens that each of so many has at a time.
share_of() {
    SHARE=${MAX_TOKENS:-$((BATCH / $1 < MAX_TOKENS_MOST ? BATCH / $1 : MAX_TOKENS_MOST))}
}

# PROCESSES, MAX_TOKENS and UPDATE_FREQ, whose product is the recipe's batch.
share_batch() {
    PROCESSES=$((GPUS * NODES))
    # in fewer the longest sentences have no room, and little is left for a GPU to do
    [ -n "$MAX_TOKENS" ] || [ $((BATCH / PROCESSES)) -ge 512 ] ||
        die "--gpus, --nodes: got $PROCESSES processes; expected at most $((BATCH / 512)), each with 512 of the recipe's $BATCH tokens or more"
    share_of "$PROCESSES"
    [ $((BATCH % (PROCESSES * SHARE))) -eq 0 ] || refuse_to_share
    MAX_TOKENS=$SHARE UPDATE_FREQ=$((BATCH / (PROCESSES * SHARE)))
}

# With the numbers that would do.
refuse_to_share() {
    local number fitting=()
    for ((number = 1; number <= BATCH / ${MAX_TOKENS:-512}; number++)); do
        share_of "$number"
        [ $((BATCH % (number * SHARE))) -ne 0 ] || fitting+=("$number")
    done
    [ ${#fitting[@]} -eq 0 ] ||
        die "--gpus, --nodes: $PROCESSES processes${MAX_TOKENS:+ of --max-tokens $MAX_TOKENS} do not divide the recipe's batch of $BATCH tokens; expected one of: ${fitting[*]}"
    for ((number = 512; number <= MAX_TOKENS_MOST; number++)); do
        [ $((BATCH % number)) -ne 0 ] || fitting+=("$number")
    done
    die "--max-tokens: got '$MAX_TOKENS', which does not divide the recipe's batch of $BATCH tokens; expected a number that does, such as: ${fitting[*]}"
}

# A training in half precision without a GPU ends in a traceback; so does one on more than there are.
check_gpus() {
    local found
    [ "$CPU" = no ] || return 0
    found=$(python3 -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) || die "torch cannot be imported: run 'python3 -c \"import torch\"' to see why"
    [ "$found" -ge 1 ] || die "--gpus: got $GPUS, but torch sees no GPU on this machine; expected --cpu, or a machine that has one"
    [ "$found" -ge "$GPUS" ] || die "--gpus: got $GPUS, but torch sees $found on this machine; expected $found or fewer"
}

# Precision, as a word and as a flag.
choose_precision() {
    PRECISION=fp16
    [ "$BF16" = no ] || PRECISION=bf16
    [ "$FP32" = no ] && [ "$CPU" = no ] || PRECISION=fp32
    DEVICE=()
    [ "$PRECISION" = fp32 ] || DEVICE=("--$PRECISION")
    [ "$CPU" = no ] || DEVICE=(--cpu)
}

# For resuming.sh.
training_settings() {
    printf '%s\n' "arch=$ARCH" "model=$MODEL" "batch=$BATCH" "seed=$SEED" \
        "precision=$PRECISION" "extra=${EXTRA[*]-}"
    if [ "$MODEL" = tree ]; then
        printf '%s\n' "objective=$OBJECTIVE" "tree=$TREE"
    fi
    preparation_settings "$DATA/preparation.txt"
}

# The embeddings that are one matrix, and the model.
model_flags() {
    FLAGS=(--share-decoder-input-output-embed)
    [ "$(recorded "$DATA/preparation.txt" dictionaries)" = separate ] || FLAGS=(--share-all-embeddings)
    if [ "$MODEL$PRECISION" = plainbf16 ]; then
        # of its own architectures, fairseq-train takes --bf16 for a TPU; this is the same training
        FLAGS+=(--arch "$TREE_ARCH" --tree 6 --criterion tsa_online_kd --kd-objective none --kd-loss dense)
        return
    elif [ "$MODEL" = plain ]; then
        FLAGS+=(--arch "$ARCH" --criterion label_smoothed_cross_entropy)
        return
    fi
    FLAGS+=(--arch "$TREE_ARCH")
    [ -z "$TREE" ] || FLAGS+=(--tree "$TREE")
    FLAGS+=(--criterion tsa_online_kd --kd-objective "$OBJECTIVE")
}

# Before any data is read: the tree is one.
check_tree() {
    local said
    TREE_ARCH=tsa_${ARCH/vaswani_/}
    if [ "$MODEL" = tree ] && [ -z "$TREE" ] && ! among "$OBJECTIVE" rdrop simcut; then
        TREE=$DEFAULT_TREE
    fi
    [ -z "$TREE" ] || said=$(tsa-fairseq tree "$TREE" --arch "$TREE_ARCH" 2>&1) || die "${said#tsa-fairseq: error: }"
}

# LAUNCH: what starts the processes. Of one, fairseq-train; it would start several GPUs' itself, but
# inside SLURM as many as the machines have, whatever it is told.
choose_launcher() {
    LAUNCH=(fairseq-train)
    if [ "$NODES" -gt 1 ]; then
        LAUNCH=(torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --rdzv-backend c10d
            --rdzv-id "$(basename "$SAVE")" --rdzv-endpoint "$RENDEZVOUS" -m fairseq_cli.train)
    elif [ "$GPUS" -gt 1 ]; then
        LAUNCH=(torchrun --standalone --nproc-per-node "$GPUS" -m fairseq_cli.train)
    fi
    # Processes without GPUs meet over gloo; torch's own wrapper asks for a GPU.
    if [ "$CPU" = yes ] && [ "$PROCESSES" -gt 1 ]; then
        DEVICE+=(--distributed-backend gloo --ddp-backend legacy_ddp)
    fi
}

build_command() {
    LINE=("${LAUNCH[@]}" "$DATA/data-bin" --task translation \
        --source-lang "$(recorded "$DATA/preparation.txt" source)" \
        --target-lang "$(recorded "$DATA/preparation.txt" target)" \
        --user-dir "$PLUGIN" "${FLAGS[@]}" "${RECIPE[@]}" \
        --max-tokens "$MAX_TOKENS" --update-freq "$UPDATE_FREQ" --required-batch-size-multiple 1 \
        --distributed-world-size "$PROCESSES" --max-update "$UPDATES" --seed "$SEED" \
        --save-dir "$SAVE" --log-format simple --log-interval 100 \
        ${DEVICE[@]+"${DEVICE[@]}"} ${EXTRA[@]+"${EXTRA[@]}"})
}

# describe_command: what --dry-run prints before the command, as comments of the shell.
describe_command() {
    local tokens
    printf '# %s processes x %s tokens x update-freq %s = %s tokens an update\n' "$PROCESSES" "$MAX_TOKENS" "$UPDATE_FREQ" "$BATCH"
    tokens=$(recorded "$DATA/preparation.txt" tokens)
    [ -z "$tokens" ] || printf '# %s tokens of training text: %s updates an epoch, or some more\n' "$tokens" $(((tokens + BATCH - 1) / BATCH))
    [ "$NODES" -eq 1 ] || printf '# on each of the %s machines:\n' "$NODES"
}

# train_large ROOT: the whole of a larger recipe's training, or what --dry-run says.
train_large() {
    local log
    recipe_settings
    share_batch
    choose_precision
    use_environment "$1"
    check_tree
    check_save_directory
    model_flags
    choose_launcher
    build_command
    if [ "$DRY_RUN" = yes ]; then
        describe_command
        print_command "${LINE[@]}"
        return
    fi
    check_gpus
    open_save_directory
    log=$SAVE/train.log
    [ "$NODES" -eq 1 ] || log=$SAVE/train.$(uname -n).log
    say "training: $MODEL, $UPDATES updates of $BATCH tokens on $PROCESSES processes, seed $SEED; log in $log"
    train_into "$log" "${LINE[@]}"
}
