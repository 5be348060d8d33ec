#!/bin/busybox sh
# The first program of the test machine: loads drivers, puts the host's file system together with
# a writable layer over it, runs the command that lies in the control folder, and switches off.
/bin/busybox --install -s /bin
export PATH=/bin
die() { echo "guest: $*"; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r name; do insmod "/modules/$name.ko" || die "cannot load $name"; done < /modules/base

P9=trans=virtio,version=9p2000.L,msize=512000
N=/newroot
mount -t 9p -o "$P9,cache=loose,ro" root /lower || die "no root"
mount -t tmpfs -o size=75% tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay $N \
    || die "no writable root"
mkdir -p $N/proc $N/sys $N/dev $N/run $N/tmp
mount -t proc proc $N/proc
mount -t sysfs sys $N/sys
mount -t devtmpfs dev $N/dev
mount -t tracefs trace $N/sys/kernel/tracing
mount -t tmpfs tmpfs $N/run
mkdir -p $N/dev/shm $N/dev/pts $N/run/machine/control
mount -t tmpfs tmpfs $N/dev/shm
mount -t devpts devpts $N/dev/pts
ln -s /proc/self/fd $N/dev/fd
mv /modules $N/run/machine/modules
C=$N/run/machine/control
mount -t 9p -o "$P9,cache=none" control $C || die "no control folder"
while read -r tag path; do
    mkdir -p "$N$path"
    mount -t 9p -o "$P9,cache=none" "$tag" "$N$path" || die "cannot mount $path"
done < $C/shares
ip link set lo up
hostname machine
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = out ] && OUT=/dev/${port##*/}
done
# What the drivers stand on is loaded; the drivers themselves are the tests'.
while read -r name; do
    insmod "$N/run/machine/modules/$name.ko" || die "cannot load $name"
done < $N/run/machine/modules/needed

chroot $N /bin/sh /run/machine/control/command < /dev/null > "$OUT" 2>&1
RC=$?
sync
echo $RC > $C/exit_code
umount $C
poweroff -f
