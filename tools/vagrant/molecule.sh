#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Molecule's scenario "vagrant", with a box of ours. Run as root, in workstation.sh, by "make molecule-vagrant".
# Usage: molecule.sh test [ARGUMENT ...]: what "molecule" takes.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=tools/vagrant/common.sh
. "$here/common.sh"
command=$1 && shift
cd "$here/../.."
PATH=$PWD/.venv/bin:$PATH

FOG_VAGRANT_BOX=$("$here/box.sh")
FOG_VAGRANT_DRIVER=$("$here/driver.sh" "$FOG_VAGRANT_BOX")
say "The box is $FOG_VAGRANT_BOX, libvirt's driver $FOG_VAGRANT_DRIVER"
export FOG_VAGRANT_BOX FOG_VAGRANT_DRIVER
export VAGRANT_CWD=$PWD/inventories/vagrant VAGRANT_DOTFILE_PATH=$FOG_VAGRANT_CACHE/machines

# What Vagrant remembers of machines that are gone with their workstation.
virsh --connect qemu:///system list --all --name | grep --quiet '^fog-migration-' || rm -rf "$VAGRANT_DOTFILE_PATH"

export COLUMNS=${COLUMNS:-160} # molecule frames its log
export MOLECULE_GLOB='molecule/*/molecule.yml' ANSIBLE_COLLECTIONS_PATH=$PWD/playbooks/collections
status=0
molecule "$command" --scenario-name vagrant "$@" || status=$?

# libvirt's copy of the box; Vagrant leaves it behind. What Vagrant itself keeps is cached.
if [ "$command" = test ]; then
    virsh --connect qemu:///system vol-list default | awk '$1 ~ /^fog-migration-VAGRANTSLASH-/ {print $1}' |
        while read -r volume; do virsh --quiet --connect qemu:///system vol-delete "$volume" default; done
fi
exit "$status"
