/* 16_actors: two players send a ball to each other's inbox until the umpire's count is reached.
 *
 * An actor is a greenlet with a queue for an inbox: it shares nothing and answers messages. The
 * last one shuts the other's inbox, so both loops end by themselves.
 *
 * Build:  cc -std=c11 16_actors.c $(pkg-config --cflags --libs weald) -o 16_actors
 * Prints:
 *   ping has ball 1
 *   pong has ball 2
 *   ping has ball 3
 *   pong has ball 4
 *   ping has ball 5
 *   pong has ball 6
 *   pong leaves
 *   ping leaves
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { HITS = 6 };

struct player {
    const char *name;
    weald_queue inbox;
    struct player *other;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void receive(struct player *self, int *hits)
{
    ++*hits;
    printf("%s has ball %d\n", self->name, *hits);
    if (*hits < HITS) {
        must(weald_queue_put(self->other->inbox, hits, WEALD_FOREVER), "put");
    } else {
        must(weald_queue_shut(self->inbox), "shut own");
        must(weald_queue_shut(self->other->inbox), "shut other's");
    }
}

static void *play(void *arg)
{
    struct player *self = arg;
    void *ball;
    int code;

    while ((code = weald_queue_get(self->inbox, &ball, WEALD_FOREVER)) == 0)
        receive(self, ball);
    must(code == WEALD_EPIPE ? 0 : code, "get");
    printf("%s leaves\n", self->name);
    return NULL;
}

int main(void)
{
    struct player ping = {.name = "ping"}, pong = {.name = "pong"};
    weald_greenlet players[2];
    int hits = 0;

    ping.other = &pong;
    pong.other = &ping;
    ping.inbox = must(weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL), "queue");
    pong.inbox = must(weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL), "queue");
    players[0] = must(weald_spawn(play, &ping), "spawn ping");
    players[1] = must(weald_spawn(play, &pong), "spawn pong");

    must(weald_queue_put(ping.inbox, &hits, WEALD_FOREVER), "serve");
    must(weald_joinall(players, 2, 0, 0, WEALD_FOREVER), "joinall");

    must(weald_close(players[0]), "close ping");
    must(weald_close(players[1]), "close pong");
    must(weald_close(ping.inbox), "close ping's inbox");
    must(weald_close(pong.inbox), "close pong's inbox");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
