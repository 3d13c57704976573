# The next boot of the machine, without a hub: the agent starts the release again, and the boot is confirmed by it.
ok 'the release runs after a boot without a network' 'served'
ok 'a boot on which the release runs is confirmed' 'systemctl -q is-active flaghoist-boot-confirm'
ok 'and then it counts as complete' 'systemctl -q is-active boot-complete.target'
at() { systemctl show -P "$2" "$1"; }
ok 'the agent was ready before, and complete came last' \
    '[ $(at flaghoist-agent ActiveEnterTimestampMonotonic) -le $(at flaghoist-boot-confirm ExecMainStartTimestampMonotonic) ] &&
     [ $(at flaghoist-boot-confirm ActiveEnterTimestampMonotonic) -le $(at boot-complete.target ActiveEnterTimestampMonotonic) ]'
ok 'the build that came with a release is the agent of this boot' 'flaghoist-edge status | grep 9.9.9'

systemctl stop boot-complete.target flaghoist-boot-confirm
systemctl stop flaghoist-agent && systemctl stop kiosk-web && systemctl mask --runtime -q flaghoist-agent
drop_in flaghoist-boot-confirm.service \
    '[Service]\nExecStart=\nExecStart=/opt/flaghoist/bin/flaghoist-edge confirm-boot --no-agent --seconds 1\n'
systemctl start boot-complete.target 2> /dev/null
ok 'a boot on which the release does not run is not confirmed, nor complete' \
    '[ "$(systemctl is-failed flaghoist-boot-confirm)" = failed ] && ! systemctl -q is-active boot-complete.target'
