# Runs as root on the virtual machine of test_boot.py: prints one line `OK name` for each thing that was so.
# The disk with this file is mounted on /opt: commands in /opt/flaghoist, units in /opt/systemd.
export PATH=/opt/flaghoist/bin:$PATH HOME=/root
wait_for() { for _ in $(seq 300); do eval "$1" >/dev/null 2>&1 && return 0; sleep 0.5; done; return 1; }
ok() { if wait_for "$2"; then echo "OK $1"; else echo "NOT $1"; journalctl --no-pager -o cat -n 30; fi; }
main_pid() { systemctl show -P MainPID "$1"; }
served() { curl -sf http://127.0.0.1:8081/health; }

ip link set lo up
cp /opt/systemd/*.service /opt/systemd/*.timer /opt/systemd/*.target /opt/systemd/*.path /etc/systemd/system/
# The released service of this script is run by the hook exec.
for unit in agent agent-once boot-confirm; do
    install -D -m 644 -t /etc/systemd/system/flaghoist-$unit.service.d /opt/systemd/hooks/exec.conf
done
systemctl daemon-reload
systemd-sysusers /opt/systemd/sysusers.d/*.conf
systemd-tmpfiles --create /opt/systemd/tmpfiles.d/*.conf
echo 'FLAGHOIST_HUB_OPTIONS=--fleet acme --update-interval 5' > /etc/flaghoist/hub.env

systemctl start flaghoist-agent
ok 'an agent that is not enrolled is skipped' '[ "$(systemctl is-failed flaghoist-agent)" = inactive ]'
systemctl start flaghoist-hub
ok 'the hub answers' 'curl -sf http://127.0.0.1:8080/health/live'
ok 'hub and broker run as flaghoist-hub' '[ "$(pgrep -u flaghoist-hub -c "mosquitto|flaghoist-hub")" = 2 ]'
export FLAGHOIST_URL=http://127.0.0.1:8080 FLAGHOIST_TOKEN="$(cat /var/lib/flaghoist-hub/admin.token)"

mkdir /root/work && cd /root/work
flaghoist keys generate root --no-passphrase --out keys && flaghoist keys generate release --no-passphrase --out keys
flaghoist root init --fleet acme --root-key keys/root.key --release-key keys/release.pub \
    --deployment-key "$FLAGHOIST_URL" --out root.1.dsse && flaghoist root publish root.1.dsse
flaghoist-edge enrol --hub "$FLAGHOIST_URL" --device-id shop-1 \
    --token "$(flaghoist device token --role kiosk --segment canary)"
echo PORT=8081 > /var/lib/flaghoist/device.env
systemctl start flaghoist-agent
ok 'systemd hears ready and the connection' '[ "$(systemctl show -P StatusText flaghoist-agent)" = connected ]'

cp -r /opt/example fleet && git -C fleet init -q && git -C fleet add .
git -C fleet -c user.name=lab -c user.email=lab@example.invalid commit -qm one
flaghoist release build --role kiosk --repo fleet --fleet acme --out out > /dev/null
release=$(ls out)
flaghoist release sign "out/$release" --key keys/release.key
flaghoist release publish "out/$release" && flaghoist release promote "$release" --segment canary
ok 'a release is committed in the sandbox' 'served | grep "$release" && flaghoist-edge status | grep committed'
service=$(python3 -c 'import json; print(json.load(open("/var/lib/flaghoist/run/exec.json"))["pid"])')
same='[ -d /proc/$service ] && served'
nsenter -t "$service" -m touch /etc/written 2> /dev/null
ok 'the service cannot write to /etc' '[ ! -e /etc/written ]'

systemctl start flaghoist-boot-confirm
ok 'a boot on which the release runs is confirmed' 'systemctl -q is-active flaghoist-boot-confirm'

before=$(main_pid flaghoist-agent)
systemctl restart flaghoist-agent
ok 'a restart of the agent leaves the service' '[ $(main_pid flaghoist-agent) != $before ] && '"$same"
systemctl stop flaghoist-agent
ok 'a stop of the agent leaves the service' '! systemctl -q is-active flaghoist-agent && '"$same"

mkdir -p /run/systemd/system/flaghoist-agent.service.d
printf '[Service]\nWatchdogSec=10\nRestartSec=1\n' > /run/systemd/system/flaghoist-agent.service.d/quick.conf
systemctl daemon-reload && systemctl start flaghoist-agent
before=$(main_pid flaghoist-agent)
sleep 15
ok 'the watchdog is fed' '[ $(main_pid flaghoist-agent) = $before ]'
kill -STOP "$before"
ok 'a hung agent is replaced and leaves the service' \
    'systemctl -q is-active flaghoist-agent && [ $(main_pid flaghoist-agent) != $before ] && '"$same"

systemctl start flaghoist-agent-once.timer
ok 'the timer stops the agent' '! systemctl -q is-active flaghoist-agent'
systemctl start flaghoist-agent-once
ok 'a round ends well and leaves the service' \
    '[ $(systemctl show -P ExecMainStatus flaghoist-agent-once) = 0 ] && '"$same"
systemctl start flaghoist-agent
ok 'the agent stops the timer' '! systemctl -q is-active flaghoist-agent-once.timer'

hub=$(main_pid flaghoist-hub) broker=$(pgrep -x mosquitto)
kill -KILL "$hub"
ok 'the broker dies with a killed hub' '[ ! -d /proc/$broker ]'
ok 'the hub is started again' '[ $(main_pid flaghoist-hub) != $hub ] && curl -sf http://127.0.0.1:8080/health/live'
systemctl stop flaghoist-hub
ok 'the hub stops in order, its broker too' '[ $(systemctl show -P Result flaghoist-hub) = success ] && ! pgrep -x mosquitto'
systemctl --failed --no-legend
ok 'no unit of ours has failed' '[ -z "$(systemctl --failed --no-legend "flaghoist-*")" ]'
systemctl poweroff
