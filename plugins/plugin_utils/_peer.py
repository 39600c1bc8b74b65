# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second inventory host inside one task.

An action plugin has a connection to the one host that its task runs on. A Peer is another host of the inventory,
reached as Ansible itself would reach it (connection, become, shell and their options, from that host's variables), on
which the same action plugin runs modules.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import action_loader, become_loader, connection_loader


class PeerError(Exception):
    """The other host cannot be used. The text is one sentence."""


class Peer:
    """Another host of the inventory, for the action plugin that makes it. Connects on first use."""

    def __init__(self, action, name, task_vars):
        hostvars = task_vars["hostvars"]
        if name not in hostvars:
            raise PeerError(f"{name} is not in the inventory")
        self.name = name
        self._own_variables = task_vars
        self._task = action._task.copy()
        self._task.delegate_to = None
        self.variables = dict(hostvars.raw_get(name), hostvars=hostvars)
        self.variables.setdefault("ansible_facts", {})
        self._templar = action._templar.copy_with_new_env(available_variables=self.variables)
        self.connection = self._connect(action)
        self._normal = action_loader.get(
            "ansible.legacy.normal",
            task=self._task,
            connection=self.connection,
            play_context=self._context,
            loader=action._loader,
            templar=self._templar,
            shared_loader_obj=action._shared_loader_obj,
        )

    @property
    def action(self):
        """An action plugin whose connection leads there."""
        return self._normal

    def variable(self, name, default=None):
        """A variable of this host, templated as that host sees it."""
        return self._templar.template(self.variables[name]) if name in self.variables else default

    def _connect(self, action):
        kind = self.variable("ansible_connection") or self._default_connection()
        self._context = self._make_context(action._play_context, kind)
        connection = connection_loader.get(
            kind, self._context, os.devnull, task_uuid=self._task._uuid, ansible_playbook_pid=str(os.getppid())
        )
        if not connection:
            raise PeerError(f"there is no connection plugin {kind}")
        become = self._become_plugin()
        connection.set_become_plugin(become)
        keys = self._task.dump_attrs()
        # The task's own timeout and retries are not the connection's.
        keys["timeout"] = self._context.timeout
        keys.pop("retries", None)
        if self._context.password:
            keys["password"] = self._context.password
        options = connection._resolve_option_variables(self.variables, self._templar)
        connection.set_options(task_keys=keys, var_options=options)
        self._set_options("shell", connection._shell, keys)
        if become:
            self._context.set_become_plugin(become.name)
            if self._context.become_pass:
                keys["become_pass"] = self._context.become_pass
            self._set_options("become", become, keys)
            self._context.prompt = become.prompt
        return connection

    def _default_connection(self):
        """The task's connection; but that it runs on the controller does not make the other host the controller."""
        if self._task.connection == "local" and self.name not in C.LOCALHOST:
            return C.DEFAULT_TRANSPORT
        return self._task.connection

    def _make_context(self, current, kind):
        """The play's context without what belongs to the task's own host, its passwords above all."""
        bare = current.copy()
        for attribute in ("remote_addr", "port", "remote_user", "private_key_file"):
            setattr(bare, attribute, None)
        for attribute in ("password", "become_pass"):
            if any(name in self._own_variables for name in C.MAGIC_VARIABLE_MAPPING.get(attribute, ())):
                setattr(bare, attribute, "")
        templated = {
            name: self.variable(name)
            for names in C.MAGIC_VARIABLE_MAPPING.values()
            for name in names
            if name in self.variables
        }
        context = bare.set_task_and_variable_override(
            task=self._task, variables=dict(self.variables, **templated), templar=self._templar
        )
        context.connection = kind
        context.remote_addr = context.remote_addr or self.name
        return context

    def _become_plugin(self):
        wanted = self.variable("ansible_become")
        if not boolean(wanted if wanted is not None else self._task.become or False):
            return None
        method = self.variable("ansible_become_method") or self._task.become_method or C.DEFAULT_BECOME_METHOD
        plugin = become_loader.get(method)
        if not plugin:
            raise PeerError(f"there is no become plugin {method}")
        return plugin

    def _set_options(self, kind, plugin, keys):
        names = C.config.get_plugin_vars(kind, plugin._load_name)
        plugin.set_options(
            task_keys=keys, var_options={name: self.variable(name) for name in names if name in self.variables}
        )

    def run(self, module, arguments):
        """Runs a module there; its result. An unreachable host is a PeerError."""
        try:
            return self._normal._execute_module(module_name=module, module_args=arguments, task_vars=self.variables)
        except AnsibleError as exc:
            raise PeerError(str(exc).strip().rstrip(".")) from exc

    def close(self):
        try:
            self._normal.cleanup()
            self.connection.close()
        except (AnsibleError, OSError):
            pass
