# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key for one transfer, and the line that admits it."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import threading
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access
from ansible_collections.fog.migration.plugins.module_utils.transport.ssh_access import SshAccessError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN5aFSJix5saS1GqeYzgRNrI3ubAnOkDIidDgPM62pCa"
OTHERS = (
    b"# my keys\n\nssh-rsa AAAAB3Nza me@home\n"
    b'from="10.0.0.1",command="echo \\"fog-migration:no\\"" ssh-rsa AAAAB3Nza a comment\n'
    b"# fog-migration:ab12:1\n"
)
NEEDS_SSH = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs OpenSSH's client")


PROGRAM = "python3 -I /run/fog-migration/transfer-ab12-destination-2000000000/channel.py"


def line(transfer_id="ab12", expires=2000000000, version=(9, 2), command=PROGRAM):
    return ssh_access.authorized_line(KEY, command, transfer_id, expires, version)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19 27 Jan 2026", (9, 2)),
        ("OpenSSH_7.2p2 Ubuntu-4ubuntu2.10, OpenSSL 1.0.2g  1 Mar 2016", (7, 2)),
        ("OpenSSH_10.0p2 Debian-7+deb13u4, OpenSSL 3.5.7 9 Jun 2026", (10, 0)),
        ("Dropbear v2022.83", None),
    ],
)
def test_the_version_of_openssh(text, version):
    assert ssh_access.ssh_version(text) == version


def test_a_line_restricts_its_key_to_one_command_until_it_expires():
    comment = "fog-migration:ab12:2000000000"
    assert line() == f'restrict,expiry-time="20330518033320Z",command="{PROGRAM}" {KEY} {comment}\n'


@pytest.mark.parametrize("version", [(7, 7), (9, 0)])
def test_an_older_sshd_knows_only_its_own_time(version):
    until = time.strftime("%Y%m%d%H%M%S", time.localtime(2000000000))
    assert f'expiry-time="{until}"' in line(version=version)


def test_the_time_zone_of_this_process_changes_nothing(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert 'expiry-time="20330518033320Z"' in line(version=(9, 1))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("version", "expires", "restrict"),
    [
        ((7, 7), True, True),
        ((7, 6), False, True),
        ((7, 2), False, True),
        ((7, 1), False, False),
        (None, False, False),
    ],
)
def test_a_line_says_only_what_this_sshd_understands(version, expires, restrict):
    text = line(version=version)
    assert ("expiry-time" in text) is expires
    assert text.startswith("restrict" if restrict else ssh_access.LEGACY_RESTRICTIONS)
    assert f'command="{PROGRAM}"' in text


WORDS = ['with "quotes"', "with 'quotes'", "back\\slash", "a blank", "$(reboot)", ";reboot", "\u00e4"]


@pytest.mark.parametrize("word", WORDS)
def test_a_command_survives_the_quoting(word):
    """Undoes sshd's own quoting, then the shell's, as sshd and the shell do."""
    text = line(command=ssh_access.shell_line(["python3", word]))
    quoted = text.partition('command="')[2].partition('" ssh-ed25519')[0]
    assert shlex.split(re.sub(r"\\(.)", r"\1", quoted)) == ["python3", word]


@pytest.mark.parametrize("old", [b"", OTHERS, OTHERS + b"ssh-rsa AAAA no newline at the end"])
def test_a_line_comes_and_goes_and_the_others_stay(old):
    new = ssh_access.with_line(old, line().encode())
    assert new.startswith(old)
    assert new.count(b"fog-migration:ab12:2000000000") == 1
    assert ssh_access.without_transfer(new, "ab12") == (old if old.endswith(b"\n") or not old else old + b"\n")


def test_only_this_transfers_line_goes():
    both = ssh_access.with_line(ssh_access.with_line(OTHERS, line("ab12").encode()), line("cd34").encode())
    assert ssh_access.without_transfer(both, "ab12") == ssh_access.with_line(OTHERS, line("cd34").encode())
    assert ssh_access.without_transfer(both, "ab1") == both


def test_lines_that_have_expired_go_too():
    both = ssh_access.with_line(ssh_access.with_line(OTHERS, line("old", 1000).encode()), line("new", 3000).encode())
    assert ssh_access.without_transfer(both, None, now=2000) == ssh_access.with_line(OTHERS, line("new", 3000).encode())
    assert ssh_access.without_transfer(both, None) == both


# By the commands of this version and of earlier ones, as root and as somebody who is not.
OWN_COMMANDS = [
    PROGRAM,
    "sudo -n /usr/bin/python3 -I /run/fog-migration/transfer-ab12-destination-9/channel.py",
    ssh_access.forced_command(
        "pi", "root", ["python3", "-I", "/home/a b/.fog-migration/transfer-1-source-2/channel.py"]
    ),
    ssh_access.forced_command(
        "root", "root", ["python3", "-I", "-S", "/run/fog-migration/agent-1a/connect.py", "attach"]
    )
    + ' "$SSH_ORIGINAL_COMMAND"',
]


@pytest.mark.parametrize("version", [(9, 2), (8, 0), (7, 2), (6, 6)])
@pytest.mark.parametrize("command", OWN_COMMANDS)
def test_our_lines_are_known_by_their_command(command, version):
    new = ssh_access.with_line(OTHERS, line(command=command, version=version).encode())
    assert ssh_access.without_transfer(new, "ab12") == OTHERS


@pytest.mark.parametrize(
    "theirs",
    [
        f"{KEY} fog-migration:ab12:1",
        f"restrict {KEY} fog-migration:ab12:1",
        f'restrict,command="/usr/local/bin/backup" {KEY} fog-migration:ab12:1',
        f'from="10.0.0.1",command="{PROGRAM}" {KEY} fog-migration:ab12:1',
        f'restrict,command="it\'s" {KEY} fog-migration:ab12:1',
        line().strip() + " and me",
        "# " + line().strip(),
    ],
)
def test_a_line_that_a_user_has_written_stays_whatever_its_comment_says(theirs):
    content = f"{theirs}\n".encode()
    assert ssh_access.without_transfer(content, "ab12", now=3000000000) == content


def test_known_hosts_name_the_destination_by_an_alias():
    assert ssh_access.known_hosts([KEY + " root@fog2", KEY]) == f"fog-migration-destination {KEY}\n" * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ????",
        "ssh-rsa " + KEY.split()[1],
        "fog-migration-destination\n" + KEY,
        'restrict,command="x" ' + KEY,
    ],
)
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(SshAccessError, match="not a public key"):
        ssh_access.check_public_key(text)


SSHD = """port 22
pubkeyauthentication yes
authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
hostkey /etc/ssh/ssh_host_rsa_key
hostkey /etc/ssh/ssh_host_ed25519_key
"""


def test_what_sshd_says_of_itself():
    settings = ssh_access.sshd_settings(SSHD)
    assert ssh_access.host_key_files(settings) == ["/etc/ssh/ssh_host_rsa_key.pub", "/etc/ssh/ssh_host_ed25519_key.pub"]
    assert ssh_access.access_problem(settings, "/root") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", None),
        ("authorizedkeysfile %h/.ssh/authorized_keys", None),
        ("authorizedkeysfile /root/.ssh/authorized_keys", None),
        ("authorizedkeysfile /etc/ssh/keys/%u", "(AuthorizedKeysFile is /etc/ssh/keys/%u)"),
        ("authorizedkeysfile none", "does not read"),
        ("pubkeyauthentication no", "does not accept public keys"),
    ],
)
def test_why_access_cannot_be_given(text, problem):
    found = ssh_access.access_problem(ssh_access.sshd_settings(text), "/root")
    assert found is None if problem is None else problem in found


def test_ssh_is_told_to_trust_and_offer_nothing_else():
    command = ssh_access.ssh_command("/run/k", "/run/h", "pi", "fd00::1", 2222)
    assert command[:3] == ["ssh", "-F", "/dev/null"]
    assert command[-6:] == ["-p", "2222", "-l", "pi", "fd00::1", "transfer"]
    for option in (
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/run/h",
        "GlobalKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
    ):
        assert option in command


def test_traffic_is_what_ssh_says():
    said = [
        "debug1: channel 0: free\n",
        "Transferred: sent 35780, received 2608 bytes, in 0.1 seconds\n",
        "Bytes per second: sent 357800.1, received 26080.5\n",
        "debug1: Exit status 0\n",
    ]
    assert ssh_access.ssh_traffic(said) == (35780, 2608)
    assert ssh_access.ssh_traffic(said[:1]) is None


@pytest.mark.parametrize(
    ("said", "complaint", "hopeless"),
    [
        (
            ["OpenSSH_9.2p1\n", "debug1: x\n", "fog2: Permission denied (publickey).\n"],
            "fog2: Permission denied (publickey).",
            True,
        ),
        (["Host key verification failed.\r\n"], "Host key verification failed.", True),
        (
            ["sudo: a password is required\n", "Transferred: sent 1, received 1 bytes, in 0.1 seconds\n"],
            "sudo: a password is required",
            True,
        ),
        (
            ["ssh: connect to host fog2 port 22: Connection refused\n"],
            "ssh: connect to host fog2 port 22: Connection refused",
            False,
        ),
        (["debug1: x\n", 'Authenticated to fog2 ([10.0.0.2]:22) using "publickey".\n', '{"verdict": {}}\n'], "", False),
    ],
)
def test_complaints_are_told_from_the_diary(said, complaint, hopeless):
    assert ssh_access.ssh_complaint(said) == complaint
    assert ssh_access.is_hopeless(complaint) is hopeless


@pytest.mark.parametrize(
    ("login", "current", "words"),
    [
        ("root", "root", []),
        ("pi", "root", ["sudo", "-n"]),
        ("pi", "pi", []),
        ("pi", "fog", ["sudo", "-n", "-u", "fog"]),
    ],
)
def test_the_login_user_becomes_what_ansible_became(login, current, words):
    assert ssh_access.as_login_user(login, current) == words


@NEEDS_SSH
def test_a_key_is_made_and_its_private_half_stays_private(tmp_path):
    public = ssh_access.make_key(str(tmp_path))
    assert public.startswith("ssh-ed25519 ")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in (tmp_path / "key").read_bytes()
    with pytest.raises(SshAccessError, match="ssh-keygen failed"):
        ssh_access.make_key(str(tmp_path / "nowhere"))


# The file itself


@pytest.fixture
def ssh_folder(tmp_path):
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    return folder


def test_an_edit_keeps_owner_and_mode(tmp_path, ssh_folder):
    path = ssh_folder / "authorized_keys"
    path.write_bytes(OTHERS)
    path.chmod(0o640)
    before = path.stat()
    ssh_access._edit_as_self(str(tmp_path), lambda old: old + b"more\n")
    after = path.stat()
    assert path.read_bytes() == OTHERS + b"more\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # replaced in one step, never half written
    assert os.listdir(ssh_folder) == ["authorized_keys"]


def test_an_edit_that_changes_nothing_touches_nothing(tmp_path, ssh_folder):
    path = ssh_folder / "authorized_keys"
    path.write_bytes(OTHERS)
    before = path.stat()
    ssh_access._edit_as_self(str(tmp_path), lambda old: old)
    assert path.stat() == before or path.stat().st_ino == before.st_ino


def test_a_file_that_was_not_there_comes_and_goes(tmp_path):
    ssh_access._edit_as_self(str(tmp_path), lambda old: old)
    assert os.listdir(tmp_path) == []
    ssh_access._edit_as_self(str(tmp_path), lambda old: ssh_access.with_line(old, line().encode()))
    path = tmp_path / ".ssh" / "authorized_keys"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    ssh_access._edit_as_self(str(tmp_path), lambda old: ssh_access.without_transfer(old, "ab12"))
    assert not path.exists()


def test_a_link_is_kept_a_link(tmp_path, ssh_folder):
    (tmp_path / "managed").write_bytes(OTHERS)
    (ssh_folder / "authorized_keys").symlink_to(tmp_path / "managed")
    ssh_access._edit_as_self(str(tmp_path), lambda old: old + b"more\n")
    assert (ssh_folder / "authorized_keys").is_symlink()
    assert (tmp_path / "managed").read_bytes() == OTHERS + b"more\n"


def test_edits_side_by_side_do_not_lose_each_other(tmp_path, ssh_folder):
    def edit(number):
        ssh_access._edit_as_self(str(tmp_path), lambda old: ssh_access.with_line(old, line(f"t{number}").encode()))

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ssh_folder / "authorized_keys").read_bytes().count(b"fog-migration:t") == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become another user")
class TestAsAnotherUser:
    @pytest.fixture
    def home(self, monkeypatch):
        """A home directory of nobody's, in a place that nobody may enter."""
        account = pwd.getpwnam("nobody")
        home = f"/tmp/fog-migration-home-{os.getpid()}"
        os.mkdir(home, 0o700)
        os.chown(home, account.pw_uid, account.pw_gid)
        moved = pwd.struct_passwd((*account[:5], home, *account[6:]))
        monkeypatch.setattr(ssh_access.pwd, "getpwnam", lambda name: moved)
        yield home
        shutil.rmtree(home)

    def test_root_edits_as_the_user(self, home):
        ssh_access.edit_authorized_keys("nobody", lambda old: ssh_access.with_line(old, line().encode()))
        path = os.path.join(home, ".ssh", "authorized_keys")
        assert os.stat(path).st_uid == os.stat(home).st_uid
        assert os.geteuid() == 0

    def test_root_is_not_led_astray_by_a_link(self, home, tmp_path):
        """The user makes ~/.ssh a link to root's own: root must not write there on the user's behalf."""
        tmp_path.chmod(0o700)
        os.symlink(tmp_path, os.path.join(home, ".ssh"))
        with pytest.raises(SshAccessError):
            ssh_access.edit_authorized_keys("nobody", lambda old: ssh_access.with_line(old, line().encode()))
        assert os.listdir(tmp_path) == []

    def test_a_file_of_another_user_is_left_alone(self, home):
        folder = os.path.join(home, ".ssh")
        os.mkdir(folder, 0o755)
        with open(os.path.join(folder, "authorized_keys"), "wb") as stream:
            stream.write(OTHERS)
        with pytest.raises(SshAccessError, match="belongs to another user"):
            ssh_access.edit_authorized_keys("nobody", lambda old: old + b"more\n")
        with open(os.path.join(folder, "authorized_keys"), "rb") as stream:
            assert stream.read() == OTHERS


@NEEDS_SSH
def test_openssh_reads_the_line(tmp_path):
    """ssh-keygen reads authorized_keys as sshd does, options and all."""
    path = tmp_path / "authorized_keys"
    path.write_text(
        line(command=ssh_access.shell_line(["sudo", "-n", "python3", "-I", '/run/it\'s "here"/channel.py']))
    )
    read = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, check=False)
    assert "fog-migration:ab12:2000000000 (ED25519)" in read.stdout


@pytest.mark.parametrize(
    ("features", "first"),
    [
        (["aes", "avx", "fpu"], "aes128-gcm@openssh.com"),
        (["crc32", "evtstrm", "fp"], "chacha20-poly1305@openssh.com"),
        (["fpu", "vaes-like"], "chacha20-poly1305@openssh.com"),
    ],
)
def test_the_fastest_cipher_of_a_processor(features, first):
    wanted = ssh_access.ciphers(features).split(",")
    assert wanted[0] == first
    known = subprocess.run(["ssh", "-Q", "cipher"], capture_output=True, text=True, check=True).stdout.split()
    assert set(wanted) <= set(known)
