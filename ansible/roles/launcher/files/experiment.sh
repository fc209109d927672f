# The life of an experiment that outlives the connection it was started from. There is one at a time: a container of this
# name, which stays after its end, with its output, until it is forgotten.
experiment=pagelab-experiment

status_format='{"state": {{json .State.Status}}, "exit_code": {{.State.ExitCode}}, "out_of_memory": {{.State.OOMKilled}},
 "started_at": {{json .State.StartedAt}}, "finished_at": {{json .State.FinishedAt}},
 "request": {{json (index .Config.Labels "pagelab.request")}}, "config": {{json (index .Config.Labels "pagelab.config")}},
 "options": {{json (index .Config.Labels "pagelab.options")}}}'

# One that was created and never started (interrupted in between) is no experiment: `start` takes its place.
state() {
    if answer=$(engine container inspect --format '{{.State.Status}}' "$experiment" 2>&1); then
        [ "$answer" != created ] || answer=absent
        echo "$answer"
    else
        case $answer in
            *[Nn]"o such container"*) echo absent ;;
            *) fail "the container engine did not answer: $answer" ;;
        esac
    fi
}

experiment_status() {
    now=$(state)
    if [ "$now" = absent ]; then
        echo '{"state": "absent"}'
    else
        engine container inspect --format "$(echo "$status_format" | tr -d '\n')" "$experiment"
    fi
}

experiment_start() {
    [ -f "${1-}" ] || fail "start needs the configuration first: pagelab start CONFIG [OPTIONS]"
    config=$(realpath -- "$1")
    read_arguments run "$@"
    request=$(request_of "$config" "${settings[@]}" "${chosen[@]}")
    options_given=${*:2}
    now=$(state)
    [ "$now" = absent ] || fail "an experiment is here already ($now); see it with pagelab follow, and after its end: pagelab forget"
    engine container rm "$experiment" >/dev/null 2>&1 || true # created, never started
    run_container in_background run "$@"
}

# What was asked for: the configuration, and what is set and chosen of it. Ansible computes the same.
request_of() {
    local word
    {
        cat -- "$1"
        for word in "${@:2}"; do
            printf '\0%s' "$word"
        done
    } | sha256sum | cut -d' ' -f1
}

in_background() {
    local said
    list_mounts
    said=$(engine run --detach --name="$experiment" --log-driver=json-file --log-opt=max-size=10m --log-opt=max-file=2 \
        --label=pagelab.request="$request" --label=pagelab.config="$config" --label=pagelab.options="$options_given" \
        --env=COLUMNS=120 "${options[@]}" "${mounts[@]}" "$image" "$@" 2>&1) || fail "$(explain_refusal " $said")"
    echo "$said"
}

# The client of the engine is started once for all the time in which nothing is said, and waits without polling: it costs
# the measurements next to nothing. A line that gets cut is whole the next time, for the caller counts only whole ones.
follow_for() {
    directory=$(mktemp -d)
    mkfifo "$directory/output"
    $as_root docker --host="unix://$socket" container logs --follow "$experiment" >"$directory/output" 2>&1 &
    client=$!
    trap '$as_root kill "$client" 2>/dev/null || true; rm -r "$directory"' EXIT
    trap 'exit 143' HUP INT TERM
    stdbuf -oL tail -n "+$(($1 + 1))" <"$directory/output" | {
        timeout "$2" sed -u 1q || true
        timeout 1 cat || true # what comes with it
        $as_root kill "$client" 2>/dev/null || true
    }
}

experiment_follow() {
    skip=0
    seconds=
    while [ $# -gt 0 ]; do
        case $1 in
            --skip) skip=${2-} ;;
            --seconds) seconds=${2-} ;;
            *) fail "follow: $1 is not known; type: pagelab follow [--skip N] [--seconds S]" ;;
        esac
        case ${2-} in
            '' | *[!0-9]*) fail "follow: $1 needs a number" ;;
        esac
        shift 2
    done
    now=$(state)
    if [ "$now" != absent ]; then
        if [ -n "$seconds" ]; then
            (follow_for "$skip" "$seconds")
        else
            engine container logs --follow "$experiment" 2>&1 | tail -n "+$((skip + 1))"
        fi
    fi
    echo # the status is the only text after the last end of line, even if a line was cut
    experiment_status
}

experiment_stop() {
    now=$(state)
    if [ "$now" != running ]; then
        echo "no experiment is running"
        return
    fi
    echo "stopping: it has 60 seconds to put back what it changed and to write down what is finished"
    engine container stop --time 60 "$experiment" >/dev/null
    experiment_status
}

experiment_forget() {
    now=$(state)
    case $now in
        running | paused | restarting) fail "the experiment is still running; to end it, type: pagelab stop" ;;
        absent) echo "no experiment to forget" ;;
        *) engine container rm "$experiment" >/dev/null && echo "forgotten; its results are kept" ;;
    esac
}
