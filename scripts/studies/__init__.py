"""The parts of study.py: a list of runs, a queue that works it off, rows, tables and plots."""
