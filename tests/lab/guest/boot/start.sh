# Runs as root on the machine of tests/packaging/test_boot.py, at each of its boots: prints one line `OK name` for each
# thing that was so. Commands are in /opt/flaghoist, units in /opt/systemd.
export PATH=/opt/flaghoist/bin:$PATH HOME=/root
# Emulation is slow, and nothing here is decided by time: what does not come in ten minutes does not come.
wait_for() { for _ in $(seq 1200); do eval "$1" >/dev/null 2>&1 && return 0; sleep 0.5; done; return 1; }
ok() { if wait_for "$2"; then echo "OK $1"; else echo "NOT $1"; journalctl --no-pager -o cat -n 40; systemctl poweroff; exit; fi; }
main_pid() { systemctl show -P MainPID "$1"; }
served() { curl -sf http://127.0.0.1:8081/health; }
runs() { served | grep "$1" && flaghoist-edge status | grep "$1 committed"; }
# Settings for the lab's sake are drop-ins, as people would write them, and gone after a boot.
drop_in() { mkdir -p "/run/systemd/system/$1.d" && printf '%b' "$2" > "/run/systemd/system/$1.d/lab.conf" && systemctl daemon-reload; }

# The firmware leaves the console in the middle of a line.
echo
export FLAGHOIST_URL=http://127.0.0.1:8080
if [ ! -e /var/lib/lab ]; then
    for part in units sandbox release restarts safemode rounds; do . /opt/$part.sh; done
    touch /var/lib/lab
else
    . /opt/again.sh
fi
systemctl poweroff
