# What is named: every file that is typed, or that stands in a configuration, is in the container under its own name, and
# nothing beside it. Names hold whatever a name can hold, so they are never split, and no option is built from them by colons.

declare -A source_of=() access_of=() # by place in the container
declare -A shared_directories=()     # places there under which the container sees what the host sees
declare -A empty_directories=()      # places that have to be there only to be stepped through

# Share a file or directory of the host at a place in the container, to read (ro) or to write (rw) it.
share() {
    local source=$1 place=$2 access=$3
    [[ $source$place != *$'\r'* ]] || fail "${place@Q} holds a carriage return, which the container engine cannot mount: rename it"
    if [ -d "$source" ]; then
        ! belongs_to_the_image "$place" ||
            fail "${place:-/} is a directory that the container has itself: name a file, or a directory further down"
        shared_directories[$place]=$access
    fi
    [ "${access_of[$place]-}" = rw ] || access_of[$place]=$access
    source_of[$place]=$source
}

# The image's own directories stay the image's own, and so does what they are in: / above all.
belongs_to_the_image() {
    case $1/ in
        / | /opt/ | /run/ | /var/ | /var/lib/) ;;
        /bin/* | /dev/* | /etc/* | /lib/* | /lib32/* | /lib64/* | /libx32/* | /proc/* | /sbin/* | /sys/* | /usr/*) ;;
        /opt/matplotlib/* | /opt/packages/* | /opt/pagelab/* | /run/pagelab/* | /var/lib/dpkg/*) ;;
        *) false ;;
    esac
}

# Whether a place is under a directory that is shared, for writing too if that is asked for.
is_shared() {
    local directory
    for directory in "${!shared_directories[@]}"; do
        if [[ $1 == "$directory"/* || $1 == "$directory" ]] && [[ $2 == ro || ${shared_directories[$directory]} == rw ]]; then
            return
        fi
    done
    return 1
}

# Where a name leads in the container: it follows a link where it has that link, in a directory that is shared. Everywhere
# else a name is taken as it stands, and directories that `..` leaves again are made. Gives `landing`.
find_landing() {
    local rest=$1 part link links=0
    landing=
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        if [[ $rest == */* ]]; then rest=${rest#*/}; else rest=; fi
        case $part in
            '' | .) continue ;;
            ..)
                [[ -z $landing || $work/ == "$landing"/* ]] || is_shared "$landing" ro || empty_directories[$landing]=yes
                landing=${landing%/*}
                continue
                ;;
        esac
        landing=$landing/$part
        if [ -L "$landing" ] && is_shared "${landing%/*}" ro; then
            links=$((links + 1))
            [ "$links" -le 40 ] || fail "$1 is a link that leads to itself: name the file itself"
            link=$(readlink -n -- "$landing" && echo .)
            link=${link%.}
            if [[ $link == /* ]]; then landing=; else landing=${landing%/*}; fi
            rest=$link${rest:+/$rest}
        fi
    done
}

# Make a name mean in the container what it means here. What is not there is not there either: pagelab says so.
expose() {
    local name=$1 access=$2 source
    [[ $name == /* ]] || name=$work/$name
    [ -e "$name" ] || return 0
    [ -f "$name" ] || [ -d "$name" ] || fail "$1 is neither a file nor a directory: name a regular file"
    source=$(realpath -- "$name" && echo .)
    source=${source%$'\n.'}
    case $source in
        /dev/* | /proc/* | /sys/*) fail "$1 is the kernel's and no file on a disk: name a regular file" ;;
    esac
    find_landing "$name"
    is_shared "$landing" "$access" || share "$source" "$landing" "$access"
}

# A model may be split into parts, which are found by name beside the one that is named.
expose_model() {
    local part stem count
    expose "$1" ro
    [[ ${1##*/} =~ ^(.+)-[0-9]{5}-of-([0-9]{5})\.gguf$ ]] || return 0
    stem=${1%-*-of-*.gguf} count=${BASH_REMATCH[2]}
    for part in "$stem"-[0-9][0-9][0-9][0-9][0-9]-of-"$count".gguf; do
        expose "$part" ro
    done
}

# The directory that a file is written to.
expose_parent() {
    local parent=.
    [[ $1 != */* ]] || parent=${1%/*}/
    [ -d "$parent" ] || fail "$parent is no directory; make it first"
    expose "$parent" rw
}

# The options of `docker run`: it reads --mount as a line of comma-separated values, so each is quoted. Gives `mounts`.
list_mounts() {
    local place
    mounts=()
    for place in "${!empty_directories[@]}"; do
        [ -n "${source_of[$place]-}" ] || is_shared "$place" ro ||
            mounts+=("--mount=type=tmpfs,$(quoted "target=$place"),tmpfs-size=4k,tmpfs-mode=0555")
    done
    for place in "${!source_of[@]}"; do
        mounts+=("--mount=type=bind,$(quoted "source=${source_of[$place]}"),$(quoted "target=$place")$(read_only "$place")")
    done
    refuse_other_encodings "${mounts[@]}"
}

quoted() {
    printf '"%s"' "${1//\"/\"\"}"
}

read_only() {
    [ "${access_of[$1]}" = rw ] || echo ,readonly
}

# The kernel's own list, in which space, tab, line feed and backslash are octal escapes.
expose_swap_files() {
    local name kind
    while read -r name kind _; do
        [ "$kind" = file ] || continue
        printf -v name "${name//%/%%}"
        [ ! -f "$name" ] || is_shared "$name" ro || share "$name" "$name" ro
    done <"$1"
}

# Directories of the lab.
share_lab() {
    local access=$1 name source
    shift
    for name in "$@"; do
        source=$(realpath -- "$lab/$name" && echo .)
        share "${source%$'\n.'}" "$lab/$name" "$access"
    done
}
