# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables were given on the command line."""

from __future__ import annotations

DOCUMENTATION = r"""
name: extra_vars
short_description: Tell which variables were given on the command line
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Returns the variables that were given with C(-e), which is C(--extra-vars), and no others. So a playbook can tell
    what it was asked for from variables of the inventory with the same names.
options:
  _terms:
    description: Names of variables. Without any, all variables that were given are returned.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show what was asked for
  ansible.builtin.debug:
    msg: "{{ lookup('fog.migration.extra_vars', 'container', 'destination') }}"
"""

RETURN = r"""
_raw:
  description: One object, with the values by name. Names that were not given are not in it.
  type: list
  elements: dict
  sample: [{container: looper100}]
"""

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars


class LookupModule(LookupBase):
    """Ansible's hook."""

    def run(self, terms, variables=None, **kwargs):
        """See DOCUMENTATION."""
        given = load_extra_vars(self._loader)
        names = [str(term) for term in terms] or list(given)
        # They may be templates as all variables. No other variable can have another value for these names.
        return [{name: self._templar.template(given[name]) for name in names if name in given}]
