#!/bin/bash
# Checks `make test` and `make demo` on a bare Debian 12, as a user meets them after cloning.
#
#   sudo tests/fresh/check.sh [root|sudo]
#
# Makes a minbase system by debootstrap, copies the commit HEAD into it and runs the two commands there, as root (the
# default) or as a user who has sudo. Needs root, debootstrap and some 4 GB in $TMPDIR; packages come from where this
# machine's apt gets them. The system is removed at the end, whatever happens.
set -euo pipefail

who=${1:-root}
[[ $who == root || $who == sudo ]] || { echo "usage: $0 [root|sudo]" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "$0: chroot needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "$0: debootstrap is not installed" >&2; exit 2; }

say() { printf '\n== fresh: %s\n' "$*"; }

repository=$(cd "$(dirname "$0")/../.." && pwd)
release=bookworm
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
  awk -v release=$release '$2 ~ "^" release "(-updates|-security)?$"' | sort -u)
mirror=$(awk -v release=$release '$2 == release {print $1; exit}' <<<"$sources")
[[ -n $mirror ]] || { echo "$0: this machine's apt has no source of $release; run apt-get update" >&2; exit 1; }

system=$(mktemp -d "${TMPDIR:-/tmp}/elserve-fresh-XXXXXX")
chmod 755 "$system"  # it is the root directory of users, too
cleanup() {
  umount "$system/proc" 2>/dev/null || true
  mountpoint -q "$system/proc" || rm -rf --one-file-system "$system"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "a minbase $release in $system"
debootstrap --variant=minbase $release "$system" "$mirror" >"$system.log" 2>&1 || { tail -20 "$system.log"; exit 1; }
rm -f "$system.log"
mount -t proc proc "$system/proc"
cp /etc/resolv.conf "$system/etc/resolv.conf"
awk '{print "deb", $1, $2, "main"}' <<<"$sources" >"$system/etc/apt/sources.list"
apt-config dump Acquire::http::Proxy Acquire::https::Proxy >"$system/etc/apt/apt.conf.d/90proxy"

# What is there before `make`: make itself and, for those who are not root, sudo.
inside() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot "$system" "$@"; }
tools=(make)
[[ $who == sudo ]] && tools+=(sudo)
inside apt-get -qq update
inside env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${tools[@]}" >/dev/null

home=/root
if [[ $who == sudo ]]; then
  home=/home/user
  inside useradd --create-home user
  echo 'user ALL=(ALL) NOPASSWD: ALL' >"$system/etc/sudoers.d/user"
fi
mkdir "$system$home/elserve"
git -C "$repository" archive HEAD | tar -x -C "$system$home/elserve"
[[ $who == sudo ]] && inside chown -R user: "$home/elserve"

run() {
  say "make $1, as $who"
  local as=()
  [[ $who == sudo ]] && as=(runuser -u user --)
  inside env HOME=$home "${as[@]}" make -C "$home/elserve" "$1"
}
run test
run demo
say "make demo a second time"
run demo
say "passed"
