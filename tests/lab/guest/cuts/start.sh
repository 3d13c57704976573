# Runs as root on the machine of the power cuts, at each boot; only the first one has something to do: from the wheel
# to an enrolled agent that starts with the machine. The hub is on the host, which the kernel's command line names.
[ ! -e /var/lib/lab ] || exit 0
given() { sed -n "s/.*lab\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
cat > /etc/systemd/network/lab.network <<'UNIT'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
UNIT
cp /opt/systemd/*.service /opt/systemd/*.timer /opt/systemd/*.target /opt/systemd/*.path /opt/witness.service \
    /etc/systemd/system/
for unit in agent boot-confirm; do
    install -D -m 644 -t /etc/systemd/system/flaghoist-$unit.service.d /opt/systemd/hooks/exec.conf
done
systemctl daemon-reload
systemd-tmpfiles --create /opt/systemd/tmpfiles.d/flaghoist.conf
systemctl enable --now systemd-networkd
echo PORT=8081 > /var/lib/flaghoist/device.env
# A device that nobody waits for is more patient.
echo '{"retry_base_seconds": 2, "backoff_cap_seconds": 4, "check_seconds": 10}' > /var/lib/flaghoist/agent.json
until /opt/flaghoist/bin/flaghoist-edge enrol --hub "$(given hub)" --token "$(given token)" --device-id lab-1; do
    sleep 1
done
systemctl enable --now witness flaghoist-agent
touch /var/lib/lab
sync
