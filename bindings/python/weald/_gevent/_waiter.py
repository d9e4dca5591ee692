from weald.hub import Waiter  # noqa: F401
