"""Suite `browser`: the chats in C and in Python before a real browser, see tests/browser/chat.py.

The browser is Debian's chromium, driven by selenium from a virtual environment in target.
"""
import sys

from . import build, process, python, tools

DRIVER = build.ROOT / "tests" / "browser" / "chat.py"
VENV = build.BUILT / "browser"
EXAMPLE = build.ROOT / "examples-c" / "50_chat.c"
LIMIT = 300


def run(report, options):
    reason = tools.missing("chromium", "chromedriver") or _install(VENV / "bin" / "python", "selenium")
    for name, command in (("c", _in_c), ("python", _in_python)):
        if options.wants(name):
            with report.group(f"browser:{name}") as group:
                if reason:
                    group.skipped("chat", reason)
                else:
                    _chat(group, *command())


def _install(home_python, *packages):
    """Why they are not there; "" if they are."""
    home = home_python.parent.parent
    if not home_python.exists() and process.run([sys.executable, "-m", "venv", home], 120).status != 0:
        return "needs python3's venv"
    done = process.run([home_python, "-m", "pip", "install", "-q", *packages], 300)
    return "" if done.status == 0 else f"needs {', '.join(packages)} from PyPI"


def _in_c():
    program = build.BUILT / "browser" / "chat"
    built = build.compile_program(EXAMPLE, program, ["-Wpedantic", "-Werror"])
    return built.output if built.status != 0 else "", [program]


def _in_python():
    made = python.make()
    if made.status != 0:
        return made.output, []
    reason = _install(python.PYTHON, "flask")
    return reason, [python.PYTHON, python.PACKAGE / "examples" / "chat_flask.py"]


def _chat(group, problem, command):
    if problem:
        return group.failed("is built", problem)
    done = process.run([VENV / "bin" / "python", DRIVER, *command], LIMIT, cwd=build.ROOT)
    for line in done.output.splitlines():
        if line.startswith("ok "):
            group.passed(line.removeprefix("ok "))
    if done.status != 0:
        group.failed("chat", f"{done.story}\n{done.output}")
