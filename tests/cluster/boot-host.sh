#!/bin/sh
# Becomes a whole host: systemd as process 1 with a journal, on a copy-on-write view of this machine's own system, with sshd
# for root and nothing else started. boot-host.sh NAME SSH SCRATCH, as the first process of new namespaces of every kind.
#
# SSH holds sshd's configuration and keys. Must never change the machine below: what is written goes to SCRATCH, on a tmpfs.
set -eu
name=$1 ssh=$2 scratch=$3

mkdir -p "$scratch/upper" "$scratch/work" "$scratch/root"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
cd "$scratch/root"
cp -r "$ssh" etc/ssh/host
chmod 755 etc/ssh/host
# What this machine keeps there is not the new host's.
for own in dev home opt root run tmp var/lib var/log; do
	mount -t tmpfs -o mode=755 tmpfs "$own"
done
chmod 1777 tmp
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do
	touch "dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

hostname "$name"
echo "$name" >etc/hostname
: >etc/machine-id
chroot . usermod -p '*' root
rm -rf etc/systemd/system/*.wants
for unit in getty.target systemd-logind.service systemd-modules-load.service systemd-sysctl.service systemd-udevd.service; do
	ln -s -f /dev/null "etc/systemd/system/$unit"
done
printf '[Service]\nRuntimeDirectory=sshd\nExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/host/sshd_config\n' \
	>etc/systemd/system/host-ssh.service
mkdir etc/systemd/system/multi-user.target.wants
ln -s ../host-ssh.service etc/systemd/system/multi-user.target.wants/

pivot_root . mnt
umount -l /mnt
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
