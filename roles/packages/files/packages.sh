#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs or removes Debian packages; it needs apt and a POSIX shell, no Python. What is wanted comes from the environment, see
# ../tasks/main.yml. The answer is lines that begin with "fog:": the state (unchanged or changed), the packages that it is about,
# and, when it ended with 1, why, as a clause of one sentence.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_MODE=l

# Packages that were put on hold by this script: it may lift these holds, and no others.
our_holds=/etc/fog-migration/held-packages
policy=/usr/sbin/policy-rc.d
policy_marker='# Put here by fog.migration while it installs packages.'
log=''
lifted=''
policy_is_ours=''
updated=''
update_problem=''

# --- The answer

answer() { echo "fog:state:$1"; [ -z "${2:-}" ] || echo "fog:packages:$2"; exit 0; }

give_up() { echo "fog:error:$1"; exit 1; }

# The lines of the last apt run that match, as one line.
from_log() {
    grep -E "$1" "$log" | sed -E 's/^(E|W|N|Error|Warning|Notice|Err:[0-9]+):? *//; s/[[:space:]]+/ /g; s/^ | ?[.]?$//g' |
        awk '!seen[$0]++' | head -n "${2:-2}" | paste -sd ';' - | sed 's/;/; /g'
}

# --- What is there

version_of() { dpkg-query --show --showformat='${db:Status-Abbrev} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^[a-z]i *//p' | head -n 1; }

# Whether NAME or NAME=VERSION (a pattern) is installed; also when something still has to be configured it is not.
is_there() {
    have=$(version_of "${1%%=*}")
    [ -n "$have" ] || return 1
    # The version is a pattern, as apt takes it.
    # shellcheck disable=SC2254
    case $1 in
        *=*) case $have in ${1#*=}) return 0 ;; *) return 1 ;; esac ;;
    esac
}

is_known() { apt-cache --quiet=0 policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

available() {
    apt-cache madison "$1" 2>/dev/null | awk -F'|' '{gsub(/ /, "", $2); if (!seen[$2]++) print $2}' |
        head -n 12 | paste -sd ',' - | sed 's/,/, /g'
}

in_list() { case " $2 " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

held() { apt-mark showhold 2>/dev/null | sed 's/:.*//' | paste -sd ' ' -; }

held_by_us() { grep -v '^#' "$our_holds" 2>/dev/null | paste -sd ' ' -; }

# --- Running apt

# Runs a command; waits, but not for ever, while another program holds the lock of dpkg or apt.
patiently() {
    deadline=$(($(date +%s) + PACKAGES_LOCK_TIMEOUT))
    while :; do
        "$@" >"$log" 2>&1 </dev/null
        patient_rc=$?
        [ $patient_rc -ne 0 ] && grep -Eq 'Could not get lock|Unable to acquire the dpkg|Unable to lock|is locked by another process' "$log" || return $patient_rc
        if [ "$(date +%s)" -ge "$deadline" ]; then
            give_up "another program has kept dpkg's lock for $PACKAGES_LOCK_TIMEOUT s ($(from_log 'lock' 1)); nothing was changed; wait for it to end, or stop it"
        fi
        sleep 2
    done
}

apt() {
    patiently apt-get --yes -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

update() {
    apt update
    update_rc=$?
    updated=yes
    update_problem=''
    if [ $update_rc -ne 0 ] || grep -Eq '^((E|Error):|(W|Warning): (Failed to fetch|GPG error|OpenPGP|An error occurred))' "$log"; then
        update_problem=$(why)
    else
        # The age of the lists, for the next time; apt itself leaves it as it is when nothing is new.
        touch /var/lib/apt/lists
    fi
}

lists_are_old() {
    [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -o -maxdepth 1 -name '*_InRelease' 2>/dev/null | head -n 1)" ] || return 0
    [ -n "$(find /etc/apt/sources.list /etc/apt/sources.list.d -newer /var/lib/apt/lists 2>/dev/null | head -n 1)" ] && return 0
    [ $(($(date +%s) - $(stat -c %Y /var/lib/apt/lists))) -gt "$PACKAGES_CACHE_VALID_TIME" ]
}

# --- Why it did not work

why() {
    if grep -q 'dpkg was interrupted' "$log"; then
        echo "an earlier run of dpkg was interrupted, which 'dpkg --configure -a' ends"
    elif grep -Eq 'NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|KEYEXPIRED|ERRSIG|is not signed|signatures? .*(invalid|verified)|NOSPLIT|Missing key|Sub-process .*(gpgv|sqv)' "$log"; then
        echo "a repository's signature is wrong ($(from_log 'GPG error|BADSIG|NO_PUBKEY|not signed|Missing key|signature|OpenPGP' 1))"
    elif grep -q 'is not valid yet\|Release file .*expired' "$log"; then
        echo "a repository's index is out of date, or this clock is wrong ($(from_log 'not valid yet|expired' 1))"
    elif grep -Eq 'o space left|enough free space' "$log"; then
        echo "there is no space left ($(from_log 'o space left|enough free space' 1))"
    elif grep -Eq 'does not have a Release file|404|Failed to fetch|Unable to fetch|Could not (resolve|connect)|Temporary failure|Connection|Cannot initiate|timed out|unreachable' "$log"; then
        echo "a package mirror cannot be reached, or lacks it ($(from_log '^(E|Error|Err|W|Warning):? ?.*(Failed to fetch|Release file|Could not|404|Connection|failure)' 1))"
    else
        echo "apt said: $(from_log '^(E|Error|W|Warning|dpkg: error)')"
    fi
}

# apt's answer to a request that it could not even work out.
why_not_possible() {
    for wanted in $missing; do
        name=${wanted%%=*}
        if [ -z "$(available "$name")" ] && ! is_known "$name"; then
            echo "apt knows no package $name${update_problem:+, and $update_problem}"
            return
        fi
        case $wanted in
            *=*)
                if grep -q "Version .* for '$name' was not found" "$log"; then
                    echo "apt knows no version ${wanted#*=} of $name, only $(available "$name")${update_problem:+; $update_problem}"
                    return
                fi ;;
        esac
    done
    if grep -Eq 'unmet dependencies|held broken packages|Unable to correct problems|Unable to satisfy' "$log"; then
        needs=$(from_log '(Depends|Breaks|Conflicts|PreDepends):' 3)
        on_hold=$(held)
        echo "its dependencies cannot be met (${needs:-$(from_log '^(E|Error):')})${on_hold:+; on hold there: $on_hold}"
    elif grep -q 'The value .* is invalid for APT::Default-Release' "$log"; then
        echo "apt has no source for the release $PACKAGES_RELEASE${update_problem:+, and $update_problem}"
    else
        why
    fi
}

# --- What apt would do, and whether it may

request() {
    set --
    [ -z "$PACKAGES_RELEASE" ] || set -- "$@" --target-release "$PACKAGES_RELEASE"
    if [ "$PACKAGES_RECOMMENDS" = true ]; then set -- "$@" --install-recommends; else set -- "$@" --no-install-recommends; fi
    # Downgrades and holds are judged here, by what the simulation says, and not by apt as a whole.
    set -- "$@" --allow-downgrades --allow-change-held-packages
    if [ "$PACKAGES_STATE" = absent ]; then set -- "$@" remove; else set -- "$@" install; fi
    # shellcheck disable=SC2086
    apt $apt_extra "$@" $missing
}

simulate() { apt_extra='--simulate'; request; }

# Refuses what nobody has asked for. The simulation is in the log: "Inst NAME [OLD] (NEW ...)" and "Remv NAME [OLD]".
judge() {
    names=$(for wanted in $missing; do printf '%s ' "${wanted%%=*}"; done)
    ours=$(held_by_us)
    on_hold=$(held)
    touched=$(awk '$1 == "Inst" || $1 == "Remv" {print $2}' "$log" | sed 's/:.*//' | sort -u)
    removed=$(awk '$1 == "Remv" {print $2}' "$log" | sed 's/:.*//' | sort -u)
    for package in $touched; do
        if in_list "$package" "$PACKAGES_UNWANTED"; then
            give_up "apt would change $package as well, which must stay as it is; nothing was changed"
        elif in_list "$package" "$on_hold" && ! in_list "$package" "$ours"; then
            give_up "the package $package is on hold there ($(version_of "$package")); nothing was changed; 'apt-mark unhold $package' releases it"
        fi
    done
    for package in $removed; do
        if in_list "$package" "$PACKAGES_MAY_REMOVE" || { [ "$PACKAGES_STATE" = absent ] && in_list "$package" "$names"; }; then continue; fi
        give_up "apt would have to remove $package for it; nothing was changed; remove it first, or say otherwise what is wanted"
    done
    [ "$PACKAGES_ALLOW_DOWNGRADE" = true ] && return
    sed -nE 's/^Inst ([^ ]+) \[([^]]+)\] \(([^ ]+) .*/\1 \2 \3/p' "$log" >"$log.changes"
    while read -r package old new; do
        if dpkg --compare-versions "$new" lt "$old"; then
            give_up "$package would go back from $old to $new; nothing was changed; allow a downgrade, or ask for a newer version"
        fi
    done <"$log.changes"
}

# "NAME OLD -> NEW, NAME NEW, NAME removed"
plan() {
    sed -nE 's/^Inst ([^ ]+) \[([^]]+)\] \(([^ ]+) .*/\1 \2 -> \3/p; s/^Inst ([^ ]+) \(([^ ]+) .*/\1 \2/p; s/^Remv ([^ ]+) .*/\1 removed/p' "$log" |
        paste -sd ',' - | sed 's/,/, /g'
}

# Room for what apt has just said that it needs, in /usr, before anything is unpacked.
check_space() {
    needed=$(sed -nE 's/^(After this operation, ([0-9.]+) ([kMG])B of additional disk space will be used\.|.*Space needed: ([0-9.]+) ([kMG])B.*)/\2\4 \3\5/p' "$log" |
        awk '{print int($1 * ($2 == "G" ? 1048576 : $2 == "M" ? 1024 : 1))}' | head -n 1)
    free=$(df -Pk /usr | awk 'NR == 2 {print $4}')
    if [ -n "$needed" ] && [ "$needed" -gt "$free" ]; then
        give_up "it needs $((needed / 1024)) MB in /usr and $((free / 1024)) MB are free; nothing was changed; make room there"
    fi
}

# --- What is put back at the end, whatever happens

keep_services_stopped() {
    [ "$PACKAGES_START_SERVICES" = true ] && return
    if [ -e "$policy" ] && ! grep -qF "$policy_marker" "$policy"; then mv "$policy" "$policy.fog-migration"; fi
    policy_is_ours=yes
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_marker" >"$policy"
    chmod 755 "$policy"
}

lift_our_holds() {
    for wanted in $missing; do
        name=${wanted%%=*}
        if in_list "$name" "$(held)"; then
            lifted="$lifted $name"
            patiently apt-mark unhold "$name"
        fi
    done
}

# shellcheck disable=SC2329 # called by the trap
put_back() {
    if [ -n "$policy_is_ours" ]; then
        rm -f "$policy"
        [ ! -e "$policy.fog-migration" ] || mv "$policy.fog-migration" "$policy"
    fi
    # shellcheck disable=SC2086
    [ -z "$lifted" ] || [ "$PACKAGES_STATE" = absent ] || apt-mark hold $lifted >/dev/null 2>&1
    [ -z "$log" ] || rm -f "$log" "$log.changes"
}

hold() {
    mkdir -p "${our_holds%/*}"
    [ -e "$our_holds" ] || echo '# Packages that fog.migration has put on hold (apt-mark hold).' >"$our_holds"
    for wanted in $PACKAGES_NAMES; do
        name=${wanted%%=*}
        patiently apt-mark hold "$name" || give_up "$name was installed but could not be put on hold ($(from_log . 1))"
        in_list "$name" "$(held_by_us)" || echo "$name" >>"$our_holds"
    done
}

forget_holds() {
    [ -e "$our_holds" ] || return 0
    for wanted in $missing; do
        name=${wanted%%=*}
        grep -vxF "$name" "$our_holds" >"$log"
        cat "$log" >"$our_holds"
    done
}

# --- The two things that can be asked for

not_yet_there() {
    for wanted in $PACKAGES_NAMES; do
        if [ "$PACKAGES_STATE" = absent ]; then
            [ -z "$(version_of "${wanted%%=*}")" ] || printf '%s ' "${wanted%%=*}"
        else
            is_there "$wanted" || printf '%s ' "$wanted"
        fi
    done
}

not_yet_held() {
    [ "$PACKAGES_HOLD" = true ] && [ "$PACKAGES_STATE" = present ] || return 0
    on_hold=$(held)
    for wanted in $PACKAGES_NAMES; do in_list "${wanted%%=*}" "$on_hold" || printf '%s ' "${wanted%%=*}"; done
}

work_out() {
    simulate && return
    # Perhaps the lists are too old for it. A check does not renew them.
    if [ -z "$updated" ] && [ "$PACKAGES_CHECK" != true ] && [ "$PACKAGES_STATE" = present ]; then
        update
        simulate && return
    fi
    if [ "$PACKAGES_CHECK" = true ] && grep -Eq 'Unable to locate|was not found|no installation candidate|is invalid for APT' "$log"; then
        answer changed "${missing% } (not yet known to apt there)"
    fi
    give_up "$(why_not_possible); nothing was changed"
}

fetch() {
    apt_extra='--download-only'
    request && return
    if [ -z "$updated" ]; then
        update
        request && return
    fi
    give_up "$(why); nothing was changed; mend that, and run it again"
}

act() {
    keep_services_stopped
    lift_our_holds
    apt_extra=''
    request && return
    state=$(for wanted in $missing; do printf '%s is %s, ' "${wanted%%=*}" "$(dpkg-query -W -f='${Status} ${Version}' "${wanted%%=*}" 2>/dev/null || echo 'not installed')"; done)
    give_up "dpkg failed half-way ($(from_log '^(E:|Error:|dpkg: error|.*o space left)')); now ${state%, }; mend that and run 'apt-get --fix-broken install' there"
}

main() {
    [ "$(id -u)" -eq 0 ] || give_up "only root may do that; nothing was changed; run the play with become: true"
    command -v apt-get >/dev/null ||
        give_up "there is no apt on this host, and no other packages are known here; nothing was changed"
    # Left behind by a run that was killed.
    if grep -qF "$policy_marker" "$policy" 2>/dev/null; then policy_is_ours=yes; fi
    missing=$(not_yet_there)
    to_hold=$(not_yet_held)
    [ -n "$missing$to_hold" ] || answer unchanged
    if [ -n "$missing" ]; then
        if [ "$PACKAGES_STATE" = present ] && [ "$PACKAGES_CHECK" != true ] && lists_are_old; then update; fi
        work_out
        judge
        planned=$(plan)
        [ "$PACKAGES_CHECK" != true ] || answer changed "$planned"
        if [ "$PACKAGES_STATE" = present ]; then fetch; check_space; fi
        act
        [ "$PACKAGES_STATE" = present ] || forget_holds
    fi
    [ "$PACKAGES_CHECK" != true ] || answer changed "on hold: ${to_hold% }"
    lifted=''
    [ "$PACKAGES_HOLD" != true ] || [ "$PACKAGES_STATE" = absent ] || hold
    answer changed "${planned:-on hold: ${to_hold% }}"
}

trap put_back EXIT
trap 'exit 1' HUP INT TERM
log=$(mktemp) || give_up "there is no space left for a temporary file; nothing was changed; make room in /tmp"
main
