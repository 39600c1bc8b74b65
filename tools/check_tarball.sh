#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Does Galaxy take dist/*.tar.gz, and does the collection work once it is installed from it?
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# ansible-lint would look into collections that are installed for this user, an older one of ours perhaps.
export HOME=$work/home
mkdir "$HOME"

tarball=$(echo "$PWD"/dist/fog-migration-*.tar.gz)

# Its ansible-test wants a container image from a registry; "make sanity" runs the same tests without one.
cat >"$work/galaxy-importer.cfg" <<'CFG'
[galaxy-importer]
check_required_tags = true
run_ansible_doc = true
run_ansible_lint = true
offline_ansible_lint = true
run_ansible_test = false
run_flake8 = false
CFG
(
    cd "$work" # where it leaves its result
    GALAXY_IMPORTER_CONFIG=$work/galaxy-importer.cfg python -m galaxy_importer.main --print-result "$tarball"
) 2>&1 | tee "$work/importer.log" | grep --extended-regexp '^(INFO|WARNING|ERROR)' || true
if ! grep --quiet 'Importer processing completed successfully' "$work/importer.log" ||
    grep --quiet --extended-regexp '^(WARNING|ERROR)' "$work/importer.log"; then
    echo "galaxy-importer does not take $tarball as it is (see its warnings and errors above)" >&2
    exit 1
fi

export ANSIBLE_COLLECTIONS_PATH=$work
cd "$work" # away from the checkout
ansible-galaxy collection install --offline --collections-path "$work" "$tarball"
for playbook in ansible_collections/fog/migration/playbooks/*.yml; do
    ansible-playbook --syntax-check -i localhost, "fog.migration.$(basename "$playbook" .yml)"
done
for kind in module filter; do
    for name in $(ansible-doc --type "$kind" --list --json fog.migration | python -c 'import json, sys; print(*json.load(sys.stdin))'); do
        ansible-doc --type "$kind" "$name" >/dev/null && echo "documented: $name"
    done
done
