"""A suite -> the steps it still lacks -> runs.

suite.py    cells: weights, task config, seeds
steps.py    a suite -> its steps in order
local.py    run steps on this machine
"""
