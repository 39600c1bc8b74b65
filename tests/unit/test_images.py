# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers of an image need not travel, and its archive without them, in both formats of C(docker save)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

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


def archive(path, config, layers, links, tags, **more) -> str:
    """An archive as Docker writes it, with a few bytes for each layer, and with further files."""
    manifest = json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()
    contents = {config: CONFIG, **{name: name.encode() * 99 for name in layers if name not in links}}
    with tarfile.open(path, "w") as tar:
        for name, content in {**contents, "manifest.json": manifest, **more}.items():
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


# ---------------------------------------------------------------------------------------------------------------------
# What comes from another server


DIGEST = "sha256:" + "d" * 64


def index_of(*listed) -> dict[str, bytes]:
    return {"index.json": json.dumps({"manifests": listed}).encode(), "oci-layout": b"{}"}


def descriptor(digest=DIGEST, **annotations):
    told = {"annotations": annotations} if annotations else {}
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7, **told}


def test_the_archive_of_an_image_store_of_containerds(tmp_path):
    """There, an image has the ID of its manifest."""
    read = images.Archive(archive(tmp_path / "whole", *FROM_25, None, **index_of(descriptor())))
    assert (read.id, read.manifest_id, read.tags) == (f"sha256:{ID}", DIGEST, [])
    assert not read.strangeness(DIGEST) and not read.strangeness(f"sha256:{ID}")
    assert read.strangeness(A) == f"it holds the image sha256:{ID}"


def test_the_id_is_that_of_the_content(tmp_path):
    """Whatever the file is called."""
    read = images.Archive(archive(tmp_path / "whole", f"{'a' * 64}.json", *BEFORE_25[1:], None))
    assert read.id == f"sha256:{ID}"


@pytest.mark.parametrize(
    ("tags", "annotations", "names"),
    [
        (["debian:12"], {}, "debian:12"),
        (None, {"io.containerd.image.name": "docker.io/library/debian:12"}, "docker.io/library/debian:12"),
        (None, {"org.opencontainers.image.ref.name": "12"}, "12"),
        (["a:1"], {"io.containerd.image.name": "b:1"}, "a:1, b:1"),
    ],
)
def test_names_in_the_archive(tmp_path, tags, annotations, names):
    """Whoever loads it would take them from the images that have them."""
    read = images.Archive(archive(tmp_path / "whole", *FROM_25, tags, **index_of(descriptor(**annotations))))
    assert read.strangeness(DIGEST) == f"it would give the image the names {names}"


def test_several_images(tmp_path):
    more = index_of(descriptor(), descriptor("sha256:" + "e" * 64))
    with pytest.raises(ValueError, match=r"not an archive of one image \(index.json lists 2\)"):
        images.Archive(archive(tmp_path / "index", *FROM_25, None, **more))
    two = json.dumps([{"Config": f"{ID}.json", "Layers": []}] * 2).encode()
    with pytest.raises(ValueError, match="not an archive of one image"):
        images.Archive(archive(tmp_path / "manifest", *BEFORE_25, None, **{"manifest.json": two}))
    # One by all its names.
    images.Archive(archive(tmp_path / "names", *FROM_25, None, **index_of(descriptor(), descriptor(a="b"))))


def made_anew(read: images.Archive, tmp_path) -> tuple[images.Archive, dict[str, bytes]]:
    """The archive with its image alone, and what is in its files."""
    target = tmp_path / "alone"
    target.write_bytes(b"".join(read.alone()))
    with tarfile.open(target) as tar:
        members = tar.getmembers()
        assert all(member.isreg() for member in members)
        assert len({member.name for member in members}) == len(members)
        return images.Archive(str(target)), {one.name: tar.extractfile(one).read() for one in members}


@pytest.mark.parametrize("form", [BEFORE_25, FROM_25])
@pytest.mark.parametrize("there", [[], [A, chain(A, B)]])
def test_an_archive_with_the_image_alone(tmp_path, form, there):
    whole = images.Archive(archive(tmp_path / "whole", *form, ["a:b"], repositories=b"{}"))
    short = str(tmp_path / "short")
    images.copy_without(whole.path, short, whole.to_leave_out(there))
    alone, contents = made_anew(images.Archive(short), tmp_path)
    assert (alone.id, alone.tags, alone.diff_ids) == (whole.id, [], whole.diff_ids)
    # The file of the first layer is that of the third one as well.
    assert alone.files[0] == alone.files[2] == form[1][0]
    expected = {form[0], *form[1]} - set(form[2]) - whole.to_leave_out(there)
    assert set(contents) == {*expected, "manifest.json"}
    assert contents[form[1][0]] == form[1][0].encode() * 99 and contents[form[0]] == CONFIG
    assert json.loads(contents["manifest.json"])[0]["RepoTags"] is None


def test_an_index_made_anew(tmp_path):
    manifest = f"blobs/sha256/{'d' * 64}"
    told = descriptor(**{"io.containerd.image.name": "debian:12"})
    read = images.Archive(archive(tmp_path / "whole", *FROM_25, None, **index_of(told), **{manifest: b"{}", "x": b"x"}))
    alone, contents = made_anew(read, tmp_path)
    assert (alone.manifest_id, alone.tags) == (DIGEST, [])
    assert json.loads(contents["index.json"])["manifests"] == [descriptor()]
    assert contents[manifest] == b"{}" and "oci-layout" in contents and "x" not in contents


HOSTILE = json.dumps([{"Config": f"{ID}.json", "RepoTags": ["debian:12"], "Layers": BEFORE_25[1]}]).encode()


@pytest.mark.parametrize("name", ["./manifest.json", "here/manifest.json", "x/../manifest.json"])
def test_what_another_program_would_read_differently_is_not_handed_on(tmp_path, name):
    """Docker unpacks the archive: a file by another spelling, or through a link, is the list of images in the end."""
    path = archive(tmp_path / "whole", *BEFORE_25[:2], {**BEFORE_25[2], "here": "."}, None, **{name: HOSTILE})
    alone, contents = made_anew(images.Archive(path), tmp_path)
    assert b"debian" not in b"".join(contents.values())
    assert {"manifest.json"} == {one for one in contents if one.endswith("manifest.json")}
    assert alone.tags == []


def sparse_member(name: str, size: int) -> bytes:
    """A header of GNU tar's old form for sparse files, with all of it a hole."""
    known = tarfile.TarInfo(name)
    known.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(known.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (size, 0)
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_a_file_with_holes(tmp_path):
    """It is small on its way, and as large as it says when it is written out."""
    path = Path(archive(tmp_path / "whole", *FROM_25, None))
    path.write_bytes(sparse_member("blobs/sha256/" + "e" * 64, 1 << 32) + path.read_bytes())
    with tarfile.open(path) as tar:
        assert tar.getmembers()[0].size == 1 << 32
    with pytest.raises(ValueError, match=r"blobs/sha256/e+' in it is a sparse file"):
        images.Archive(str(path))


@pytest.mark.parametrize("name", ["manifest.json", f"{ID}.json", "index.json"])
def test_lists_are_bounded(tmp_path, name):
    more = {name: b" " * (images._LONGEST + 1)}
    with pytest.raises(ValueError, match=f"{name} in it has more than"):
        images.Archive(archive(tmp_path / "whole", *BEFORE_25, None, **more))


@pytest.mark.parametrize("name", ["/etc/passwd", "../layer.tar", "a/../../b"])
def test_names_that_lead_out(tmp_path, name):
    path = archive(tmp_path / "whole", f"{ID}.json", [name], {}, None)
    with pytest.raises(ValueError, match="is not a file in it"):
        list(images.Archive(path).alone())
