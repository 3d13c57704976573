"""A fleet of simulated devices in one process, to rehearse a rollout and its thresholds before it is real.

Each device is the agent itself, with its own key, state directory, spool and MQTT connection. Only what would
touch a machine is simulated: downloading, hooks and probation take time and end as a seed says.
"""
