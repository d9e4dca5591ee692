from weald.hub import get_hub, get_hub_class, get_hub_if_exists, get_loop, set_default_hub_class, set_hub, set_loop  # noqa: F401

get_hub_noargs = get_hub
