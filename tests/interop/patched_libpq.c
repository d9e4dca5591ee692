/* patched_libpq CONNECTION: greenlets that wait for a lock of PostgreSQL's, which another one holds. */
#include "patched.h"
#include <libpq-fe.h>

static const char *where;

static void query(PGconn *c, const char *text)
{
    PGresult *result = PQexec(c, text);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail(text, PQerrorMessage(c));
    PQclear(result);
}

static PGconn *connected(void)
{
    PGconn *c = PQconnectdb(where);

    if (PQstatus(c) != CONNECTION_OK)
        fail("PQconnectdb", PQerrorMessage(c));
    return c;
}

static void *waits(void *unused)
{
    PGconn *c = connected();

    waiting++;
    query(c, "SELECT pg_advisory_lock_shared(7)");
    PQfinish(c);
    done++;
    return unused;
}

int main(int argc, char **argv)
{
    PGconn *c;

    where = argc > 1 ? argv[1] : "";
    if (weald_patch_library("libpq.so.5", 0) < 0)
        fail("weald_patch_library", NULL);
    c = connected();
    query(c, "SELECT pg_advisory_lock(7)");
    run_all(waits);
    while (waiting < GREENLETS)
        weald_sleep(WEALD_MS(1));
    query(c, "SELECT pg_sleep(0.05)"); /* the others ask meanwhile */
    if (done)
        fail("pg_advisory_lock_shared", "it has not waited");
    PQfinish(c); /* and the lock is free */
    finish();
    return 0;
}
