#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs a command where Vagrant can make virtual machines with libvirt.
# Usage: workstation.sh COMMAND [ARGUMENT ...]
#
# Where vagrant, its libvirt plugin and a libvirtd that answers are on this machine, that is here. Anywhere else (no
# service manager, a distribution without Vagrant, libvirt that must not meet Docker's bridges) a workstation is made:
#
#   its root     a Debian with Vagrant, libvirt and QEMU, made once and cached; what a run writes goes into an overlay
#   its network  a network namespace; slirp4netns carries it to the outside, so this machine's firewall stays as it is
#   its end      a PID namespace: libvirtd, QEMU and everything else end with it, whatever happens
#
# The command itself runs on this machine's files, as ever; vagrant, virsh and QEMU on its path lead into the workstation.
set -euo pipefail

self=$(readlink -f "$0")
here=$(dirname "$self")
# shellcheck source=tools/vagrant/common.sh
. "$here/common.sh"

# The suite whose Vagrant, libvirt and QEMU were tried.
suite=bookworm
packages=(
    ca-certificates dmidecode dnsmasq-base iproute2 iptables libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu
    libvirt-daemon-system openssh-client procps qemu-system-x86 qemu-utils slirp4netns vagrant vagrant-libvirt
)
programs=(vagrant virsh qemu-img qemu-system-x86_64)

# This machine as it is

machine_will_do() {
    command -v "${programs[@]}" >/dev/null &&
        virsh --connect qemu:///system version >/dev/null 2>&1 &&
        vagrant plugin list 2>/dev/null | grep --quiet vagrant-libvirt
}

# The workstation, from the outside

make_root() {
    local root=$1
    say "Making the workstation: Vagrant, libvirt and QEMU of Debian $suite (some minutes, once)"
    rm -rf "$root.new"
    # Groups that this machine may forbid, users that it may not have, daemons that nobody starts.
    cat >"$FOG_VAGRANT_CACHE/configure" <<'SH'
set -eu
printf '%s\n' 'user = "root"' 'group = "root"' 'remember_owner = 0' 'security_driver = "none"' \
    'namespaces = []' 'cgroup_controllers = []' >>"$1/etc/libvirt/qemu.conf"
printf '%s\n' 'auth_unix_rw = "none"' >>"$1/etc/libvirt/libvirtd.conf"
rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
SH
    mmdebstrap --variant=apt --format=directory --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="sh $FOG_VAGRANT_CACHE/configure \"\$1\"" \
        "$suite" "$root.new" ${mirror:+"$mirror"} >"$FOG_VAGRANT_CACHE/workstation.log" 2>&1 ||
        fail "The workstation could not be made: $(tail -n 3 "$FOG_VAGRANT_CACHE/workstation.log")"
    find "$FOG_VAGRANT_CACHE" -maxdepth 1 -name 'workstation-*' ! -path "$root.new" -exec rm -rf {} +
    mv "$root.new" "$root"
}

outside() {
    local mirror root run status=0
    [ "$(id -u)" = 0 ] ||
        fail "This machine has no libvirtd with Vagrant that answers, and only root can make a workstation of its own."
    mkdir -p "$FOG_VAGRANT_CACHE"
    exec 9>"$FOG_VAGRANT_CACHE/lock"
    flock --nonblock 9 || { say "Waiting for another run on this machine to end" && flock 9; }

    need mmdebstrap mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring ssh openssh-client
    mirror=$(debian_mirror)
    root=$FOG_VAGRANT_CACHE/workstation-$(fingerprint "$mirror" -- "$self")
    [ -d "$root" ] || make_root "$root"

    rm -rf "$FOG_VAGRANT_CACHE"/run.* # of a run that was killed
    run=$(mktemp -d "$FOG_VAGRANT_CACHE/run.XXXXXX")
    # shellcheck disable=SC2064 # this run's
    trap "rm -rf '$run'" EXIT
    # Whoever ends this script ends what it runs.
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc "$self" --inside "$root" "$run" "$@" 9>&- || status=$?
    exit "$status"
}

# From the inside: mounts and processes first, then the network

inside() {
    local root=$1 run=$2 path
    shift 2
    mkdir "$run"/{upper,work,root,bin}
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$run/upper,workdir=$run/work" "$run/root" ||
        fail "No overlay can be mounted below $FOG_VAGRANT_CACHE; give FOG_VAGRANT_CACHE a folder on a disk of this machine."
    mount -t proc proc "$run/root/proc"
    mount --rbind /dev "$run/root/dev"
    mount -t tmpfs tmpfs "$run/root/run"
    mount -t tmpfs tmpfs "$run/root/tmp"
    # At the same places as here: what the machines are described in, and what is cached.
    for path in "$HOME" "$PWD" "$FOG_VAGRANT_CACHE"; do
        mkdir -p "$run/root$path"
        mount --bind "$path" "$run/root$path"
    done
    # slirp4netns answers there.
    echo 'nameserver 10.0.2.3' >"$run/resolv.conf"
    cp --remove-destination "$run/resolv.conf" "$run/root/etc/resolv.conf"
    mount --bind "$run/resolv.conf" /etc/resolv.conf

    for path in "${programs[@]}"; do
        cat >"$run/bin/$path" <<SH
#!/bin/sh
unset GEM_HOME GEM_PATH RUBYLIB RUBYOPT
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot '$run/root' /bin/sh -c 'cd "\$1" && shift && exec "\$@"' sh "\$PWD" $path "\$@"
SH
        chmod +x "$run/bin/$path"
    done

    unshare --net "$self" --networked "$run" "$@" &
    local child=$!
    until [ "$(readlink "/proc/$child/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    chroot "$run/root" slirp4netns --configure --mtu=65520 --disable-host-loopback "$child" tap0 >"$run/slirp4netns.log" 2>&1 &
    wait "$child"
}

networked() {
    local run=$1 waited=0
    shift
    mount -t sysfs sysfs "$run/root/sys"
    ip link set lo up
    until ip route show default | grep --quiet tap0; do
        sleep 0.1
        [ $((waited += 1)) -lt 300 ] || fail "The workstation has no network: $(tail -n 3 "$run/slirp4netns.log")"
    done
    chroot "$run/root" virtlogd --daemon
    chroot "$run/root" libvirtd --daemon
    PATH=$run/bin:$PATH
    until virsh --connect qemu:///system version >/dev/null 2>"$run/virsh.log"; do
        sleep 0.2
        [ $((waited += 2)) -lt 600 ] || fail "libvirtd does not answer in the workstation: $(tail -n 3 "$run/virsh.log")"
    done
    "$@"
}

case ${1-} in
    '') fail "Usage: $0 COMMAND [ARGUMENT ...]" ;;
    --inside) shift && inside "$@" ;;
    --networked) shift && networked "$@" ;;
    *) if machine_will_do; then exec "$@"; else outside "$@"; fi ;;
esac
