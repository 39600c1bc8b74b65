# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs: how each runs in a container, what its clients do, and when they have been served well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .verdicts import Judge, all_published, as_in_the_files, in_order, sums_are_equal

MODES = ("cold", "precopy", "postcopy", "hybrid")
# Beside whose downtime that of the others is put.
COUNTER = "counter"


@dataclass(frozen=True)
class Program:
    """One program."""

    name: str
    # What the container runs, in bash. What is not in Debian's packages is below tests/programs/image/root.
    command: str
    # What clients do: for each kind that client.py knows, its arguments without the address. Without any, what the
    # container writes itself is heard.
    loads: tuple[Mapping[str, Any], ...] = ()
    # Options of "docker run": the user that its packages give it, and a volume where its data usually is on one.
    options: str = ""
    # Tried in the container until each command of it succeeds: it serves then, and has what clients expect.
    ready: str = "true"
    judge: Judge = in_order
    # Run in the container when its clients have gone; the judge gets what it says.
    afterwards: str = "true"
    # The modes in which it is known not to move, and why.
    stays: Mapping[str, str] = field(default_factory=dict)


PORT = "exec 3<>/dev/tcp/127.0.0.1/{}"
OWN = "/usr/local/lib/programs"
NUMBERS = {"kind": "listen", "times": 2, "port": 7000}
# A program of nobody's in particular, which counts on each connection.
COUNTS = {"loads": (NUMBERS,), "options": "--user nobody", "ready": PORT.format(7000)}

PGBENCH_SUMS = """
psql --no-align --tuples-only --field-separator ' ' --command 'SELECT (SELECT count(*) FROM pgbench_history),
    (SELECT sum(delta) FROM pgbench_history), (SELECT sum(abalance) FROM pgbench_accounts),
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(tbalance) FROM pgbench_tellers)'
"""
MARIADB = {
    "options": "--user mysql --volume programs:/var/lib/mysql",
    "ready": "mariadb --host 127.0.0.1 --user client --execute 'SELECT n FROM counter' programs",
    "loads": (
        {
            "kind": "converse",
            "words": [
                *("mariadb", "--host", "{address}", "--user", "client", "--disable-ssl-verify-server-cert"),
                *("--batch", "--skip-column-names", "--unbuffered", "programs"),
            ],
            "question": "START TRANSACTION; UPDATE counter SET n = n + 1; INSERT INTO history SELECT n FROM counter; "
            "COMMIT; SELECT n FROM counter;",
        },
    ),
}
RESERVED = "it reserves 8 TiB of address space, and CRIU 16 bytes for each page of it"
MARIADBD = "exec mariadbd --bind-address 0.0.0.0 --init-file /etc/mysql/programs.sql"

PROGRAMS = {
    one.name: one
    for one in (
        Program(
            COUNTER,
            'n=0; while :; do echo "$EPOCHREALTIME output $n"; n=$((n+1)); sleep 0.05; done',
        ),
        Program(
            "redis",
            "exec redis-server /etc/redis/redis.conf --daemonize no --supervised no --appendonly yes "
            "--bind 0.0.0.0 --protected-mode no",
            ({"kind": "ask", "times": 4, "port": 6379, "question": "INCR {who}"},),
            options="--user redis --volume programs:/var/lib/redis",
            ready="redis-cli ping",
        ),
        Program(
            "postgresql",
            "exec /usr/lib/postgresql/17/bin/postgres -D /var/lib/postgresql/17/main -c listen_addresses='*' "
            "-c config_file=/etc/postgresql/17/main/postgresql.conf",
            ({"kind": "pgbench", "clients": 4},),
            options="--user postgres --volume programs:/var/lib/postgresql",
            ready="pg_isready; pgbench --initialize --quiet --scale 10",
            judge=sums_are_equal,
            afterwards=PGBENCH_SUMS,
        ),
        Program(
            "mariadb",
            MARIADBD,
            **MARIADB,
            stays=dict.fromkeys(("postcopy", "hybrid"), RESERVED),
        ),
        Program(
            "mariadb-128m",
            f"{MARIADBD} --innodb-buffer-pool-size-max=128M",
            **MARIADB,
        ),
        Program(
            "nginx",
            "cd /var/www/html; echo small >small; head -c 64M /dev/urandom >large; exec nginx -g 'daemon off;'",
            (
                {"kind": "get", "times": 2, "port": 80, "path": "/small"},
                {"kind": "download", "port": 80, "path": "/large", "pace": 1 << 20},
            ),
            options="--volume programs:/var/www/html",
            ready=PORT.format(80),
            judge=as_in_the_files,
            afterwards="cd /var/www/html; sha256sum <large | cut -d ' ' -f 1; cat small",
        ),
        Program(
            "php-fpm",
            # With a buffer for its JIT compiler, the first code in its memory is shared, into which CRIU cannot write.
            "php-fpm8.4 --daemonize -d opcache.jit_buffer_size=0 && exec nginx -g 'daemon off;'",
            ({"kind": "get", "port": 8080, "path": "/count.php", "cookie": "PHPSESSID=programs"},),
            options="--volume programs:/var/lib/php/sessions",
            ready=PORT.format(8080),
        ),
        Program(
            "memcached",
            "exec memcached --listen 0.0.0.0",
            ({"kind": "ask", "port": 11211, "question": "incr n 1"},),
            options="--user memcache",
            ready=f"{PORT.format(11211)}; printf 'add n 0 0 1\\r\\n0\\r\\n' >&3; head -n 1 <&3 | grep STORED",
        ),
        Program(
            "mosquitto",
            "exec mosquitto --config-file /etc/mosquitto/mosquitto.conf",
            ({"kind": "mqtt"},),
            options="--user mosquitto --volume programs:/var/lib/mosquitto",
            ready=PORT.format(1883),
            judge=all_published,
        ),
        Program("node", f"exec node {OWN}/numbers.js", **COUNTS),
        # Go from 1.24 on listens by MPTCP otherwise, which CRIU does not know.
        Program("go", f"GODEBUG=multipathtcp=0 exec {OWN}/numbers", **COUNTS),
        Program("python", f"exec python3 {OWN}/numbers.py", **COUNTS),
        Program(
            "jvm",
            f"exec java -Dsun.net.httpserver.nodelay=true {OWN}/Count.java",
            ({"kind": "get", "port": 8080, "path": "/count"},),
            options="--user nobody",
            ready=PORT.format(8080),
        ),
        Program(
            "shell",
            "exec socat TCP-LISTEN:7000,reuseaddr,fork "
            "'EXEC:env PS1= bash --norc --noediting -i,pty,setsid,ctty,stderr,echo=0'",
            ({"kind": "ask", "times": 2, "port": 7000, "question": "echo $((++n))"},),
            options="--user nobody",
            ready=PORT.format(7000),
        ),
    )
}
