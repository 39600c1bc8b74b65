# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node, beside the programs of a live migration: rounds of a running container, and two dumps of one freeze.

What the product makes of the lazy one is compared with the full one. The first argument is an object for JSON:

    container   its ID, as its runtime knows it
    pause       the words that freeze it
    mode        precopy, stop-and-copy (the last dump leaves nothing with the processes) or hybrid
    rounds      how many, while it runs
    kill        where it is to be restored: the words that remove it here
    restore     ... and those that restore it, in which IMAGES stands for the directory
    lazily      ... with lazy pages

One line of JSON answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

from both_ends import Ends
from image_sets import differences, digest, memory_in, memory_of

from ansible_collections.fog.migration.plugins.module_utils.memory import image_set, lazy_pages, pagemap
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump import Dump
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump_root import DumpRoot

HERE = os.path.dirname(os.path.abspath(__file__))


class Freeze:
    """One container, and what is found out about it."""

    def __init__(self, wish):
        self.wish = wish
        self.container = wish["container"]
        self.ends = Ends(HERE, self.container)
        self.answer = {}

    def run(self):
        same = []
        for _number in range(self.wish["rounds"]):
            self.ends.rounds.once()
            same.append(self.digests())
            time.sleep(0.3)
        subprocess.run(self.wish["pause"], stdout=subprocess.DEVNULL, check=True)
        self.last_round()
        same.append(self.digests())
        if "restore" not in self.wish:
            full = self.dump(self.folder("full"), lazy=False)
            full.wait()
            full.join()
            self.compare(memory_in(self.folder("full")))
        self.answer["rounds"] = self.ends.rounds.figures
        self.answer["same"] = [here == there for here, there in same]
        if "restore" in self.wish:
            self.restore()
        self.ends.close()

    def digests(self):
        """Of what both ends have."""
        return digest(memory_of(self.ends.rounds.store)), digest(memory_of(self.ends.destination.memory.store))

    def folder(self, name):
        os.makedirs(f"{HERE}/{name}", exist_ok=True)
        return f"{HERE}/{name}"

    def dump(self, images, lazy, unwanted=0):
        """A dump that was started."""
        root = DumpRoot(self.container, f"{images}-runc")
        root.configure(without_lock=False)
        dump = Dump(self.container, images, self.folder(f"work-{lazy}"), root, lazy, unwanted)
        dump.start()
        return dump

    def last_round(self):
        """As the source's program does it."""
        mode, images = self.wish["mode"], self.folder("images")
        frozen = self.ends.freeze(images)
        lazy = mode != "stop-and-copy"
        dump = self.dump(images, lazy, frozen.pagemaps if lazy and frozen.can_be_read else 0)
        if lazy:
            frozen.compare(only_shared=mode != "precopy")
        dump.wait()
        self.answer["kept"] = sum(map(pagemap.holds_pages, os.listdir(images)))
        frozen.finish(later=mode == "hybrid")
        if mode == "hybrid":
            self.answer["later"] = len(self.older(memory_in(images)))
            self.ends.follow()
            frozen.catch_up()
            self.ends.destination.memory.caught_up.wait(60)
        dump.join()
        frozen.close()

    def older(self, dumped):
        """The pages that the dump has left and that the destination does not have yet, or not any more."""
        now = memory_of(self.ends.rounds.store)
        frozen = {name: {} for name in dumped}
        for name, held in dumped.items():
            if pagemap.is_shared(name):
                continue
            image = int(name.split("-")[-1].split(".")[0])
            for vaddr in (vaddr for vaddr, (_data, flags) in held.items() if flags):
                data = b"".join(bytes(data) for _vaddr, data in self.ends.source.memory.frozen.read(image, vaddr, 1))
                frozen[name][vaddr] = (data, 0)
        here = {name: {v: page for v, page in held.items() if v in frozen[name]} for name, held in now.items()}
        return differences(here, frozen)

    def images(self):
        """What travels of the dump, in a directory of its own: everything but the pages."""
        target = f"{HERE}/completed"
        shutil.copytree(f"{HERE}/images", target, ignore=lambda _path, names: [*filter(pagemap.holds_pages, names)])
        return target

    def compare(self, full):
        """The destination's store and the images that it makes, beside the dump of everything."""
        lazy = memory_in(f"{HERE}/images")
        there = memory_of(self.ends.destination.memory.store)
        figures = image_set.complete(self.images(), self.ends.destination.memory.store, False)
        completed = memory_in(f"{HERE}/completed")
        self.answer.update(
            figures=figures,
            pages={name: len(held) for name, held in full.items()},
            left=sum(bool(flags) for held in lazy.values() for data, flags in held.values() if data is None),
            store=self.spans(there, full),
            completed=self.spans(completed, full),
            as_in_the_store=differences(completed, there),
            flags=[
                (name, vaddr)
                for name, held in completed.items()
                for vaddr, (_data, flags) in held.items()
                if flags != lazy[name][vaddr][1]
            ],
        )

    def spans(self, memory, full):
        """The differences, each with the first and the last byte of it, and both numbers that are where it begins."""
        found = []
        for name, vaddr, reason in differences(memory, full):
            span = words = None
            if reason == "other bytes":
                one, other = memory[name][vaddr][0], full[name][vaddr][0]
                places = [place for place in range(len(other)) if one[place] != other[place]]
                span, word = (places[0], places[-1]), slice(places[0] & -8, (places[0] & -8) + 8)
                words = [int.from_bytes(data[word], "little") for data in (one, other)]
            found.append((name, hex(vaddr), reason, span, words))
        return found

    def restore(self):
        """From what the destination has, and nothing else."""
        target, store = self.images(), self.ends.destination.memory.store
        self.answer["figures"] = image_set.complete(target, store, self.wish["lazily"])
        self.answer["images"] = sum(
            os.stat(f"{target}/{name}").st_size for name in os.listdir(target) if pagemap.holds_pages(name)
        )
        subprocess.run(self.wish["kill"], stdout=subprocess.DEVNULL, check=True)
        for name in ("images", "here"):
            shutil.rmtree(f"{HERE}/{name}")
        pager = lazy_pages.Pager(store, lazy_pages.EVERYTHING, None)
        if self.wish["lazily"]:
            pager.start(target, self.folder("work-there"))
        command = self.wish["restore"].replace("IMAGES", target).replace("WORK", self.folder("work-there"))
        subprocess.Popen(command, shell=True, start_new_session=True, stdout=subprocess.DEVNULL)
        if self.wish["lazily"]:
            pager.wait(lambda: None)


if __name__ == "__main__":
    freeze = Freeze(json.loads(sys.argv[1]))
    freeze.run()
    print(json.dumps(freeze.answer))
