# The container of the runner: what of the host is in it, and its rights there. docs/security.md gives the reasons.

# Who typed the command, also under sudo: results belong to them.
owner=${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}
work=$(pwd -P && echo .)
work=${work%$'\n.'}
work=${work%/} # the same with nothing in front of it where that is /

# The first argument is the function that runs it: in the foreground, or in the background.
run_container() {
    local in_which=$1
    shift
    refuse_other_encodings "$work" "$@"
    read_arguments "$@"
    case $command in
        run | preflight | restore | shell | tune) measure "$in_which" "$@" ;;
        hold) fail "hold is for a command of the host, which is not in the container: docs/keeper.md says how to install it" ;;
        *) compute "$in_which" "$@" ;;
    esac
}

# The engine takes its requests as JSON, in which a name that is not UTF-8 would become another one.
refuse_other_encodings() {
    printf '%s\n' "$@" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 ||
        fail "a name is not in UTF-8, which the container engine cannot take: rename the file or directory"
}

# --- what is typed ----------------------------------------------------------------------------------------------------

# Gives `command`, `named` (whatever else may be a name), of options that name something `results` and `out`, and
# `settings` and `chosen`: the options --set and --only, each as one word.
read_arguments() {
    local argument option='' only_names=''
    command='' named=() results='' out='' settings=() chosen=()
    for argument in "$@"; do
        case $only_names$option in
            --results) results=$argument ;;
            --out | --output) out=$argument ;;
            --set) settings+=("--set=$argument") ;;
            --only) chosen+=("--only=$argument") ;;
            --ram | --tokens | --repetitions) ;;
            '') read_argument "$argument" ;;
            *) named+=("$argument") ;;
        esac
        option=
        [ -n "$only_names" ] || case $argument in
            --results | --out | --output | --models | --set | --only | --ram | --tokens | --repetitions) option=$argument ;;
            --) only_names=yes ;;
        esac
    done
}

read_argument() {
    case $1 in
        --results=*) results=${1#*=} ;;
        --out=* | --output=*) out=${1#*=} ;;
        --models=*) named+=("${1#*=}") ;;
        --set=*) settings+=("$1") ;;
        --only=*) chosen+=("$1") ;;
        -*) ;;
        *) if [ -n "$command" ]; then named+=("$1"); else command=$1; fi ;;
    esac
}

# Where the models of a configuration are, it says itself; links in the models directory may lead out of that.
expose_configuration() {
    local name
    expose "$1" ro
    [ -f "$1" ] || return 0 # pagelab says what is wrong with it
    for name in "$lab/models"/*; do
        [ ! -L "$name" ] || expose "$name" ro
    done
    ! { cat <"$1" && echo "${settings[@]}"; } | grep --text file >/dev/null || expose_models_of "$1"
}

# Only pagelab reads a configuration as pagelab does: it is asked in a container that has that file alone.
expose_models_of() {
    local answer name names=()
    answer=$(mktemp)
    if "$here/pagelab" model files --null "${settings[@]}" -- "$1" </dev/null >"$answer"; then
        mapfile -t -d '' names <"$answer"
        rm -f -- "$answer"
    else
        set -- "$?"
        rm -f -- "$answer"
        exit "$1" # it has said why
    fi
    for name in "${names[@]}"; do
        expose_model "$name"
    done
}

make_directory() {
    [ ! -d "$1" ] || return 0
    mkdir -p -- "$1" 2>/dev/null || fail "$1 cannot be made; choose another place"
    [ "$(id -u)" != 0 ] || chown -- "$owner" "$1"
}

# --- what only computes -----------------------------------------------------------------------------------------------

# Plans, reports, comparisons, models and traces of others: as who typed it, with nothing of the host but what is named.
compute() {
    local in_which=$1 name
    shift
    # Half of the host's: a file that was made to eat up memory cannot have the rest, nor any swap.
    memory=${PAGELAB_MEMORY:-$(($(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo) / 2))k}
    [[ $memory =~ ^[0-9]+[kmg]$ ]] || fail "PAGELAB_MEMORY=$memory is no size; write it as 16g or 800m"
    case "$command ${named[0]-}" in
        'plan '* | 'model fetch') share_lab ro models ;;
    esac
    for name in "${named[@]}"; do
        case "$command ${named[0]}" in
            'analyze '* | 'report '*) expose "$name" rw ;;
            'plan '* | 'engines '* | 'model fetch') expose_configuration "$name" ;;
            'model inspect') expose_model "$name" ;;
            *) expose "$name" ro ;;
        esac
    done
    [ -z "$results" ] || expose "$results" ro
    if [ "$command ${named[0]-}" = 'trace import' ] && [ -n "$out" ]; then
        make_directory "$out"
        expose "$out" rw
    elif [ -n "$out" ]; then
        expose_parent "$out"
    fi
    options+=(
        --user="$owner" --cap-drop=ALL --security-opt=no-new-privileges --read-only
        --tmpfs="$scratch:rw,nosuid,nodev,noexec,size=64m,mode=1777" --env=HOME="$scratch" --env=TMPDIR="$scratch"
        --pids-limit=1024 --memory="$memory" --memory-swap="$memory" --entrypoint=/bin/sh
    )
    "$in_which" -c "$with_fonts" pagelab "$@"
}

# The one place that can be written to, in memory. matplotlib wants to write beside the list of fonts that the image has.
scratch=/run/pagelab
with_fonts="cp -r /opt/matplotlib $scratch && MPLCONFIGDIR=$scratch/matplotlib exec pagelab \"\$@\""

# --- what measures ----------------------------------------------------------------------------------------------------

# Trials change the host and look at all of it.
measure() {
    local in_which=$1 name
    shift
    share_lab rw state
    share_lab ro llama.cpp models
    options+=(--entrypoint=pagelab --env=PAGELAB_OWNER="$owner")
    results=${results:-results}
    case $command in
        run)
            make_directory "$results"
            expose "$results" rw
            describe_host
            ;;
        preflight) expose_where_it_would_be "$results" ;;
        tune)
            for name in "${named[@]}"; do
                expose_model "$name"
            done
            named=()
            ;;
        shell)
            shift
            options+=(--entrypoint=/bin/bash)
            named=()
            belongs_to_the_image "$work" || share "${work:-/}" "$work" ro
            expose results rw
            ;;
    esac
    for name in "${named[@]}"; do
        expose_configuration "$name"
    done
    expose_swap_files /proc/swaps
    grant_rights
    "$in_which" "$@"
}

# A directory, or what it would be made in.
expose_where_it_would_be() {
    local name=$1
    [[ $name == /* ]] || name=$work/$name
    while [ ! -d "${name:-/}" ]; do
        name=${name%/*}
    done
    belongs_to_the_image "$name" || expose "${name:-/}" rw
}

# A run's manifest names the host's system and engine, which cannot be seen from within.
describe_host() {
    local system version
    system=$(. /etc/os-release && echo "${PRETTY_NAME-}")
    [ -z "$system" ] || options+=(--env=PAGELAB_HOST_SYSTEM="$system")
    version=$(engine version --format 'docker {{.Server.Version}}' 2>/dev/null) || version=
    [ -z "$version" ] || options+=(--env=PAGELAB_ENGINE="$version")
}

# What measuring needs, one by one: docs/security.md has the reason of each.
grant_rights() {
    local capability
    options+=(
        --pid=host --cgroupns=host --cap-drop=ALL
        --mount=type=bind,source=/sys,target=/sys --mount=type=bind,source=/sys/fs/cgroup,target=/sys/fs/cgroup
        --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined --security-opt=systempaths=unconfined
    )
    for capability in SYS_ADMIN SYS_PTRACE DAC_OVERRIDE CHOWN; do
        options+=(--cap-add="$capability")
    done
    [ "$command" != restore ] || return 0
    options+=(--cap-add=IPC_LOCK --cap-add=SYS_NICE --cap-add=MKNOD --device-cgroup-rule='b *:* rm')
    [ -z "$memlock" ] || options+=(--ulimit=memlock=-1)
}

# --- the call ---------------------------------------------------------------------------------------------------------

options=(
    --pull=never --label=pagelab.part=run --network=none --userns=host --workdir="${work:-/}"
    --env=PAGELAB_LLAMA_CPP="$lab/llama.cpp" --env=PAGELAB_MODELS="$lab/models" --env=PAGELAB_STATE="$lab/state"
    --env=PAGELAB_HOST="$host" --env=PAGELAB_IMAGE="$image_digest" --env=PAGELAB_CONTAINER_MODE=capabilities
    --env=TERM="${TERM:-dumb}" --env=NO_COLOR
)

in_foreground() {
    list_mounts
    # A terminal only where there is one: a pipe or a log file gets plain lines.
    [ ! -t 0 ] || options+=(--interactive)
    [ ! -t 0 ] || [ ! -t 1 ] || options+=(--tty)
    run_client run --rm --log-driver=none "${options[@]}" "${mounts[@]}" "$image" "$@"
}

# The client of the engine, which hands signals on to the container; it ends as that does. What the client itself has to
# say becomes a sentence.
run_client() {
    local client listener code
    exec 3> >(listen)
    listener=$!
    $as_root docker --host="unix://$socket" "$@" <&0 2>&3 3>&- &
    client=$!
    exec 3>&-
    for signal in HUP INT TERM; do
        # shellcheck disable=SC2064 # the signal of now
        trap "signalled=yes; $as_root kill -s $signal $client 2>/dev/null || true" "$signal"
    done
    signalled=yes
    while [ -n "$signalled" ]; do
        signalled=
        code=0
        wait "$client" || code=$?
    done
    wait "$listener" || true
    case $code in
        125 | 126 | 127) exit "$exit_bad_input" ;;
        137) [[ $command =~ ^(run|preflight|restore|shell|tune)$ ]] || explain_kill ;;
    esac
    exit "$code"
}

# Pass on what comes out of the container, up to where the client says why it could not run it.
listen() {
    local line refusal=''
    trap '' HUP INT TERM
    while IFS= read -r line || [ -n "$line" ]; do
        if [ -n "$refusal" ] || [[ $line == 'docker: '* ]]; then
            refusal+=" $line"
        else
            printf '%s\n' "$line" >&2
        fi
    done
    [ -z "$refusal" ] || echo "pagelab: $(explain_refusal "$refusal")" >&2
}

explain_kill() {
    fail "it was killed, probably because it took more memory than $memory; allow it more, as by PAGELAB_MEMORY=16g"
}

explain_refusal() {
    local reason=${1# docker: }
    reason=${reason#Error response from daemon: }
    reason=${reason%% See \'docker*}
    reason=${reason%% Run \'docker*}
    reason=${reason%"${reason##*[!. ]}"}
    case $reason in
        *"o such image"*) echo "the image that provisioning recorded is not here; type: make provision" ;;
        *onnect\ to\ the\ [Dd]ocker*) echo "the container engine does not answer; type: make provision, which starts it" ;;
        *) echo "the container engine refused: ${reason:0:400}; type: make provision, which looks again at what it can do" ;;
    esac
}
