/* patched_hiredis PORT: greenlets that wait for lists of Redis to be filled, and one that fills them. */
#include "patched.h"
#include <hiredis/hiredis.h>

static int port;

static redisContext *connected(void)
{
    redisContext *c = redisConnect("localhost", port);

    if (!c || c->err)
        fail("redisConnect", c ? c->errstr : NULL);
    return c;
}

static void *waits(void *number)
{
    redisContext *c = connected();
    redisReply *reply;

    waiting++;
    reply = redisCommand(c, "BLPOP list%d 0", (int)(intptr_t)number);
    if (!reply || reply->type != REDIS_REPLY_ARRAY || atoi(reply->element[1]->str) != (int)(intptr_t)number)
        fail("BLPOP", c->errstr);
    freeReplyObject(reply);
    redisFree(c);
    done++;
    return NULL;
}

int main(int argc, char **argv)
{
    redisContext *c;

    port = argc > 1 ? atoi(argv[1]) : 6379;
    if (weald_patch_all(0) < 0)
        fail("weald_patch_all", NULL);
    run_all(waits);
    c = connected();
    while (waiting < GREENLETS)
        weald_sleep(WEALD_MS(1));
    if (done)
        fail("BLPOP", "it has not waited");
    for (int i = GREENLETS; i-- > 0;)
        freeReplyObject(redisCommand(c, "RPUSH list%d %d", i, i));
    redisFree(c);
    finish();
    return 0;
}
