#!/bin/sh
# Make a Raspberry Pi (Raspberry Pi OS or Debian trixie) or an Ubuntu 24.04 machine ready for tradecore. As root:
#
#     deploy/setup_pi.sh --dry-run --allow 192.168.1.0/24      # says what it would change, and changes nothing
#     deploy/setup_pi.sh --allow 192.168.1.0/24
#
# Every step says why it is there and changes only what differs: run it again at any time. What is left out by default:
#   --allow CIDR           who may come in by SSH; may be given more than once. Without it the firewall is not touched
#   --data-device DEVICE   an SSD's partition for /srv/tradecore; it is formatted only if it is empty
#   --encrypt              with --data-device: LUKS, with a key file on the system's disk (it starts by itself)
#   --address CIDR --gateway IP --dns IP [--interface NAME]   a static address (NetworkManager; interface: eth0)
#   --second-route NAME    an interface (wlan0, wwan0) that takes over when the first has no network
#   --wireguard FILE       a wg-quick configuration, started at boot
#   --swap zram|none       compressed memory in the place of a swap file (default: zram)
#   --docker               Docker with Compose instead of PostgreSQL and units
set -eu

dry=no allow='' device='' encrypt=no address='' gateway='' dns='' interface=eth0 second='' wireguard='' swap=zram docker=no
usage() { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes ;;
        --encrypt) encrypt=yes ;;
        --docker) docker=yes ;;
        --allow | --data-device | --address | --gateway | --dns | --interface | --second-route | --wireguard | --swap)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
            case $1 in
                --allow) allow="$allow $2" ;;
                --data-device) device=$2 ;;
                --address) address=$2 ;;
                --gateway) gateway=$2 ;;
                --dns) dns=$2 ;;
                --interface) interface=$2 ;;
                --second-route) second=$2 ;;
                --wireguard) wireguard=$2 ;;
                --swap) swap=$2 ;;
            esac
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) echo "error: unknown option $1 (--help lists them)" >&2; exit 2 ;;
    esac
    shift
done
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
DATA=/srv/tradecore HOME_DIR=/opt/tradecore USER_NAME=tradecore PG=17 CLUSTER=tradecore
changes=0 todo=''

step() { printf '\n== %s\n   %s\n' "$1" "$2"; }
note() { echo "   $*"; }
later() { todo="$todo
  - $*"; echo "   OPEN: $*"; }
fail() { echo "error: $*" >&2; exit 1; }
booted() { [ -d /run/systemd/system ]; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]; }
# What a device holds: a file system, a partition table (blkid has no TYPE for a disk of partitions), several (exit code 8).
holds() { blkid -p -o value -s TYPE -s PTTYPE "$1" 2>/dev/null || [ $? = 2 ] || echo 'what blkid cannot tell'; }
can_login_by_key() {
    getent passwd | awk -F: '$7 !~ /(nologin|false)$/ { print $6 }' |
        while IFS= read -r home; do if [ -s "$home/.ssh/authorized_keys" ]; then echo yes; fi; done | grep -q yes
}

# Run a command that changes something; --dry-run shows it.
run() {
    changes=$((changes + 1))
    if [ "$dry" = yes ]; then echo "   would run: $*"; else echo "   $*"; "$@"; fi
}

# Write standard input to a file with a mode, unless it holds that already. Returns 0 if it was (or would be) changed.
put() {
    wanted=$(cat; echo x)
    wanted=${wanted%x}
    if [ -f "$1" ] && [ "$(cat "$1"; echo x)" = "${wanted}x" ]; then note "$1 is as it should be"; return 1; fi
    changes=$((changes + 1))
    if [ "$dry" = yes ]; then echo "   would write $1"; return 0; fi
    mkdir -p "$(dirname "$1")"
    (umask 077; printf '%s' "$wanted" >"$1.new")
    chmod "$2" "$1.new"
    mv "$1.new" "$1"
    echo "   wrote $1"
}

# What needs a running systemd waits for the next boot where there is none (an image that is being built).
live() { if booted; then run "$@"; else note "at the next boot: $*"; fi; }
at_boot() { [ "$(systemctl is-enabled "$1" 2>/dev/null)" = enabled ] || run systemctl enable "$1"; }

look_at_the_machine() {
    [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
    # shellcheck source=/dev/null
    . /etc/os-release
    case "${ID:-} ${VERSION_CODENAME:-}" in
        'debian trixie' | 'raspbian trixie') plain=no ;;
        'ubuntu noble') plain=yes PG=16 ;;
        *) fail "for Raspberry Pi OS or Debian trixie, or Ubuntu 24.04; this is ${PRETTY_NAME:-unknown}" ;;
    esac
    case $(dpkg --print-architecture) in
        arm64 | amd64) ;;
        *) fail "a 64-bit system is needed; this one's packages are $(dpkg --print-architecture)" ;;
    esac
    memory_mb=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
    [ "$memory_mb" -ge 3400 ] || fail "$memory_mb MB of memory; 4 GB are needed"
    if [ "$memory_mb" -ge 7000 ]; then profile=8gb; else profile=4gb; fi
    # shellcheck source=/dev/null
    . "$here/memory/$profile.env"
    step machine "$PRETTY_NAME, $(dpkg --print-architecture), $memory_mb MB: limits of deploy/memory/$profile.env"
    if [ "$plain" = yes ]; then
        note "Ubuntu 24.04 has neither PostgreSQL 17 nor TimescaleDB: plain PostgreSQL 16. Everything works; coarser bars"
        note "are ordinary tables and nothing is a hypertable."
    fi
}

packages() {
    step packages 'from the distribution alone, so that its security updates reach all of them'
    wanted_packages='python3 python3-venv make git curl ca-certificates ufw openssh-server unattended-upgrades'
    wanted_packages="$wanted_packages systemd-timesyncd"
    if [ "$docker" = yes ]; then
        wanted_packages="$wanted_packages docker.io docker-compose"
    else
        # Else the package makes a cluster on the SD card at once.
        put /etc/postgresql-common/createcluster.conf 644 <<EOF || :
# By deploy/setup_pi.sh: the only cluster is $CLUSTER, below $DATA.
create_main_cluster = false
start_conf = 'auto'
add_include_dir = 'conf.d'
log_line_prefix = '%%m [%%p] %%q%%u@%%d '
EOF
        wanted_packages="$wanted_packages postgresql-$PG"
        [ "$plain" = yes ] || wanted_packages="$wanted_packages postgresql-$PG-timescaledb"
    fi
    [ "$swap" != zram ] || wanted_packages="$wanted_packages systemd-zram-generator"
    [ -z "$wireguard" ] || wanted_packages="$wanted_packages wireguard-tools"
    [ "$encrypt" = no ] || wanted_packages="$wanted_packages cryptsetup"
    [ -z "$address$second" ] || wanted_packages="$wanted_packages network-manager"
    missing=''
    for name in $wanted_packages; do installed "$name" || missing="$missing $name"; done
    if [ -z "$missing" ]; then note 'all are installed'; return; fi
    run apt-get update -q
    # shellcheck disable=SC2086 # several words on purpose
    run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold $missing
}

user() {
    step user "$USER_NAME runs everything, cannot log in and is in no group that may do more"
    id "$USER_NAME" >/dev/null 2>&1 ||
        run useradd --system --user-group --home-dir "$HOME_DIR" --shell /usr/sbin/nologin "$USER_NAME"
}

data_volume() {
    step 'data directory' "$DATA on an SSD if there is one: an SD card wears out, and is slow to write"
    if [ -n "$device" ]; then
        [ -b "$device" ] || fail "$device is no block device (lsblk lists them)"
        if [ "$encrypt" = yes ]; then
            key=/etc/tradecore/data.key
            [ -f "$key" ] || run sh -c "umask 077 && mkdir -p /etc/tradecore && head -c 64 /dev/urandom >$key"
            if ! cryptsetup isLuks "$device" 2>/dev/null; then
                [ -z "$(holds "$device")" ] ||
                    fail "$device is not empty. Empty it yourself if you mean it: wipefs -a $device"
                run cryptsetup luksFormat --batch-mode --type luks2 --pbkdf-memory 262144 "$device" "$key"
            fi
            [ -b /dev/mapper/tradecore ] || run cryptsetup open --key-file "$key" "$device" tradecore
            grep -qs '^tradecore ' /etc/crypttab || run sh -c \
                "echo tradecore UUID=\$(cryptsetup luksUUID $device) $key luks,discard,nofail >>/etc/crypttab"
            note "the key is on the system's disk: it protects a disk that is sold or stolen alone, not the whole machine"
            device=/dev/mapper/tradecore
        fi
        kind=$(holds "$device")
        case $kind in
            '') run mkfs.ext4 -q -L tradecore "$device" ;;
            ext4) ;;
            *) fail "$device holds $kind. Empty it yourself if you mean it: wipefs -a $device" ;;
        esac
        if ! grep -qs " $DATA ext4 " /etc/fstab; then
            run sh -c "echo UUID=\$(blkid -o value -s UUID $device) $DATA ext4 noatime,commit=30,nofail 0 2 >>/etc/fstab"
        fi
        [ -d "$DATA" ] || run mkdir -p "$DATA"
        if ! mountpoint -q "$DATA"; then
            [ -z "$(ls -A "$DATA" 2>/dev/null)" ] ||
                fail "$DATA is not empty, and $device would hide it. Move what is in it away first, then onto the new disk"
            run mount "$DATA"
        fi
    else
        note 'no --data-device: it stays on the disk of the system'
    fi
    for folder in "$DATA" "$DATA/local" "$DATA/backups" "$HOME_DIR" "$HOME_DIR/releases" "$HOME_DIR/shared"; do
        [ -d "$folder" ] || run install -d -m 750 -o "$USER_NAME" -g "$USER_NAME" "$folder"
    done
    # postgres passes through to its own folder below.
    [ "$(stat -c %a "$DATA" 2>/dev/null || echo 751)" = 751 ] || run chmod 751 "$DATA"
}

database() {
    step database "PostgreSQL $PG, cluster $CLUSTER below $DATA, on 127.0.0.1 and a socket alone, settings for $profile"
    if ! [ -d "/etc/postgresql/$PG/$CLUSTER" ]; then
        run install -d -m 700 -o postgres -g postgres "$DATA/postgresql"
        run pg_createcluster "$PG" "$CLUSTER" -d "$DATA/postgresql/$PG" -p 5432 -- \
            --auth-local=peer --auth-host=scram-sha-256 --data-checksums --encoding=UTF8 --locale=C.UTF-8
    fi
    if put "/etc/postgresql/$PG/$CLUSTER/conf.d/tradecore.conf" 644 <<EOF
# By deploy/setup_pi.sh, for a machine of $profile.
listen_addresses = '127.0.0.1'
max_connections = 60
shared_buffers = $DB_SHARED_BUFFERS
effective_cache_size = $DB_CACHE
work_mem = 8MB
maintenance_work_mem = 64MB
# Few writes: a checkpoint every quarter of an hour instead of every five minutes, spread, and compressed pages in the log.
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
max_wal_size = 1GB
wal_compression = on
wal_level = minimal
max_wal_senders = 0
# What was committed is on the disk: never off for a ledger.
synchronous_commit = on
full_page_writes = on
max_parallel_workers_per_gather = 0
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
password_encryption = 'scram-sha-256'
$([ "$plain" = yes ] || printf "shared_preload_libraries = 'timescaledb'\ntimescaledb.telemetry_level = off\n\
timescaledb.max_background_workers = 4\nmax_worker_processes = 12\n")
EOF
    then restart=yes; else restart=no; fi
    put "/etc/systemd/system/postgresql@$PG-$CLUSTER.service.d/tradecore.conf" 644 <<EOF || :
[Unit]
RequiresMountsFor=$DATA
[Service]
MemoryMax=$DB_MEMORY
Restart=on-failure
RestartSec=10
EOF
    if booted; then
        at_boot "postgresql@$PG-$CLUSTER"
        [ "$restart" = no ] || { run systemctl daemon-reload; run systemctl restart "postgresql@$PG-$CLUSTER"; }
    elif [ "$dry" = no ] && ! pg_ctlcluster "$PG" "$CLUSTER" status >/dev/null 2>&1; then
        pg_ctlcluster --skip-systemctl-redirect "$PG" "$CLUSTER" start # so that the role can be made; no change
        started=yes
    fi
    role_and_password
    [ "${started:-no}" = no ] || pg_ctlcluster --skip-systemctl-redirect "$PG" "$CLUSTER" stop
}

sql() { (cd / && setpriv --reuid=postgres --regid=postgres --init-groups psql -XAtq -p 5432 -v ON_ERROR_STOP=1 "$@"); }

role_and_password() {
    env_file=$HOME_DIR/shared/.env
    if [ "$dry" = yes ]; then
        [ -f "$env_file" ] || echo "   would write $env_file with a generated password, and make role and database"
        return
    fi
    if ! [ -f "$env_file" ]; then
        password=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
        put "$env_file" 600 <<EOF || :
# Made by deploy/setup_pi.sh. More keys: .env.example. After a change: systemctl restart tradecore.target
DB_HOST=127.0.0.1
DB_PORT=5432
DB_NAME=tradecore
DB_USER=$USER_NAME
DB_PASSWORD=$password
EOF
        run chown "$USER_NAME:$USER_NAME" "$env_file"
    fi
    password=$(sed -n 's/^DB_PASSWORD=//p' "$env_file")
    if [ -z "$(sql -c "SELECT 1 FROM pg_roles WHERE rolname = '$USER_NAME'" postgres)" ]; then
        changes=$((changes + 1))
        echo "   making the role $USER_NAME"
        echo "CREATE ROLE $USER_NAME LOGIN CREATEDB PASSWORD '$password'" | sql postgres
    fi
    if [ -z "$(sql -c "SELECT 1 FROM pg_database WHERE datname = 'tradecore'" postgres)" ]; then
        run sql -c "CREATE DATABASE tradecore OWNER $USER_NAME" postgres
    fi
    if [ "$plain" = no ] && [ -z "$(sql -c "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'" tradecore)" ]; then
        run sql -c 'CREATE EXTENSION timescaledb SCHEMA public' tradecore
    fi
}

memory() {
    step memory 'a full memory must not stop the machine: compressed memory before anything is ended; no swap on the SD card'
    [ "$swap" = zram ] || { note "--swap $swap: left as it is"; return; }
    put /etc/systemd/zram-generator.conf 644 <<EOF || :
[zram0]
zram-size = min(ram / 2, 2048)
compression-algorithm = zstd
EOF
    put /etc/sysctl.d/60-tradecore.conf 644 <<EOF || :
vm.swappiness = 100
vm.page-cluster = 0
# Written data are gathered for longer before they go to the disk; what is committed is there at once all the same.
vm.dirty_writeback_centisecs = 1500
vm.dirty_expire_centisecs = 6000
EOF
    off dphys-swapfile
}

journal() {
    step journal 'logs have a size, and reach the SD card every five minutes'
    put /etc/systemd/journald.conf.d/60-tradecore.conf 644 <<EOF || :
[Journal]
Storage=persistent
SystemMaxUse=200M
SystemMaxFileSize=20M
RuntimeMaxUse=32M
MaxRetentionSec=2month
SyncIntervalSec=5m
EOF
}

# Switch a service off that is there.
off() {
    case $(systemctl is-enabled "$1" 2>/dev/null || :) in
        enabled) run systemctl disable "$1"; live systemctl stop "$1" ;;
    esac
}

services() {
    step services 'what this machine does not need listens to nothing and takes no memory'
    for name in bluetooth hciuart avahi-daemon cups cups-browsed triggerhappy rpcbind nfs-server; do off "$name.service"; done
    [ -n "$second" ] || off ModemManager.service
}

default_password() {
    step 'default password' 'known user names with known passwords are tried within minutes of going online'
    for name in pi ubuntu debian; do
        hash=$(getent shadow "$name" | cut -d: -f2)
        case $hash in '' | '!'* | '*'*) continue ;; esac
        for word in raspberry pi ubuntu debian; do
            [ "$(HASH=$hash perl -e 'print crypt($ARGV[0], $ENV{HASH}) // ""' "$word")" = "$hash" ] || continue
            if find "/home/$name/.ssh/authorized_keys" -size +0 2>/dev/null | grep -q .; then
                run usermod --lock "$name"
                note "$name logs in by key; sudo passwd $name sets a new password"
            else
                later "user $name has its default password: passwd $name"
            fi
        done
    done
}

ssh_keys_only() {
    step ssh 'keys only: a password can be guessed'
    if ! can_login_by_key; then
        later 'no authorized_keys anywhere: passwords stay allowed, or nobody could come in. ssh-copy-id, then run this again'
        return
    fi
    if put /etc/ssh/sshd_config.d/10-tradecore.conf 644 <<EOF
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
X11Forwarding no
MaxAuthTries 4
EOF
    then live systemctl reload-or-restart ssh; fi
}

firewall() {
    step firewall 'nothing comes in but SSH from your own network; the pages are reached through it (ssh -L 8080:127.0.0.1:8080)'
    if [ -z "$allow" ]; then later 'no --allow CIDR: the firewall is not touched'; return; fi
    for cidr in $allow; do
        grep -qs "### tuple ### allow tcp 22 0.0.0.0/0 any $cidr in" /etc/ufw/user.rules ||
            run ufw allow from "$cidr" to any port 22 proto tcp
    done
    if [ -n "$wireguard" ]; then
        port=$(sed -n 's/^ListenPort *= *//p' "$wireguard")
        [ -z "$port" ] || grep -qs "### tuple ### allow udp $port " /etc/ufw/user.rules || run ufw allow "$port/udp"
    fi
    grep -qs '^DEFAULT_INPUT_POLICY="DROP"' /etc/default/ufw || run ufw default deny incoming
    # Written, not `ufw enable`, where no system runs yet.
    grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf ||
        if booted; then run ufw --force enable; else run sed -i 's/^ENABLED=.*/ENABLED=yes/' /etc/ufw/ufw.conf; fi
    at_boot ufw
}

network() {
    step network 'an address that stays, and a second way out if you have one'
    if [ -n "$address" ]; then
        [ -n "$gateway" ] || fail '--address wants --gateway too'
        if put /etc/NetworkManager/system-connections/tradecore-lan.nmconnection 600 <<EOF
[connection]
id=tradecore-lan
type=ethernet
interface-name=$interface
autoconnect-priority=100

[ipv4]
method=manual
address1=$address,$gateway
dns=${dns:-$gateway};
route-metric=100
EOF
        then live nmcli connection reload; later "the address $address counts from the next boot, or: nmcli connection up tradecore-lan"; fi
    else
        note 'no --address: left to DHCP; a fixed lease in the router does as well'
    fi
    if [ -n "$second" ]; then
        case $second in
            wwan* | cdc* | tty*) later "mobile: nmcli connection add type gsm ifname $second apn APN ipv4.route-metric 800" ;;
            wl*) later "radio: nmcli device wifi connect SSID ifname $second --ask; nmcli connection modify SSID ipv4.route-metric 800" ;;
            *) if put "/etc/NetworkManager/system-connections/tradecore-second.nmconnection" 600 <<EOF
[connection]
id=tradecore-second
type=ethernet
interface-name=$second
autoconnect=true

[ipv4]
method=auto
route-metric=800
EOF
                then live nmcli connection reload; fi ;;
        esac
        put /etc/NetworkManager/conf.d/60-tradecore.conf 644 <<EOF || :
# A line that is up and leads nowhere loses its route to the second one.
[connectivity]
enabled=true
interval=60
EOF
    fi
    if [ -n "$wireguard" ]; then
        put /etc/wireguard/wg0.conf 600 <"$wireguard" || :
        at_boot wg-quick@wg0
    fi
}

updates() {
    step updates 'security updates by themselves; a reboot is yours to choose (python -m tradecore doctor tells of one that waits)'
    put /etc/apt/apt.conf.d/60-tradecore 644 <<EOF || :
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
APT::Periodic::AutocleanInterval "7";
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Remove-Unused-Dependencies "true";
EOF
    put /etc/systemd/system/apt-daily-upgrade.timer.d/tradecore.conf 644 <<EOF || :
# In the morning hours of UTC, when no session ends and no order is sent.
[Timer]
OnCalendar=
OnCalendar=*-*-* 07:00 UTC
RandomizedDelaySec=20m
EOF
}

clock() {
    step clock 'orders have a window, and tokens a lifetime: the clock has to be right; a Pi forgets it without power'
    at_boot systemd-timesyncd
    [ "$(readlink /etc/localtime 2>/dev/null)" = /usr/share/zoneinfo/Etc/UTC ] ||
        run ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime
    # `time-sync.target`, which tradecore-prepare waits for, means a clock that was really set.
    at_boot systemd-time-wait-sync
}

docker_host() {
    step docker 'memory limits of containers want the memory controller, which Raspberry Pi OS leaves off'
    for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do
        [ -f "$file" ] || continue
        grep -q cgroup_enable=memory "$file" || run sed -i '1s/$/ cgroup_enable=memory cgroup_memory=1/' "$file"
        break
    done
    at_boot docker
}

look_at_the_machine
packages
user
data_volume
if [ "$docker" = yes ]; then docker_host; else database; fi
memory
journal
services
default_password
ssh_keys_only
firewall
network
updates
clock

echo
if [ "$dry" = yes ]; then echo "Dry run: $changes changes would be made."; else echo "Done: $changes changes."; fi
[ -z "$todo" ] || printf 'Open, for you:%s\n' "$todo"
if [ "$docker" = yes ]; then next='deploy/deploy.sh --docker'; else next='deploy/deploy.sh'; fi
echo "Next: reboot once if anything changed, then $next"
