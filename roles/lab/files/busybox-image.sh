#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs on a fog server: makes the Docker image $1 from the server's own statically linked busybox.
set -eu

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/home/user" "$root/proc" "$root/sys" "$root/dev" "$root/var"
install -d -m 1777 "$root/tmp"
chown 1000:1000 "$root/home/user"
chmod 755 "$root"
cp /usr/bin/busybox "$root/bin/busybox"
chroot "$root" /bin/busybox --install -s /bin
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'user:x:1000:1000:user:/home/user:/bin/sh' \
    'nobody:x:65534:65534:nobody:/home/user:/bin/sh' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'user:x:1000:' 'nogroup:x:65534:' >"$root/etc/group"
tar -C "$root" -c . | docker import --change 'CMD ["sh"]' - "$1"
