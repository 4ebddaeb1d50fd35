#!/bin/sh
# Becomes a host that systemd runs, as far as one user can tell: user $1 with number $2 and home $3, and its `systemd --user`.
#
# Started in new cgroup, mount, network and process namespaces and in a cgroup of its own; all of it ends with it. $4 is the
# directory of the Python that the user runs, which may stand in a home that is closed to others. A neighbour on the
# network (`ip netns exec neighbour`, 10.250.0.2) sees this host as 10.250.0.1. Must never touch the machine outside.
set -eu
user=$1 uid=$2 home=$3 python=$4
run=/run/user/$uid

mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/manager
echo $$ >/sys/fs/cgroup/manager/cgroup.procs
chown "$uid" /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/manager /sys/fs/cgroup/manager/cgroup.*

# What the system's own systemd would have made: sd_booted(3) looks for the first, sandboxes stand on the second.
mount -t tmpfs -o mode=755 tmpfs /run/systemd
mkdir /run/systemd/system /run/systemd/unit-root
mount -t tmpfs -o mode=755 tmpfs /run/user
install -d -m 700 -o "$uid" -g "$uid" "$run"

for file in passwd group; do
	cp "/etc/$file" "/run/user/$file"
	mount --bind "/run/user/$file" "/etc/$file"
done
echo "$user:x:$uid:$uid::$home:/bin/sh" >>/etc/passwd
echo "$user:x:$uid:" >>/etc/group

closed=
above=$python
while [ "$above" != / ]; do
	case $(stat -c %A "$above") in *x) ;; *) closed=$above ;; esac
	above=$(dirname "$above")
done
if [ -n "$closed" ]; then
	mkdir /run/user/python
	mount --bind "$python" /run/user/python
	mount -t tmpfs -o mode=755 tmpfs "$closed"
	mkdir -p "$python"
	mount --move /run/user/python "$python"
fi

ip link set lo up
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip netns add neighbour
ip link add lan0 type veth peer name lan1 netns neighbour
ip addr add 10.250.0.1/24 dev lan0
ip link set lan0 up
ip -n neighbour addr add 10.250.0.2/24 dev lan1
ip -n neighbour link set lan1 up

setpriv --reuid "$uid" --regid "$uid" --clear-groups env -i "HOME=$home" "USER=$user" PATH=/usr/bin:/bin \
	"XDG_RUNTIME_DIR=$run" "DBUS_SESSION_BUS_ADDRESS=unix:path=$run/bus" /lib/systemd/systemd --user &
wait $!
