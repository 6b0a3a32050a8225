#!/bin/sh
# Runs a command in an emulated machine that has this one's files, read-only, and a USB camera's driver without the camera.
# Arguments: a folder with Debian's kernel, a folder to work in, the command (a line of the shell).
set -e
kernel=$1 work=$2 command=$3
version=$(ls "$kernel/lib/modules")
modules=lib/modules/$version
mkdir -p "$work/bin" "$work/host" "$work/proc" "$work/sys" "$work/dev" "$work/$modules"
cp "$(command -v busybox)" "$work/bin/busybox"
test -s "$kernel/$modules/modules.dep" || busybox depmod -b "$kernel" "$version"
cp "$kernel/$modules/modules.dep" "$work/$modules/"
for module in virtio_pci 9pnet_virtio 9p vivid; do
    for file in $(sed -n "s|^\\([^:]*/$module\\.ko\\):|\\1|p" "$kernel/$modules/modules.dep"); do
        mkdir -p "$work/$modules/$(dirname "$file")"
        cp "$kernel/$modules/$file" "$work/$modules/$file"
    done
done
echo "$command" >"$work/command"
cat >"$work/init" <<'END'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in virtio_pci 9pnet_virtio 9p "vivid n_devs=1 node_types=0x1"; do
    $b modprobe $module
done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /host
for folder in proc sys dev; do
    $b mount --bind /$folder /host/$folder
done
$b chroot /host /bin/sh -c "$($b cat /command)"
$b poweroff -f
END
chmod +x "$work/init"
(cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work.initrd"
# Where there is a processor's help for it, it is not used: it does not work everywhere.
exec qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -m 1024 -smp 2 -nographic -no-reboot \
    -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work.initrd" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -append "console=ttyS0 quiet panic=-1"
