# What each drop-in of hook exec opens, and what stays shut without it: a command in the sandbox of the agent.
in_sandbox() {
    place=/run/systemd/system command=$1
    shift
    rm -rf $place/trial.service.d
    sed "s|^ExecStart=.*|ExecStart=$command|" /opt/systemd/flaghoist-agent-once.service > $place/trial.service
    for name in "$@"; do install -D -m 644 -t $place/trial.service.d /opt/systemd/hooks/$name.conf; done
    systemctl daemon-reload
    systemctl start trial
}
user="/usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups /bin/true"
limit="/bin/sh -c 'ulimit -n 1000000'"
device="/bin/dd if=/dev/vda of=/dev/null count=1"
ok 'with exec.conf alone a service cannot become another user' '! in_sandbox "$user" exec'
ok 'with exec-users.conf it can' 'in_sandbox "$user" exec exec-users'
ok 'with exec.conf alone it cannot raise its limits' '! in_sandbox "$limit" exec'
ok 'with exec-limits.conf it can' 'in_sandbox "$limit" exec exec-limits'
ok 'with exec.conf alone it sees no device' '! in_sandbox "$device" exec'
ok 'with exec-devices.conf it does' 'in_sandbox "$device" exec exec-devices'
systemctl reset-failed trial 2> /dev/null
