# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration cost, for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
short_description: Tell in a few lines what a migration cost
version_added: 0.1.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Makes the lines that C(migrate.yml) prints at its end.
options:
  _input:
    description:
      - What was measured. C(container), C(name), C(source), C(destination) and C(mode) are strings.
      - C(clock) holds the end of each stage in seconds since the epoch, by the controller's clock. Its first key is
        C(start).
      - C(checkpoint), C(transfer) and C(restore) are the results of the three modules.
      - C(image) tells how the image came to the destination, with C(way) (V(there), V(sent) or V(pulled)),
        C(bytes_sent), its C(layers) and C(layers_left_out), C(why_not_pulled) where it was to be pulled, and
        C(tags_kept), those of its names that another image has at the destination, and C(tags_refused), those that its
        policy did not let arrive.
      - C(left) holds the results of the removals at the end, by what they remove; C(unencrypted), if it is there,
        those of the encryption of the checkpoints that are kept, by where that is.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print the report
  ansible.builtin.debug:
    msg: "{{ measured | fog.migration.report }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample: ["looper100 moved from fog1 to fog2 (cold)"]
"""

import itertools

from ansible_collections.fog.migration.plugins.plugin_utils.failures import Failure

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def readable_bytes(count: float) -> str:
    """V(1536) -> V(1.5 KiB)."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} B"


def _row(label: str, seconds: float, note: str = "") -> str:
    return f"  {label:<16}{seconds:>9.3f} s  {note}".rstrip()


def _criu_line(statistics: dict) -> str:
    if not statistics:
        return "no statistics"
    frozen, written = statistics.get("frozen_time", 0) / 1e6, statistics.get("pages_written", 0)
    return f"frozen by CRIU for {frozen:.3f} s, {written} pages written of {statistics.get('pages_scanned', 0)} scanned"


def _stages(clock: dict) -> dict[str, float]:
    """Seconds of each stage, in the order in which the stages ended."""
    ends = sorted(clock.items(), key=lambda item: item[1])
    return {name: end - before for (_name, before), (name, end) in itertools.pairwise(ends)}


def downtime(clock: dict, checkpoint: dict) -> float:
    """Seconds from the order to freeze to the running container.

    What lies between the ends of two tasks is by the controller's clock, the checkpoint itself by the source's: no two
    clocks are compared. The ends of the tasks are seen a little late, so that this is an upper bound.
    """
    return checkpoint["seconds"]["total"] + clock["stop-and-copy"] - clock["checkpoint"]


def _failures(left: dict, unencrypted: dict) -> list[str]:
    """A line for each removal and encryption at the end that did not succeed."""
    lines = [f"  LEFT OVER       {what} could not be removed" for what in _failed(left)]
    return lines + [
        f"  IN CLEAR        the checkpoint at {where} could not be encrypted" for where in _failed(unencrypted)
    ]


def _failed(results: dict) -> list[str]:
    return [what for what, result in results.items() if result.get("failed") or result.get("unreachable")]


def _cold(stages: dict, checkpoint: dict, transfer: dict, restore: dict) -> list[str]:
    sent = f"{readable_bytes(transfer['bytes_sent'])} sent, {readable_bytes(transfer['bytes_received'])} back"
    return [
        *([_row("pre-copy", stages["pre-copy"], "of what is in its volumes")] if "pre-copy" in stages else []),
        _row("stop-and-copy", stages["checkpoint"] + stages["stop-and-copy"]),
        _row("  checkpoint", checkpoint["seconds"]["total"], _criu_line(checkpoint["statistics"])),
        _row("  transfer", transfer["seconds"], f"{sent} ({transfer['mode']}, {transfer['compression']})"),
        _row("  restore", restore["seconds"]["total"]),
    ]


def _live(stages: dict, checkpoint: dict, transfer: dict) -> list[str]:
    seconds, before = checkpoint["seconds"], len(transfer["rounds"])
    after = [one["bytes_sent"] for one in checkpoint["rounds"][before:]]
    rows = [
        _row("pre-copy", stages["pre-copy"], _rounds_line(transfer)),
        *_on_disk(transfer["staging"]),
        _row("stop-and-copy", stages["stop-and-copy"], _count("round", after) if after else ""),
        _row("  freeze", seconds["pause"] + seconds["dump"], _dump_line(checkpoint["statistics"])),
        _row("  files", seconds["files"], _files_line(checkpoint["files_sent"])) if checkpoint["files_sent"] else "",
        _row("  send", seconds["send"], f"{readable_bytes(checkpoint['bytes_sent'])} sent while it was frozen"),
        _row("  restore", seconds["restore"]),
        _together_line(seconds),
        _row("  completion", seconds["completion"], "until no page was missing any more"),
    ]
    return [row for row in rows if row]


def _together_line(seconds: dict) -> str:
    """How long it waited at the destination for those that moved together with it."""
    waited = seconds["downtime"] - seconds.get("together", 0)
    return _row("  together", waited, "until all that moved together ran") if "together" in seconds else ""


def _files_line(sent: list[dict]) -> str:
    """What was sent of each tree of files, until it was frozen."""
    sizes: dict[str, list[int]] = {}
    for one in sent:
        sizes.setdefault(one["place"], []).append(one["bytes_sent"])
    return "; ".join(f"{place} {_count('difference', some)}" for place, some in sizes.items())


def _on_disk(staging: dict) -> list[str]:
    """A line for each server where the memory went by the disk on its way."""
    return [
        f"    staging         on disk at the {where}: {one['why_not_memory']}"
        for where, one in staging.items()
        if one["kind"] == "disk"
    ]


def _dump_line(statistics: dict) -> str:
    """CRIU counts and times nothing that makes sense in a lazy dump."""
    return _criu_line(statistics) if statistics.get("pages_scanned") else ""


def _count(what: str, sizes: list[int]) -> str:
    plural = "" if len(sizes) == 1 else "s"
    return f"{len(sizes)} {what}{plural}: {', '.join(readable_bytes(size) for size in sizes)}"


def _rounds_line(transfer: dict) -> str:
    if not transfer["rounds"]:
        return ""
    by = "dirty tracking" if transfer["tracked"] else "comparison"
    rounds = _count("round", [one["bytes_sent"] for one in transfer["rounds"]]).replace(":", f" by {by}:", 1)
    packed = ", zlib" if transfer["compression"] == "zlib" else ""
    return f"{rounds}; {transfer['rounds_ended']} ({readable_bytes(transfer['rate'])}/s{packed})"


def image_note(image: dict) -> str:
    """How the image came to the destination."""
    kept = ", ".join(image.get("tags_kept") or [])
    refused = ", ".join(image.get("tags_refused") or [])
    names = f"; {kept} is another image there, and was left so" if kept else ""
    names += f"; by the policy there, it did not get the name {refused}" if refused else ""
    if image["way"] != "sent":
        return {"there": "the image was there", "pulled": "image: pulled from its registry"}[image["way"]] + names
    there, of = image["layers_left_out"], image["layers"]
    pulled = f"; not pulled: {image['why_not_pulled']}" if image.get("why_not_pulled") else ""
    return f"image: {readable_bytes(image['bytes_sent'])} sent, {there} of {of} layers were there{pulled}{names}"


def _downtime(clock: dict, checkpoint: dict) -> tuple[float, str]:
    if "downtime" in checkpoint["seconds"]:
        return checkpoint["seconds"]["downtime"], "from the order to freeze until it runs again, by the source's clock"
    return downtime(clock, checkpoint), "from the order to freeze until it runs again, at most"


def _sizes(checkpoint: dict) -> list[str]:
    if "bytes_checkpoint" not in checkpoint:
        return []
    return [f"  checkpoint      {readable_bytes(checkpoint['bytes_checkpoint'])} in {checkpoint['files']} files"]


def report(measured: dict) -> list[str]:
    """See DOCUMENTATION."""
    checkpoint, transfer, restore, image = (measured[key] for key in ("checkpoint", "transfer", "restore", "image"))
    clock, name, destination = measured["clock"], measured["name"], measured["destination"]
    stages = _stages(clock)
    renamed = "" if name == measured["container"] else f" as {name}"
    return [
        f"{measured['container']} moved from {measured['source']} to {destination}{renamed} ({measured['mode']})",
        _row("pre-migration", stages["pre-migration"]),
        _row("reservation", stages["reservation"], image_note(image)),
        *(
            _cold(stages, checkpoint, transfer, restore)
            if measured["mode"] == "cold"
            else _live(stages, checkpoint, transfer)
        ),
        _row("commitment", stages["commitment"]),
        _row("activation", stages["activation"]),
        _row("downtime", *_downtime(clock, checkpoint)),
        _row("total", sum(stages.values())),
        *_sizes(checkpoint),
        *(f"  closed          {one}, which could not move with it" for one in checkpoint.get("connections_closed", [])),
        f"  runs now on     {destination} as {name} ({restore['container']['id'][:12]})",
        *_failures(measured["left"], measured.get("unencrypted", {})),
    ]


def _measured(one: dict) -> dict:
    """What C(report) wants to know of a migration that has ended."""
    restore = one.get("restore") or {"container": {"id": one.get("container_there", "")}}
    keys = ("container", "name", "source", "destination", "mode", "clock", "checkpoint", "transfer")
    left = {f"what the migration has at {where}": {"failed": True} for where in one.get("left", {})}
    if "restore" in one:
        left = one["left"]
    told = {key: one[key] for key in keys}
    return dict(told, image=one["image_way"], restore=restore, left=left, unencrypted=one.get("unencrypted", {}))


def migrations_report(ended: list[dict], agents: dict) -> dict:
    """What became of the migrations of a run: C(lines) for those that moved, and C(problems), sentences."""
    lines: list[str] = []
    problems: list[str] = []
    for one in ended:
        if not one.get("failure"):
            lines += report(_measured(one))
            continue
        told = f"{Failure.from_json(one['failure']).in_words()}. {one.get('outcome', '')}"
        if one.get("moved"):
            lines.append(told)
        else:
            problems.append(told.strip())
    if any(one.get("outcome") for one in ended) and agents:
        where = " and ".join(f"{host}:{agent['log']}" for host, agent in agents.items())
        lines.append(f"The steps of the agents are in {where}.")
    return {"lines": lines, "problems": problems}


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"report": report, "migrations_report": migrations_report}
