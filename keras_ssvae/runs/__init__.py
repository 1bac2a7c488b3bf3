"""Code that all experiments share: command-line flags, training runs, and tables of several runs.

`import keras_ssvae` does not import this package: only experiments need command lines.
"""
