"""What every experiment shares: from the flags of a script to a finished run, and to a table of runs.

`import keras_ssvae` does not import it: only who runs experiments needs command lines.
"""
