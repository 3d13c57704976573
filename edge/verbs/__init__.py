"""The commands of `flaghoist-edge`, a module each: what a person typed, carried out and said in words.

A module has `run(paths, chosen) -> exit code` and is loaded only when its command is asked for.
"""
