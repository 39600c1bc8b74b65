# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that move together: all of them run at the destination, or all run on at the source."""

from __future__ import annotations

import threading

import pytest

from support.lab import RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

NAMES = ("db", "web")
# What both of them write into is one volume.
DB = "n=0; while :; do echo $n; echo $n >>/common/db; n=$((n+1)); sleep 0.05; done"
# It ends where it finds that it should not be.
WEB = """
n=0
while :; do
    [ ! -e /place/forbidden ] || { sleep 0.2; exit 3; }
    echo $n
    echo $n >>/common/web
    n=$((n+1))
    sleep 0.05
done
"""
PROJECT = ["--network", "shop", "--label", "com.docker.compose.project=shop", "-v", "common:/common"]
RESTART = {"db": ["--restart", "always"], "web": ["-v", "/srv/place:/place"]}


@pytest.fixture
def shop(lab):
    """Two containers of a Compose project on fog1; what follows each of them."""

    def clear() -> None:
        for node in lab.servers():
            lab.sh(node, "docker ps -aq | xargs -r docker rm -fv; docker volume ls -q | xargs -r docker volume rm")
            lab.sh(node, "docker network rm shop 2>/dev/null; rm -rf /srv/place; mkdir -p /srv/place", check=False)

    clear()
    lab.docker("fog1", "network", "create", "--label", "com.docker.compose.project=shop", "shop")
    lab.docker("fog1", "volume", "create", "--label", "kept=yes", "common")
    lab.start("fog1", "db", DB, *PROJECT, *RESTART["db"])
    lab.start("fog1", "web", WEB, *PROJECT, "--link", "db:shelf", *RESTART["web"])
    wait_for(lambda: all(len(lab.lines("fog1", name)) > 5 for name in NAMES), "the first numbers")
    yield {name: lab.follow("fog1", name) for name in NAMES}
    clear()


def live_on(lab, node: str, shop=None) -> None:
    """Each says every number once, over both servers, and has written it; nothing else is left of the migration."""
    for name in NAMES:
        assert lab.running_on(name) == [node]
        wait_for(lambda name=name: len(lab.lines(node, name)) > 10, "more numbers")
        lab.docker(node, "pause", name)
        said = [int(line) for line in (shop[name].lines() if shop else []) + lab.lines(node, name)]
        written = lab.numbers(node, name, f"/common/{name}")
        lab.docker(node, "unpause", name)
        assert said == list(range(len(said)))
        assert written in (said, said[:-1])
    assert lab.inspect(node, "db")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.require_no_traces()


def shop_again(lab, shop, name: str, *options: str) -> None:
    """Starts one of them anew, with more options."""
    lab.docker("fog1", "rm", "-f", name)
    lab.sh("fog1", f"rm -f /var/lib/docker/volumes/common/_data/{name}")
    lab.start("fog1", name, DB if name == "db" else WEB, *PROJECT, *RESTART[name], *options)
    shop[name] = lab.follow("fog1", name)
    wait_for(lambda: len(lab.lines("fog1", name)) > 5, "the first numbers")


def nothing_there(lab) -> None:
    """What was made at the destination has gone again."""
    assert lab.docker("fog2", "ps", "-aq") == ""
    assert lab.docker("fog2", "volume", "ls", "-q") == ""
    assert "shop" not in lab.docker("fog2", "network", "ls", "--format", "{{.Name}}")


@pytest.mark.parametrize("mode", ["precopy", "hybrid"])
def test_a_project_moves(lab, shop, mode):
    done = lab.playbook("migrate.yml", project="shop", migration_mode=mode)
    for name in NAMES:
        assert f"{name} moved from fog1 to fog2 ({mode})" in done.stdout
    assert "until all that moved together ran" in done.stdout
    live_on(lab, "fog2", shop)
    assert lab.docker("fog1", "ps", "-aq") == ""
    assert lab.docker("fog1", "volume", "ls", "-q") == ""
    assert lab.docker("fog2", "volume", "inspect", "common", "--format", "{{.Labels.kept}}") == "yes"
    # They know each other by name, as before.
    assert lab.docker("fog2", "exec", "web", "nslookup", "shelf").count("Address") >= 2


@pytest.fixture
def runtime(lab):
    """C(runtime(line, begin)) has fog-runc on fog2 do something before the line with this begin, where it restores."""

    def change(line: str, begin: str) -> None:
        lab.sh("fog2", f"sed -i 's|^ *{begin}.*$|{line}\\n&|' {RUNTIME}")
        assert line.replace("\\", "") in lab.sh("fog2", f"cat {RUNTIME}")

    lab.sh("fog2", f"cp {RUNTIME} /root/")
    yield change
    lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")


# Two seconds after something began to be restored.
KILL = """
for _look in $(seq 3000); do pgrep -f 'runc .*[r]estore' >/dev/null && break; sleep 0.02; done
sleep 2
folder=$(grep -o '/run/fog-migration/transfer-[^"]*' /var/lib/fog-migration/journal/db-*.json | tail -n 1)
kill -9 $(cut -d' ' -f1 "$folder/pid")
"""
# Of the container with this in its environment only.
IF_CHOSEN = 'grep -q fog.chosen= "$(sed -n 2p "$prepared/bundle")/config.json" \\&\\& '


def test_none_goes_without_the_others(lab, shop, runtime):
    shop_again(lab, shop, "web", "--env", "fog.chosen=yes")
    runtime(IF_CHOSEN + "set -- --nonsense", '"$runc" "$@"')
    done = lab.playbook("migrate.yml", check=False, containers="db,web")
    assert "web could not be moved" in failure(done)
    for name in NAMES:
        assert f"{name} runs on as before at fog1, nothing is left over" in done.stdout
    live_on(lab, "fog1")
    nothing_there(lab)


def test_one_that_ends_at_the_destination(lab, shop):
    lab.sh("fog2", "touch /srv/place/forbidden")
    message = failure(lab.playbook("migrate.yml", check=False, label="com.docker.compose.project"))
    assert "the container web was restored but does not run any more" in message
    assert "was resumed and runs at fog1, nothing is left over" in message
    assert [lab.running_on(name) for name in NAMES] == [["fog1"], ["fog1"]]
    nothing_there(lab)


@pytest.mark.parametrize(("slow", "node"), [("web", "fog2"), ("db", "fog1")])
def test_a_program_dies(lab, shop, runtime, slow, node):
    """That of db at the destination: while db waits there for web, or before it was restored."""
    shop_again(lab, shop, slow, "--env", "fog.chosen=yes")
    runtime(IF_CHOSEN + "sleep 4", ': >"$prepared/restored"')
    killer = threading.Thread(target=lab.sh, args=("fog2", KILL))
    killer.start()
    done = lab.playbook("migrate.yml", check=False, containers=["db", "web"])
    killer.join()
    assert ("runs at fog2, nothing is left over" in done.stdout) == (node == "fog2"), done.stdout
    live_on(lab, node, shop if node == "fog2" else None)


@pytest.mark.parametrize(("task", "node"), [("Stage 2, iterative pre-copy", "fog1"), ("Stage 4, commitment", "fog2")])
def test_the_controller_dies(lab, shop, task, node):
    lab.interrupt(task, project="shop")
    done = lab.playbook("recover.yml")
    assert done.stdout.count(f"at {node}, nothing is left over") == len(NAMES)
    live_on(lab, node, shop if node == "fog2" else None)
    assert "No migration is open" in lab.playbook("recover.yml").stdout
