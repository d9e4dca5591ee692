from weald.resolver.thread import *  # noqa: F403
