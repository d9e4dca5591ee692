"""Writes the C source of a library that stands between a test and weald, and notes every negative code that a function
of weald.h returns: `tests/codes.py HEADER SOURCE`. The suite `codes` compiles it, runs the C tests with it (LD_PRELOAD)
and reads what it has noted; see tests/harness/codes.py.

The notes are a file that all processes of a run map: a byte for each function and code, 1 when it was seen.
"""
import sys

import weald_h

# A place for each code: those of errno by their number, then those of the library's own, then any other number.
OWN = 2000
ERRNOS = 134
OTHERS = ERRNOS + 150
PLACES = OTHERS + 1

HEAD = """/* Written by tests/codes.py from weald.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weald.h>

enum { ERRNOS = %d, OWN = %d, OTHERS = %d, PLACES = %d, FUNCTIONS = %d };
static unsigned char (*notes)[PLACES];

static void note(int function, long long code)
{
    long long place = -code < ERRNOS ? -code : -code > OWN && -code - OWN + ERRNOS < OTHERS ? -code - OWN + ERRNOS : OTHERS;
    if (notes && code < 0)
        notes[function][place] = 1;
}

"""


def functions(header):
    """Those that return codes."""
    return [function for function in header.functions if function.returns != "void" and "*" not in function.returns]


def place_of(code):
    if -code < ERRNOS:
        return -code
    return -code - OWN + ERRNOS if OWN < -code < OWN + OTHERS - ERRNOS else OTHERS


def read(header, noted):
    """By function, the names of the codes that were seen."""
    names = {place_of(value): name for name, value in header.codes.items()}
    return {function.name: {names.get(place, "another") for place in range(PLACES) if noted[i * PLACES + place]}
            for i, function in enumerate(functions(header))}


def source(header):
    those = functions(header)
    parts = [HEAD % (ERRNOS, OWN, OTHERS, PLACES, len(those))]
    parts += [f"static __typeof__({function.name}) *real_{function.name};" for function in those]
    parts += ["", "__attribute__((constructor)) static void begin(void)", "{"]
    # All now: a lookup takes locks and memory, which the tests of signals, forks and limits have none to spare of.
    parts += [f'    real_{function.name} = dlsym(RTLD_NEXT, "{function.name}");' for function in those]
    parts += ['    int fd = getenv("WEALD_CODES") ? open(getenv("WEALD_CODES"), O_RDWR | O_CLOEXEC) : -1;',
              "    if (fd >= 0) {",
              "        notes = mmap(NULL, FUNCTIONS * PLACES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);",
              "        close(fd);",
              "        if (notes == MAP_FAILED)",
              "            notes = NULL;", "    }", "}", ""]
    parts += [_stand_in(i, function) for i, function in enumerate(those)]
    return "\n".join(parts)


def _stand_in(i, function):
    name = function.name
    declared = ", ".join(f"{param.type} {param.name}" for param in function.params) or "void"
    given = ", ".join(param.name for param in function.params)
    return (f"{function.returns} {name}({declared})\n{{\n    {function.returns} returned = real_{name}({given});\n"
            f"    note({i}, returned);\n    return returned;\n}}\n")


if __name__ == "__main__":
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(source(weald_h.read(sys.argv[1])))
