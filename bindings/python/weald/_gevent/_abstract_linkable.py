from weald._core import AbstractLinkable  # noqa: F401
