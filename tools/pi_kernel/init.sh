#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The first process in the emulated Pi: tries CRIU on the kernel, prints lines that begin with "fog:", and switches off.
# "fog:check NAME yes|no REASON" is a feature of CRIU, "fog:test NAME passed|failed REASON" a test, "fog:end" the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TZ=UTC LC_ALL=C

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
for directory in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $directory; done
ip link set lo up
# Nothing of the kernel's between our lines.
dmesg -n 1

say() { echo "fog:$*"; }

say kernel "$(uname -r)" "$(uname -m)"
say model "$(tr -d '\000' </proc/device-tree/model)"
say booted "$(cut -d ' ' -f 1 /proc/uptime)"
say criu "$(criu --version | tr '\n' ' ')"
say cgroups "$(awk '$4 == 1 {printf "%s ", $1}' /proc/cgroups)"
awk '/ on \/sys\/fs\/cgroup/' /proc/mounts

# ---- Feature by feature; "all" is what CRIU itself calls everything.

if reason=$(criu check 2>&1); then say check plain yes; else say check plain no "$(echo "$reason" | grep Error | head -n 1)"; fi
for feature in mem_dirty_track aio_remap timerfd tun userns fdinfo_lock seccomp_suspend seccomp_filters loginuid cgroupns autofs tcp_half_closed \
    nsid link_nsid can_map_vdso uffd uffd-noncoop sk_ns sk_unix_file net_diag_raw pidfd_store move_mount_set_group timens \
    ipv6_freebind openat2 get_rseq_conf; do
    if reason=$(criu check --feature $feature 2>&1); then
        say check $feature yes
    else
        say check $feature no "$(echo "$reason" | grep -E 'Error|Warn' | head -n 1)"
    fi
done

# ---- A process with memory that can be recognised goes on after the restore where it stopped.

cat >/run/work.py <<'END'
import hashlib, os, random, sys, time
size, out = int(sys.argv[1]), sys.argv[2]
memory = bytearray(random.Random(1).randbytes(1 << 16) * (size << 4))
want = hashlib.sha256(memory).hexdigest()
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
log = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(null, 0), os.dup2(log, 1), os.dup2(log, 2)
os.closerange(3, 64)
number = 0
while True:
    whole = hashlib.sha256(memory).hexdigest() == want if number % 50 == 0 else "-"
    print(number, whole, flush=True)
    number += 1
    time.sleep(0.02)
END

number() { tail -n 1 "/run/$1.out" | cut -d ' ' -f 1; }

# wait_for NAME N: the process has counted to N, and its memory was whole whenever it looked.
wait_for() {
    tries=0
    until [ "$(number "$1")" -gt "$2" ] 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || return 1
        sleep 0.2
    done
    ! grep -q False "/run/$1.out"
}

now() { cut -d ' ' -f 1 /proc/uptime; }
took() { echo "$1 $(now)" | awk '{printf "%.1f s", $2 - $1}'; }

start() {
    mkdir -p "/run/$1"
    # In a PID namespace of its own, as in a container, its numbers are free again when it comes back.
    busybox unshare -p -f python3 /run/work.py "$2" "/run/$1.out" &
    wait_for "$1" 60 || return 1
    pid=$(cat /proc/$!/task/$!/children)
    pid=${pid% }
}

failed() {
    say test "$1" failed "$2: $(grep -h Error "/run/$1"/*.log | head -n 3 | tr '\n' ' ')"
    kill -9 "$pid" 2>/dev/null
}

cold() {
    start cold "$1" || { failed cold "the process did not start"; return; }
    began=$(now)
    criu dump -t "$pid" -D /run/cold -o dump.log -v4 || { failed cold "no dump"; return; }
    dumped=$(took "$began")
    [ ! -e "/proc/$pid" ] || { failed cold "the process is still there"; return; }
    stopped=$(number cold)
    size=$(du -sm /run/cold | cut -f 1)
    began=$(now)
    criu restore -d -D /run/cold -o restore.log -v4 || { failed cold "no restore"; return; }
    restored=$(took "$began")
    wait_for cold $((stopped + 120)) || { failed cold "it does not go on after $stopped"; return; }
    # Every number once, in order.
    cut -d ' ' -f 1 /run/cold.out | awk '$1 != NR - 1 {exit 1}' || { failed cold "numbers are missing"; return; }
    say test cold passed "stopped at $stopped, went on to $(number cold); $1 MiB; dump $dumped, $size MB of images; restore $restored"
    kill -9 "$pid"
}

lazy() {
    start lazy "$1" || { failed lazy "the process did not start"; return; }
    criu dump -t "$pid" -D /run/lazy -o dump.log -v4 --lazy-pages --address 127.0.0.1 --port 5555 &
    tries=0
    until grep -qs 'Waiting for\|Listening\|listening' /run/lazy/dump.log || ss -ltn 2>/dev/null | grep -q :5555; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { failed lazy "no page server"; return; }
        sleep 0.2
    done
    stopped=$(number lazy)
    size=$(du -sm /run/lazy | cut -f 1)
    mkdir -p /run/lazy/daemon
    criu lazy-pages --page-server --address 127.0.0.1 --port 5555 -D /run/lazy -W /run/lazy/daemon -o ../lazy-pages.log -v4 &
    tries=0
    until [ -S /run/lazy/daemon/lazy-pages.socket ]; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { failed lazy "no lazy-pages daemon"; return; }
        sleep 0.2
    done
    began=$(now)
    criu restore -d -D /run/lazy -W /run/lazy/daemon -o ../restore.log -v4 --lazy-pages || { failed lazy "no restore"; return; }
    restored=$(took "$began")
    wait_for lazy $((stopped + 120)) || { failed lazy "it does not go on after $stopped"; return; }
    cut -d ' ' -f 1 /run/lazy.out | awk '$1 != NR - 1 {exit 1}' || { failed lazy "numbers are missing"; return; }
    say test lazy passed "stopped at $stopped, went on to $(number lazy); $1 MiB; $size MB of images beforehand; restore $restored"
    kill -9 "$pid"
}

predump() {
    start predump 4 || { failed predump "the process did not start"; return; }
    if criu pre-dump -t "$pid" -D /run/predump -o dump.log -v4 --track-mem; then
        say test predump passed "this kernel tracks dirty memory"
    else
        say test predump failed "as expected of any ARM kernel: $(grep -h Error /run/predump/dump.log | head -n 1)"
    fi
    kill -9 "$pid"
}

cold 16
lazy 16
predump
say end
sync
busybox poweroff -f
sleep 10
busybox reboot -f
