#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Builds CRIU for a release and an architecture of Debian, in a root file system of its own, so that this host stays as it is.
# FOG_RELEASE, FOG_ARCHITECTURE: what it is built for. FOG_SOURCE: a tarball here, whose SHA-256 is FOG_CHECKSUM, or "suite:RELEASE" for
# Debian's source of that release. FOG_RESULT: the tarball to make, with the folder criu/ in it. FOG_IDENTITY is written into it. Where it is
# there already, nothing is done. Answers "fog:sha256:SHA256", that of the tarball, or "fog:error:WHY"; then, the whole log is in
# FOG_RESULT.log. Only root may be able to write where the two tarballs lie.
set -u
umask 022
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
log=$FOG_RESULT.log

give_up() { echo "fog:error:$1"; exit 1; }

# The last lines of the log that tell something, as a clause.
tail_of_log() {
    grep -Ei 'error|^E:|no space|not found|cannot|failed' "$log" | grep -Ev '^[IW]:|Exiting with failure' | tail -n 3 | sed 's/[[:space:]][[:space:]]*/ /g; s/[. ]*$//' |
        cut -c 1-300 | paste -sd ';' - | sed 's/;/; /g'
}

step() { "$@" >>"$log" 2>&1; }

inside() { chroot "$root" "$@"; }

# As uname and as the compilers name the architecture.
names() {
    case $FOG_ARCHITECTURE in
        amd64) arch=x86 sub=x86_64 triplet=x86_64-linux-gnu ;;
        arm64) arch=aarch64 sub=aarch64 triplet=aarch64-linux-gnu ;;
        armhf) arch=arm sub=armv7 triplet=arm-linux-gnueabihf ;;
        *) give_up "CRIU can be built for amd64, arm64 and armhf, not for $FOG_ARCHITECTURE" ;;
    esac
    here=$(dpkg --print-architecture)
    [ "$here" = "$FOG_ARCHITECTURE" ] && cross='' || cross=$triplet-
}

# The mirror that this host uses. A host that cross-builds takes Debian's, one that builds for itself its own.
find_mirror() {
    for origin in Debian Raspbian Ubuntu; do
        # shellcheck disable=SC2016  # apt's own variables
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Origin: $origin" "Label: $origin" 2>/dev/null | head -n 1)
        [ -z "$mirror" ] || break
    done
    [ -n "$mirror" ] || give_up "no mirror of Debian is known to apt here; run 'apt-get update' on the build host"
    [ "$origin" = Ubuntu ] && components=main,universe || components=main
    # The lists of Debian's archive have expired for good. Elsewhere one that has expired may be an old one that somebody sends again, so apt
    # refuses it, but where apt is told not to on this host.
    case $mirror in
        *//archive.debian.org/* | *//snapshot.debian.org/* | */debian-archive/*) check_expiry=false ;;
        *)
            check_expiry=true
            eval "$(apt-config shell check_expiry Acquire::Check-Valid-Until/b)" ;;
    esac
}

make_root() {
    libraries='libprotobuf-dev libprotobuf-c-dev libnl-3-dev libnet1-dev libcap-dev libbsd-dev libgnutls28-dev libnftables-dev uuid-dev'
    packages='gcc libc6-dev make pkg-config protobuf-compiler protobuf-c-compiler python3 xz-utils'
    architectures=$here
    if [ -n "$cross" ]; then
        packages="$packages gcc-$(echo "$triplet" | tr _ -) libc6-dev:$FOG_ARCHITECTURE"
        architectures=$here,$FOG_ARCHITECTURE
        for library in $libraries; do packages="$packages $library:$FOG_ARCHITECTURE"; done
    else
        packages="$packages $libraries"
    fi
    step mmdebstrap --mode=root --variant=apt --architectures="$architectures" --components="$components" \
        --include="$(echo "$packages" | tr ' ' ',')" --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$FOG_RELEASE" "$root" "$mirror" ||
        give_up "the packages that it is built with could not be unpacked ($(tail_of_log))"
}

# What is in it is run by root on other servers.
make_folder() {
    folder=$(dirname "$FOG_RESULT")
    # shellcheck disable=SC2174  # whoever may enter its parents
    said=$(mkdir -p -m 0700 "$folder" 2>&1) || give_up "$folder cannot be made ($said)"
    [ -n "$(find -H "$folder" -maxdepth 0 -type d -user "$(id -u)" ! -perm /022)" ] ||
        give_up "others than root can write to $folder; make it root's with mode 0700, or name another one as criu_build_cache"
}

tell() { echo "fog:sha256:$(sha256sum <"$FOG_RESULT" | cut -d ' ' -f 1)"; }

check_source() {
    case $FOG_SOURCE in suite:*) return ;; esac
    sum=$(sha256sum <"$FOG_SOURCE" | cut -d ' ' -f 1)
    [ "$sum" = "$FOG_CHECKSUM" ] || give_up "the source has the SHA-256 $sum there, not $FOG_CHECKSUM, as criu_source_checksum says"
    tar -tf "$FOG_SOURCE" 2>>"$log" | grep -q '^[^/]*/Makefile.versions$' || give_up "the source is no tarball of CRIU's ($(tail_of_log))"
}

# apt verifies what it downloads by the signature of the release. Debian's own changes to CRIU concern its packages only.
get_source() {
    case $FOG_SOURCE in
        suite:*)
            [ "$origin" != Ubuntu ] || give_up "apt has no mirror of Debian here, only one of Ubuntu; give criu_source_url or criu_source_archive"
            echo "deb-src $mirror ${FOG_SOURCE#suite:} main" >"$root/etc/apt/sources.list.d/source.list"
            step inside apt-get -qq update -o Acquire::Check-Valid-Until="$check_expiry" \
                -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/source.list -o Dir::Etc::sourceparts=- ||
                give_up "apt cannot use the sources of ${FOG_SOURCE#suite:} ($(tail_of_log))"
            step inside sh -c 'mkdir /build && cd /build && apt-get -qq source --download-only --tar-only criu' ||
                give_up "CRIU's source could not be downloaded from ${FOG_SOURCE#suite:} ($(tail_of_log))"
            step sh -c "mv '$root'/build/criu_*.orig.tar.* '$root/build/source.tar'" ;;
        *) if ! { step mkdir "$root/build" && step cp "$FOG_SOURCE" "$root/build/source.tar"; }; then give_up "the source could not be copied ($(tail_of_log))"; fi ;;
    esac
    step inside tar -C /build -xf /build/source.tar || give_up "CRIU's source cannot be unpacked ($(tail_of_log))"
    source=$(find "$root/build" -mindepth 2 -maxdepth 2 -name Makefile.versions -printf '%h\n')
    source=${source#"$root"}
}

# protoc finds its own files through /proc.
compile() {
    step mount -t proc proc "$root/proc" || give_up "/proc cannot be mounted in the root file system that it is built in ($(tail_of_log))"
    libraries_of=/usr/lib/$triplet/pkgconfig:/usr/share/pkgconfig
    step inside env PKG_CONFIG_LIBDIR="$libraries_of" make -C "$source" -j "$(nproc)" ARCH="$arch" SUBARCH="$sub" ${cross:+CROSS_COMPILE=$cross} criu ||
        give_up "the compiler did not finish ($(tail_of_log))"
}

# Names of the packages whose libraries it needs, for the architecture that it runs on.
needed_packages() {
    inside "${cross}objdump" -p "$source/criu/criu" | awk '$1 == "NEEDED" {print $2}' | while read -r library; do
        inside dpkg-query --search "*/$library" 2>/dev/null | sed -n "s/^\([a-z0-9.+-]*\):$FOG_ARCHITECTURE: .*/\1/p" | head -n 1
    done | grep -Ev '^(libc6|libgcc-s1)$' | sort -u
}

pack() {
    result=$root/result/criu
    if ! {
        step mkdir -p "$result/sbin" && step inside "${cross}strip" -o /result/criu/sbin/criu "$source/criu/criu" &&
            needed_packages >"$result/packages" && echo "$FOG_IDENTITY" >"$result/.fog-migration" &&
            step tar -C "$root/result" --owner=0 --group=0 --numeric-owner -czf "$FOG_RESULT.new" criu && step mv "$FOG_RESULT.new" "$FOG_RESULT"
    }; then give_up "the result could not be packed ($(tail_of_log))"; fi
    rm -f "$log"
}

# Mounts are this process' own and go with it.
[ "${1:-}" = private ] || exec unshare --mount --propagation private -- sh "$0" private
make_folder
[ ! -f "$FOG_RESULT" ] || { tell; exit 0; }
: >"$log" || give_up "$log cannot be written"
root=$(mktemp -d /var/tmp/fog-migration-criu.XXXXXX) || give_up 'there is no space in /var/tmp'
trap 'umount "$root/proc" 2>/dev/null; rm -rf --one-file-system "$root"' EXIT
trap 'exit 1' HUP INT TERM
free=$(df -Pk /var/tmp | awk 'END {print int($4 / 1024)}')
[ "$free" -ge "$FOG_FREE_WANTED" ] || give_up "/var/tmp has $free MiB free on the build host, and $FOG_FREE_WANTED are needed"
names
check_source
find_mirror
make_root
get_source
compile
pack
tell
