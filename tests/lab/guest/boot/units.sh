# From the wheel to an agent that is connected.
ip link set lo up
cp /opt/systemd/*.service /opt/systemd/*.timer /opt/systemd/*.target /opt/systemd/*.path /etc/systemd/system/
# The first release of this machine is run by the hook exec.
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
export FLAGHOIST_TOKEN="$(cat /var/lib/flaghoist-hub/admin.token)"

mkdir /root/work && cd /root/work
flaghoist keys generate root --no-passphrase --out keys && flaghoist keys generate release --no-passphrase --out keys
flaghoist root init --fleet acme --root-key keys/root.key --release-key keys/release.pub \
    --deployment-key "$FLAGHOIST_URL" --out root.1.dsse && flaghoist root publish root.1.dsse
flaghoist-edge enrol --hub "$FLAGHOIST_URL" --device-id shop-1 \
    --token "$(flaghoist device token --role kiosk --segment canary)"
echo PORT=8081 > /var/lib/flaghoist/device.env
echo '{"later_seconds": 1}' > /var/lib/flaghoist/agent.json
systemctl start flaghoist-agent
ok 'systemd hears ready and the connection' 'systemctl show -P StatusText flaghoist-agent | grep "^connected over MQTT"'
