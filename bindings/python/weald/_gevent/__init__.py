"""Modules that gevent keeps for itself, and that programs and tests written for it import all the same.

`gevent._compat` is `weald._gevent._compat`, and so on. Nothing in weald itself uses them.
"""
