# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers of an image need not travel, and its archive without them, in both formats of C(docker save)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import images

A, B, C = (f"sha256:{hashlib.sha256(letter.encode()).hexdigest()}" for letter in "abc")


def chain(*diff_ids: str) -> str:
    return images.chain_ids(list(diff_ids))[-1]


def test_chain_ids():
    # As the OCI image specification defines them.
    second = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {C}".encode()).hexdigest()
    assert images.chain_ids([A, B, C]) == [A, second, third]
    assert images.chain_ids([]) == []


@pytest.mark.parametrize(
    ("there", "count"),
    [
        ([], 0),
        ([A], 1),
        ([A, chain(A, B)], 2),
        # The same layer over another one is another one.
        ([B, chain(B, A)], 0),
        ([A, chain(A, B), chain(A, B, C)], 3),
    ],
)
def test_layers_there(there, count):
    assert images.layers_there([A, B, C], there) == count


@pytest.mark.parametrize(
    ("files", "links", "count", "left_out"),
    [
        (["a", "b", "c"], {}, 0, set()),
        (["a", "b", "c"], {}, 2, {"a", "b"}),
        # Further up, the same layer is wanted again: by its name, as from Docker 25 on, or through a link.
        (["a", "b", "a"], {}, 2, {"b"}),
        (["1/layer.tar", "2/layer.tar", "3/layer.tar"], {"3/layer.tar": "../1/layer.tar"}, 2, {"2/layer.tar"}),
        (["1/layer.tar", "2/layer.tar"], {"2/layer.tar": "../1/layer.tar"}, 2, {"1/layer.tar", "2/layer.tar"}),
        # A link to itself leads nowhere, and to no endless loop either.
        (["a", "b"], {"b": "b"}, 1, {"a"}),
    ],
)
def test_files_to_leave_out(files, links, count, left_out):
    assert images.files_to_leave_out(files, links, count) == left_out


CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": [A, B, A]}}).encode()
ID = hashlib.sha256(CONFIG).hexdigest()


def archive(path, config, layers, links, tags) -> str:
    """An archive as Docker writes it, with a few bytes for each layer."""
    manifest = json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()
    contents = {config: CONFIG, **{name: name.encode() * 99 for name in layers if name not in links}}
    with tarfile.open(path, "w") as tar:
        for name, content in {**contents, "manifest.json": manifest}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return str(path)


BEFORE_25 = (f"{ID}.json", ["1/layer.tar", "2/layer.tar", "3/layer.tar"], {"3/layer.tar": "../1/layer.tar"})
FROM_25 = (f"blobs/sha256/{ID}", [f"blobs/sha256/{one[7:]}" for one in (A, B, A)], {})


@pytest.mark.parametrize("form", [BEFORE_25, FROM_25])
@pytest.mark.parametrize("tags", [None, ["looper:1.0", "a:b"]])
def test_an_archive_without_some_layers(tmp_path, form, tags):
    whole, target = archive(tmp_path / "whole", *form, tags), str(tmp_path / "target")
    read = images.Archive(whole)
    assert (read.id, read.tags, read.diff_ids) == (f"sha256:{ID}", sorted(tags or []), [A, B, A])
    assert read.serves([]) and not read.serves([A, chain(A, B)])

    left_out = read.to_leave_out([A, chain(A, B)])
    assert left_out == {form[1][1]}
    images.copy_without(whole, target, left_out)
    short = images.Archive(target)
    assert (short.id, short.tags, short.files) == (read.id, read.tags, read.files)
    assert short.names == read.names - left_out
    assert short.serves([A, chain(A, B)]) and not short.serves([])
    with tarfile.open(target) as tar:
        assert tar.extractfile(form[1][2]).read() == form[1][0].encode() * 99
        assert tar.extractfile(form[0]).read() == CONFIG


def test_all_layers_there(tmp_path):
    read = images.Archive(archive(tmp_path / "whole", *FROM_25, None))
    assert read.to_leave_out(images.chain_ids([A, B, A])) == set(FROM_25[1])


def test_no_archive(tmp_path):
    (tmp_path / "text").write_text("text")
    with tarfile.open(tmp_path / "empty", "w"):
        pass
    for name in ("text", "empty"):
        with pytest.raises(ValueError, match="it is not an archive of one image"):
            images.Archive(str(tmp_path / name))
