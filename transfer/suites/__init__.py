"""A suite -> the steps it still lacks -> runs -> a table.

suite.py      what a suite says: pretrainings, cells, the published table beside them
names.py      names of steps, made of what tells them apart
settings.py   configs -> the settings that can change a number
inputs.py     weights and images on disk -> digests
commands.py   a cell or a stage -> the command line of its tool
steps.py      a suite -> its steps in order: commands, products, needs
marks.py      the fingerprint that a step was made with, kept beside its folder
board.py      which steps are done, stale, failed or missing, and why
launcher.py   run what is missing, each step once, beside other launchers
local.py      processes of this machine, with GPUs from a pool
slurm.py      jobs of a Slurm cluster
cost.py       hours and money, from runs with the same settings
flops.py      hours from multiply-adds, at a speed that the user names
published.py  every row of the published table, run or not
table.py      the suite's table
view.py       what a launcher shows
"""
