#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes the Docker image of a lab node from Debian's packages.
# Usage: build.sh IMAGE NAME SUITE CRIU_SUITE MIRROR|'' COMMA,SEPARATED,PACKAGES
set -euo pipefail

image=$1 lab=$2 suite=$3 criu_suite=$4 mirror=$5 packages=$6
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whoever checked the files out: in the node they are root's, and no directory changes its owner.
find "$here/node" -type f -printf '%P\0' |
    tar -C "$here/node" --null --files-from=- --owner=0 --group=0 --mode='u=rwX,go=rX' -cf "$work/node.tar"

options=(
    --variant=apt --include="$packages" --format=tar
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*'
    --dpkgopt=force-unsafe-io
    --customize-hook="tar-in $work/node.tar /"
    --customize-hook="chroot \"\$1\" sh -eu <'$here/finish.sh'"
)

if [ "$criu_suite" = "$suite" ]; then
    options+=(--include=criu)
else
    # CRIU, and what it depends on, come from the other suite of the same mirror; its index may be past its date.
    printf '%s\n' 'Package: *' "Pin: release n=$criu_suite" 'Pin-Priority: 100' >"$work/criu"
    cat >"$work/add-suite" <<EOF
set -eu
sources=\$1/etc/apt/sources.list
sed -nE 's/^deb (\[([^]]*)\] )?([^ ]+) $suite .*/deb [check-valid-until=no \2] \3 $criu_suite main/p' "\$sources" >>"\$sources.d/criu.list"
test -s "\$sources.d/criu.list"
EOF
    options+=(--setup-hook="sh $work/add-suite \"\$1\"" --setup-hook="copy-in $work/criu /etc/apt/preferences.d"
              --customize-hook="chroot \"\$1\" apt-get -qq --yes --no-install-recommends -t $criu_suite install criu")
fi

# Tagged only when it is complete.
if imported=$(mmdebstrap "${options[@]}" "$suite" - ${mirror:+"$mirror"} |
    docker import --change "LABEL org.fog-migration.lab-image=$lab" --change 'CMD ["/usr/local/sbin/lab-init"]' -); then
    docker tag "$imported" "$image"
else
    docker image rm --force "$imported" >/dev/null 2>&1 || true
    exit 1
fi
