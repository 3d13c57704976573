# Releases inside the sandbox: by the hook exec, by the hook systemd, and one that brings a new agent.
cp -r /opt/example fleet && git -C fleet init -q
offer() {
    git -C fleet add -A
    git -C fleet -c user.name=lab -c user.email=lab@example.invalid commit -qm "$1"
    flaghoist release build --role kiosk --repo fleet --fleet acme --sequence "$1" --out out > /dev/null
    release=$(cd out && echo kiosk-"$1"-*)
    flaghoist release sign "out/$release" --key keys/release.key
    flaghoist release publish "out/$release" && flaghoist release promote "$release" --segment canary
}
offer 1
ok 'a release of hook exec is committed in the sandbox' 'runs "$release"'
service=$(python3 -c 'import json; print(json.load(open("/var/lib/flaghoist/run/exec.json"))["pid"])')
same='[ -d /proc/$service ] && served'
nsenter -t "$service" -m touch /etc/written 2> /dev/null
ok 'the service cannot write to /etc' '[ ! -e /etc/written ]'

mkdir fleet/roles/kiosk/files/systemd
cat > fleet/roles/kiosk/files/systemd/kiosk-web.service <<'UNIT'
[Service]
ExecStart=/usr/bin/python3 ${FLAGHOIST_RELEASE_DIR}/files/kiosk.py
Environment=PORT=8081 FLAGHOIST_RELEASE_ID=${FLAGHOIST_RELEASE_ID}
[Install]
WantedBy=multi-user.target
UNIT
sed -i 's/"hook": "exec"/"hook": "systemd"/; /"exec": {/,/},/d' fleet/roles/kiosk/bundle.json
offer 2
ok 'a release of hook systemd takes over from hook exec' \
    'runs "$release" && [ ! -d /proc/$service ] && systemctl -q is-active kiosk-web'
service=$(main_pid kiosk-web)
ok 'its unit stands outside of the agent, and would be gone after a boot' \
    'grep kiosk-web.service /proc/$service/cgroup && [ "$(systemctl is-enabled kiosk-web)" = linked-runtime ]'

# The agent comes with a release; as soon as the new one is on trial, its manager kills everything that the unit runs.
build_of() { tr '\0' '\n' < "/proc/$(main_pid flaghoist-agent)/environ" | grep '^FLAGHOIST_AGENT_BUILD='; }
carried=fleet/roles/kiosk/files/agent
mkdir $carried && cp -r /opt/flaghoist/lib/python3*/site-packages/{edge,topics,firmware_hooks} $carried
find $carried -name __pycache__ -prune -exec rm -r {} +
sed -i 's/^VERSION: Final = .*/VERSION: Final = "9.9.9"/' $carried/edge/__init__.py
ok 'the installed agent runs' '! build_of'
before=$(systemctl show -P NRestarts flaghoist-agent)
offer 3
ok 'the new agent is started in the unit of the old one' \
    'build_of && [ "$(systemctl show -P NRestarts flaghoist-agent)" = "$before" ]'
systemctl kill --kill-whom=all --signal=KILL flaghoist-agent
ok 'an agent that was killed with its unit in mid-trial commits its release' 'runs "$release" && build_of'
ok 'the hub hears of the new agent' 'curl -sf -H "Authorization: Bearer $FLAGHOIST_TOKEN" $FLAGHOIST_URL/devices/shop-1 | grep 9.9.9'
service=$(main_pid kiosk-web)
same='[ "$(main_pid kiosk-web)" = $service ] && served'
