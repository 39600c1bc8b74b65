#!/bin/bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# card.sh ARCHITECTURE CARD [CRIU]: an SD card for QEMU with Debian's programs for arm64 or armhf, and init.sh as its first process. Nothing
# of the other architecture is run here: the packages are only unpacked. CRIU is a tarball of criu for armhf, which Debian does not have.
set -euo pipefail
architecture=$1 card=$2 criu=${3:-}
suite=trixie
packages=busybox-static,python3-minimal,iproute2,nftables
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$criu" ]; then
    packages+=,criu
else
    tar -xzf "$criu" -C "$work"
    packages+=,$(paste -sd , "$work/criu/packages")
fi
# The mirror that this machine uses, and nothing but the release itself.
# shellcheck disable=SC2016  # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
mmdebstrap --quiet --mode=root --variant=extract --architectures="$architecture" --include="$packages" "$suite" "$work/root" ${mirror:+"deb $mirror $suite main"}
root=$work/root
for folder in bin sbin lib; do
    [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
done
if [ -n "$criu" ]; then
    install "$work/criu/sbin/criu" "$root/usr/sbin/criu"
fi
# No package was configured, so nothing has set these up.
[ -e "$root/usr/bin/python3" ] || ln -s "$(basename "$(echo "$root"/usr/bin/python3.*)")" "$root/usr/bin/python3"
for program in sh dmesg tail cut awk grep tr cat sleep kill mount mkdir rm sync head sed du uname du; do
    [ -e "$root/usr/bin/$program" ] || ln -s busybox "$root/usr/bin/$program"
done
mkdir -p "$root"/{proc,sys,dev,run,tmp,root}
install "$here/init.sh" "$root/init.sh"
# The emulated card's size must be a power of two.
truncate --size 512M "$card.new"
mke2fs -q -t ext4 -d "$root" -E root_owner=0:0 "$card.new"
mv "$card.new" "$card"
