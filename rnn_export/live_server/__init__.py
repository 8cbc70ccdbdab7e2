"""Proving a live server: what it answers is judged as any runtime's answers are, alone, side by side and under load.

The requests are sent from a child process, in the environment of the runtime ``open-inference``; ``rnn_export.runtimes.
_open_inference`` has the plans that it takes. Every check gives rows of one report, and a new check is one function.
"""
