# The agent that sleeps, the boot that counts, and the hub's own end.
drop_in flaghoist-agent-once.timer \
    '[Timer]\nOnBootSec=\nOnUnitInactiveSec=\nOnBootSec=1\nOnUnitInactiveSec=5\nRandomizedDelaySec=0\nAccuracySec=1s\n'
service=$(main_pid kiosk-web)
systemctl start flaghoist-agent-once.timer
ok 'the timer stops the agent' '! systemctl -q is-active flaghoist-agent'
rounds() { journalctl -q -b -u flaghoist-agent-once -o cat --grep '^Finished' | wc -l; }
ok 'the timer lets one round follow another' '[ $(rounds) -ge 2 ]'
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

# What the hub rendered for its own Mosquitto, in the unit of a broker.
cp -r /var/lib/flaghoist-hub/broker/. /var/lib/flaghoist-broker
chown -R flaghoist-broker: /var/lib/flaghoist-broker
systemctl start flaghoist-broker
ok 'the broker stands in a unit of its own' '[ "$(pgrep -u flaghoist-broker -x mosquitto)" = $(main_pid flaghoist-broker) ]'
ok 'the agent comes to it' 'systemctl show -P StatusText flaghoist-agent | grep "^connected over MQTT"'
systemctl reload flaghoist-broker
ok 'it reads its lists anew and goes on' 'systemctl -q is-active flaghoist-broker && ss -tn sport = :8883 | grep ESTAB'
systemctl stop flaghoist-broker
ok 'it stops in order' '[ $(systemctl show -P Result flaghoist-broker) = success ]'
systemctl --failed --no-legend
ok 'no unit of ours has failed' '[ -z "$(systemctl --failed --no-legend "flaghoist-*")" ]'
# The next boot is one that counts.
systemctl -q enable flaghoist-agent flaghoist-boot-confirm
systemctl -q add-wants multi-user.target boot-complete.target
