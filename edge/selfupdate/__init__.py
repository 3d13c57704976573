"""The agent's own replacement: a build that came with a release, tried by counted starts, with a way back.

    carried in files/agent/ of a release → copied to STATE/agent/<build> → checked → on trial → chosen

The agent that was installed on the machine (by pip) is never changed and is the last resort. It is also the launcher:
every start begins with it, reads which build is wanted, and becomes that build.
"""
