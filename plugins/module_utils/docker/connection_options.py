# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which modules connect to Docker's daemon, as those of community.docker.

This needs Ansible: what runs without it, C(api) does not import it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import logging
import logging.handlers
import os

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ansible_collections.fog.migration.plugins.module_utils.docker.api import DOCKER_IMPORT_ERROR


def _option(kind: str, variable: str | None = None, **more: object) -> dict:
    """One option of an argument specification, with an environment variable to fall back to."""
    fallback = {"fallback": (env_fallback, [variable])} if variable else {}
    return dict({"type": kind}, **fallback, **more)


CONNECTION_SPEC = {
    "docker_host": _option("str", "DOCKER_HOST", default="unix:///var/run/docker.sock", aliases=["docker_url"]),
    "tls_hostname": _option("str", "DOCKER_TLS_HOSTNAME"),
    "api_version": _option("str", "DOCKER_API_VERSION", default="auto", aliases=["docker_api_version"]),
    "timeout": _option("int", "DOCKER_TIMEOUT", default=60),
    "ca_path": _option("path", aliases=["ca_cert", "tls_ca_cert", "cacert_path"]),
    "client_cert": _option("path", aliases=["tls_client_cert", "cert_path"]),
    "client_key": _option("path", aliases=["tls_client_key", "key_path"]),
    "tls": _option("bool", "DOCKER_TLS", default=False),
    "validate_certs": _option("bool", "DOCKER_TLS_VERIFY", default=False, aliases=["tls_verify"]),
    "use_ssh_client": _option("bool", default=False),
    "debug": _option("bool", default=False),
}


def new_module(argument_spec: dict, **more: object) -> AnsibleModule:
    """An AnsibleModule with the connection options; ends with one sentence where the Docker SDK is missing."""
    module = AnsibleModule(argument_spec=dict(CONNECTION_SPEC, **argument_spec), **more)
    if DOCKER_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("docker"), exception=DOCKER_IMPORT_ERROR)
    if module.params["debug"]:
        logger = logging.getLogger("urllib3")
        logger.setLevel(logging.DEBUG)
        if os.path.exists("/dev/log"):
            logger.addHandler(logging.handlers.SysLogHandler(address="/dev/log"))
    return module
