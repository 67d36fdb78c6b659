"""Real processes that are killed with SIGKILL at an exact step, and what must be true afterwards.

`points` names the steps; `launch` starts a program that dies there, once, when a test has armed the step.
"""
