# What becomes of the service when the agent ends, and of the agent when it hangs.
before=$(main_pid flaghoist-agent)
systemctl restart flaghoist-agent
ok 'a restart of the agent leaves the service' '[ $(main_pid flaghoist-agent) != $before ] && '"$same"
systemctl stop flaghoist-agent
ok 'a stop of the agent leaves the service' '! systemctl -q is-active flaghoist-agent && '"$same"

drop_in flaghoist-agent.service '[Service]\nWatchdogSec=30\nRestartSec=1\n'
systemctl start flaghoist-agent
before=$(main_pid flaghoist-agent)
fed() { systemctl show -P WatchdogTimestampMonotonic flaghoist-agent; }
last=$(fed)
ok 'the watchdog is fed' '[ $(fed) != $last ] && [ $(main_pid flaghoist-agent) = $before ]'
last=$(fed)
ok 'and fed again' '[ $(fed) != $last ] && [ $(main_pid flaghoist-agent) = $before ]'
kill -STOP "$before"
ok 'a hung agent is replaced and leaves the service' \
    'systemctl -q is-active flaghoist-agent && [ $(main_pid flaghoist-agent) != $before ] && '"$same"
