#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# fog-runc is runc, except where a migration has prepared a restore for a container: Docker's "create" becomes a restore then,
# and the "start" that follows has nothing left to do. Docker owns what was restored as if it had started it.
#
# A prepared restore is the folder /run/fog-migration/runtime/ID:
#   order      a FIFO; one line is read from it: "restore", or anything else to give up. What prepares the restore keeps it open for
#              reading and writing, so that its death is the end of the FIFO here, which is to give up as well.
#   answer     a FIFO; "armed" is written to it when only the order is missing, and "running" or "failed CODE" when it was obeyed
#   patience   how many seconds to wait for the order
#   bundle     made here before "armed": where the file systems that Docker has mounted are to be seen; the folder with the container's config.json,
#              which is read when the order has come
#   options    options of "runc restore", one word on a line; read when the order has come
#   restored   made here when the container runs, for "start"
#   holds      made here before "armed": the path of this program, which CRIU is to run as its action script
#   held       made here when CRIU is about to let the processes run, before "held" is written to answer. CRIU waits until a line was read from order:
#              "keep", or anything else to have them killed
#   connect    a FIFO, there where Docker connects the network between "create" and "start", as it does from 28 on; one line is read from it, the
#              process with the network that is to be connected, so that "create" can end while the restore waits. "start" then writes "connected" to
#              answer, and ends with the restore
#   ended      a FIFO, for "start", which waits there for the end of the restore
#   code       made here: how the restore has ended
set -u

# Nothing of it runs, and the runtime hears that CRIU has ended. CRIU itself would wait for the first process, and that for others that CRIU traces.
kill_traced() {
    grep -ls "^TracerPid:.$PPID\$" /proc/[0-9]*/status | while IFS=/ read -r _root _proc task _status; do kill -KILL "$task"; done
    kill -KILL "$PPID"
}

# Returns when the processes may run.
hold() {
    : >"$prepared/held"
    exec 4<>"$prepared/order"
    exec 3<"$prepared/order" 4>&-
    echo held 1<>"$prepared/answer"
    [ "$(head -n 1 <&3)" = keep ]
}

# CRIU's action script, which is given no words. CRIU gives up a restore where it fails, but for "pre-resume": the processes run in any case then.
if [ -n "${CRTOOLS_SCRIPT_ACTION:-}" ]; then
    prepared=$FOG_MIGRATION_PREPARED
    case $CRTOOLS_SCRIPT_ACTION in
    # CRIU is in the control groups of the container, whose memory may be used up, and without it the processes would be let go.
    post-restore) { echo -1000 >"/proc/$PPID/oom_score_adj"; } 2>/dev/null || true ;;
    # CRIU from 3.19 to 4.1 has read its configuration twice. In a process of its own, since what fails at a redirection may end a shell.
    pre-resume) [ -e "$prepared/held" ] || (hold) || kill_traced ;;
    esac
    exit 0
fi

PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH
runc=$(command -v docker-runc || command -v runc) || {
    echo "fog-runc: there is no runc in $PATH" >&2
    exit 127
}

for id; do :; done
prepared="/run/fog-migration/runtime/${id:-none}"
[ -p "$prepared/order" ] || exec "$runc" "$@"

# Docker takes the reason from the log that it names.
give_up() {
    log=/dev/stderr
    while [ $# -gt 1 ]; do
        [ "$1" != --log ] || log=$2
        shift
    done
    printf '{"level":"error","msg":"the restore of this container was given up"}\n' >>"$log"
    exit 1
}

verb=
for word; do
    case $word in create | start) verb=$word && break ;; esac
done

# The value of the option that is named first.
value_of() {
    wanted=$1
    while [ $# -gt 1 ]; do
        shift
        if [ "$1" = "$wanted" ]; then
            printf '%s\n' "${2:-}"
            return
        fi
    done
}

tell_end() {
    if [ "$1" -eq 0 ]; then
        : >"$prepared/restored"
        echo running 1<>"$prepared/answer"
    else
        echo "failed $1" 1<>"$prepared/answer"
    fi
}

# Restores while "create" has ended already. Standard input is given on, since it is the container's.
restore_beside() {
    exec 5<>"$prepared/connect" 6<&0
    {
        "$runc" "$@" <&6 5>&- 6>&-
        code=$?
        tell_end "$code"
        echo "$code" >"$prepared/code.new" && mv "$prepared/code.new" "$prepared/code"
        echo "$code" 1<>"$prepared/ended"
        # There is no process to wait for any more.
        echo 1<>"$prepared/connect"
    } &
    process=$(head -n 1 <&5)
    if [ -z "$process" ]; then
        wait "$!"
        exit "$(cat "$prepared/code")"
    fi
    file=$(value_of --pid-file "$@")
    printf '%s' "$process" >"$file.new" && mv "$file.new" "$file"
    exit "$?"
}

case $verb in
create)
    # The rest of a migration's files is written to the root file system meanwhile, which another mount namespace may not show.
    printf '%s\n' "/proc/$$/root" "$(value_of --bundle "$@")" >"$prepared/bundle"
    printf '%s\n' "$0" >"$prepared/holds"
    FOG_MIGRATION_PREPARED=$prepared
    export FOG_MIGRATION_PREPARED
    # Before it is told that this is armed: from then on it may be given up at once, which is the end of the FIFO for its readers.
    # Opened for writing as well for a moment, so that it never waits for a writer.
    exec 4<>"$prepared/order"
    exec 3<"$prepared/order" 4>&-
    # Opened for reading as well, so that it never waits for a reader.
    echo armed 1<>"$prepared/answer"
    order=$(timeout "$(cat "$prepared/patience")" head -n 1 <&3)
    exec 3<&-
    [ "$order" = restore ] || give_up "$@"
    # Every word goes round once, "create" as another.
    count=$#
    while [ "$count" -gt 0 ]; do
        word=$1
        shift
        count=$((count - 1))
        if [ "$word" != create ] || [ -z "$verb" ]; then
            set -- "$@" "$word"
            continue
        fi
        verb=
        set -- "$@" restore --detach
        while read -r option; do set -- "$@" "$option"; done <"$prepared/options"
    done
    # A process is restored with as many open files as it had, which CRIU can exceed its own limit for only with CAP_SYS_RESOURCE.
    # shellcheck disable=SC3045 # POSIX has no limit for open files; dash, bash and BusyBox have.
    ulimit -S -n "$(ulimit -H -n)" || true
    [ ! -p "$prepared/connect" ] || restore_beside "$@"
    "$runc" "$@"
    code=$?
    tell_end "$code"
    exit "$code"
    ;;
start)
    if [ -p "$prepared/ended" ]; then
        # Opened for writing as well, so that nothing is lost that is written before it is read.
        exec 5<>"$prepared/ended"
        echo connected 1<>"$prepared/answer"
        [ -e "$prepared/code" ] || head -n 1 <&5 >/dev/null
        exec 5>&-
        code=$(cat "$prepared/code")
        [ "$code" -eq 0 ] || exit "$code"
    fi
    [ -e "$prepared/restored" ] || exec "$runc" "$@"
    # From now on it is a container as any other.
    rm -rf "$prepared"
    exit 0
    ;;
*)
    exec "$runc" "$@"
    ;;
esac
