from weald._run_info import _reachable_greenlets as get_reachable_greenlets  # noqa: F401


def get_memory(data):
    """A memoryview, or bytes of what has no dimensions."""
    view = data if isinstance(data, memoryview) else memoryview(data)
    return view if view.shape else view.tobytes()
