# The container of the runner: what of the host is in it, and its rights there.

# Results belong to who typed the command, also under sudo.
owner=${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}
work=$(pwd -P)
entrypoint=pagelab

# The first argument is the function that runs it: in the foreground, or in the background.
run_container() {
    in_which=$1
    shift
    command=${1-}
    part=${2-}
    if [ "$command" = shell ]; then
        entrypoint=/bin/bash
        shift
    fi

    # From here on the arguments are what `docker run` gets after its fixed options; more options go in front of them.
    set -- "$image" "$@"

    # What an argument names outside the working directory must be in the container too, under its own name. A run that is
    # analysed or reported on is written to; anything else is only read.
    results=$work/results
    out=
    previous=
    for argument in "$@"; do
        case $previous/$argument in
            --results/*) results=$argument ;;
            */--results=*) results=${argument#--results=} ;;
            --out/*) out=$argument ;;
            */--out=*) out=${argument#--out=} ;;
            */-*) ;;
            *)
                case $command in
                    analyze | report) access=rw ;;
                    shell) break ;;
                    *) access=ro ;;
                esac
                # Files and directories only: the engine's socket must never get in, whatever is typed.
                if [ "$argument" != "$image" ] && { [ -f "$argument" ] || [ -d "$argument" ]; }; then
                    path=$(realpath -- "$argument")
                    case $path/ in
                        "$work"/* | "$lab"/*) ;;
                        *) set -- --volume="$path:$path:$access" "$@" ;;
                    esac
                fi
                ;;
        esac
        previous=$argument
    done

    if [ "$command" = run ] && [ ! -d "$results" ]; then
        mkdir -p -- "$results"
        [ "$(id -u)" != 0 ] || chown -- "$owner" "$results"
    fi
    if [ -d "$results" ]; then
        results=$(realpath -- "$results")
        set -- --volume="$results:$results" "$@"
    fi

    # What is imported goes into a directory of its own, what is exported into a file.
    work_access=ro
    if [ "$command" = trace ] && [ -n "$out" ]; then
        if [ "$part" = import ] && [ ! -d "$out" ]; then
            mkdir -p -- "$out"
            [ "$(id -u)" != 0 ] || chown -- "$owner" "$out"
        fi
        [ "$part" = import ] || out=$(dirname -- "$out")
        [ -d "$out" ] || fail "$out is no directory; make it first"
        out=$(realpath -- "$out")
        if [ "$out" = "$work" ]; then
            work_access=rw
        elif [ "$out" != "$results" ]; then
            set -- --volume="$out:$out" "$@"
        fi
    fi

    # A run's manifest names the host's system and engine, which cannot be seen from within.
    if [ "$command" = run ]; then
        system=$(. /etc/os-release && echo "${PRETTY_NAME-}")
        [ -z "$system" ] || set -- --env=PAGELAB_HOST_SYSTEM="$system" "$@"
        version=$(engine version --format 'docker {{.Server.Version}}' 2>/dev/null) || version=
        [ -z "$version" ] || set -- --env=PAGELAB_ENGINE="$version" "$@"
    fi

    # The runner says which disk each swap file is on, so it must see them.
    for swap in $(awk '$2 == "file" { print $1 }' /proc/swaps); do
        [ ! -e "$swap" ] || set -- --volume="$swap:$swap:ro" "$@"
    done

    "$in_which" "$@"
}

in_foreground() {
    # A terminal only where there is one: a pipe or a log file gets plain lines.
    [ ! -t 0 ] || set -- --interactive "$@"
    [ ! -t 0 ] || [ ! -t 1 ] || set -- --tty "$@"
    engine_run --rm --log-driver=none "$@"
}

# The rights that the host grants, as provisioning found out. The capabilities are for groups, mounts and knobs; locking
# memory; priorities; other processes' counters; any file's cache.
rights() {
    case $mode in
        privileged) echo --privileged ;;
        *)
            echo --cap-add=SYS_ADMIN --cap-add=IPC_LOCK --cap-add=SYS_NICE --cap-add=SYS_PTRACE --cap-add=DAC_READ_SEARCH
            echo --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined --security-opt=systempaths=unconfined
            ;;
    esac
    [ -z "$memlock" ] || echo --ulimit=memlock=-1
}

engine_run() {
    # shellcheck disable=SC2046 # the rights are words
    exec $as_root docker --host="unix://$socket" run \
        --label=pagelab.part=run \
        --network=none --pid=host --cgroupns=host $(rights) \
        --volume=/sys:/sys --volume=/sys/fs/cgroup:/sys/fs/cgroup \
        --volume="$work:$work:$work_access" --workdir="$work" \
        --volume="$lab/llama.cpp:$lab/llama.cpp:ro" --volume="$lab/models:$lab/models:ro" --volume="$lab/state:$lab/state" \
        --env=PAGELAB_LLAMA_CPP="$lab/llama.cpp/current" --env=PAGELAB_MODELS="$lab/models" --env=PAGELAB_STATE="$lab/state" \
        --env=PAGELAB_HOST="$host" --env=PAGELAB_IMAGE="$image_digest" \
        --env=PAGELAB_CONTAINER_MODE="$mode" --env=PAGELAB_OWNER="$owner" \
        --env=TERM="${TERM:-dumb}" --env=NO_COLOR --entrypoint="$entrypoint" "$@"
}
