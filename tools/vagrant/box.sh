#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes a Vagrant box for libvirt from Debian's packages, gives it to Vagrant, and prints its name: a bare Debian with
# Debian's own kernel, sshd, sudo and Python. Run as root, in workstation.sh.
#
# Nothing of a fog server is in it; the roles bring that. Cached by what it is made from; needs no network then.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=tools/vagrant/common.sh
. "$here/common.sh"

suite=trixie
disk_size=12G
packages=(
    busybox-static ca-certificates dbus e2fsprogs initramfs-tools iproute2 iputils-ping kmod "linux-image-$(dpkg --print-architecture)"
    openssh-server procps python3 sudo systemd-resolved systemd-sysv udev zstd
)

make_box() {
    local work=$1 box=$2
    say "Making the box: Debian $suite with its own kernel (a few minutes, once)"

    tar -C "$here/box" --owner=0 --group=0 --mode='u=rwX,go=rX' -cf "$work/files.tar" --exclude ./Vagrantfile --exclude ./finish.sh .
    mmdebstrap --variant=apt --format=directory --skip=cleanup/apt/lists --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --essential-hook="tar-in $work/files.tar /" \
        --customize-hook="chroot \"\$1\" sh -eu <'$here/box/finish.sh'" \
        "$suite" "$work/root" ${mirror:+"$mirror"} >"$FOG_VAGRANT_CACHE/box.log" 2>&1 ||
        fail "The box could not be made: $(tail -n 3 "$FOG_VAGRANT_CACHE/box.log")"

    # Reading the lists takes apt half a minute where KVM does not work.
    chroot "$work/root" apt-cache gencaches >>"$FOG_VAGRANT_CACHE/box.log" 2>&1

    # The kernel and its initrd lie beside the disk: no boot loader, no partitions.
    mkdir "$work/box"
    cp -L "$work"/root/boot/vmlinuz-* "$work/box/vmlinuz"
    cp -L "$work"/root/boot/initrd.img-* "$work/box/initrd.img"
    mke2fs -q -t ext4 -L root -d "$work/root" "$work/box.raw" "$disk_size"
    qemu-img convert -f raw -O qcow2 "$work/box.raw" "$work/box/box.img"
    cp "$here/box/Vagrantfile" "$work/box/"
    printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %d}\n' "${disk_size%G}" >"$work/box/metadata.json"
    tar -C "$work/box" -cf "$box" .
}

need mmdebstrap mmdebstrap mke2fs e2fsprogs
mkdir -p "$FOG_VAGRANT_CACHE"
mirror=$(debian_mirror)
# Every file in here is one of its ingredients; the folder has no others.
mapfile -t ingredients < <(find "$here/box" -type f | LC_ALL=C sort)
name=fog-migration/debian-$suite-$(fingerprint "$mirror" -- "$here/box.sh" "${ingredients[@]}")

if ! vagrant box list | grep --quiet "^$name "; then
    work=$(mktemp -d "$FOG_VAGRANT_CACHE/box.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_box "$work" "$work/$suite.box" >&2
    vagrant box list | sed -n "s|^\(fog-migration/debian-$suite-[^ ]*\) .*|\1|p" |
        while read -r old; do vagrant box remove --force --all "$old" >&2; done
    vagrant box add --name "$name" "$work/$suite.box" >&2
fi
echo "$name"
