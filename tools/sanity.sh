#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test sanity on what the tarball holds, with nothing from the network but PyPI.
# Arguments go to ansible-test: tools/sanity.sh --test validate-modules
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ansible-test insists on a path like this one and refuses a linked checkout, hence a copy.
copy=$work/ansible_collections/fog/migration
mkdir -p "$copy"
"$root/.venv/bin/ansible-galaxy" collection build --output-path "$work" >/dev/null
tar --extract --directory "$copy" --file "$work"/fog-migration-*.tar.gz

# Its virtual environments, one for each test, live below HOME; there they are kept from run to run.
users_home=$HOME
export HOME=$root/.cache/ansible-test
mkdir -p "$HOME/.ansible/test/cache" "$HOME/.config"
for config in .config/pip .pip; do
    if [ -d "$users_home/$config" ]; then ln -sfnT "$users_home/$config" "$HOME/$config"; fi
done

# It fills them with a pip bootstrap from its own server. The pip of .venv does the same from PyPI.
pip_version=$("$root/.venv/bin/python" -c "
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version='3.11'))['pip'])")
cat >"$HOME/.ansible/test/cache/get_pip_${pip_version//./_}.py" <<PYTHON
import subprocess, sys
packages = [a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call(["$root/.venv/bin/python", "-m", "pip", "--python", sys.executable, "install", *packages]))
PYTHON

# Only interpreters that run: version managers put commands on the path that end with "not found".
mkdir "$work/bin"
for version in 3.8 3.9 3.10 3.11 3.12 3.13; do
    if python=$("python$version" -c 'import sys; print(sys.executable)' 2>/dev/null); then
        ln -s "$python" "$work/bin/python$version"
    fi
done
export PATH=$root/.venv/bin:$work/bin:/usr/local/bin:/usr/bin:/bin

cd "$copy"
if ! ansible-test sanity --color no --prime-venvs "$@" >"$work/prime.log" 2>&1; then
    cat "$work/prime.log" >&2
    echo "ansible-test could not make its virtual environments (above is why); no sanity test was run." >&2
    exit 1
fi
ansible-test sanity --color no "$@"
