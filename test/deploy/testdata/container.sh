#!/bin/bash
# Runs a program as the container of a pod with hostNetwork, in a test kernel that stands for the node:
#
#   container.sh ROOT CAPABILITIES PROGRAM [ARG...]
#
# Around the program there is what a container runtime puts there: a root of its own, read-only; /proc of its own process
# namespace, in which /proc/sys is read-only; and of root's rights no more than the capabilities, for ever. HOSTPATHS holds
# lines "FROM TO" to mount, FROM of the node and TO of the container.
set -e
root=$1 capabilities=$2
shift 2

mkdir -p "$root"
mount -t tmpfs container "$root"
for dir in etc usr; do
	mkdir "$root/$dir"
	mount --bind "/$dir" "$root/$dir"
done
cp --no-dereference /bin /sbin /lib /lib64 "$root" # links into /usr
mkdir "$root"/{dev,proc,sys,run,var}
ln -s /run "$root/var/run"
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
mount -o remount,ro "$root"
exec chroot "$root" setpriv --bounding-set="-all$capabilities" --inh-caps=-all --no-new-privs "$@"
