#!/bin/bash
# Runs a program as the container of a pod with hostNetwork, in a test kernel that stands for the node:
#
#   container.sh ROOT CAPABILITIES PROGRAM [ARG...]
#
# ROOT is the image's; mount points are made in it. Around the program there is what a container runtime puts there: /proc of its
# own process namespace, in which /proc/sys is read-only; a root that is read-only; and of root's rights no more than the
# capabilities, for ever. HOSTPATHS holds lines "FROM TO" to mount, FROM of the node and TO of the container.
set -e
root=$1 capabilities=$2
shift 2

mount --bind "$root" "$root"
# setpriv, which the image does not have, and what it loads
mkdir -p "$root/host/usr"
mount --bind /usr "$root/host/usr"
libraries=/host/usr/lib/x86_64-linux-gnu
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sys "$root/sys"
while read -r from to; do
	if [ -d "$from" ]; then
		mkdir -p "$root$to"
	else
		mkdir -p "$(dirname "$root$to")"
		touch "$root$to"
	fi
	mount --bind "$from" "$root$to"
done <<< "$HOSTPATHS"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" \
	/host/usr/bin/setpriv --bounding-set="-all$capabilities" --inh-caps=-all --no-new-privs "$@"
