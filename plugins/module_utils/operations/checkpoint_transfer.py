# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(checkpoint_transfer) does: one step of a transfer, or of opening a channel, on one of both hosts.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration import open_channel, transfer_steps
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.request import Request
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    ssh_access,
    ssh_connection,
    transfer,
)

STEPS = {
    "open_source": transfer_steps.open_source,
    "open_destination": transfer_steps.open_destination,
    "fingerprint": transfer_steps.fingerprint,
    "send": transfer_steps.send,
    "revoke_key": transfer_steps.revoke_key,
    "close": transfer_steps.close,
    "open_channel": open_channel.open_channel,
    "progress": open_channel.progress,
}
LIVE_STEPS = {"open_destination": open_channel.open_destination}
FAILURES = (
    ssh_connection.SendingFailed,
    transfer_steps.StepFailed,
    ChannelError,
    ssh_access.SshAccessError,
    MigrationError,
    OSError,
)


def run(request: Request) -> dict:
    """Does one step."""
    params = request.params
    step = params["step"]
    if not step:
        raise transfer_steps.StepFailed(
            "checkpoint_transfer needs its action plugin on the controller; nothing was done."
        )
    steps = {**STEPS, **LIVE_STEPS} if params["live"] else STEPS
    return dict(changed=False, **steps[step](params, params["step_options"] or {}, request.check_mode))


def explain(error: Exception, request: Request) -> dict:
    """The result after a failure. The action plugin makes a sentence of it."""
    if isinstance(error, ssh_connection.SendingFailed):
        return dict(error.stats, msg=str(error))
    if isinstance(error, OSError):
        return {"msg": f"{error.strerror or error}: {error.filename or request.params['path']}"}
    return {"msg": str(error)}


OPERATION = Operation(transfer.argument_spec(), run, FAILURES, explain, for_agents=for_agents.RUN, connects=False)
