from weald.resolver.ares import *  # noqa: F403
