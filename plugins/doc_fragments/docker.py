# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation that all our modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection options like those of community.docker, whose own fragment is private since 5.0."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - The URL or Unix socket path of the Docker daemon.
      - The daemon has to run on the host that the module runs on, because a checkpoint consists of files of that host.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_HOST) is used instead.
    type: str
    default: unix:///var/run/docker.sock
    aliases: [docker_url]
  tls_hostname:
    description:
      - When verifying the authenticity of the Docker daemon, the name that it is expected to have.
      - Docker SDK for Python 7.0.0 and newer do not support this option any more; giving it there is an error.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_TLS_HOSTNAME) is used
        instead.
    type: str
  api_version:
    description:
      - The version of Docker's API to speak; V(auto) takes the newest that the SDK and the daemon both know.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_API_VERSION) is used
        instead.
    type: str
    default: auto
    aliases: [docker_api_version]
  timeout:
    description:
      - Seconds to wait for an answer of the API, for calls other than the checkpoint and the restore themselves.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_TIMEOUT) is used instead.
    type: int
    default: 60
  ca_path:
    description:
      - A CA certificate to verify the daemon with.
      - If the value is not specified and E(DOCKER_CERT_PATH) is set, C(ca.pem) of that directory is used.
    type: path
    aliases: [ca_cert, tls_ca_cert, cacert_path]
  client_cert:
    description:
      - The client's TLS certificate.
      - If the value is not specified and E(DOCKER_CERT_PATH) is set, C(cert.pem) of that directory is used.
    type: path
    aliases: [tls_client_cert, cert_path]
  client_key:
    description:
      - The client's TLS key.
      - If the value is not specified and E(DOCKER_CERT_PATH) is set, C(key.pem) of that directory is used.
    type: path
    aliases: [tls_client_key, key_path]
  tls:
    description:
      - Connect by TLS without verifying the daemon. O(validate_certs) takes precedence.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_TLS) is used instead.
    type: bool
    default: false
  validate_certs:
    description:
      - Connect by TLS and verify the daemon.
      - If the value is not specified in the task, the value of environment variable E(DOCKER_TLS_VERIFY) is used
        instead.
    type: bool
    default: false
    aliases: [tls_verify]
  use_ssh_client:
    description:
      - For SSH transports, use the C(ssh) command instead of paramiko.
    type: bool
    default: false
  debug:
    description:
      - Log the requests to the API to the system log.
    type: bool
    default: false
requirements:
  - Python 3.8 or newer on the host
  - Docker SDK for Python 4.0.0 or newer on the host
  - root, because checkpoints and Docker's folders belong to it
"""

    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/fog.migration.docker) in C(module_defaults) to set defaults for this module.
    support: full
    membership: [fog.migration.docker]
"""
