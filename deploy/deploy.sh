#!/bin/sh
# Bring this checkout into service as systemd units, or with --docker in containers. As root, after setup_pi.sh:
#
#     deploy/deploy.sh             # this checkout's commit becomes a release, is started, and checked
#     deploy/deploy.sh --update    # git pull --ff-only first
#     deploy/deploy.sh --logs      # follow what all parts say
#     deploy/deploy.sh --clean     # stop and remove units and releases; data, backups and .env stay
#     deploy/deploy.sh --docker    # the same for containers; goes with each of the others
#
# A release that is not well within five minutes is replaced by the one before. The database has then been migrated
# already: releases keep reading what the next one's migrations added, else the old one refuses to start and says so.
#
#   /opt/tradecore/releases/TIME-COMMIT   code and packages, owned by root; the newest three are kept
#   /opt/tradecore/current                the one in service
#   /opt/tradecore/shared/.env            settings and secrets
#   /srv/tradecore/local                  what .local is in a checkout: reports, logs, compiled kernels
set -eu

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
HOME_DIR=${TRADECORE_DEPLOY_HOME:-/opt/tradecore} DATA=${TRADECORE_DEPLOY_DATA:-/srv/tradecore}
UNITS=${TRADECORE_DEPLOY_UNITS:-/etc/systemd/system}
OWNER=tradecore KEPT=3 PATIENCE_S=${TRADECORE_DEPLOY_PATIENCE_S:-300}
action=deploy update=no docker=no

while [ $# -gt 0 ]; do
    case $1 in
        --clean) action=clean ;;
        --logs) action=logs ;;
        --update) update=yes ;;
        --docker) docker=yes ;;
        -h | --help) sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
        *) echo "error: unknown option $1 (--help lists them)" >&2; exit 2 ;;
    esac
    shift
done

say() { echo "  $*"; }
fail() { echo "error: $*" >&2; exit 1; }
as_owner() { setpriv --reuid="$OWNER" --regid="$OWNER" --init-groups env HOME="$DATA/local" "$@"; }
units() { for file in "$source"/deploy/systemd/tradecore*; do basename "$file"; done; }

pull() {
    say "updating $source"
    owner=$(stat -c %U "$source")
    setpriv --reuid="$owner" --regid="$(stat -c %G "$source")" --init-groups git -C "$source" pull --ff-only
}

# -- units

# Make a release of the checkout's commit; its name goes to $release.
make_release() {
    commit=$(git -c safe.directory="$source" -C "$source" rev-parse --short=12 HEAD) || fail "$source is no git checkout"
    [ -z "$(git -c safe.directory="$source" -C "$source" status --porcelain --untracked-files=no)" ] ||
        say "what is not committed in $source is left out"
    release=$HOME_DIR/releases/$(date -u +%Y%m%dT%H%M%S)-$commit
    say "release $release"
    mkdir -p "$release"
    git -c safe.directory="$source" -C "$source" archive HEAD | tar -x -C "$release"
    echo "$commit" >"$release/.commit"
    # The owner's own configuration and strategies, if they live beside the releases.
    for part in config strategies; do
        [ ! -d "$HOME_DIR/shared/$part" ] || cp -a "$HOME_DIR/shared/$part/." "$release/include/$part/"
    done
    ln -s "$DATA/local" "$release/.local"
    ln -s "$HOME_DIR/shared/.env" "$release/.env"
    "$release/deploy/bootstrap.sh" || { rm -rf "$release"; fail 'the packages could not be installed; nothing changed'; }
    # Its user may not write here: bytecode is made now, not with every task.
    "$release/.venv/bin/python" -m compileall -q "$release/include" "$release/plugins" "$release/dags" "$release/deploy" || :
    chown -R "$OWNER:$OWNER" "$DATA/local"
    as_owner "$release/deploy/run" --no-database python -m tradecore.settings --check ||
        { rm -rf "$release"; fail 'the configuration is wrong; nothing changed'; }
}

# Write the units of the checkout with the memory limits of this machine.
write_units() {
    memory_kb=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
    if [ "$memory_kb" -ge 7000000 ]; then limits=$source/deploy/memory/8gb.env; else limits=$source/deploy/memory/4gb.env; fi
    script=$(sed -n 's/^\([A-Z_]*\)=\(.*\)$/s|@\1@|\2|/p' "$limits")
    for unit in $(units); do
        sed -e "$script" -e "s|/opt/tradecore|$HOME_DIR|g" -e "s|/srv/tradecore|$DATA|g" \
            "$source/deploy/systemd/$unit" >"$UNITS/$unit.new"
        mv "$UNITS/$unit.new" "$UNITS/$unit"
    done
    systemctl daemon-reload
    for unit in tradecore.target tradecore-prepare.service tradecore-scheduler.service tradecore-dag-processor.service \
        tradecore-api-server.service tradecore-watch.service tradecore-backup.timer; do
        systemctl enable --quiet "$unit"
    done
    # Only who has a key at Alpaca streams.
    if grep -q '^ALPACA_API_KEY=.' "$HOME_DIR/shared/.env" 2>/dev/null; then systemctl enable --quiet tradecore-stream.service; fi
}

point_at() {
    ln -sfn "$1" "$HOME_DIR/current.new"
    mv -T "$HOME_DIR/current.new" "$HOME_DIR/current"
}

# Stop first: tasks that run are waited for, and no old part meets a new table.
restart() {
    systemctl stop tradecore.target
    systemctl stop 'tradecore-*.service' 2>/dev/null || :
    systemctl reset-failed 'tradecore-*' 2>/dev/null || :
    systemctl start tradecore.target
}

# Wait until the units run and Airflow says that its parts are well.
well() {
    port=$(sed -n 's/^AIRFLOW_PORT=\([0-9][0-9]*\)$/\1/p' "$HOME_DIR/shared/.env" 2>/dev/null)
    deadline=$(($(date +%s) + PATIENCE_S))
    while [ "$(date +%s)" -lt "$deadline" ]; do
        said=$(curl --silent --max-time 5 "http://127.0.0.1:${port:-8080}/api/v2/monitor/health" || :)
        # A number: metadatabase, scheduler and dag_processor; a triggerer there is none.
        healthy=$(printf '%s' "$said" | grep -o '"status": *"healthy"' | grep -c . || :)
        if [ "$healthy" -ge 3 ] && systemctl is-active --quiet tradecore-scheduler tradecore-dag-processor \
            tradecore-api-server tradecore-watch; then return 0; fi
        if systemctl is-failed --quiet tradecore-prepare; then say 'tradecore-prepare failed'; return 1; fi
        sleep 3
    done
    say "not well after $PATIENCE_S s: ${said:-no answer from the api-server}"
    return 1
}

forget_old_releases() {
    current=$(readlink "$HOME_DIR/current")
    # shellcheck disable=SC2012 # the names are ours: a time and a commit
    ls -1d "$HOME_DIR"/releases/* | sort -r | tail -n +$((KEPT + 1)) | while read -r old; do
        [ "$old" = "$current" ] || rm -rf "$old"
    done
}

deploy_units() {
    [ -f "$HOME_DIR/shared/.env" ] || fail "$HOME_DIR/shared/.env is missing: deploy/setup_pi.sh makes it"
    before=$(readlink "$HOME_DIR/current" 2>/dev/null || :)
    make_release
    write_units
    point_at "$release"
    say 'starting'
    restart
    if well; then
        forget_old_releases
        say "in service: $release"
        return
    fi
    journalctl --no-pager --lines 40 --unit 'tradecore-*' >&2 || :
    [ -n "$before" ] && [ -d "$before" ] || fail 'the first release is not well; the lines above say why'
    say "going back to $before"
    point_at "$before"
    source=$before
    write_units
    restart
    well || fail "nor is $before well: deploy/deploy.sh --logs"
    fail "$release is not well and was replaced by $before, which is; it stays there for you to look at"
}

clean_units() {
    systemctl disable --now --quiet tradecore.target 2>/dev/null || :
    for unit in $(units); do
        systemctl disable --now --quiet "$unit" 2>/dev/null || :
        rm -f "$UNITS/$unit"
    done
    systemctl daemon-reload
    rm -rf "$HOME_DIR/releases" "$HOME_DIR/current"
    say "Removed units and releases. Left: $HOME_DIR/shared, $DATA with reports and backups, the database."
}

# -- containers

compose() {
    cd "$source"
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

deploy_containers() {
    [ -f "$source/.env" ] || (cd "$source" && make env)
    image=$(sed -n 's/^  image: \(tradecore-[^ ]*\)$/\1/p' "$source/docker-compose.yaml")
    before=''
    if docker image inspect "$image" >/dev/null 2>&1; then
        before=${image%%:*}:previous
        docker tag "$image" "$before"
    fi
    compose build
    if compose up -d --wait --wait-timeout "$PATIENCE_S"; then say 'in service'; return; fi
    compose logs --tail 40 >&2
    [ -n "$before" ] || fail 'the first image is not well; the lines above say why'
    say 'going back to the image before'
    docker tag "$before" "$image"
    compose up -d --no-build --force-recreate --wait --wait-timeout "$PATIENCE_S" || fail 'nor is the image before well'
    fail 'the new image is not well and was replaced by the one before, which is'
}

[ "$update" = no ] || pull
if [ "$docker" = yes ]; then
    case $action in
        deploy) deploy_containers ;;
        logs) compose logs --follow --tail 50 ;;
        clean) compose down --rmi local; say 'Volumes stay: docker compose down -v deletes them and all books.' ;;
    esac
    exit
fi
case $action in
    logs) exec journalctl --follow --lines 50 --unit 'tradecore-*' ;;
    clean) clean_units ;;
    deploy)
        [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
        deploy_units
        ;;
esac
