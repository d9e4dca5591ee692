"""Threads and greenlets as text: print_run_info and GreenletTree, which `weald.util` gives away."""
import gc
import pprint
import sys
import traceback

from weald._core import getcurrent, greenlet
from weald._patching import get_original
from weald.local import all_local_dicts_for_greenlet

_ALL = object()
_RULE = "*" * 80


def print_run_info(thread_stacks=True, greenlet_stacks=True, limit=_ALL, file=None):
    """Prints all threads and greenlets with their stacks, to stderr unless a file is given."""
    file = sys.stderr if file is None else file
    for line in format_run_info(thread_stacks=thread_stacks, greenlet_stacks=greenlet_stacks, limit=limit):
        print(line, file=file)


def format_run_info(thread_stacks=True, greenlet_stacks=True, limit=_ALL, current_thread_ident=None):
    """The lines that print_run_info prints. `limit` is the number of frames of a stack."""
    if current_thread_ident is None:
        current_thread_ident = get_original("_thread", "get_ident")()
    limit = None if limit is _ALL else limit
    lines = [_RULE, "* Threads"]
    _add_threads(lines, thread_stacks, limit, current_thread_ident)
    lines += [_RULE, "* Greenlets", _RULE]
    for tree in sorted(GreenletTree.forest(), key=lambda tree: "" if tree.is_current_tree else repr(tree.greenlet)):
        lines.append("---- Thread boundary")
        lines += tree.format_lines({
            "running_stacks": greenlet_stacks and tree.is_current_tree,
            "running_stack_limit": limit,
        })  # fmt: skip
    return lines


dump_stacks = format_run_info


def is_idle_threadpool_worker(frame):
    """Whether the frame is where a thread of a pool waits for work."""
    return bool(frame.f_locals and frame.f_locals.get("gevent_threadpool_worker_idle"))


def _add_threads(lines, stacks, limit, current):
    import threading

    threads = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        thread = threads.get(ident)
        name, show = getattr(thread, "name", None), stacks
        if thread is None and is_idle_threadpool_worker(frame):
            name, show = "idle threadpool worker", False
        monitor = getattr(thread, "gevent_monitoring_thread", None)
        if monitor is not None:
            name = repr(monitor())
        if ident == current:
            name = f"{name}) (CURRENT"
        lines += [_RULE, f"Thread {ident:#x} ({name})\n"]
        if show:
            lines.append("".join(traceback.format_stack(frame, limit)))
        elif not stacks:
            lines.append("\t...stack elided...")


class _Drawing:
    """Lines of a tree, drawn with +, - and |. A line of data is kept as a one-tuple until its place is known."""

    def __init__(self, details, depth=0):
        self.details, self.depth, self.lines = details, depth, []

    def deeper(self):
        return _Drawing(self.details, self.depth + 1)

    def data(self, text):
        if self.details:
            for line in text.splitlines():
                self._data(line, ":")

    def _data(self, text, marker):
        self.lines.append((f" {marker if not self.depth else ' '}    {text}",))

    def child(self, lines, last):
        self.lines.append(f" +--- {lines[0]}")
        for line in lines[1:]:
            if isinstance(line, tuple):
                if self.details:
                    self._data(line[0], " " if last else ":")
            else:
                self.lines.append(f" {' ' if last else '|'}   {line}")


class GreenletTree:
    """A greenlet and those that it spawned, and so on. str() shows the tree, `format` all that is known."""

    DEFAULT_DETAILS = {
        "running_stacks": True,
        "running_stack_limit": None,
        "spawning_stacks": True,
        "locals": True,
    }
    is_current_tree = False

    def __init__(self, greenlet):
        self.greenlet, self.child_trees = greenlet, []

    def __getattr__(self, name):
        if name == "greenlet":
            raise AttributeError(name)
        return getattr(self.greenlet, name)

    @property
    def root(self):
        """Whether nothing is above the greenlet."""
        return self.greenlet.parent is None

    def add_child(self, tree):
        """Hangs another tree under this one."""
        if tree is not self:
            self.child_trees.append(tree)

    # ---- as text ----

    def format_lines(self, details=True):
        """Lines of text. `details` switches them off as a whole, or one by one as a dict."""
        if isinstance(details, dict):
            details = {**self.DEFAULT_DETAILS, **details}
        else:
            details = self.DEFAULT_DETAILS if details else {}
        lines = self._render(_Drawing(details))
        return [line[0] if isinstance(line, tuple) else line for line in lines]

    def format(self, details=True):
        """The same as one text."""
        return "\n".join(self.format_lines(details))

    def __str__(self):
        return self.format(False)

    def _label(self):
        greenlet = self.greenlet
        label = repr(greenlet)
        if greenlet:
            return label
        if not hasattr(greenlet, "ready") or not greenlet.ready():
            return label + "; not running"
        label += "; finished"
        if greenlet.value is not None:
            return f"{label} with value {greenlet.value!r}"[: len(label) + 42]
        problem = getattr(greenlet, "exception", None)
        return label if problem is None else f"{label} with exception {problem!r}"

    def _render(self, drawing):
        greenlet, details = self.greenlet, drawing.details
        drawing.lines.append(self._label())
        if details:
            drawing.data(f"Parent: {greenlet.parent!r}")
            waits = greenlet._waits
            if waits is not None:
                drawing.data(f"Waits in: {waits[0]}" + (f" for {waits[1]!r}" if waits[1] is not None else ""))
            monitor = getattr(greenlet, "gevent_monitoring_thread", None)
            if monitor is not None:
                drawing.data(f"Monitoring Thread:{monitor()!r}")
            frame = sys._getframe() if greenlet is getcurrent() else greenlet.gr_frame
            # One that waits in a function of C alone has no frame.
            if greenlet and frame is not None and details["running_stacks"]:
                drawing.data("Running:")
                drawing.data("".join(traceback.format_stack(frame, details["running_stack_limit"])))
            spawned_at = getattr(greenlet, "spawning_stack", None)
            if spawned_at and details["spawning_stacks"]:
                drawing.data("Spawned at:")
                drawing.data("".join(traceback.format_stack(spawned_at)))
            shared = getattr(greenlet, "spawn_tree_locals", None)
            if shared and shared is not getattr(_spawner(greenlet), "spawn_tree_locals", None):
                drawing.data("Spawn Tree Locals")
                drawing.data(pprint.pformat(shared))
            if details["locals"]:
                self._render_locals(drawing)
        try:
            self._render_children(drawing)
        except RecursionError as problem:
            print(f"Too deep to show: {problem}", file=sys.stderr)
        return drawing.lines

    def _render_locals(self, drawing):
        found = all_local_dicts_for_greenlet(self.greenlet)
        if found:
            drawing.data("Greenlet Locals:")
        for (kind, ident), values in found:
            if values:
                drawing.data(f"  Local {kind} at {ident:#x}")
                drawing.data("    " + pprint.pformat(values))

    def _render_children(self, drawing):
        # Raw ones first, then those that run.
        children = sorted(
            self.child_trees,
            key=lambda tree: (
                getattr(tree, "minimal_ident", -1), getattr(tree, "ready", lambda: False)(), id(tree.parent)
            ),
        )  # fmt: skip
        for number, child in enumerate(children, 1):
            drawing.child(child._render(drawing.deeper()), number == len(children))

    # ---- finding them ----

    @staticmethod
    def _root_of(greenlet):
        while greenlet.parent is not None and not getattr(greenlet, "greenlet_tree_is_root", False):
            greenlet = greenlet.parent
        return greenlet

    @classmethod
    def _forest(cls):
        """The trees by root, and the calling greenlet's."""
        trees, roots = {}, {}

        def tree_of(greenlet):
            if greenlet not in trees:
                trees[greenlet] = cls(greenlet)
            return trees[greenlet]

        here = cls._root_of(getcurrent())
        current = roots[here] = tree_of(here)
        current.is_current_tree = True
        for greenlet in _reachable_greenlets():
            # A raw one, or one whose spawner is gone, hangs under its root.
            spawner = _spawner(greenlet)
            if spawner is None:
                spawner = cls._root_of(greenlet)
            if spawner not in roots and spawner is cls._root_of(spawner):
                roots[spawner] = tree_of(spawner)
            tree_of(spawner).add_child(tree_of(greenlet))
        return roots, current

    @classmethod
    def forest(cls):
        """A tree for each thread."""
        return list(cls._forest()[0].values())

    @classmethod
    def current_tree(cls):
        """The calling thread's tree."""
        return cls._forest()[1]


def _spawner(greenlet):
    reference = getattr(greenlet, "spawning_greenlet", None)
    return None if reference is None else reference()


def _reachable_greenlets():
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, greenlet) and not getattr(found, "greenlet_tree_is_ignored", False)
    ]
