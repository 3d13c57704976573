# Safe mode as other units of the machine see it.
cat > /etc/systemd/system/technician.service <<'UNIT'
[Unit]
PartOf=flaghoist-safe-mode.target
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=flaghoist-safe-mode.target
UNIT
systemctl -q enable technician flaghoist-safe-mode.path flaghoist-safe-mode.service
systemctl start flaghoist-safe-mode.path
ok 'outside of safe mode its target is away' '! systemctl -q is-active flaghoist-safe-mode.target'
flaghoist recovery enter shop-1 --reason lab
ok 'an ordered safe mode brings the target and what it wants' \
    'systemctl -q is-active flaghoist-safe-mode.target && systemctl -q is-active technician && ! served'
ok 'the agent goes on in safe mode' 'systemctl -q is-active flaghoist-agent'
flaghoist recovery leave shop-1 --reason lab
ok 'the end of safe mode takes them away and the release comes back' \
    '! systemctl -q is-active flaghoist-safe-mode.target && ! systemctl -q is-active technician && served'
