# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes a container again at the destination, from its inspect data at the source.

Pure functions all of them.
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker.container_facts import endpoints
from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import with_lent_mounts
from ansible_collections.fog.migration.plugins.module_utils.docker.networks import MOVABLE_DRIVERS
from ansible_collections.fog.migration.plugins.module_utils.docker.ways import RUNTIME

_SHORT_ID = 12


def image_reference(inspect: dict, image_id_by_tag: dict) -> str:
    """How the new container names its image: by the same tag where that means the same image, else by its id.

    :param image_id_by_tag: what the tags mean at the destination.
    """
    tag = inspect["Config"].get("Image", "")
    return tag if tag and image_id_by_tag.get(tag) == inspect["Image"] else inspect["Image"]


def creation_body(
    inspect: dict,
    image: str,
    armed: bool = False,
    drivers: dict[str, str] | None = None,
    at_once: bool = False,
) -> tuple[dict, dict]:
    """The body of C(POST /containers/create) that makes this container again, from everything that inspect tells.

    The restart policy is left at V(no), so that no daemon starts the container anew before it was restored.

    :param inspect: the inspect data of the container while it ran.
    :param image: see C(image_reference).
    :param armed: whether it is to be restored by our OCI runtime; otherwise it does not stay with it.
    :param drivers: where it moves, the drivers of its networks, by name: on some it has the same address.
    :param at_once: whether this Docker makes a container in several networks. One that is connected to a network before
        its first start does not get the MAC that it was to have there.
    :returns: the body, and the endpoints of further networks, which older daemons take one by one after creation.
    """
    host = {key: value for key, value in with_lent_mounts(inspect).items() if value is not None}
    host["RestartPolicy"] = {"Name": "no"}
    host["Links"] = linked(host.get("Links"))
    host.pop("ContainerIDFile", None)
    if armed or host.get("Runtime") == RUNTIME:
        host["Runtime"] = RUNTIME if armed else ""
    config = _config(inspect["Config"], host)
    networks = endpoints(inspect)
    mode = host.get("NetworkMode", "default")
    main = _main_network(mode, networks)
    wanted = {}
    for name, endpoint in networks.items():
        driver = (drivers or {}).get(name)
        given = config.get("MacAddress", "") if name == main else None
        wanted[name] = _endpoint(endpoint, inspect["Id"], driver, _same_mac(endpoint, driver, given))
    more = {name: endpoint for name, endpoint in wanted.items() if name != main}
    body = dict(config, Image=image, HostConfig=host)
    if main in wanted and mode != "default":
        host["NetworkMode"] = main
        body["NetworkingConfig"] = {"EndpointsConfig": {main: wanted[main]}}
    if wanted.get(main, {}).get("MacAddress"):
        # Where Docker before 25 looks for it.
        body["MacAddress"] = wanted[main]["MacAddress"]
    if at_once and more:
        body["NetworkingConfig"] = {"EndpointsConfig": wanted}
        return body, {}
    return body, more


def _config(inspected: dict, host: dict) -> dict:
    """The container's C(Config) such that Docker fills in nothing of the image that it does not have.

    :param host: its C(HostConfig).
    """
    config = {key: value for key, value in inspected.items() if value is not None}
    # What is left empty is taken from the image (merge() in moby's daemon/commit.go). A container can only have less
    # than its image where there is a word for that: this one, and C(NONE) of a health check, which inspect tells.
    if not config.get("Entrypoint"):
        config["Entrypoint"] = [""]
    if host.get("UTSMode") == "host":
        # It has the server's, whatever inspect tells, and Docker refuses to be told another one.
        for key in ("Hostname", "Domainname"):
            config.pop(key, None)
    return config


def _main_network(mode: str, networks: dict) -> str:
    """The name of the network that the container was started in. It may have been called by its ID, or not at all."""
    for name, endpoint in networks.items():
        if len(mode) >= _SHORT_ID and endpoint.get("NetworkID", "").startswith(mode):
            return name
    return "bridge" if mode == "default" else mode


def _endpoint(endpoint: dict, container_id: str, driver: str | None, mac: str | None) -> dict:
    """One network's settings as C(create) and C(connect) want them: what was configured, not what came of it.

    :param driver: the network's, where the container moves, so that it may have what it alone had.
    :param mac: see C(_same_mac).
    """
    aliases = [alias for alias in endpoint.get("Aliases") or [] if not container_id.startswith(alias)]
    wanted = {
        "IPAMConfig": _same_addresses(endpoint) if driver in MOVABLE_DRIVERS else endpoint.get("IPAMConfig"),
        "Links": endpoint.get("Links"),
        "Aliases": aliases,
        "DriverOpts": endpoint.get("DriverOpts"),
        "MacAddress": mac,
        "GwPriority": endpoint.get("GwPriority"),
    }
    return {key: value for key, value in wanted.items() if value}


def _same_mac(endpoint: dict, driver: str | None, given: str | None) -> str | None:
    """The MAC to give it again: peers know it, or somebody gave it.

    On an ipvlan it is the server's. On a bridge, Docker makes one at each start, before 28 from the address.

    :param given: what somebody gave it, or nothing, as inspect tells of the first network only; None for another one.
    """
    mac, address = endpoint.get("MacAddress"), endpoint.get("IPAddress")
    if not mac or driver is None or driver == "ipvlan":
        return None
    if driver == "macvlan" or given:
        return mac
    made = address and "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    return None if given is not None or mac == made else mac


def _same_addresses(endpoint: dict) -> dict:
    """What was configured of an endpoint's addresses, with those that Docker chose."""
    chosen = {"IPv4Address": endpoint.get("IPAddress"), "IPv6Address": endpoint.get("GlobalIPv6Address")}
    return {**(endpoint.get("IPAMConfig") or {}), **{key: value for key, value in chosen.items() if value}}


def linked(links: list | None) -> list:
    """C(/db:/web/alias), as inspect shows a link, in the form that C(create) wants: C(db:alias)."""
    pairs = (link.split(":", 1) for link in links or [])
    return [f"{target.lstrip('/')}:{alias.rsplit('/', 1)[-1]}" for target, alias in pairs]
